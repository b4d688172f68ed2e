"""Kept counts are the numbers of records, whoever writes those, and nobody waits because of them."""

import asyncio
import random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.counts import MOST_COUNTED, Total
from pyapi.db.record_lists import RecordFilter
from pyapi.enums import RecordStatus
from tests.conftest import NewDatabase
from tests.fixtures.statements import reads_of
from tests.integration.db.conftest import NewEngine

USERS = """
INSERT INTO pyapi_users (id, username, email, hashed_password)
SELECT n, 'user ' || n, n || '@x.test', '' FROM generate_series(1, 3) n
"""
KEPT = """
SELECT owner_id, visibility, status, sum(records) FROM pyapi_record_counts
GROUP BY owner_id, visibility, status HAVING sum(records) <> 0 ORDER BY 1 NULLS FIRST, 2, 3
"""
COUNTED = """
SELECT NULL::integer, visibility, status, count(*) FROM pyapi_data_records GROUP BY visibility, status
UNION ALL
SELECT owner_id, visibility, status, count(*) FROM pyapi_data_records WHERE owner_id IS NOT NULL
GROUP BY owner_id, visibility, status ORDER BY 1 NULLS FIRST, 2, 3
"""
ADD = """
INSERT INTO pyapi_data_records (name, owner_id, visibility, status)
SELECT 'x', (ARRAY[1, 2, 3, NULL])[1 + n % 4], (ARRAY['public', 'internal', 'private'])[1 + n % 3],
       (ARRAY['active', 'inactive', 'pending', 'completed'])[1 + n / 3 % 4]
FROM generate_series({0}, {0} + {1}) n
"""
WRITES = (
    ADD,
    "UPDATE pyapi_data_records SET status = 'completed' WHERE id % 7 = {0} % 7",
    "UPDATE pyapi_data_records SET owner_id = 1 + {0} % 3, visibility = 'private' WHERE id % 5 = {0} % 5",
    "UPDATE pyapi_data_records SET name = name || 'x'",
    "DELETE FROM pyapi_data_records WHERE id % 11 = {0} % 11",
    "INSERT INTO pyapi_data_records (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET status = 'pending'",
)


@pytest.fixture
async def engine(new_database: NewDatabase, engines: NewEngine) -> AsyncEngine:
    """A database of this test alone, with three users."""
    made = engines(await new_database())
    async with made.begin() as connection:
        await connection.execute(text(USERS))
    return made


async def rows(connection: AsyncConnection, statement: str) -> list[Any]:
    return [tuple(row) for row in await connection.execute(text(statement))]


async def agreed(connection: AsyncConnection) -> list[Any]:
    """The counts, which agree with the records."""
    kept = await rows(connection, KEPT)
    assert kept == await rows(connection, COUNTED)
    return kept


@pytest.mark.parametrize("write", WRITES)
async def test_every_way_to_write_is_counted_at_once(engine: AsyncEngine, write: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(ADD.format(0, 40)))
        before = await agreed(connection)
        await connection.execute(text(write.format(1, 10)))
        assert (await agreed(connection) == before) == ("name = name" in write)


async def test_records_of_a_user_who_is_deleted_are_nobodys(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(ADD.format(0, 40)))
        await connection.execute(text("DELETE FROM pyapi_users WHERE id = 2"))
        assert {owner for owner, *_ in await agreed(connection)} == {None, 1, 3}


async def test_what_is_rolled_back_was_never_counted(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(ADD.format(0, 40)))
        before = await agreed(connection)
        savepoint = await connection.begin_nested()
        await connection.execute(text("DELETE FROM pyapi_data_records"))
        assert await agreed(connection) == []
        await savepoint.rollback()
        assert await agreed(connection) == before


async def write_at_random(engine: AsyncEngine, seed: int) -> None:
    """Transactions of a few statements, of which every fourth is rolled back."""
    draw = random.Random(seed)
    for _ in range(25):
        async with engine.connect() as connection:
            await connection.execute(text(f"SELECT setseed({draw.random()})"))
            for _ in range(draw.randint(1, 4)):
                # Whoever writes the same rows waits: those are the records, and adding needs no order.
                await connection.execute(text(ADD.format(draw.randint(0, 50), draw.randint(0, 3))))
            ids = f"SELECT id FROM pyapi_data_records WHERE id % 8 = {draw.randrange(8)} FOR UPDATE SKIP LOCKED"
            what = draw.choice(("UPDATE pyapi_data_records SET status = 'inactive'", "DELETE FROM pyapi_data_records"))
            await connection.execute(text(f"{what} WHERE id = ANY (ARRAY({ids}))"))
            await (connection.rollback if draw.random() < 0.25 else connection.commit)()


