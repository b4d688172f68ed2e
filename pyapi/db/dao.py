"""Statements about data records and their revisions."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.engine import read_stored_json
from pyapi.db.models import DataRecord


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


_JSON: Final = [RecordRow._fields.index(name) for name in ("config", "schedule_summary", "seen_in_airflow")]


def record_of(row: Sequence[Any]) -> RecordRow:
    """A row whose JSON is still the text that PostgreSQL has sent."""
    values = list(row)
    for place in _JSON:
        values[place] = _decoded(values[place])
    return RecordRow._make(values)


def _decoded(text: str | None) -> Any:
    return None if text is None else read_stored_json(text)


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
_COLUMNS: Final[tuple[ColumnElement[Any], ...]] = tuple(
    getattr(DataRecord, field, _SEEN_IN_AIRFLOW) for field in RecordRow._fields
)


def stored_columns(*, with_airflow: bool) -> tuple[ColumnElement[Any], ...]:
    """The columns of a `RecordRow`; `seen_in_airflow`, the last one, costs three subqueries for each row."""
    return _COLUMNS if with_airflow else (*_COLUMNS[:-1], null().label("seen_in_airflow"))


def columns_of(*, with_airflow: bool) -> tuple[ColumnElement[Any], ...]:
    """The same as `record_of` takes them."""
    return tuple(as_text(column) for column in stored_columns(with_airflow=with_airflow))


def as_text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """JSON as text, which is not parsed before it is known that it must be."""
    return cast(column, Text).label(column.key) if isinstance(column.type, JSONB) else column


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
