"""One of all workers does what must be done once; when it goes, another one does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db import leadership
from pyapi.db.leadership import lead

LONG_SECONDS = 20
HOLDERS = """
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class Worker:
    """What would like to lead."""

    failure: Exception | None = None
    begun: int = 0
    ended: int = 0
    at_work: asyncio.Event = field(default_factory=asyncio.Event)
    not_at_work: asyncio.Event = field(default_factory=asyncio.Event)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, woken: asyncio.Event) -> None:
        self.begun += 1
        self.at_work.set()
        self.not_at_work.clear()
        try:
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            while True:
                await woken.wait()
                woken.clear()
                self.woken.set()
        finally:
            self.ended += 1
            self.at_work.clear()
            self.not_at_work.set()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "TRY_SECONDS", 0.02)
    monkeypatch.setattr(leadership, "CHECK_SECONDS", 0.02)


@pytest.fixture
def url(committing: AsyncEngine) -> str:
    return committing.url.set(drivername="postgresql").render_as_string(hide_password=False)


@asynccontextmanager
async def led_by(url: str, *workers: Worker) -> AsyncIterator[list["asyncio.Task[None]"]]:
    tasks = [asyncio.create_task(lead(url, worker.work)) for worker in workers]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), LONG_SECONDS)


async def holders(engine: AsyncEngine) -> list[int]:
    async with engine.connect() as connection:
        return list(await connection.scalars(text(HOLDERS)))


async def hang_up(engine: AsyncEngine) -> None:
    """End the connection of the leader."""
    (pid,) = await holders(engine)
    async with engine.connect() as connection:
        await connection.execute(text(f"SELECT pg_terminate_backend({pid})"))


async def test_somebody_leads(url: str) -> None:
    worker = Worker()
    async with led_by(url, worker):
        await soon(worker.at_work)


async def test_one_of_two_leads(url: str, committing: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Worker(), Worker()
    async with led_by(url, first):
        await soon(first.at_work)
        tries = asyncio.Event()
        real_sleep = asyncio.sleep

        async def sleep(seconds: float) -> None:
            if seconds == leadership.TRY_SECONDS:
                tries.set()
            await real_sleep(seconds)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        async with led_by(url, second):
            await soon(tries)  # it has tried, and waits for the next time
        assert (first.begun, second.begun) == (1, 0)


async def test_who_does_not_lead_keeps_no_lock(url: str, committing: AsyncEngine) -> None:
    first, second = Worker(), Worker()
    async with led_by(url, first, second):
        done, _ = await asyncio.wait(
            [asyncio.ensure_future(soon(worker.at_work)) for worker in (first, second)],
            return_when=asyncio.FIRST_COMPLETED,
        )
        assert (len(done), len(await holders(committing))) == (1, 1)


async def test_the_next_one_leads_when_the_first_goes(url: str) -> None:
    first, second = Worker(), Worker()
    async with led_by(url, first) as (task,):
        await soon(first.at_work)
        async with led_by(url, second):
            task.cancel()
            await soon(second.at_work)
        assert first.ended == 1


async def test_work_ends_with_its_connection(url: str, committing: AsyncEngine) -> None:
    worker = Worker()
    async with led_by(url, worker):
        await soon(worker.at_work)
        await hang_up(committing)
        await soon(worker.not_at_work)


async def test_somebody_leads_again(url: str, committing: AsyncEngine) -> None:
    worker = Worker()
    async with led_by(url, worker):
        await soon(worker.at_work)
        await hang_up(committing)
        await soon(worker.not_at_work)
        await soon(worker.at_work)
        assert (worker.begun, worker.ended) == (2, 1)


@pytest.mark.parametrize("failure", [ValueError("nobody thought of this"), OSError()], ids=type)
async def test_work_that_fails_begins_again(url: str, failure: Exception) -> None:
    worker = Worker(failure=failure)
    async with led_by(url, worker):
        await soon(worker.not_at_work)
        await soon(worker.at_work)
        assert worker.begun == 2


async def test_a_change_wakes_the_leader(url: str, committing: AsyncEngine) -> None:
    worker = Worker()
    async with led_by(url, worker):
        await soon(worker.at_work)
        async with committing.begin() as connection:
            await connection.execute(text("INSERT INTO pyapi_data_records (name, status) VALUES ('x', 'active')"))
            await connection.execute(text("UPDATE pyapi_data_records SET status = 'inactive'"))
        await soon(worker.woken)


async def test_it_ends_when_cancelled(url: str, committing: AsyncEngine) -> None:
    worker = Worker()
    async with led_by(url, worker) as (task,):
        await soon(worker.at_work)
    assert (task.cancelled(), worker.ended) == (True, 1)


async def test_nothing_is_held_afterwards(url: str, committing: AsyncEngine) -> None:
    worker = Worker()
    async with led_by(url, worker):
        await soon(worker.at_work)
    async with committing.connect() as connection:
        found = await connection.scalar(text("SELECT pg_try_advisory_lock(hashtextextended('pyapi_airflow', 0))"))
        await connection.execute(text("SELECT pg_advisory_unlock_all()"))
    assert found is True


async def test_a_database_that_is_not_there_is_tried_again(url: str, unused_tcp_port: int) -> None:
    worker = Worker()
    async with led_by(f"postgresql://x:x@127.0.0.1:{unused_tcp_port}/x", worker) as (task,):
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert (done, worker.begun) == (set(), 0)
