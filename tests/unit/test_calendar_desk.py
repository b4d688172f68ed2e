"""Who asks for the same calendar gets the same: it is made once, and what failed is made again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pyapi.exceptions import Busy, DatabaseUnavailable
from pyapi.services.calendar_service import KEPT_CALENDARS, CalendarDesk
from pyapi.services.worker_threads import WorkerThreads


class Kitchen:
    """Makes calendars, and counts how many it has read the records for."""

    def __init__(self) -> None:
        self.reads = 0
        self.ready = asyncio.Event()

    async def make(self) -> Callable[[], bytes]:
        self.reads += 1
        number = self.reads
        await self.ready.wait()
        return lambda: f"calendar {number}".encode()

    async def fail(self) -> Callable[[], bytes]:
        self.reads += 1
        raise DatabaseUnavailable


@pytest.fixture
async def desk() -> AsyncIterator[CalendarDesk]:
    threads = WorkerThreads("calendar", threads=1, queue=1)
    yield CalendarDesk(threads, waiting=1)
    threads.close()


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


def ask(desk: CalendarDesk, key: int, make: Callable[[], Awaitable[Callable[[], bytes]]]) -> "asyncio.Task[bytes]":
    return asyncio.create_task(desk.get(key, make))


async def test_the_same_is_made_once(desk: CalendarDesk, kitchen: Kitchen) -> None:
    asked = [ask(desk, 1, kitchen.make) for _ in range(5)]
    kitchen.ready.set()
    assert (await asyncio.gather(*asked), kitchen.reads) == ([b"calendar 1"] * 5, 1)


async def test_another_is_made_for_itself(desk: CalendarDesk, kitchen: Kitchen) -> None:
    kitchen.ready.set()
    assert [await desk.get(key, kitchen.make) for key in (1, 2, 1)] == [b"calendar 1", b"calendar 2", b"calendar 1"]


async def test_who_goes_away_does_not_end_it_for_the_others(desk: CalendarDesk, kitchen: Kitchen) -> None:
    first, second = ask(desk, 1, kitchen.make), ask(desk, 1, kitchen.make)
    await asyncio.sleep(0)
    first.cancel()
    kitchen.ready.set()
    assert await second == b"calendar 1"


async def test_a_failure_is_told_and_not_kept(desk: CalendarDesk, kitchen: Kitchen) -> None:
    with pytest.raises(DatabaseUnavailable):
        await desk.get(1, kitchen.fail)
    await asyncio.sleep(0)
    kitchen.ready.set()
    assert await desk.get(1, kitchen.make) == b"calendar 2"


async def test_old_ones_are_forgotten(desk: CalendarDesk, kitchen: Kitchen) -> None:
    kitchen.ready.set()
    for key in range(KEPT_CALENDARS + 1):
        await desk.get(key, kitchen.make)
    assert await desk.get(0, kitchen.make) == f"calendar {KEPT_CALENDARS + 2}".encode()


async def test_one_too_many_is_refused(desk: CalendarDesk, kitchen: Kitchen) -> None:
    waiting = [ask(desk, key, kitchen.make) for key in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await desk.get(3, kitchen.make)
    kitchen.ready.set()
    await asyncio.gather(*waiting)


async def test_records_are_read_for_one_after_the_other(desk: CalendarDesk, kitchen: Kitchen) -> None:
    waiting = [ask(desk, key, kitchen.make) for key in (1, 2)]
    await asyncio.sleep(0.01)
    assert kitchen.reads == 1
    kitchen.ready.set()
    await asyncio.gather(*waiting)
