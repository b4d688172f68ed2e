"""Threads for work that would stop the event loop, behind a bounded queue."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from pyapi.exceptions import Busy

P = ParamSpec("P")
T = TypeVar("T")


def _step_back(niceness: int) -> None:
    """Let the other threads of this machine go first; only Linux knows priorities of single threads."""
    if niceness and sys.platform == "linux":
        with contextlib.suppress(OSError):  # forbidden: then it is only slower
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + niceness)


class WorkerThreads:
    """Runs functions in `threads` threads; at most `queue` more may wait.

    `niceness` is for work that frees the GIL. Whoever holds it while others have the processor would make the event
    loop wait for both.
    """

    def __init__(self, name: str, *, threads: int, queue: int, niceness: int = 0) -> None:
        self._threads = ThreadPoolExecutor(
            threads, thread_name_prefix=name, initializer=_step_back, initargs=(niceness,)
        )
        self._room = threads + queue

    def require_room(self) -> None:
        """Raise Busy when the queue is full, before anything else is done for nothing."""
        if self._room == 0:
            raise Busy

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` answers. Raises Busy when the queue is full."""
        self.require_room()
        self._room -= 1
        loop = asyncio.get_running_loop()

        def give_back(_: object) -> None:
            # Not before the work has ended: whoever gives up waiting for it does not end it.
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._leave)

        future = self._threads.submit(partial(work, *args, **kwargs))
        future.add_done_callback(give_back)
        return await asyncio.wrap_future(future)

    def _leave(self) -> None:
        self._room += 1

    def close(self) -> None:
        """Stop the threads; work in progress ends first."""
        self._threads.shutdown()
