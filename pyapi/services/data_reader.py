"""What people may read of data records."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyapi.db.counts import MOST_COUNTED, Total
from pyapi.db.record_lists import OrderKey, RecordFilter
from pyapi.db.record_reads import RecordReads
from pyapi.exceptions import FieldError, Unauthenticated, ValidationFailed
from pyapi.schemas.data_schemas import DataList, DataListParams
from pyapi.schemas.paging import decode_cursor, encode_cursor
from pyapi.schemas.rendered import RenderedPage, RenderedRecord
from pyapi.services.list_items import ListItems, ListTexts
from pyapi.services.record_views import RecordViews, no_such_record

_CURSOR_TYPES: dict[str, type] = {
    "id": int,
    "name": str,
    "status": str,
    "created_at": datetime,
    "updated_at": datetime,
    "next_run_at": datetime,
}


class DataReader:
    """Data records, as one caller may see them; `is_stranger`: somebody who is not signed in."""

    def __init__(self, records: RecordReads, views: RecordViews, texts: ListTexts, *, is_stranger: bool) -> None:
        """`records` are those that the caller may see."""
        self._records = records
        self._views = views
        self._texts = texts
        self._is_stranger = is_stranger

    async def get(self, record_id: int) -> RenderedRecord:
        """One record. Raises NotFound."""
        row = await self._records.get(record_id)
        if row is None:
            raise no_such_record()
        return self._views.summary(row) if self._is_stranger else self._views.record(row)

    async def page(self, params: DataListParams) -> RenderedPage:
        """A page of records. Raises ValidationFailed for a cursor that does not fit."""
        if self._is_stranger and params.owner_id is not None:
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
        after = _after(params, order)
        question = (wanted, params.order_by, params.skip, params.limit, params.cursor)
        listed = ListItems(self._views, self._texts, is_stranger=self._is_stranger, question=question)
        rows = await self._records.page(
            wanted, order=order, skip=params.skip, limit=params.limit + 1, after=after, known=listed.known
        )
        rows, more = rows[: params.limit], len(rows) > params.limit
        items = await listed.read(rows)
        total = await self._total(params, wanted, shown=len(rows), is_last=not more) if params.include_total else None
        page = DataList.model_construct(
            data=(),
            total=total.records if total is not None else None,
            total_is_exact=total.is_exact if total is not None else None,
            skip=params.skip,
            limit=params.limit,
            next_cursor=(
                encode_cursor(params.order_by, [key.value_of(items[-1].row) for key in order]) if more else None
            ),
        )
        rest = page.model_dump_json(exclude={"data"})[1:].encode()
        return RenderedPage(body=b'{"data":' + listed.json_of(rows, items) + b"," + rest, page=page)

    async def _total(self, params: DataListParams, wanted: RecordFilter, *, shown: int, is_last: bool) -> Total:
        """How many records match; the last page of a list says so itself, as far as records are counted at all."""
        found = params.skip + shown
        if is_last and params.cursor is None and (shown or not params.skip) and found <= MOST_COUNTED:
            return Total(found, is_exact=True)
        return await self._records.count(wanted)


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