async def watch(engine: AsyncEngine, done: asyncio.Event) -> int:
    """Looks at counts and records in one snapshot until the others are done."""
    looks = 0
    while not done.is_set():
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await agreed(connection)
            looks += 1
    return looks


async def test_the_counts_are_right_in_every_snapshot_while_many_write(engine: AsyncEngine) -> None:
    done = asyncio.Event()
    watching = asyncio.create_task(watch(engine, done))
    await asyncio.gather(*(write_at_random(engine, seed) for seed in range(8)))
    done.set()
    assert await watching > 10
    async with engine.connect() as connection:
        assert len(await agreed(connection)) > 10


ENOUGH = 300
"""Statements after which somebody has added up, with the random numbers that begin with the seed."""


async def insert_each(connection: AsyncConnection, number: int) -> None:
    await connection.execute(text("SELECT setseed(0.5)"))
    for _ in range(number):
        await connection.execute(text("INSERT INTO pyapi_data_records (name, owner_id) VALUES ('x', 1)"))


def of_the_first(records: int) -> list[Any]:
    """What is kept of so many records of the first user."""
    return [(None, "public", "active", records), (1, "public", "active", records)]


async def test_a_transaction_that_stays_open_holds_nobody_up(engine: AsyncEngine) -> None:
    """It adds up what was there, and those rows are then its own until it ends."""
    async with engine.connect() as open_one, engine.connect() as other:
        await other.execute(text("SET lock_timeout = '1s'"))
        await insert_each(other, 1)
        await other.commit()
        await insert_each(open_one, ENOUGH)
        await insert_each(other, ENOUGH)
        await other.commit()
        await open_one.rollback()
        assert await agreed(other) == of_the_first(1 + ENOUGH)


async def test_differences_are_added_up(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await insert_each(connection, ENOUGH)
        [(left,)] = await rows(connection, "SELECT count(*) FROM pyapi_record_counts")
        assert left < ENOUGH  # of twice as many that were written
        assert await agreed(connection) == of_the_first(ENOUGH)


async def test_who_repeats_reads_can_go_on_when_others_have_added_up(engine: AsyncEngine) -> None:
    async with engine.connect() as repeating, engine.connect() as other:
        await insert_each(other, 1)
        await other.commit()
        await repeating.execution_options(isolation_level="REPEATABLE READ")
        await insert_each(repeating, 1)
        await insert_each(other, ENOUGH)
        await other.commit()
        await insert_each(repeating, ENOUGH)
        await repeating.commit()
        assert await agreed(other) == of_the_first(2 + 2 * ENOUGH)


async def test_what_was_written_without_triggers_is_found_after_a_rebuild(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(text(ADD.format(0, 40)))
        assert await rows(connection, KEPT) == []
        await connection.execute(text("SELECT pyapi_rebuild_lists()"))
        assert len(await agreed(connection)) > 10
        assert await rows(connection, "SELECT count(*) FROM pyapi_record_pieces") == [(41,)]


@pytest.mark.parametrize(
    ("wanted", "total"),
    [
        pytest.param(RecordFilter(), Total(MOST_COUNTED + 2, is_exact=True), id="all"),
        pytest.param(
            RecordFilter(status=RecordStatus.ACTIVE), Total(MOST_COUNTED + 1, is_exact=True), id="of a status"
        ),
        pytest.param(RecordFilter(q="x"), Total(MOST_COUNTED, is_exact=False), id="of a word that more have"),
        pytest.param(RecordFilter(q="xxx"), Total(MOST_COUNTED, is_exact=True), id="of a word that as many have"),
        pytest.param(RecordFilter(q="last"), Total(1, is_exact=True), id="of a word that one has"),
    ],
)
async def test_a_total_that_is_not_exact_says_so(engine: AsyncEngine, wanted: RecordFilter, total: Total) -> None:
    fill = f"""
        INSERT INTO pyapi_data_records (name, status)
        SELECT CASE WHEN n <= {MOST_COUNTED} THEN 'xxx' ELSE 'x last' END, 'active'
        FROM generate_series(1, {MOST_COUNTED} + 1) n
    """
    async with AsyncSession(engine) as session:
        await session.execute(text(fill))
        await session.execute(text("INSERT INTO pyapi_data_records (name, status) VALUES ('y', 'inactive')"))
        assert await (await reads_of(session, Audience(None))).count(wanted) == total
