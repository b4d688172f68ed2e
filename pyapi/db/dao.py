"""Statements about data records and their revisions."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    false,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.counts import MOST_COUNTED, OWNER, Total, bounded_count, kept_count
from pyapi.db.meta import contains
from pyapi.db.models import SORTED_NEXT_RUN, DataRecord, RecordPieces
from pyapi.enums import RecordStatus, Visibility

NO_RUN: Final = datetime.max.replace(tzinfo=UTC)
"""What asyncpg sends as `infinity`."""


class RecordRow(NamedTuple):
    """One row of `pyapi_data_records`; `config` may hold anything that a user of plain SQL has stored."""

    id: int
    name: str
    description: str | None
    config: Any
    status: str
    owner_id: int | None
    visibility: str
    revision: int
    created_at: datetime
    updated_at: datetime
    scheduled_since: datetime
    next_run_at: datetime | None
    schedule_summary: dict[str, Any] | None
    seen_in_airflow: dict[str, Any]
    """Rows of the tables `pyapi_airflow_*` as JSON: `link`, `dag`, `run`; each null when nothing is known."""


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records to list; None means no condition. Bounds of time are exclusive."""

    status: RecordStatus | None = None
    q: str | None = None
    owner_id: int | None = None
    visibility: Visibility | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    next_run_after: datetime | None = None
    next_run_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL."""
        found: list[ColumnElement[bool]] = []
        if self.status is not None:
            found.append(DataRecord.status == self.status.value)
        if self.q is not None:
            found.append(or_(contains(DataRecord.name, self.q), contains(DataRecord.description, self.q)))
            # The same once more, less exactly, in a way that has an index. PostgreSQL begins with it when few records
            # have the words; when many have them it reads in the order of the list, and has soon found enough.
            pieces = RecordPieces.pieces.bool_op("@@")(func.pyapi_search_query(self.q))
            found.append(DataRecord.id.in_(select(RecordPieces.record_id).where(pieces)))
        if self.owner_id is not None:
            found.append(DataRecord.owner_id == self.owner_id)
        if self.visibility is not None:
            found.append(DataRecord.visibility == self.visibility.value)
        for column, after, before in (
            (DataRecord.created_at, self.created_after, self.created_before),
            (DataRecord.updated_at, self.updated_after, self.updated_before),
            (SORTED_NEXT_RUN, self.next_run_after, self.next_run_before),
        ):
            if after is not None:
                found.append(column > after)
            if before is not None:
                found.append(column < before)
        if self.next_run_after is not None:
            found.append(DataRecord.next_run_at.is_not(None))
        return found


class OrderKey(NamedTuple):
    """One part of an order: a column of `pyapi_data_records` and its direction; no run is later than every run."""

    column: str
    descending: bool

    @property
    def expression(self) -> ColumnElement[Any]:
        """What is sorted by; never null."""
        if self.column == DataRecord.next_run_at.key:
            return SORTED_NEXT_RUN
        column: ColumnElement[Any] = getattr(DataRecord, self.column)
        return column

    def value_of(self, row: RecordRow) -> Any:
        """The value of `expression` for a row."""
        value = getattr(row, self.column)
        return NO_RUN if value is None else value


# In the same statement: a list must not become slower by a second one.
_SEEN_IN_AIRFLOW = literal_column(
    """
    jsonb_build_object(
        'link', (SELECT to_jsonb(l) - 'health' FROM pyapi_airflow_link l),
        'dag', (SELECT to_jsonb(d) FROM pyapi_airflow_dags d WHERE d.record_id = pyapi_data_records.id),
        'run', (SELECT to_jsonb(x) FROM pyapi_airflow_runs x WHERE x.record_id = pyapi_data_records.id))
    """,
    JSONB,
).label("seen_in_airflow")
_COLUMNS = tuple(getattr(DataRecord, field, _SEEN_IN_AIRFLOW) for field in RecordRow._fields)

_ACT_AS = text(
    "SELECT set_config('pyapi.actor_id', :id, true), set_config('pyapi.actor_name', :name, true),"
    " set_config('pyapi.schedules_computed', 'true', true)"
)


class DataRecordDAO:
    """Rows of `pyapi_data_records` that `audience` may see. The triggers of the table write its revisions."""

    def __init__(self, session: AsyncSession, audience: Audience) -> None:
        self._session = session
        self._audience = audience

    async def act_as(self, *, user_id: int, username: str) -> None:
        """Say who makes the changes of this transaction; the triggers write it beside each revision.

        What follows from a schedule is not emptied then: it comes with the change.
        """
        await self._session.execute(_ACT_AS, {"id": str(user_id), "name": username})

    async def add(self, **values: Any) -> RecordRow:
        """Insert a record."""
        result = await self._session.execute(insert(DataRecord).values(**values).returning(*_COLUMNS))
        return RecordRow._make(result.one())

    async def get(self, record_id: int) -> RecordRow | None:
        """A record by id."""
        return await self._one(_by_id(self._audience.alike), record_id)

    async def lock(self, record_id: int) -> RecordRow | None:
        """A record by id; nobody else can change it until the transaction ends."""
        return await self._one(_locked_by_id(self._audience.alike), record_id)

    async def is_writable(self, record_id: int) -> bool:
        """Whether the audience may change a locked record. A statement of its own: a lock may have been waited for."""
        statement = select(DataRecord.id).where(DataRecord.id == record_id, self._audience.writes())
        return await self._session.scalar(statement) is not None

    async def _one(self, statement: Select[Any], record_id: int) -> RecordRow | None:
        row = (await self._session.execute(statement, {"id": record_id, **self._audience.parameters})).one_or_none()
        return RecordRow._make(row) if row is not None else None

    async def update(self, record_id: int, **values: Any) -> RecordRow:
        """Change columns of a locked record."""
        result = await self._session.execute(
            update(DataRecord).where(DataRecord.id == record_id).values(**values).returning(*_COLUMNS)
        )
        return RecordRow._make(result.one())

    async def delete(self, record_id: int) -> None:
        """Remove a record; its revisions stay."""
        await self._session.execute(delete(DataRecord).where(DataRecord.id == record_id))

    async def count(self, wanted: RecordFilter) -> Total:
        """How many records match: exactly for an owner, a status and a visibility, otherwise up to `MOST_COUNTED`."""
        kind = RecordFilter(owner_id=wanted.owner_id, status=wanted.status, visibility=wanted.visibility)
        if wanted == kind:
            statement = kept_count(
                self._audience.alike,
                of_one_owner=kind.owner_id is not None,
                status=kind.status,
                visibility=kind.visibility,
            )
            asked = self._audience.parameters | ({} if kind.owner_id is None else {OWNER: kind.owner_id})
            return Total(await self._session.scalar(statement, asked) or 0, is_exact=True)
        statement = bounded_count([self._audience.sees(), *wanted.conditions()])
        found = await self._session.scalar(statement) or 0
        return Total(min(found, MOST_COUNTED), is_exact=found <= MOST_COUNTED)

    async def page(
        self,
        wanted: RecordFilter,
        *,
        order: Sequence[OrderKey],
        skip: int,
        limit: int,
        after: Sequence[Any] | None = None,
    ) -> list[RecordRow]:
        """Records that match, in `order` (whose last key is the id), from `skip` on, or behind the values `after`."""
        statement = select(*_COLUMNS).where(self._audience.sees(), *wanted.conditions())
        if after is not None:
            statement = statement.where(_behind(order, after))
        keys = (key.expression.desc() if key.descending else key.expression.asc() for key in order)
        rows = await self._session.execute(statement.order_by(*keys).offset(skip).limit(limit))
        return [RecordRow._make(row) for row in rows]

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        """Whatever the block writes is taken back at its end."""
        savepoint = await self._session.begin_nested()
        try:
            yield
        finally:
            await savepoint.rollback()

    async def change_counter(self) -> int:
        """Number of the newest change of any record. Who has seen n has missed no change up to n."""
        return (await self._session.scalar(select(func.pyapi_change_counter()))) or 0


# Made once for each kind of audience: making a statement takes longer than PostgreSQL needs for its answer.
@cache
def _by_id(audience: Audience) -> Select[Any]:
    return select(*_COLUMNS).where(DataRecord.id == bindparam("id"), audience.sees())


@cache
def _locked_by_id(audience: Audience) -> Select[Any]:
    return _by_id(audience).with_for_update()


def _behind(order: Sequence[OrderKey], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows that come after `values` in `order`.

    (a, b, c) > (x, y, z), for which an index is entered at that place. Where the directions differ it is written out:
    a > x, or a = x and b > y, or ... In that PostgreSQL sees no place of an index, so a >= x is said beside it.
    """
    if len({key.descending for key in order}) == 1:
        here = tuple_(*(key.expression for key in order))
        there = tuple_(*(literal(value, key.expression.type) for key, value in zip(order, values, strict=True)))
        return here < there if order[0].descending else here > there
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, value in zip(order, values, strict=True):
        column = key.expression
        alternatives.append(and_(*equal, column < value if key.descending else column > value))
        equal.append(column == value)
    first, value = order[0], values[0]
    bound = first.expression <= value if first.descending else first.expression >= value
    return and_(bound, or_(false(), *alternatives))
