"""A page behind a cursor costs what the first page costs: an index of its order is entered at that place."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.record_lists import OrderKey, RecordFilter, Written, after_parameters, page_of
from pyapi.enums import RecordStatus, Visibility
from tests.fixtures.statements import reads_of, records_of, statements_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


COMMON, RARE = 11, 12
READING_ALL = ("seqscan", "bitmapscan", "sort")


async def plan_of_page(
    engine: AsyncEngine,
    wanted: RecordFilter,
    order: list[OrderKey],
    after: Sequence[Any] | None,
    *,
    without: Sequence[str] = READING_ALL,
    limit: int = COMMON,
) -> str:
    """How PostgreSQL would find the page in a table so large that it avoids to read or to sort all of it."""
    audience, is_behind = Audience(1), after is not None
    written = Written.of(wanted, skip=0, limit=limit)
    page = page_of(audience.alike, wanted.names, tuple(order), is_behind=is_behind, with_airflow=True, written=written)
    asked = audience.parameters | wanted.parameters | after_parameters(after or ())
    async with AsyncSession(engine) as session:
        for method in without:
            await session.execute(text(f"SET LOCAL enable_{method} = off"))
        statements = await statements_of(session)
        plan = await statements.rows(replace(page, text=f"EXPLAIN {page.text}"), skip=0, limit=limit, known=(), **asked)
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
@pytest.mark.parametrize("limit", [COMMON, RARE])
async def test_an_index_is_entered_at_the_place_of_the_cursor(
    committing: AsyncEngine, wanted: RecordFilter, order: list[OrderKey], after: Sequence[Any], limit: int
) -> None:
    plan = await plan_of_page(committing, wanted, order, after, limit=limit)
    conditions = [line for line in plan.splitlines() if "Index Cond" in line and "ROW(" in line]
    assert len(conditions) == 1, plan


async def test_where_directions_differ_the_index_of_the_first_key_is_entered(committing: AsyncEngine) -> None:
    """And what it answers is sorted as far as it is equal, not the whole table."""
    plan = await plan_of_page(committing, RecordFilter(), MIXED, [NOON, "x", 5], without=("seqscan", "bitmapscan"))
    assert ("Index Cond: (created_at <= " in plan, "Incremental Sort" in plan) == (True, True), plan


ROWS = text("""
    INSERT INTO pyapi_data_records (name, status, visibility)
    SELECT n::text, (ARRAY['active', 'inactive', 'pending'])[1 + n % 3], (ARRAY['public', 'internal'])[1 + n % 2]
    FROM generate_series(1, 100) n
    """)
FEW = [
    RecordFilter(),
    RecordFilter(status=RecordStatus.ACTIVE),
    RecordFilter(visibility=Visibility.INTERNAL),
    RecordFilter(status=RecordStatus.INACTIVE, visibility=Visibility.PUBLIC),
]


@pytest.mark.parametrize("wanted", FEW, ids=str)
@pytest.mark.parametrize("audience", [Audience(None), Audience(1), Audience(1, is_admin=True)], ids=str)
async def test_what_is_written_out_finds_what_parameters_find(
    committing: AsyncEngine, audience: Audience, wanted: RecordFilter
) -> None:
    async with AsyncSession(committing) as session:
        await session.execute(ROWS)
        reads = await reads_of(session, audience)
        common, rare = [
            records_of(await reads.page(wanted, order=CREATED, skip=0, limit=limit)) for limit in (COMMON, RARE)
        ]
        assert common == rare[:COMMON]
        for field in wanted.names:
            assert {getattr(record, field) for record in common} <= {getattr(wanted, field).value}


@pytest.mark.parametrize(
    ("wanted", "skip", "limit"),
    [
        pytest.param(RecordFilter(q="x"), 0, COMMON, id="a filter with many values"),
        pytest.param(RecordFilter(owner_id=1, status=RecordStatus.ACTIVE), 0, COMMON, id="one beside another"),
        pytest.param(RecordFilter(), 1, COMMON, id="not the first page"),
        pytest.param(RecordFilter(), 0, RARE, id="a length that few ask for"),
    ],
)
def test_what_there_are_many_of_is_a_parameter(wanted: RecordFilter, skip: int, limit: int) -> None:
    """Each statement is kept by every connection."""
    assert Written.of(wanted, skip=skip, limit=limit) is None


@pytest.mark.parametrize(
    ("wanted", "after"), [*((wanted, None) for wanted in FEW), (RecordFilter(), [NOON, 5])], ids=str
)
async def test_what_is_asked_most_is_planned_once(
    committing: AsyncEngine, wanted: RecordFilter, after: Sequence[Any] | None
) -> None:
    """PostgreSQL tries five plans for the values given, and then keeps one for all."""
    audience, is_behind = Audience(1), after is not None
    written = Written.of(wanted, skip=0, limit=COMMON)
    page = page_of(
        audience.alike, wanted.names, tuple(CREATED), is_behind=is_behind, with_airflow=False, written=written
    )
    async with AsyncSession(committing) as session:
        await session.execute(ROWS)
        await session.execute(text("ANALYZE pyapi_data_records"))
        statements = await statements_of(session)
        for _ in range(8):
            await statements.rows(page, known=(), **audience.parameters, **after_parameters(after or ()))
        plans = text("SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = :text")
        assert (await session.execute(plans, {"text": page.text})).all() == [(5, 3)]
