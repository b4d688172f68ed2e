"""Who polls the change counter misses no change: with transactions that are open at the same time."""

import asyncio
from typing import NamedTuple

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

INSERT = "INSERT INTO pyapi_data_records (name) VALUES (:name) RETURNING id"
NO_LONG_WAIT = "SET LOCAL lock_timeout = '5s'"
WRITERS = 20
TRANSACTIONS_OF_EACH = 5


class Seen(NamedTuple):
    change_id: int
    record_id: int


async def insert(connection: AsyncConnection, name: str = "x") -> int:
    return int((await connection.execute(text(INSERT), {"name": name})).scalar_one())


async def counter(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT pyapi_change_counter()"))).scalar_one())


async def changes_after(engine: AsyncEngine, seen: int) -> list[Seen]:
    """What a reader asks that has seen everything up to `seen`."""
    statement = text("SELECT change_id, record_id FROM pyapi_data_revisions WHERE change_id > :seen ORDER BY change_id")
    async with engine.connect() as connection:
        return [Seen._make(row) for row in await connection.execute(statement, {"seen": seen})]


async def test_a_change_counts_one_on(committing: AsyncEngine) -> None:
    before = await counter(committing)
    async with committing.begin() as connection:
        await insert(connection)
    assert await counter(committing) == before + 1


async def test_the_counter_does_not_show_what_is_not_committed(committing: AsyncEngine) -> None:
    before = await counter(committing)
    async with committing.connect() as connection:
        await insert(connection)
        during = await counter(committing)
    assert during == before


async def test_the_counter_of_no_changes_is_zero(committing: AsyncEngine) -> None:
    async with committing.connect() as connection:
        await connection.execute(text("DELETE FROM pyapi_data_revisions"))
        number = (await connection.execute(text("SELECT pyapi_change_counter()"))).scalar_one()
    assert number == 0


async def test_a_transaction_that_began_first_and_commits_last_is_not_missed(committing: AsyncEngine) -> None:
    async with committing.connect() as slow, committing.connect() as fast:
        late = await insert(slow)
        await fast.execute(text(NO_LONG_WAIT))
        await insert(fast)
        await fast.commit()
        seen = await counter(committing)
        await slow.commit()
    assert [change.record_id for change in await changes_after(committing, seen)] == [late]


async def test_a_plain_sequence_would_have_missed_it(committing: AsyncEngine) -> None:
    """Why the counter is not a column with a default: the same steps, and the reader never sees the first row."""
    async with committing.begin() as connection:
        await connection.execute(text("CREATE TABLE plain (change_id bigserial, name text)"))
    insert = text("INSERT INTO plain (name) VALUES (:name)")
    async with committing.connect() as slow, committing.connect() as fast, committing.connect() as reader:
        await slow.execute(insert, {"name": "late"})
        await fast.execute(insert, {"name": "early"})
        await fast.commit()
        seen = (await reader.execute(text("SELECT max(change_id) FROM plain"))).scalar_one()
        await slow.commit()
        missed = (await reader.execute(text("SELECT name FROM plain WHERE change_id <= :seen"), {"seen": seen})).all()
    assert sorted(row.name for row in missed) == ["early", "late"]


# Fires at the commit, after the trigger that has drawn the number: their names decide the order.
SLOW_COMMIT = (
    """CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'""",
    """CREATE CONSTRAINT TRIGGER zz_wait_at_commit AFTER INSERT ON pyapi_data_records DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.name = 'slow to commit') EXECUTE FUNCTION wait_at_commit()""",
)


async def waits_for_a_lock(engine: AsyncEngine, pid: int) -> bool:
    async with engine.connect() as connection:
        statement = text("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = :pid")
        return bool((await connection.execute(statement, {"pid": pid})).scalar())


async def test_a_commit_that_takes_long_is_not_missed(committing: AsyncEngine) -> None:
    """Between drawing a number and becoming visible, a transaction may be overtaken by none that draws a larger one."""
    async with committing.begin() as connection:
        for statement in SLOW_COMMIT:
            await connection.execute(text(statement))
    async with committing.connect() as gate, committing.connect() as slow, committing.connect() as fast:
        await gate.execute(text("SELECT pg_advisory_xact_lock(1)"))
        pids = [(await one.execute(text("SELECT pg_backend_pid()"))).scalar_one() for one in (slow, fast)]
        late = await insert(slow, "slow to commit")
        await fast.execute(text(NO_LONG_WAIT))
        await insert(fast)
        commits = [asyncio.create_task(slow.commit())]
        while not await waits_for_a_lock(committing, pids[0]):
            assert not commits[0].done()
        commits.append(asyncio.create_task(fast.commit()))
        while not commits[1].done() and not await waits_for_a_lock(committing, pids[1]):
            pass
        seen = await counter(committing)
        await gate.rollback()
        await asyncio.gather(*commits)
    assert late in {change.record_id for change in await changes_after(committing, seen)}


async def test_an_open_transaction_holds_up_no_commit(committing: AsyncEngine) -> None:
    async with committing.connect() as slow, committing.connect() as fast:
        await insert(slow)
        await fast.execute(text(NO_LONG_WAIT))
        record_id = await insert(fast)
        await fast.commit()
        seen = await changes_after(committing, 0)
        assert slow.in_transaction()
    assert record_id in {change.record_id for change in seen}


@pytest.mark.parametrize("rows", [1, 50])
async def test_a_reader_sees_the_rows_of_a_transaction_together(committing: AsyncEngine, rows: int) -> None:
    start = await counter(committing)
    async with committing.begin() as connection:
        for _ in range(rows):
            await insert(connection)
    assert [change.change_id for change in await changes_after(committing, start)] == list(
        range(start + 1, start + 1 + rows)
    )


async def test_a_polling_reader_sees_every_change_of_twenty_writers_once_and_in_order(committing: AsyncEngine) -> None:
    start = await counter(committing)

    async def write(number: int) -> None:
        for turn in range(TRANSACTIONS_OF_EACH):
            async with committing.connect() as connection:
                for row in range(1 + (number + turn) % 3):
                    await insert(connection, f"writer {number} row {row}")
                await connection.commit()

    async def read(writers: asyncio.Task[list[None]]) -> list[Seen]:
        seen: list[Seen] = []
        finished = False
        while not finished:
            finished = writers.done()  # asked before the look, so that the last look comes after the last commit
            seen += await changes_after(committing, seen[-1].change_id if seen else start)
        return seen

    async def write_all() -> list[None]:
        return list(await asyncio.gather(*(write(number) for number in range(WRITERS))))

    writers = asyncio.create_task(write_all())
    seen = await read(writers)
    await writers
    written = await changes_after(committing, start)
    assert (len(seen), seen) == (sum(1 + (n + t) % 3 for n in range(WRITERS) for t in range(5)), written)
