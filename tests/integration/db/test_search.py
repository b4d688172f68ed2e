"""A search finds exactly the records whose name or description contains the words, and has an index for it."""

import re
from collections.abc import Sequence
from itertools import product

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.record_lists import OrderKey, RecordFilter
from tests.fixtures.statements import reads_of, records_of
from tests.integration.db.test_pages import plan_of_page

BY_ID = [OrderKey("id", False)]
LONG = "前" * 1000 + "後面的字"
TEXTS = (
    *("每日銷售資料同步", "Daily SALES sync", "été ÉTÉ", "ΣΊΣΥΦΟΣ", "İstanbul ıI", "straße STRASSE", "👩‍🚀 rocket"),
    *("it's", "a\\b", "'quoted'", "a & b | !c", "100%_done", "(more)", "a:*b", "   ", "\t\n", "ab", "a", "é", "aaaa"),
)
ALSO = (
    "銷",
    "銷售",
    "售資料",
    "同步2",
    "daily sales",
    "xyz",
    "more",
    "%",
    "_",
    "\\",
    "'",
    "''",
    " ",
    ":*",
    "<->",
    "後面",
    "前後",
)


async def write(session: AsyncSession, rows: Sequence[tuple[str, str | None]]) -> None:
    insert = text("INSERT INTO pyapi_data_records (name, description) VALUES (:name, :description)")
    await session.execute(insert, [{"name": name, "description": description} for name, description in rows])


async def names(session: AsyncSession, q: str) -> list[str]:
    records = await reads_of(session, Audience(None))
    found = await records.page(RecordFilter(q=q), order=BY_ID, skip=0, limit=1000)
    return [record.name for record in records_of(found)]


async def by_reading_all(session: AsyncSession, q: str) -> list[str]:
    """What PostgreSQL finds without any help."""
    pattern = "%" + "".join(f"/{letter}" if letter in "/%_" else letter for letter in q) + "%"
    statement = text(
        "SELECT name FROM pyapi_data_records WHERE name ILIKE :like ESCAPE '/' OR description ILIKE :like ESCAPE '/'"
        " ORDER BY id"
    )
    return list((await session.execute(statement, {"like": pattern})).scalars())


async def test_it_finds_what_reading_all_finds(committing: AsyncEngine) -> None:
    """Every part of every text, in small and in capital letters."""
    parts = {
        part[start : start + length] for part in TEXTS for start, length in product(range(len(part)), (1, 2, 3, 9))
    }
    asked = sorted({*parts, *ALSO, *map(str.upper, parts), *map(str.lower, parts)})
    async with AsyncSession(committing) as session:
        await write(session, [(name, description) for name in TEXTS for description in (None, LONG, "ab")])
        found = {q: await names(session, q) for q in asked}
        assert found == {q: await by_reading_all(session, q) for q in asked}
        assert (found["後面"], found["xyz"]) == ([*TEXTS], [])


async def test_it_follows_every_change(committing: AsyncEngine) -> None:
    async with AsyncSession(committing) as session:
        await write(session, [("before", "first")])
        assert await names(session, "before") == ["before"]
        await session.execute(text("UPDATE pyapi_data_records SET name = 'after' WHERE name = 'before'"))
        assert (await names(session, "before"), await names(session, "after")) == ([], ["after"])
        await session.execute(text("UPDATE pyapi_data_records SET description = 'second' WHERE name = 'after'"))
        assert (await names(session, "first"), await names(session, "second")) == ([], ["after"])
        await session.execute(text("DELETE FROM pyapi_data_records WHERE name = 'after'"))
        assert await session.scalar(text("SELECT count(*) FROM pyapi_record_pieces")) == 0


COMMON = "INSERT INTO pyapi_data_records (name) SELECT 'daily sync ' || n FROM generate_series(10000, 12000) n"


async def test_common_pieces_are_not_looked_for_where_rare_ones_are(committing: AsyncEngine) -> None:
    async with committing.begin() as connection:
        await connection.execute(text(COMMON))
        await connection.execute(text("ANALYZE pyapi_record_pieces"))
        query = await connection.scalar(text("SELECT pyapi_search_query('daily sync 1999x')::text"))
        assert set(re.findall("'(.*?)'", query)) == {"more", " 19", "199", "999", "99x"}
        await connection.rollback()


@pytest.mark.parametrize("q", ["銷", "銷售", "銷售資料同步"])
async def test_an_index_finds_words_of_every_length(committing: AsyncEngine, q: str) -> None:
    plan = await plan_of_page(committing, RecordFilter(q=q), BY_ID, None, without=("seqscan", "indexscan"))
    assert "Bitmap Index Scan on ix_pyapi_record_pieces_pieces" in plan


SEARCH = "SELECT record_id FROM pyapi_record_pieces WHERE pieces @@ pyapi_search_query($1)"


async def test_words_are_planned_for_each_time(committing: AsyncEngine) -> None:
    """Common ones need another way than rare ones, and PostgreSQL takes a plan for any words when it costs less."""
    costs = {}
    async with committing.begin() as connection:
        await connection.execute(text(COMMON))
        await connection.execute(text(f"PREPARE search (text) AS {SEARCH}"))
        for mode in ("custom", "generic"):
            await connection.execute(text(f"SET LOCAL plan_cache_mode = force_{mode}_plan"))
            [plan] = await connection.scalar(text("EXPLAIN (FORMAT JSON) EXECUTE search ('daily')")) or [{}]
            costs[mode] = plan["Plan"]["Total Cost"]
        await connection.rollback()
    assert costs["generic"] > 1000 * costs["custom"]
