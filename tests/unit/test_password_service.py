"""The bounded queue in front of the hasher: what waits, what is refused, and what goes on meanwhile."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

import pytest

from pyapi.exceptions import Busy, ValidationFailed
from pyapi.services.password_service import PasswordService
from pyapi.utils.auth import PasswordHasher

PASSWORD = "SecurePass123"
HASHER = PasswordHasher(rounds=4)
LONG_SECONDS = 20


class HeldHasher(PasswordHasher):
    """Computes nothing before it is released, so that a test decides how long a hash takes."""

    __slots__ = ("_lock", "at_work", "entered", "most_at_work", "released")

    def __init__(self) -> None:
        super().__init__(rounds=4)
        self.released = threading.Event()
        self.entered = threading.Semaphore(0)
        self.at_work = self.most_at_work = 0
        self._lock = threading.Lock()

    def verify(self, password: str, hashed: str | None) -> bool:
        with self._lock:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
        self.entered.release()
        released = self.released.wait(LONG_SECONDS)
        with self._lock:
            self.at_work -= 1
        return released


@pytest.fixture
def hasher() -> HeldHasher:
    return HeldHasher()


@pytest.fixture
async def service(hasher: HeldHasher) -> AsyncIterator[PasswordService]:
    """One thread, and room for two who wait."""
    service = PasswordService(hasher, threads=1, queue=2)
    yield service
    hasher.released.set()
    service.close()


async def fill(service: PasswordService) -> list[asyncio.Task[bool]]:
    """Three calls in flight: one at work, two that wait."""
    tasks = [asyncio.create_task(service.verify(PASSWORD, None)) for _ in range(3)]
    await asyncio.sleep(0)
    return tasks


async def test_hashing_leaves_the_processor_to_others() -> None:
    class Asked(PasswordHasher):
        __slots__ = ()

        def hash(self, password: str) -> str:
            return str(os.getpriority(os.PRIO_PROCESS, 0))

    service = PasswordService(Asked(rounds=4), threads=1)
    assert int(await service.hash(PASSWORD)) > os.getpriority(os.PRIO_PROCESS, 0)
    service.close()


async def test_hash_and_verify_are_the_hasher_s() -> None:
    service = PasswordService(HASHER, threads=2)
    assert await service.verify(PASSWORD, await service.hash(PASSWORD))
    service.close()


async def test_a_wrong_password_does_not_fit() -> None:
    service = PasswordService(HASHER, threads=2)
    assert not await service.verify("another", HASHER.hash(PASSWORD))
    service.close()


async def test_a_weak_password_is_refused_where_it_was_written() -> None:
    service = PasswordService(HASHER, threads=1)
    with pytest.raises(ValidationFailed) as refused:
        await service.require_strong("password", pointer="/body/new_password", user_inputs=[])
    service.close()
    assert [error.pointer for error in refused.value.errors] == ["/body/new_password"]


async def test_a_password_of_the_author_s_own_words_is_refused() -> None:
    service = PasswordService(HASHER, threads=1)
    with pytest.raises(ValidationFailed):
        await service.require_strong("xiaoming.wang1", pointer="/password", user_inputs=["Xiaoming Wang"])
    service.close()


async def test_a_strong_password_passes() -> None:
    service = PasswordService(HASHER, threads=1)
    await service.require_strong(PASSWORD, pointer="/password", user_inputs=["Xiaoming Wang"])
    service.close()


@pytest.mark.parametrize(("rounds", "needed"), [(4, False), (5, True)])
async def test_needs_rehash_is_the_hasher_s(rounds: int, needed: bool) -> None:
    service = PasswordService(HASHER, threads=1)
    assert service.needs_rehash(PasswordHasher(rounds=rounds).hash(PASSWORD)) is needed
    service.close()


async def test_a_full_queue_refuses_at_once(hasher: HeldHasher, service: PasswordService) -> None:
    await fill(service)
    with pytest.raises(Busy):
        await service.verify(PASSWORD, None)
    assert not hasher.released.is_set()


async def test_a_full_queue_refuses_hashing_as_well(hasher: HeldHasher, service: PasswordService) -> None:
    await fill(service)
    with pytest.raises(Busy):
        await service.hash(PASSWORD)


async def test_a_full_queue_refuses_judging_as_well(hasher: HeldHasher, service: PasswordService) -> None:
    await fill(service)
    with pytest.raises(Busy):
        await service.require_strong(PASSWORD, pointer="/password", user_inputs=[])


async def test_whoever_waited_is_served(hasher: HeldHasher, service: PasswordService) -> None:
    waiting = await fill(service)
    hasher.released.set()
    assert await asyncio.gather(*waiting) == [True, True, True]


async def test_there_is_room_again_afterwards(hasher: HeldHasher, service: PasswordService) -> None:
    waiting = await fill(service)
    hasher.released.set()
    await asyncio.gather(*waiting)
    assert await asyncio.gather(*await fill(service)) == [True, True, True]


async def test_a_hash_that_fails_gives_its_place_back() -> None:
    service = PasswordService(HASHER, threads=1, queue=0)
    for _ in range(3):
        with pytest.raises(ValueError, match="NUL"):
            await service.hash("\0")
    service.close()


async def test_a_call_that_is_given_up_gives_its_place_back(hasher: HeldHasher, service: PasswordService) -> None:
    *_, last = await fill(service)
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    again = asyncio.create_task(service.verify(PASSWORD, None))
    await asyncio.sleep(0)
    hasher.released.set()
    assert await again


async def test_no_more_threads_work_than_were_asked_for(hasher: HeldHasher) -> None:
    service = PasswordService(hasher, threads=2, queue=8)
    tasks = [asyncio.create_task(service.verify(PASSWORD, None)) for _ in range(10)]
    for _ in range(2):
        assert await asyncio.to_thread(hasher.entered.acquire, timeout=LONG_SECONDS)
    hasher.released.set()
    await asyncio.gather(*tasks)
    service.close()
    assert hasher.most_at_work == 2


async def test_the_event_loop_goes_on_meanwhile(hasher: HeldHasher, service: PasswordService) -> None:
    """Only the loop can release the hasher here; were it blocked, the hasher would give up and answer False."""
    verifying = asyncio.create_task(service.verify(PASSWORD, None))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(hasher.released.set)
    assert await verifying


async def test_the_event_loop_goes_on_during_a_real_hash() -> None:
    service = PasswordService(PasswordHasher(rounds=10), threads=1)
    hashing = asyncio.create_task(service.hash(PASSWORD))
    turns = 0
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    service.close()
    assert turns > 10


async def test_closing_waits_for_work_in_progress(hasher: HeldHasher) -> None:
    service = PasswordService(hasher, threads=1)
    verifying = asyncio.create_task(service.verify(PASSWORD, None))
    assert await asyncio.to_thread(hasher.entered.acquire, timeout=LONG_SECONDS)
    asyncio.get_running_loop().call_later(0.1, hasher.released.set)
    await asyncio.to_thread(service.close)
    assert hasher.at_work == 0
    assert await verifying
