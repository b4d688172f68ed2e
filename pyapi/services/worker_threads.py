"""Threads for work that would stop the event loop, behind a bounded queue."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from pyapi.exceptions import Busy

P = ParamSpec("P")
T = TypeVar("T")


class WorkerThreads:
    """Runs functions in `threads` threads; at most `queue` more may wait."""

    def __init__(self, name: str, *, threads: int, queue: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threads + queue

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` answers. Raises Busy when the queue is full."""
        if self._room == 0:
            raise Busy
        self._room -= 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, partial(work, *args, **kwargs))
        finally:
            self._room += 1

    def close(self) -> None:
        """Stop the threads; work in progress ends first."""
        self._threads.shutdown()
