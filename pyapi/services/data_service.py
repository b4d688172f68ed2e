"""What people may do with data records."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from pyapi.db.dao import DataRecordDAO, OrderKey, RecordFilter, RecordRow
from pyapi.exceptions import (
    FieldError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
    ValidationFailed,
)
from pyapi.schemas.data_schemas import (
    DataCreate,
    DataDeleted,
    DataList,
    DataListParams,
    DataRead,
    DataSummary,
    DataUpdate,
)
from pyapi.schemas.paging import decode_cursor, encode_cursor
from pyapi.services.auth_service import Caller
from pyapi.utils.masking import mask_secrets
from pyapi.utils.unmasking import restore_secrets

log = structlog.get_logger(__name__)

_CURSOR_TYPES: dict[str, type] = {
    "id": int,
    "name": str,
    "status": str,
    "created_at": datetime,
    "updated_at": datetime,
}


class DataService:
    """Data records, as one caller may see and change them. `caller` is None for somebody who is not signed in."""

    def __init__(self, records: DataRecordDAO, caller: Caller | None) -> None:
        self._records = records
        self._caller = caller

    async def create(self, request: DataCreate) -> DataRead:
        """Store a new record, owned by the caller. Raises ValidationFailed."""
        caller = self._signed_in()
        config = _with_secrets(request.config, stored=None)
        await self._records.act_as(user_id=caller.user_id, username=caller.username)
        row = await self._records.add(
            name=request.name,
            description=request.description,
            config=config,
            status=request.status.value,
            owner_id=caller.user_id,
        )
        log.info("data.created", record_id=row.id, user_id=caller.user_id)
        return _read(row)

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
            created_after=params.created_after,
            created_before=params.created_before,
            updated_after=params.updated_after,
            updated_before=params.updated_before,
        )
        order = _order(params.order_by)
        rows = await self._records.page(
            wanted, order=order, skip=params.skip, limit=params.limit + 1, after=_after(params, order)
        )
        rows, more = rows[: params.limit], len(rows) > params.limit
        return DataList(
            data=self._views(rows),
            total=await self._records.count(wanted) if params.include_total else None,
            skip=params.skip,
            limit=params.limit,
            next_cursor=(
                encode_cursor(params.order_by, [getattr(rows[-1], key.column) for key in order]) if more else None
            ),
        )

    async def update(self, record_id: int, request: DataUpdate, *, expected_revision: int | None) -> DataRead:
        """Change the fields that were sent. Raises NotFound, PermissionDenied, PreconditionFailed, ValidationFailed."""
        row = await self._lock_own(record_id, expected_revision)
        changes = request.changes()
        if "config" in changes:
            changes["config"] = _with_secrets(changes["config"], stored=row.config)
        if changes:
            row = await self._records.update(record_id, **changes)
            log.info("data.updated", record_id=record_id, revision=row.revision, fields=sorted(changes))
        return _read(row)

    async def delete(self, record_id: int, *, expected_revision: int | None) -> DataDeleted:
        """Remove a record; its revisions stay. Raises NotFound, PermissionDenied, PreconditionFailed."""
        row = await self._lock_own(record_id, expected_revision)
        await self._records.delete(record_id)
        log.info("data.deleted", record_id=record_id)
        return DataDeleted(message=f"Deleted '{row.name}'.", deleted_id=record_id)

    async def _lock_own(self, record_id: int, expected_revision: int | None) -> RecordRow:
        """Lock a record that the caller may change, and put the caller's name on the change."""
        caller = self._signed_in()
        row = _found(await self._records.lock(record_id))
        if row.owner_id != caller.user_id and not caller.is_superuser:
            raise PermissionDenied("Only the owner of this record or a superuser may change it.")
        if expected_revision is not None and expected_revision != row.revision:
            raise PreconditionFailed
        await self._records.act_as(user_id=caller.user_id, username=caller.username)
        return row

    def _signed_in(self) -> Caller:
        if self._caller is None:
            raise Unauthenticated
        return self._caller

    def _view(self, row: RecordRow) -> DataRead | DataSummary:
        return _summary(row) if self._caller is None else _read(row)

    def _views(self, rows: Sequence[RecordRow]) -> list[DataRead] | list[DataSummary]:
        return [_summary(row) for row in rows] if self._caller is None else [_read(row) for row in rows]


def _found(row: RecordRow | None) -> RecordRow:
    if row is None:
        raise NotFound("There is no data record with this id.")
    return row


def _read(row: RecordRow) -> DataRead:
    return DataRead.model_construct(**row._replace(config=mask_secrets(row.config))._asdict())


def _summary(row: RecordRow) -> DataSummary:
    schedule = row.config.get("schedule") if isinstance(row.config, dict) else None
    if isinstance(schedule, bool) or not isinstance(schedule, str | int | float):
        schedule = None
    return DataSummary(
        id=row.id,
        name=row.name,
        description=row.description,
        status=row.status,
        schedule=mask_secrets(schedule),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _with_secrets(config: dict[str, Any] | None, *, stored: Any) -> dict[str, Any] | None:
    """The config to store: every `***` is the stored credential again. Raises ValidationFailed when there is none."""
    if config is None:
        return None
    restored, errors = restore_secrets(config, stored)
    if errors:
        raise ValidationFailed([FieldError(error.detail, f"/body/config{error.pointer}") for error in errors])
    assert isinstance(restored, dict)
    return restored


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
