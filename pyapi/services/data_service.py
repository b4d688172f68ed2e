"""What people may do with data records."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pyapi.db.audience import SessionAudience
from pyapi.db.dao import DataRecordDAO, RecordRow
from pyapi.db.record_reads import RecordReads
from pyapi.db.record_writes import RecordWrites
from pyapi.enums import RecordStatus, Visibility
from pyapi.exceptions import (
    FieldError,
    PermissionDenied,
    PreconditionFailed,
    ValidationFailed,
)
from pyapi.schedules.rules import parse_rule
from pyapi.schemas.data_schemas import (
    DataCreate,
    DataDeleted,
    DataTried,
    DataUpdate,
    FieldChange,
)
from pyapi.schemas.rendered import RenderedRecord
from pyapi.services.audit_trail import Actor, AuditEntry, AuditTrail, Target
from pyapi.services.auth_service import Caller
from pyapi.services.data_changes import differences
from pyapi.services.record_views import RecordViews, no_such_record
from pyapi.services.schedule_service import derive, timing_of
from pyapi.services.stored_config import storable_config
from pyapi.services.stored_job import stored_job_errors
from pyapi.services.writer import Writer
from pyapi.utils.changes import Change
from pyapi.utils.credentials import mask_text
from pyapi.utils.sealing import Sealer

_RECORD: Final = Target("record")


@dataclass(frozen=True, slots=True)
class LockedRecords:
    """Records and the audit log in one transaction, in which records can be locked."""

    records: DataRecordDAO
    audit: AuditTrail


OpenLockedRecords = Callable[[Caller], AbstractAsyncContextManager[LockedRecords]]


class DataService:
    """Data records, as one caller may change them."""

    def __init__(
        self,
        reads: RecordReads,
        writes: RecordWrites,
        open_locked: OpenLockedRecords,
        writer: Writer,
        audit: AuditTrail,
        *,
        sealer: Sealer,
        views: RecordViews,
        default_visibility: Visibility,
    ) -> None:
        """`reads` are records that the caller may see: the session of a writer whom nobody has looked at."""
        self._reads = reads
        self._writes = writes
        self._open_locked = open_locked
        self._writer = writer
        self._audit = audit
        self._sealer = sealer
        self._default_visibility = default_visibility
        self._views = views
        self._now = views.now

    async def create(self, request: DataCreate) -> RenderedRecord:
        """Store a new record, owned by the caller. Raises ValidationFailed."""
        config = storable_config(request.config, stored=None, sealer=self._sealer, is_own=True)
        values = {
            "name": request.name,
            "description": request.description,
            "config": config,
            "status": request.status.value,
            "owner_id": self._writer.user_id,
            "visibility": request.model_dump(include={"visibility"}).get("visibility", self._default_visibility),
            **self._derived(request.status, config, since=self._now),
        }
        row = await self._added(values)
        return self._views.record(row)

    async def _added(self, values: dict[str, Any]) -> RecordRow:
        found, session = self._differences(None, values), self._writer.unseen
        if session is None:
            actor = (await self._writer.caller()).actor
            note = self._audit.entry("data.created", _RECORD, by=actor, changes=found)
            row = await self._writes.add(values, note.row, by=actor)
        else:
            note = self._audit.entry("data.created", _RECORD, by=Actor(session.user_id, None), changes=found)
            user, added = await self._writes.add_in_session(values, note.row, session=SessionAudience(*session))
            self._writer.admit(user)
            assert added is not None
            row = added
        note.say(row.id)
        return row

    async def update(self, record_id: int, request: DataUpdate, *, expected_revision: int | None) -> RenderedRecord:
        """Change the fields that were sent. Raises NotFound, PermissionDenied, PreconditionFailed, ValidationFailed.

        The record is read, and changed if nobody was faster. Otherwise it is locked first: then everybody gets a turn.
        """
        stored = await self._stored(record_id)
        if self._is_own(stored):
            changes = self._accepted(stored, request, expected_revision)
            if not changes:
                return self._views.record(stored)
            note = self._note_of(stored, changes)
            caller = self._writer.known
            row = await self._writes.change(
                record_id, stored.revision, changes, note.row, by=caller.actor, audience=caller.audience
            )
            if row is not None:
                note.say(record_id, revision=row.revision)
                return self._views.record(row)
        async with self._open_locked(self._writer.known) as locked:
            stored = row = await self._lock_writable(locked, record_id)
            changes = self._accepted(stored, request, expected_revision)
            if changes:
                row = await locked.records.update(record_id, **changes)
                found = self._differences(stored, row._asdict())
                await locked.audit.record(
                    "data.updated", Target("record", record_id), changes=found, revision=row.revision
                )
        return self._views.record(row)

    async def try_update(
        self, record_id: int, request: DataUpdate, *, expected_revision: int | None
    ) -> tuple[DataTried, int]:
        """What `update` would answer, and what would differ; nothing is stored. Beside it the stored revision.

        Raises the same as `update`.
        """
        async with self._open_locked(await self._writer.caller()) as locked:
            stored = row = await self._lock_writable(locked, record_id)
            changes = self._accepted(stored, request, expected_revision)
            async with locked.records.undone():
                if changes:
                    row = await locked.records.update(record_id, **changes)
        before, after = self._views.read(stored), self._views.read(row)
        found = self._differences(stored, row._asdict())
        tried = DataTried.model_construct(
            **dict(after),
            changes=[FieldChange.model_construct(**change._asdict()) for change in found],
            next_runs_before=before.next_runs,
            next_runs_after=after.next_runs,
        )
        return tried, stored.revision

    async def delete(self, record_id: int, *, expected_revision: int | None) -> DataDeleted:
        """Remove a record; its revisions stay. Raises NotFound, PermissionDenied, PreconditionFailed."""
        async with self._open_locked(await self._writer.caller()) as locked:
            row = await self._lock_writable(locked, record_id, needs_owner=True)
            _require_revision(row, expected_revision)
            await locked.records.delete(record_id)
            name = mask_text(row.name)
            gone = [Change("remove", "/name", name, None)]
            await locked.audit.record("data.deleted", Target("record", record_id), changes=gone, revision=row.revision)
        return DataDeleted(message=f"Deleted '{name}'.", deleted_id=record_id)

    async def _stored(self, record_id: int) -> RecordRow:
        """A record that the caller may see, and with it who that is."""
        if self._writer.unseen is None:
            return _found(await self._reads.get(record_id))
        user, row = await self._reads.get_with_user(record_id)
        self._writer.admit(user)
        return _found(row)

    async def _lock_writable(self, locked: LockedRecords, record_id: int, *, needs_owner: bool = False) -> RecordRow:
        """Lock a record that the caller may change, and put the caller's name on the change."""
        caller = self._writer.known
        row = _found(await locked.records.lock(record_id))
        if needs_owner and not self._is_own(row):
            raise PermissionDenied("Only the owner of this record or an admin may delete it.")
        if not self._is_own(row) and not await locked.records.is_writable(record_id):
            raise PermissionDenied("Only the owner of this record, those with a grant to write, or an admin change it.")
        await locked.records.act_as(user_id=caller.user_id, username=caller.username)
        return row

    def _is_own(self, row: RecordRow) -> bool:
        caller = self._writer.known
        return row.owner_id == caller.user_id or caller.is_superuser

    def _accepted(self, row: RecordRow, request: DataUpdate, expected_revision: int | None) -> dict[str, Any]:
        """The columns that change, with what follows from them.

        Raises PreconditionFailed, PermissionDenied, ValidationFailed.
        """
        _require_revision(row, expected_revision)
        changes = request.changes()
        if changes.get("visibility", row.visibility) != row.visibility and not self._is_own(row):
            raise PermissionDenied("Only the owner of this record or an admin decides who may see it.")
        status = changes.get("status", row.status)
        if "config" in changes:
            changes["config"] = storable_config(
                changes["config"], stored=row.config, sealer=self._sealer, is_own=self._is_own(row)
            )
        elif status == RecordStatus.ACTIVE != row.status:
            self._require_runnable(row.config)
        if {"config", "status"} & changes.keys():
            config = changes.get("config", row.config)
            same = timing_of(status, config) == timing_of(row.status, row.config)
            changes |= self._derived(status, config, since=row.scheduled_since if same else self._now)
        return changes

    def _require_runnable(self, config: Any) -> None:
        """A config that was written past the API may be one that Airflow cannot run. Raises ValidationFailed."""
        _, wrong = parse_rule(config)
        doing = "scheduled"
        if not wrong:
            wrong, doing = stored_job_errors(config, self._sealer), "run"
        for error in wrong[:1]:
            text = f"The stored config cannot be {doing}; {error.pointer}: {error.detail}"
            raise ValidationFailed([FieldError(text, "/body/status")])

    def _note_of(self, stored: RecordRow, changes: dict[str, Any]) -> AuditEntry:
        found = self._differences(stored, stored._asdict() | changes)
        return self._audit.entry("data.updated", _RECORD, by=self._writer.known.actor, changes=found)

    def _differences(self, before: RecordRow | None, after: dict[str, Any]) -> Iterator[Change]:
        old = before._asdict() if before is not None else None
        return differences(old, after, sealer=self._sealer)

    def _derived(self, status: str, config: Any, *, since: datetime) -> dict[str, Any]:
        """The columns that follow from status and config."""
        next_run_at, summary = derive(status, config, since=since, now=self._now)
        return {"scheduled_since": since, "next_run_at": next_run_at, "schedule_summary": summary}


def _require_revision(row: RecordRow, expected: int | None) -> None:
    if expected is not None and expected != row.revision:
        raise PreconditionFailed


def _found(row: RecordRow | None) -> RecordRow:
    if row is None:
        raise no_such_record()
    return row
