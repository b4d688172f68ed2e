"""Reads of data records in one statement each, which looks at the session of the caller as well."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import asyncpg
from sqlalchemy import and_, bindparam, select

from pyapi.db.audience import CALLER, Audience, SessionAudience
from pyapi.db.auth_dao import SignedInUser
from pyapi.db.counts import KEPT, MOST_COUNTED, Total
from pyapi.db.dao import RecordRow, columns_of, record_of
from pyapi.db.models import DataRecord
from pyapi.db.record_lists import OrderKey, RecordFilter, Written, after_parameters, bounded_count_of, count_of, page_of
from pyapi.db.statements import Statement, Statements
from pyapi.db.user_and_record import user_and_record
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

    async def get_with_user(self, record_id: int) -> tuple[SignedInUser | None, RecordRow | None]:
        """The user of a session that lives, and a record by id."""
        assert isinstance(self._audience, SessionAudience)
        statement = _by_id(self._audience.alike, self._with_airflow, with_user=True)
        return user_and_record(await self._statements.row(statement, id=record_id, **self._audience.parameters))

    async def page(
        self,
        wanted: RecordFilter,
        *,
        order: Sequence[OrderKey],
        skip: int,
        limit: int,
        after: Sequence[Any] | None = None,
        known: Sequence[bytes] = (),
    ) -> list[asyncpg.Record]:
        """Records that match, as `page_of` says; without content when their version is `known`.

        In `order` (whose last key is the id), from `skip` on, or behind the values `after`. Raises InvalidToken when
        the session of the audience has ended.
        """
        audience = self._audience
        statement = page_of(
            audience.alike,
            wanted.names,
            tuple(order),
            is_behind=after is not None,
            with_airflow=self._with_airflow,
            written=Written.of(wanted, skip=skip, limit=limit),
        )
        asked = audience.parameters | wanted.parameters | after_parameters(after or ())
        rows = await self._statements.rows(statement, skip=skip, limit=limit, known=known, **asked)
        if isinstance(audience, SessionAudience):
            if not rows:
                raise InvalidToken
            self._audience = Audience(audience.user_id, is_admin=rows[0]["is_superuser"])
            return [] if rows[0]["version"] is None else rows
        return rows

    async def count(self, wanted: RecordFilter) -> Total:
        """How many records match: exactly for an owner, a status and a visibility, otherwise up to `MOST_COUNTED`.

        After the page, so that it is known who is looking.
        """
        audience = self._audience
        assert isinstance(audience, Audience)
        asked = audience.parameters | wanted.parameters
        if set(wanted.names) <= KEPT:
            kind = replace(wanted, owner_id=None if wanted.owner_id is None else 0)
            row = await self._statements.row(count_of(audience.alike, kind), **asked)
            return Total(row[0] if row is not None else 0, is_exact=True)
        row = await self._statements.row(bounded_count_of(audience.alike, wanted.names), **asked)
        found = row[0] if row is not None else 0
        return Total(min(found, MOST_COUNTED), is_exact=found <= MOST_COUNTED)


@cache
def _by_id(audience: Audience | SessionAudience, with_airflow: bool, *, with_user: bool = False) -> Statement:
    columns = (*(CALLER.c if with_user else ()), *columns_of(with_airflow=with_airflow))
    wanted = and_(DataRecord.id == bindparam("id", type_=DataRecord.id.type), audience.sees())
    if isinstance(audience, Audience):
        return Statement.of(select(*columns).where(wanted))
    return Statement.of(select(*columns).select_from(CALLER.outerjoin(DataRecord, wanted)))
