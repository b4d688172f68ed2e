"""Reads of data records in one statement each, which looks at the session of the caller as well."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, false, func, literal, or_, select, true, tuple_

from pyapi.db.audience import CALLER, Audience, SessionAudience
from pyapi.db.dao import OrderKey, RecordFilter, RecordRow, columns_of, record_of
from pyapi.db.models import DataRecord
from pyapi.db.statements import Statement, Statements
from pyapi.exceptions import InvalidToken


class RecordReads:
    """Rows of `pyapi_data_records` that an audience may see. JSON in them is text, as PostgreSQL has sent it."""

    def __init__(
        self, statements: Statements, audience: Audience | SessionAudience, *, with_airflow: bool = True
    ) -> None:
        """`with_airflow`: whether `seen_in_airflow` is asked for; it is null otherwise."""
        self._statements = statements
        self._audience = audience
        self._with_airflow = with_airflow

    async def get(self, record_id: int) -> RecordRow | None:
        """A record by id. Raises InvalidToken when the session of the audience has ended."""
        audience = self._audience
        row = await self._statements.row(
            _by_id(audience.alike, self._with_airflow), id=record_id, **audience.parameters
        )
        if row is None:
            if isinstance(audience, SessionAudience):
                raise InvalidToken
            return None
        return record_of(row) if row[0] is not None else None

    async def page(
        self,
        wanted: RecordFilter,
        *,
        order: Sequence[OrderKey],
        skip: int,
        limit: int,
        after: Sequence[Any] | None = None,
    ) -> list[RecordRow]:
        """Records that match, in `order` (whose last key is the id), from `skip` on, or behind the values `after`.

        Raises InvalidToken when the session of the audience has ended.
        """
        audience = self._audience
        found = select(*columns_of(with_airflow=self._with_airflow)).where(audience.sees(), *wanted.conditions())
        if after is not None:
            found = found.where(_behind(order, after))
        found = _ordered(found, order).offset(skip).limit(limit)
        if isinstance(audience, Audience):
            return [record_of(row) for row in await self._statements.rows(Statement.of(found), **audience.parameters)]
        page = found.correlate(CALLER).lateral("page")
        statement = Statement.of(_ordered(select(*page.c).select_from(CALLER.outerjoin(page, true())), order, page.c))
        rows = await self._statements.rows(statement, **audience.parameters)
        if not rows:
            raise InvalidToken
        return [record_of(row) for row in rows if row[0] is not None]

    async def count(self, wanted: RecordFilter) -> int:
        """How many records match: all of them less those that are hidden, which are few.

        Asked of every row whether it may be seen, PostgreSQL reads the whole table; all of one status it counts in an
        index, and so it finds the hidden ones.
        """
        audience = self._audience
        matching = select(func.count()).select_from(DataRecord).where(*wanted.conditions())
        hidden = matching.where(audience.hides()).scalar_subquery()
        statement = select(matching.scalar_subquery() - hidden)
        if isinstance(audience, SessionAudience):
            statement = statement.select_from(CALLER)
        row = await self._statements.row(Statement.of(statement), **audience.parameters)
        return row[0] if row is not None else 0


def _ordered(statement, order, columns=None):
    keys = (key.expression if columns is None else columns[key.column] for key in order)
    return statement.order_by(*(expr.desc() if key.descending else expr.asc() for key, expr in zip(order, keys)))


@cache
def _by_id(audience: Audience | SessionAudience, with_airflow: bool) -> Statement:
    columns = columns_of(with_airflow=with_airflow)
    wanted = and_(DataRecord.id == bindparam("id", type_=DataRecord.id.type), audience.sees())
    if isinstance(audience, Audience):
        return Statement.of(select(*columns).where(wanted))
    return Statement.of(select(*columns).select_from(CALLER.outerjoin(DataRecord, wanted)))


def _behind(order: Sequence[OrderKey], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows that come after `values` in `order`.

    (a, b, c) > (x, y, z), for which an index is entered at that place. Where the directions differ it is written out,
    and PostgreSQL reads all rows before that place: a > x, or a = x and b > y, or ...
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
    return or_(false(), *alternatives)
