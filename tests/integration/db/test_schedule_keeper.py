"""What is kept about next runs stays true: as the clock goes on, and for what SQL has written."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.db.schedule_dao import Derived, ScheduleDAO
from pyapi.exceptions import DatabaseUnavailable
from pyapi.services import schedule_keeper
from pyapi.services.schedule_keeper import BATCH, LONGEST_SLEEP, ScheduleKeeper
from pyapi.services.schedule_service import READER

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LONG_SECONDS = 20
INSERT = """
    INSERT INTO pyapi_data_records (name, config, status, scheduled_since, next_run_at, schedule_summary)
    SELECT 'x', CAST(:config AS jsonb), :status, '2027-01-01T00:20:00Z', :next_run_at, CAST(:summary AS jsonb)
    FROM generate_series(1, :number) RETURNING id
"""
READ = json.dumps({"reader": READER, "en": "kept"})


class Row(NamedTuple):
    next_run_at: datetime | None
    schedule_summary: dict[str, Any] | None


@dataclass
class Transactions:
    """Opens transactions for keepers, and remembers which rows were derived in those that were committed."""

    database: Database
    now: datetime = NOON
    failures: list[Exception] = field(default_factory=list)
    derived: list[int] = field(default_factory=list)
    opened: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ScheduleDAO]:
        if self.failures:
            raise self.failures.pop(0)
        self.opened += 1
        async with transaction(self.database.transactions) as session:
            found: list[int] = []

            class Recorder(ScheduleDAO):
                async def derive(self, rows: Sequence[Derived]) -> None:
                    found.extend(row.id for row in rows)
                    await super().derive(rows)

            yield Recorder(session)
        self.derived += found
        if found:
            self.done.set()

    def keeper(self) -> ScheduleKeeper:
        return ScheduleKeeper(self.open, clock=lambda: self.now)


@pytest.fixture
async def records(committing: AsyncEngine) -> AsyncEngine:
    """The database of this module, without a record."""
    async with committing.begin() as connection:
        await connection.execute(text("DELETE FROM pyapi_data_records"))
    return committing


@pytest.fixture
def transactions(records: AsyncEngine) -> Transactions:
    return Transactions(Database.on(records))


async def insert(
    engine: AsyncEngine,
    config: str | None,
    *,
    status: str = "active",
    next_run_at: datetime | None = None,
    summary: str | None = None,
    number: int = 1,
) -> list[int]:
    """Rows as PyAPI has kept them or, without a summary, as SQL writes them."""
    async with engine.begin() as connection:
        computed = "true" if summary else ""
        await connection.execute(text(f"SELECT set_config('pyapi.schedules_computed', '{computed}', true)"))
        values = {"config": config, "status": status, "next_run_at": next_run_at, "summary": summary, "number": number}
        return list((await connection.execute(text(INSERT), values)).scalars())


async def due(engine: AsyncEngine, schedule: str = '"@hourly"', *, at: datetime = NOON, number: int = 1) -> list[int]:
    return await insert(engine, f'{{"schedule": {schedule}}}', next_run_at=at, summary=READ, number=number)


async def row(engine: AsyncEngine, record_id: int) -> Row:
    async with engine.connect() as connection:
        statement = text("SELECT next_run_at, schedule_summary::text FROM pyapi_data_records WHERE id = :id")
        run, summary = (await connection.execute(statement, {"id": record_id})).one()
        return Row(run, json.loads(summary) if summary else None)


async def scalar(engine: AsyncEngine, statement: str) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(text(statement))).scalar()


async def unread(engine: AsyncEngine) -> int:
    return int(await scalar(engine, "SELECT count(*) FROM pyapi_data_records WHERE schedule_summary IS NULL"))


# --- Due rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ('"@hourly"', NOON + HOUR),
        ('"30 12 * * *"', NOON + HOUR / 2),
        ("3600", NOON + HOUR / 3),
        ('"@once"', None),
        ("null", None),
    ],
)
@pytest.mark.parametrize("late", [timedelta(0), timedelta(days=400)])
async def test_a_due_row_moves_on(
    records: AsyncEngine, transactions: Transactions, schedule: str, expected: datetime | None, late: timedelta
) -> None:
    (record_id,) = await due(records, schedule, at=NOON - late)
    await transactions.keeper().catch_up()
    assert (await row(records, record_id)).next_run_at == expected


async def test_a_row_that_is_not_due_is_left(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await due(records, at=NOON + timedelta(microseconds=1))
    await transactions.keeper().catch_up()
    assert await row(records, record_id) == (NOON + timedelta(microseconds=1), json.loads(READ))


async def test_a_row_moves_on_with_the_clock(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await due(records)
    keeper = transactions.keeper()
    await keeper.catch_up()
    transactions.now += 5 * HOUR
    await keeper.catch_up()
    assert (await row(records, record_id)).next_run_at == NOON + 6 * HOUR


async def test_a_row_that_never_runs_again_is_left_in_peace(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await due(records, '"@once"')
    keeper = transactions.keeper()
    await keeper.catch_up()
    await keeper.catch_up()
    assert transactions.derived == [record_id]


# --- Rows that SQL has written ----------------------------------------------------------------------------------------


async def test_a_new_row_is_read(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await insert(records, '{"schedule": "0 13 * * *"}')
    await transactions.keeper().catch_up()
    runs = [(NOON + HOUR + timedelta(days=days)).isoformat() for days in range(5)]
    summary = {"reader": READER, "en": "At 13:00", "zh_TW": "每天 13:00", "zh_CN": "每天 13:00", "runs": runs}
    assert await row(records, record_id) == (NOON + HOUR, summary)


async def test_a_changed_row_is_read_again(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await due(records, at=NOON + HOUR)
    async with records.begin() as connection:
        await connection.execute(text('UPDATE pyapi_data_records SET config = \'{"schedule": "@yearly"}\''))
    await transactions.keeper().catch_up()
    assert (await row(records, record_id)).next_run_at == datetime(2031, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ('{"schedule": "0 9 * *", "catchup": 1}', "/catchup: Write true or false, without quotes."),
        ('{"schedule": {}}', "/schedule: Write a cron text of five fields"),
        ("[]", 'Write an object, as in {"schedule"'),
        (f'{{"schedule": {"[" * 3000}{"]" * 3000}}}', "Write an object"),
    ],
)
async def test_a_wrong_row_gets_its_error(
    records: AsyncEngine, transactions: Transactions, config: str, error: str
) -> None:
    (record_id,) = await insert(records, config)
    await transactions.keeper().catch_up()
    found = await row(records, record_id)
    assert (found.next_run_at, error in (found.schedule_summary or {})["error"]) == (None, True)


async def test_a_wrong_row_keeps_nobody_else_waiting(records: AsyncEngine, transactions: Transactions) -> None:
    await insert(records, '{"schedule": "x"}')
    (record_id,) = await insert(records, '{"schedule": "@hourly"}')
    await transactions.keeper().catch_up()
    assert (await row(records, record_id)).next_run_at == NOON + HOUR


@pytest.mark.parametrize("status", ["inactive", "pending", "completed"])
async def test_a_row_that_is_not_active_has_no_run(
    records: AsyncEngine, transactions: Transactions, status: str
) -> None:
    (record_id,) = await insert(records, '{"schedule": "@hourly"}', status=status)
    await transactions.keeper().catch_up()
    found = await row(records, record_id)
    assert (found.next_run_at, (found.schedule_summary or {})["en"]) == (None, "Every hour")


async def test_a_pause_is_kept(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await insert(records, '{"schedule": "@hourly", "paused_until": "2030-02-01"}')
    await transactions.keeper().catch_up()
    found = await row(records, record_id)
    told = (found.next_run_at, (found.schedule_summary or {})["paused_until"])
    assert told == (datetime(2030, 2, 1, tzinfo=UTC), "2030-02-01T00:00:00+00:00")


# --- Nothing else is touched ------------------------------------------------------------------------------------------


async def test_nothing_else_of_a_row_is_touched(records: AsyncEngine, transactions: Transactions) -> None:
    await due(records)
    await insert(records, '{"schedule": "@hourly"}')
    rows = (
        "SELECT jsonb_agg(to_jsonb(r) - 'next_run_at' - 'schedule_summary' ORDER BY id)::text FROM pyapi_data_records r"
    )
    before = await scalar(records, rows)
    await transactions.keeper().catch_up()
    assert await scalar(records, rows) == before


@pytest.mark.parametrize("counted", ["(SELECT count(*) FROM pyapi_data_revisions)", "pyapi_change_counter()"])
async def test_time_that_passes_is_no_change(records: AsyncEngine, transactions: Transactions, counted: str) -> None:
    await due(records)
    await insert(records, '{"schedule": "@hourly"}')
    before = await scalar(records, f"SELECT {counted}")
    await transactions.keeper().catch_up()
    assert await scalar(records, f"SELECT {counted}") == before


# --- Many rows, many keepers ------------------------------------------------------------------------------------------


async def test_more_rows_than_one_batch(records: AsyncEngine, transactions: Transactions) -> None:
    await insert(records, '{"schedule": "@hourly"}', number=2 * BATCH + 1)
    await transactions.keeper().catch_up()
    assert await unread(records) == 0


async def test_a_transaction_takes_one_batch(records: AsyncEngine, transactions: Transactions) -> None:
    await due(records, number=BATCH + 1)
    await transactions.keeper().catch_up()
    assert transactions.opened == 3  # the last one finds nothing


async def test_two_keepers_share_the_work(records: AsyncEngine, transactions: Transactions) -> None:
    wanted = await due(records, number=BATCH) + await insert(records, '{"schedule": "@hourly"}', number=BATCH)
    await asyncio.gather(transactions.keeper().catch_up(), transactions.keeper().catch_up())
    assert sorted(transactions.derived) == sorted(wanted)


async def test_a_locked_row_holds_up_no_other(records: AsyncEngine, transactions: Transactions) -> None:
    locked, free = await due(records, number=2)
    async with records.begin() as connection:
        await connection.execute(text(f"SELECT 1 FROM pyapi_data_records WHERE id = {locked} FOR UPDATE"))
        await transactions.keeper().catch_up()
    assert transactions.derived == [free]


async def test_a_locked_row_is_taken_later(records: AsyncEngine, transactions: Transactions) -> None:
    (locked,) = await due(records)
    keeper = transactions.keeper()
    async with records.begin() as connection:
        await connection.execute(text(f"SELECT 1 FROM pyapi_data_records WHERE id = {locked} FOR UPDATE"))
        await keeper.catch_up()
    await keeper.catch_up()
    assert (await row(records, locked)).next_run_at == NOON + HOUR


async def test_a_locked_row_is_soon_looked_at_again(records: AsyncEngine, transactions: Transactions) -> None:
    (locked,) = await due(records)
    async with records.begin() as connection:
        await connection.execute(text(f"SELECT 1 FROM pyapi_data_records WHERE id = {locked} FOR UPDATE"))
        assert 0 < await transactions.keeper().catch_up() < LONGEST_SLEEP


@pytest.mark.parametrize(
    ("seconds", "least", "most"), [(None, 2, 2), (0.5, 0.5, 0.6), (3600, 2, 2)], ids=["never", "soon", "later"]
)
async def test_it_sleeps_until_the_next_run(
    records: AsyncEngine, transactions: Transactions, seconds: float | None, least: float, most: float
) -> None:
    if seconds is not None:
        await due(records, at=NOON + timedelta(seconds=seconds))
    assert least <= await transactions.keeper().catch_up() <= most


# --- After an upgrade -------------------------------------------------------------------------------------------------


async def test_what_another_reader_has_read_is_read_again(records: AsyncEngine, transactions: Transactions) -> None:
    summary = json.dumps({"reader": "0 of yesterday", "en": "wrong"})
    config = '{"schedule": "0 13 * * *"}'
    (record_id,) = await insert(records, config, next_run_at=NOON + 9 * HOUR, summary=summary)
    keeper = transactions.keeper()
    await keeper.forget_other_readers()
    await keeper.catch_up()
    found = await row(records, record_id)
    assert (found.next_run_at, (found.schedule_summary or {})["reader"]) == (NOON + HOUR, READER)


async def test_a_forgotten_row_keeps_its_place_in_lists(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await insert(records, "{}", next_run_at=NOON + HOUR, summary='{"reader": "0"}')
    await transactions.keeper().forget_other_readers()
    assert await row(records, record_id) == (NOON + HOUR, None)


async def test_more_other_readers_than_one_batch(records: AsyncEngine, transactions: Transactions) -> None:
    await insert(records, "{}", summary='{"reader": "0"}', number=BATCH + 1)
    await transactions.keeper().forget_other_readers()
    assert await unread(records) == BATCH + 1


async def test_what_this_reader_has_read_is_kept(records: AsyncEngine, transactions: Transactions) -> None:
    await due(records, at=NOON + HOUR)
    await transactions.keeper().forget_other_readers()
    assert await unread(records) == 0


# --- For ever ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(transactions: Transactions) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(transactions.keeper().run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("failure", [DatabaseUnavailable(), ValueError("nobody thought of this")], ids=type)
@pytest.mark.parametrize("times", [1, 3])
async def test_it_survives(
    records: AsyncEngine,
    transactions: Transactions,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    times: int,
) -> None:
    monkeypatch.setattr(schedule_keeper, "LONGEST_SLEEP", 0.01)
    (record_id,) = await insert(records, '{"schedule": "@hourly"}')
    transactions.failures = [failure] * times
    async with running(transactions):
        await asyncio.wait_for(transactions.done.wait(), LONG_SECONDS)
    assert transactions.derived == [record_id]


async def test_it_reads_again_what_another_reader_has_read(records: AsyncEngine, transactions: Transactions) -> None:
    (record_id,) = await insert(records, "{}", next_run_at=NOON + HOUR, summary='{"reader": "0"}')
    async with running(transactions):
        await asyncio.wait_for(transactions.done.wait(), LONG_SECONDS)
    assert ((await row(records, record_id)).schedule_summary or {})["reader"] == READER


async def test_it_sees_new_rows_as_it_goes(
    records: AsyncEngine, transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_keeper, "LONGEST_SLEEP", 0.01)
    (first,) = await insert(records, "{}")
    async with running(transactions):
        await asyncio.wait_for(transactions.done.wait(), LONG_SECONDS)
        transactions.done.clear()
        (second,) = await insert(records, "{}")
        await asyncio.wait_for(transactions.done.wait(), LONG_SECONDS)
    assert transactions.derived == [first, second]


async def test_it_ends_when_cancelled(records: AsyncEngine, transactions: Transactions) -> None:
    await insert(records, "{}")
    async with running(transactions) as task:
        await asyncio.wait_for(transactions.done.wait(), LONG_SECONDS)
    assert task.cancelled()


async def test_rows_that_are_not_taken_are_no_busy_loop(records: AsyncEngine, transactions: Transactions) -> None:
    """As with a role that may not write what is derived."""
    await due(records)

    class Refused(ScheduleDAO):
        async def derive(self, rows: Sequence[Derived]) -> None:
            transactions.derived.extend(row.id for row in rows)

    @asynccontextmanager
    async def open_refused() -> AsyncIterator[ScheduleDAO]:
        async with transaction(transactions.database.transactions) as session:
            yield Refused(session)

    pause = await asyncio.wait_for(ScheduleKeeper(open_refused, clock=lambda: NOON).catch_up(), LONG_SECONDS)
    assert (pause, len(transactions.derived)) == (LONGEST_SLEEP, 1)
