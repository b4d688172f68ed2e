"""What superusers, and operators at a terminal, may ask of the audit log."""

from typing import Any, Final

from pyapi.db.audit_dao import AuditDAO, AuditFilter, AuditRow
from pyapi.schemas.audit_schemas import AuditChange, AuditList, AuditListParams, AuditRead
from pyapi.schemas.paging import BigInt, decode_cursor, encode_cursor

NEWEST_FIRST: Final = "audit:-id"


class AuditService:
    """The audit log, to be read. Whether the caller is a superuser is asked before this class is made."""

    def __init__(self, rows: AuditDAO) -> None:
        self._rows = rows

    async def page(self, params: AuditListParams) -> AuditList:
        """Events that match, newest first. Raises ValidationFailed for a cursor that does not fit."""
        wanted = AuditFilter(
            event=params.event,
            actor_id=params.actor_id,
            target_kind=params.target_kind,
            target_id=params.target_id,
            request_id=params.request_id,
            since=params.from_,
            until=params.to,
        )
        before = None
        if params.cursor is not None:
            [before] = decode_cursor(params.cursor, order_by=NEWEST_FIRST, types=[BigInt])
        rows = await self._rows.page(wanted, limit=params.limit + 1, before=before)
        shown, more = rows[: params.limit], len(rows) > params.limit
        return AuditList.model_construct(
            data=[_read(row) for row in shown],
            next_cursor=encode_cursor(NEWEST_FIRST, [shown[-1].id]) if more else None,
        )


def _read(row: AuditRow) -> AuditRead:
    changes = [_change(entry) for entry in row.changes] if isinstance(row.changes, list) else None
    details = row.details if isinstance(row.details, dict) else None
    return AuditRead.model_construct(**row._asdict() | {"changes": changes, "details": details})


def _change(entry: Any) -> AuditChange:
    """SQL can have stored anything here."""
    found = entry if isinstance(entry, dict) else {}
    return AuditChange.model_construct(
        pointer=str(found.get("pointer", "")), before=found.get("before"), after=found.get("after")
    )
