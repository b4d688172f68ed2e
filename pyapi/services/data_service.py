"""What people may do with data records."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pyapi.db.dao import DataRecordDAO, OrderKey, RecordFilter, RecordRow
from pyapi.enums import RecordStatus, Visibility
from pyapi.exceptions import (
    FieldError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
    ValidationFailed,
)
from pyapi.schedules.languages import Language
from pyapi.schedules.rules import parse_rule
from pyapi.schemas.data_schemas import (
    DataCreate,
    DataDeleted,
    DataItem,
    DataList,
    DataListParams,
    DataRead,
    DataSummary,
    DataSummaryItem,
    DataTried,
    DataUpdate,
    FieldChange,
)
from pyapi.schemas.paging import decode_cursor, encode_cursor
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.auth_service import Caller
from pyapi.services.data_changes import differences, shown_texts
from pyapi.services.deployment_service import deployment_fields
from pyapi.services.schedule_service import (
    Clock,
    derive,
    next_run_times,
    schedule_fields,
    timing_of,
    utc_now,
)
from pyapi.services.stored_config import storable_config
from pyapi.services.stored_job import stored_job_errors
from pyapi.services.turns import Turns
from pyapi.utils.changes import Change
from pyapi.utils.credentials import mask_text
from pyapi.utils.masking import mask_secrets
from pyapi.utils.sealing import Sealer

_CURSOR_TYPES: dict[str, type] = {
    "id": int,
    "name": str,
    "status": str,
    "created_at": datetime,
    "updated_at": datetime,
    "next_run_at": datetime,
}
_SUMMARY_FIELDS = DataSummaryItem.model_fields.keys() - {"schedule"}


class DataService:
    """Data records, as one caller may see and change them. `caller` is None for somebody who is not signed in."""

    def __init__(
        self,
        records: DataRecordDAO,
        caller: Caller | None,
        audit: AuditTrail,
        *,
        sealer: Sealer,
        default_visibility: Visibility = Visibility.PUBLIC,
        is_linked: bool = False,
        language: Language = "en",
        clock: Clock = utc_now,
    ) -> None:
        """`records` are those that the caller may see; `is_linked`: what Airflow has of each record is known.

        What is stored is masked without being opened.
        """
        self._records = records
        self._caller = caller
        self._audit = audit
        self._sealer = sealer
        self._default_visibility = default_visibility
        self._is_linked = is_linked
        self._language: Language = language
        self._now = clock()

    async def create(self, request: DataCreate) -> DataRead:
        """Store a new record, owned by the caller. Raises ValidationFailed."""
        caller = self._signed_in()
        config = storable_config(request.config, stored=None, sealer=self._sealer, is_own=True)
        await self._records.act_as(user_id=caller.user_id, username=caller.username)
        row = await self._records.add(
            name=request.name,
            description=request.description,
            config=config,
            status=request.status.value,
            owner_id=caller.user_id,
            visibility=request.model_dump(include={"visibility"}).get("visibility", self._default_visibility),
            **self._derived(request.status, config, since=self._now),
        )
        await self._audit.record("data.created", Target("record", row.id), changes=self._differences(None, row))
        return self._read(row)

    async def get(self, record_id: int) -> DataRead | DataSummary:
        """One record. Raises NotFound."""
        return self._view(_found(await self._records.get(record_id)))

    async def page(self, params: DataListParams) -> DataList:
        """A page of records. Raises ValidationFailed for a cursor that does not fit."""
        if self._caller is None and params.owner_id is not None:
            raise Unauthenticated("Sign in to list the records of one owner.")
        wanted = RecordFilter(
            status=params.status,
            q=params.q,
            owner_id=params.owner_id,
            visibility=params.visibility,
            created_after=params.created_after,
            created_before=params.created_before,
            updated_after=params.updated_after,
            updated_before=params.updated_before,
            next_run_after=params.next_run_after,
            next_run_before=params.next_run_before,
        )
        order = _order(params.order_by)
        rows = await self._records.page(
            wanted, order=order, skip=params.skip, limit=params.limit + 1, after=_after(params, order)
        )
        rows, more = rows[: params.limit], len(rows) > params.limit
        total = await self._records.count(wanted) if params.include_total else None
        return DataList(
            data=await self._items(rows),
            total=total.records if total is not None else None,
            total_is_exact=total.is_exact if total is not None else None,
            skip=params.skip,
            limit=params.limit,
            next_cursor=(encode_cursor(params.order_by, [key.value_of(rows[-1]) for key in order]) if more else None),
        )

    async def update(self, record_id: int, request: DataUpdate, *, expected_revision: int | None) -> DataRead:
        """Change the fields that were sent. Raises NotFound, PermissionDenied, PreconditionFailed, ValidationFailed."""
        stored = row = await self._lock_writable(record_id, expected_revision)
        changes = self._accepted(row, request)
        if changes:
            row = await self._records.update(record_id, **changes)
            found = self._differences(stored, row)
            await self._audit.record("data.updated", Target("record", record_id), changes=found, revision=row.revision)
        return self._read(row)

    async def try_update(
        self, record_id: int, request: DataUpdate, *, expected_revision: int | None
    ) -> tuple[DataTried, int]:
        """What `update` would answer, and what would differ; nothing is stored. Beside it the stored revision.

        Raises the same as `update`.
        """
        stored = row = await self._lock_writable(record_id, expected_revision)
        changes = self._accepted(row, request)
        async with self._records.undone():
            if changes:
                row = await self._records.update(record_id, **changes)
        before, after = self._read(stored), self._read(row)
        found = self._differences(stored, row)
        tried = DataTried.model_construct(
            **dict(after),
            changes=[FieldChange.model_construct(**change._asdict()) for change in found],
            next_runs_before=before.next_runs,
            next_runs_after=after.next_runs,
        )
        return tried, stored.revision

    async def delete(self, record_id: int, *, expected_revision: int | None) -> DataDeleted:
        """Remove a record; its revisions stay. Raises NotFound, PermissionDenied, PreconditionFailed."""
        row = await self._lock_writable(record_id, expected_revision, needs_owner=True)
        await self._records.delete(record_id)
        name = mask_text(row.name)
        gone = [Change("remove", "/name", name, None)]
        await self._audit.record("data.deleted", Target("record", record_id), changes=gone, revision=row.revision)
        return DataDeleted(message=f"Deleted '{name}'.", deleted_id=record_id)

    async def _lock_writable(
        self, record_id: int, expected_revision: int | None, *, needs_owner: bool = False
    ) -> RecordRow:
        """Lock a record that the caller may change, and put the caller's name on the change."""
        caller = self._signed_in()
        row = _found(await self._records.lock(record_id))
        if needs_owner and not self._is_own(row):
            raise PermissionDenied("Only the owner of this record or an admin may delete it.")
        if not self._is_own(row) and not await self._records.is_writable(record_id):
            raise PermissionDenied("Only the owner of this record, those with a grant to write, or an admin change it.")
        if expected_revision is not None and expected_revision != row.revision:
            raise PreconditionFailed
        await self._records.act_as(user_id=caller.user_id, username=caller.username)
        return row

    def _is_own(self, row: RecordRow) -> bool:
        caller = self._signed_in()
        return row.owner_id == caller.user_id or caller.is_superuser

    def _signed_in(self) -> Caller:
        if self._caller is None:
            raise Unauthenticated
        return self._caller

    def _accepted(self, row: RecordRow, request: DataUpdate) -> dict[str, Any]:
        """The columns that change, with what follows from them. Raises PermissionDenied, ValidationFailed."""
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

    def _differences(self, before: RecordRow | None, after: RecordRow) -> Iterator[Change]:
        old = before._asdict() if before is not None else None
        return differences(old, after._asdict(), sealer=self._sealer)

    def _derived(self, status: str, config: Any, *, since: datetime) -> dict[str, Any]:
        """The columns that follow from status and config."""
        next_run_at, summary = derive(status, config, since=since, now=self._now)
        return {"scheduled_since": since, "next_run_at": next_run_at, "schedule_summary": summary}

    def _view(self, row: RecordRow) -> DataRead | DataSummary:
        if self._caller is not None:
            return self._read(row)
        return DataSummary.model_construct(**self._summary_fields(row), next_runs=next_run_times(row, now=self._now))

    def _read(self, row: RecordRow) -> DataRead:
        return DataRead.model_construct(**self._fields(row), next_runs=next_run_times(row, now=self._now))

    async def _items(self, rows: Sequence[RecordRow]) -> list[DataItem] | list[DataSummaryItem]:
        """Each config may be a mebibyte to look through, so others get their turn in between."""
        turns = Turns()
        items: list[Any] = []
        for row in rows:
            if self._caller is not None:
                items.append(DataItem.model_construct(**self._fields(row)))
            else:
                items.append(DataSummaryItem.model_construct(**self._summary_fields(row)))
            await turns.give()
        return items

    def _fields(self, row: RecordRow) -> dict[str, Any]:
        shown = row._asdict() | shown_texts(row._asdict()) | {"config": mask_secrets(row.config)}
        schedule = schedule_fields(row, now=self._now, language=self._language)
        error = schedule["schedule_error"]
        return shown | schedule | deployment_fields(row, error=error, now=self._now, is_linked=self._is_linked)

    def _summary_fields(self, row: RecordRow) -> dict[str, Any]:
        """Nothing of what it does not show is looked through for secrets: strangers are many."""
        shown = {field: value for field, value in row._asdict().items() if field in _SUMMARY_FIELDS}
        shown |= shown_texts(shown)
        schedule = schedule_fields(row, now=self._now, language=self._language)
        return shown | schedule | {"schedule": _shown_schedule(row.config)}


def _found(row: RecordRow | None) -> RecordRow:
    if row is None:
        raise NotFound("There is no data record with this id.")
    return row


def _shown_schedule(config: Any) -> Any:
    schedule = config.get("schedule") if isinstance(config, dict) else None
    if isinstance(schedule, bool) or not isinstance(schedule, str | int | float):
        return None
    return mask_secrets(schedule)


def _order(order_by: str) -> list[OrderKey]:
    """The keys of an `order_by`; the id comes last, so that the order of equal rows never changes."""
    keys = [OrderKey(part.removeprefix("-"), part.startswith("-")) for part in order_by.split(",")]
    if all(key.column != "id" for key in keys):
        keys.append(OrderKey("id", keys[-1].descending))
    return keys


def _after(params: DataListParams, order: Sequence[OrderKey]) -> list[Any] | None:
    if params.cursor is None:
        return None
    if params.skip:
        raise ValidationFailed([FieldError("Use either skip or cursor.", "/query/skip")])
    return decode_cursor(params.cursor, order_by=params.order_by, types=[_CURSOR_TYPES[key.column] for key in order])
