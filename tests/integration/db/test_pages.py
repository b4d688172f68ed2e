"""A page behind a cursor costs what the first page costs: an index of its order is entered at that place."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.record_lists import OrderKey, RecordFilter, after_parameters, page_of
from pyapi.enums import RecordStatus
from tests.fixtures.statements import statements_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


READING_ALL = ("seqscan", "bitmapscan", "sort")


async def plan_of_page(
    engine: AsyncEngine,
    wanted: RecordFilter,
    order: list[OrderKey],
    after: Sequence[Any] | None,
    *,
    without: Sequence[str] = READING_ALL,
) -> str:
    """How PostgreSQL would find the page in a table so large that it avoids to read or to sort all of it."""
    audience, is_behind = Audience(1), after is not None
    page = page_of(audience.alike, wanted.names, tuple(order), is_behind=is_behind, with_airflow=True)
    asked = audience.parameters | wanted.parameters | after_parameters(after or ())
    async with AsyncSession(engine) as session:
        for method in without:
            await session.execute(text(f"SET LOCAL enable_{method} = off"))
        statements = await statements_of(session)
        plan = await statements.rows(replace(page, text=f"EXPLAIN {page.text}"), skip=0, limit=11, known=(), **asked)
        return "\n".join(line for (line,) in plan)


DESCENDING, ASCENDING = True, False
CREATED = [OrderKey("created_at", DESCENDING), OrderKey("id", DESCENDING)]
NAME = [OrderKey("name", ASCENDING), OrderKey("id", ASCENDING)]
STATUS = [OrderKey("status", ASCENDING), OrderKey("id", ASCENDING)]
MIXED = [OrderKey("created_at", DESCENDING), OrderKey("name", ASCENDING), OrderKey("id", ASCENDING)]
NEXT_RUN = [OrderKey("next_run_at", ASCENDING), OrderKey("id", ASCENDING)]


@pytest.mark.parametrize(
    ("wanted", "order", "after"),
    [
        pytest.param(RecordFilter(), CREATED, [NOON, 5], id="newest first"),
        pytest.param(RecordFilter(status=RecordStatus.ACTIVE), CREATED, [NOON, 5], id="newest first, of one status"),
        pytest.param(RecordFilter(), NAME, ["x", 5], id="by name"),
        pytest.param(RecordFilter(), NEXT_RUN, [NOON, 5], id="by next run"),
        pytest.param(RecordFilter(), STATUS, ["active", 5], id="by status"),
    ],
)
async def test_an_index_is_entered_at_the_place_of_the_cursor(
    committing: AsyncEngine, wanted: RecordFilter, order: list[OrderKey], after: Sequence[Any]
) -> None:
    plan = await plan_of_page(committing, wanted, order, after)
    conditions = [line for line in plan.splitlines() if "Index Cond" in line and "ROW(" in line]
    assert len(conditions) == 1, plan


async def test_where_directions_differ_the_index_of_the_first_key_is_entered(committing: AsyncEngine) -> None:
    """And what it answers is sorted as far as it is equal, not the whole table."""
    plan = await plan_of_page(committing, RecordFilter(), MIXED, [NOON, "x", 5], without=("seqscan", "bitmapscan"))
    assert ("Index Cond: (created_at <= " in plan, "Incremental Sort" in plan) == (True, True), plan
