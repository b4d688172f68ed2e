"""Statements about data records and their revisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, delete, false, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from pyapi.db.meta import contains
from pyapi.db.models import DataRecord
from pyapi.enums import RecordStatus


class RecordRow(NamedTuple):
    """One row of `pyapi_data_records`; `config` may hold anything that a user of plain SQL has stored."""

    id: int
    name: str
    description: str | None
    config: Any
    status: str
    owner_id: int | None
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records to list; None means no condition. Bounds of time are exclusive."""

    status: RecordStatus | None = None
    q: str | None = None
    owner_id: int | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL."""
        found: list[ColumnElement[bool]] = []
        if self.status is not None:
            found.append(DataRecord.status == self.status.value)
        if self.q is not None:
            found.append(or_(contains(DataRecord.name, self.q), contains(DataRecord.description, self.q)))
        if self.owner_id is not None:
            found.append(DataRecord.owner_id == self.owner_id)
        for column, after, before in (
            (DataRecord.created_at, self.created_after, self.created_before),
            (DataRecord.updated_at, self.updated_after, self.updated_before),
        ):
            if after is not None:
                found.append(column > after)
            if before is not None:
                found.append(column < before)
        return found


class OrderKey(NamedTuple):
    """One part of an order: a column of `pyapi_data_records` that is never null, and its direction."""

    column: str
    descending: bool

    @property
    def attribute(self) -> InstrumentedAttribute[Any]:
        """The column itself."""
        attribute: InstrumentedAttribute[Any] = getattr(DataRecord, self.column)
        return attribute


_COLUMNS = tuple(getattr(DataRecord, field) for field in RecordRow._fields)


class DataRecordDAO:
    """Rows of `pyapi_data_records`. The triggers of the table write its revisions."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def act_as(self, *, user_id: int, username: str) -> None:
        """Say who makes the changes of this transaction; the triggers write it beside each revision."""
        await self._session.execute(
            text("SELECT set_config('pyapi.actor_id', :id, true), set_config('pyapi.actor_name', :name, true)"),
            {"id": str(user_id), "name": username},
        )

    async def add(self, **values: Any) -> RecordRow:
        """Insert a record."""
        result = await self._session.execute(insert(DataRecord).values(**values).returning(*_COLUMNS))
        return RecordRow._make(result.one())

    async def get(self, record_id: int) -> RecordRow | None:
        """A record by id."""
        return await self._one(select(*_COLUMNS).where(DataRecord.id == record_id))

    async def lock(self, record_id: int) -> RecordRow | None:
        """A record by id; nobody else can change it until the transaction ends."""
        return await self._one(select(*_COLUMNS).where(DataRecord.id == record_id).with_for_update())

    async def _one(self, statement: Select[Any]) -> RecordRow | None:
        row = (await self._session.execute(statement)).one_or_none()
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

    async def count(self, wanted: RecordFilter) -> int:
        """How many records match."""
        statement = select(func.count()).select_from(DataRecord).where(*wanted.conditions())
        return (await self._session.scalar(statement)) or 0

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
        statement = select(*_COLUMNS).where(*wanted.conditions())
        if after is not None:
            statement = statement.where(_behind(order, after))
        keys = (key.attribute.desc() if key.descending else key.attribute.asc() for key in order)
        rows = await self._session.execute(statement.order_by(*keys).offset(skip).limit(limit))
        return [RecordRow._make(row) for row in rows]

    async def change_counter(self) -> int:
        """Number of the newest change of any record. Who has seen n has missed no change up to n."""
        return (await self._session.scalar(select(func.pyapi_change_counter()))) or 0


def _behind(order: Sequence[OrderKey], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows that come after `values` in `order`.

    (a, b, c) > (x, y, z) written out, because the directions may differ: a > x, or a = x and b > y, or ...
    """
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, value in zip(order, values, strict=True):
        column = key.attribute
        alternatives.append(and_(*equal, column < value if key.descending else column > value))
        equal.append(column == value)
    return or_(false(), *alternatives)
