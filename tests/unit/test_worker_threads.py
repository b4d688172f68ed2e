"""Work that would stop the event loop; how its queue refuses is shown by the tests of PasswordService."""

import asyncio
import os
import sys
import threading

import pytest

from pyapi.exceptions import Busy
from pyapi.services.worker_threads import WorkerThreads

LONG_SECONDS = 20


def own_priority() -> int:
    """Of the thread that asks."""
    return os.getpriority(os.PRIO_PROCESS, 0)


async def test_it_answers_what_the_work_does() -> None:
    threads = WorkerThreads("test", threads=1, queue=0)
    assert await threads.run(int, "ff", base=16) == 255
    threads.close()


async def test_the_threads_have_the_name() -> None:
    threads = WorkerThreads("calendar", threads=1, queue=0)
    assert (await threads.run(threading.current_thread)).name == "calendar_0"
    threads.close()


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads")
@pytest.mark.parametrize("niceness", [0, 3])
async def test_only_the_threads_step_back(niceness: int) -> None:
    threads = WorkerThreads("test", threads=1, queue=0, niceness=niceness)
    before = own_priority()
    assert (await threads.run(own_priority), own_priority()) == (before + niceness, before)
    threads.close()


async def test_work_that_fails_gives_its_place_back() -> None:
    threads = WorkerThreads("test", threads=1, queue=0)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    assert await threads.run(divmod, 1, 1) == (1, 0)
    threads.close()


async def test_one_too_many_is_refused() -> None:
    threads = WorkerThreads("test", threads=1, queue=1)
    released = threading.Event()
    waiting = [asyncio.create_task(threads.run(released.wait, LONG_SECONDS)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await threads.run(int)
    released.set()
    assert await asyncio.gather(*waiting) == [True, True]
    threads.close()
