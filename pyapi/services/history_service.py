"""What has become of a record: who changed what, and when, from its saved states."""

from typing import Any, Final

from pyapi.db.dao import DataRecordDAO
from pyapi.db.revision_dao import RevisionDAO, RevisionRow
from pyapi.enums import ChangeKind
from pyapi.exceptions import NotFound
from pyapi.schemas.audit_schemas import AuditChange, History, HistoryEntry, HistoryParams
from pyapi.schemas.paging import decode_cursor, encode_cursor
from pyapi.services.audit_trail import bounded
from pyapi.services.auth_service import Caller
from pyapi.services.data_changes import differences
from pyapi.services.turns import Turns
from pyapi.utils.sealing import Sealer

NEWEST_FIRST: Final = "history:-revision"

_AT_ONCE: Final = 10
"""States that are held in memory: each may be a mebibyte."""


class HistoryService:
    """Histories of records, as one caller may see them."""

    def __init__(self, records: DataRecordDAO, revisions: RevisionDAO, caller: Caller, *, sealer: Sealer) -> None:
        self._records = records
        self._revisions = revisions
        self._caller = caller
        self._sealer = sealer

    async def page(self, record_id: int, params: HistoryParams) -> History:
        """Saved states, newest first, each with what differs from the one before.

        Raises NotFound for a record that the caller may not read, and ValidationFailed for a cursor that does not fit.
        What was deleted has an owner no more: superusers see its history.
        """
        if await self._records.get(record_id) is None and not self._caller.is_superuser:
            raise _not_there()
        before = None
        if params.cursor is not None:
            [before] = decode_cursor(params.cursor, order_by=NEWEST_FIRST, types=[int])
        entries, more = await self._entries(record_id, before=before, limit=params.limit)
        if not entries and before is None:
            raise _not_there()
        return History.model_construct(
            data=entries, next_cursor=encode_cursor(NEWEST_FIRST, [entries[-1].revision]) if more else None
        )

    async def _entries(self, record_id: int, *, before: int | None, limit: int) -> tuple[list[HistoryEntry], bool]:
        """The entries, and whether there are more behind them. Each needs the state before it, also the last."""
        entries: list[HistoryEntry] = []
        turns = Turns()
        while True:
            most = min(limit - len(entries), _AT_ONCE)
            rows = await self._revisions.page(record_id, before=before, limit=most + 1)
            for place, row in enumerate(rows[:most]):
                entries.append(self._entry(row, rows[place + 1] if place + 1 < len(rows) else None))
                await turns.give()
            if len(rows) <= most or len(entries) == limit:
                return entries, len(rows) > most
            before = entries[-1].revision

    def _entry(self, row: RevisionRow, previous: RevisionRow | None) -> HistoryEntry:
        changes, is_cut = self._changes(row, previous)
        return HistoryEntry.model_construct(
            revision=row.revision,
            kind=row.change_kind,
            changed_at=row.changed_at,
            changed_by=row.changed_by,
            changed_by_name=row.changed_by_name,
            changes=changes,
            is_cut=is_cut,
        )

    def _changes(self, row: RevisionRow, previous: RevisionRow | None) -> tuple[list[AuditChange], bool]:
        if row.change_kind == ChangeKind.DELETED:
            return [], False
        before = _state(previous) if previous is not None and row.change_kind == ChangeKind.UPDATED else None
        told, is_cut = bounded(differences(before, _state(row), sealer=self._sealer))
        return [AuditChange.model_construct(**change) for change in told], is_cut


def _not_there() -> NotFound:
    return NotFound("There is no data record with this id.")


def _state(row: RevisionRow) -> dict[str, Any]:
    """What SQL has stored may be nested too deeply to be read, see `pyapi.db.engine`."""
    return row.state if isinstance(row.state, dict) else {}
