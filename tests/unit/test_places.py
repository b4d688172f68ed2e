"""The queue before the database: in order, and patient with whoever works it off."""

import asyncio
from collections.abc import Callable

import pytest

from pyapi.db.places import Places, limits_of_request
from pyapi.exceptions import DatabaseUnavailable, NotFound

LONG_SECONDS = 20


async def queue_up(places: Places, number: int, act: Callable[[int], None]) -> list[asyncio.Task[None]]:
    """So many who enter one after the other, act, and stay."""

    async def enter(name: int) -> None:
        await places.enter()
        act(name)

    tasks = []
    for name in range(number):
        tasks.append(asyncio.create_task(enter(name)))
        await asyncio.sleep(0)
    return tasks


async def within(seconds: float, places: Places, *, stay: float = 0) -> None:
    """Enter as a request does whose limit runs."""
    async with asyncio.timeout(seconds) as limit:
        limits_of_request.set((limit,))
        await places.enter()
        await asyncio.sleep(stay)


async def test_so_many_enter_at_once() -> None:
    places = Places(2)
    assert [places.enter_at_once() for _ in range(3)] == [True, True, False]


async def test_who_comes_first_enters_first() -> None:
    places, entered = Places(1), list[int]()
    tasks = await queue_up(places, 4, entered.append)
    for _ in range(3):
        places.leave(in_order=True)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert entered == [0, 1, 2, 3]


async def test_nobody_enters_before_those_who_wait() -> None:
    places = Places(1)
    await queue_up(places, 2, lambda _: None)
    places.leave(in_order=True)
    assert not places.enter_at_once()


async def test_who_gives_up_waiting_takes_no_place() -> None:
    places = Places(1)
    _, waiting = await queue_up(places, 2, lambda _: None)
    waiting.cancel()
    await asyncio.wait([waiting])
    places.leave(in_order=True)
    assert places.enter_at_once()


async def test_who_gives_up_in_the_moment_of_entering_leaves_the_place_to_the_next() -> None:
    places, entered = Places(1), list[int]()
    _, second, third = await queue_up(places, 3, entered.append)
    places.leave(in_order=True)
    second.cancel()
    await asyncio.wait([second])
    await third
    assert entered == [0, 2]


async def test_a_full_queue_refuses_at_once() -> None:
    places = Places(1, most_waiting=1)
    await queue_up(places, 2, lambda _: None)
    with pytest.raises(TimeoutError):
        await places.enter()


async def test_a_queue_that_moves_costs_no_patience() -> None:
    """The last one waits for twice as long as its limit allows."""
    places = Places(1)
    places.enter_at_once()
    tasks = [asyncio.create_task(within(2, places)) for _ in range(8)]
    for _ in tasks:
        await asyncio.sleep(0.5)
        places.leave(in_order=True)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [None] * len(tasks)


async def test_a_queue_that_stands_still_ends_with_the_patience() -> None:
    places = Places(1)
    places.enter_at_once()
    with pytest.raises(TimeoutError):
        await within(0.1, places)


@pytest.mark.parametrize(("in_order", "is_charged"), [(True, False), (False, True)])
async def test_only_the_time_without_progress_counts(in_order: bool, is_charged: bool) -> None:
    """Who leaves because the database did not answer is no progress: the next one has only what is left."""
    places, clock = Places(1), asyncio.get_running_loop().time
    places.enter_at_once()
    async with asyncio.timeout(LONG_SECONDS) as limit:
        limits_of_request.set((limit,))
        asyncio.get_running_loop().call_later(1, lambda: places.leave(in_order=in_order))
        await places.enter()
        left = (limit.when() or 0) - clock()
    assert (left < LONG_SECONDS - 0.9) is is_charged


async def test_a_wait_without_a_limit_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyapi.db.places.STILL_SECONDS", 0.05)
    places = Places(1)
    places.enter_at_once()
    with pytest.raises(TimeoutError):
        await places.enter()


async def test_the_limit_runs_on_behind_the_queue() -> None:
    places = Places(1)
    places.enter_at_once()
    asyncio.get_running_loop().call_later(0.1, lambda: places.leave(in_order=True))
    with pytest.raises(TimeoutError):
        await within(0.3, places, stay=LONG_SECONDS)


@pytest.mark.parametrize(
    ("error", "is_progress"),
    [(None, True), (NotFound("nothing"), True), (DatabaseUnavailable(), False), (asyncio.CancelledError(), False)],
)
async def test_an_answer_is_progress_and_its_lack_is_none(error: BaseException | None, is_progress: bool) -> None:
    places = Places(1)
    places.enter_at_once()
    before = places.still_since(0)
    await places.__aexit__(type(error) if error else None, error, None)
    assert (places.still_since(0) < before) is is_progress
