"""Who may use the database next: fair queues, in which nobody is refused as long as they move."""

import asyncio
from collections import deque
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import Any, Final

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.pool.base import _ConnectionRecord
from sqlalchemy.util import await_

from pyapi.exceptions import Problem

MOST_WAITING: Final = 1000
"""Who comes when so many wait is refused at once: their answers would come too late, and they fill the memory."""

STILL_SECONDS: Final = 2.5
"""The longest wait in a queue that does not move, for those who have set no limit of their own."""

limits_of_request: ContextVar[tuple[asyncio.Timeout, ...]] = ContextVar("limits_of_request", default=())
"""The limits under which the running task works with the database."""


class Places:
    """So many may enter; the others wait, first come, first served.

    Their limits stand still meanwhile: a long queue says nothing against a database that works it off. What counts is
    the time since somebody has left in good order. When nobody does, as with a server that is frozen or a table that is
    locked, everybody gets TimeoutError.
    """

    def __init__(self, number: int, *, most_waiting: int = MOST_WAITING) -> None:
        self._free = number
        self._most_waiting = most_waiting
        self._queue: deque[asyncio.Future[None]] = deque()
        self._moved_at = 0.0

    def enter_at_once(self) -> bool:
        """Enter when that needs no waiting; whether it did."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def enter(self) -> None:
        """Enter, after those who came before."""
        if self.enter_at_once():
            return
        if len(self._queue) >= self._most_waiting:
            raise TimeoutError
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await self._wait(turn)
        except BaseException:
            if turn.done():  # in the same moment; it is the next one's now
                self.leave(in_order=False)
            else:
                self._queue.remove(turn)
            raise

    def leave(self, *, in_order: bool) -> None:
        """Let the next one in; `in_order` when the database has done what it was asked."""
        if in_order:
            self._moved_at = monotonic()
        if self._queue:
            self._queue.popleft().set_result(None)
        else:
            self._free += 1

    async def __aenter__(self) -> None:
        await self.enter()

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        # A refusal is an answer, too.
        self.leave(in_order=error is None or (isinstance(error, Problem) and error.status < 500))

    async def _wait(self, turn: asyncio.Future[None]) -> None:
        came, clock = monotonic(), asyncio.get_running_loop().time
        stopped = _stop_limits()
        patience = min((left for _, left in stopped), default=STILL_SECONDS)
        try:
            while not turn.done():
                if (left := patience - self.still_since(came)) <= 0:
                    raise TimeoutError
                await asyncio.wait([turn], timeout=left)
        finally:
            counts = self.still_since(came)
            for limit, left in stopped:
                limit.reschedule(clock() + left - counts)

    def still_since(self, came: float) -> float:
        """Seconds without a move in the time since `came`."""
        return monotonic() - max(came, self._moved_at)


def _stop_limits() -> list[tuple[asyncio.Timeout, float]]:
    """Stop the limits of the request; each with the seconds that it had left."""
    now = asyncio.get_running_loop().time()
    running = [limit for limit in limits_of_request.get() if not limit.expired()]
    stopped = [(limit, when - now) for limit in running if (when := limit.when()) is not None]
    for limit, _ in stopped:
        limit.reschedule(None)
    return stopped


class FairPool(AsyncAdaptedQueuePool):
    """A pool before which everybody waits in one queue.

    SQLAlchemy's own wakes who has waited longest and hands the connection to whoever asks first, and counts the wait
    against a fixed limit.
    """

    _sqla_logger_namespace = "sqlalchemy.pool.FairPool"  # where its events have the level of SQLAlchemy's

    def __init__(self, creator: Any, pool_size: int, **options: Any) -> None:
        super().__init__(creator, pool_size, **options)
        self._places = Places(pool_size)

    def take_at_once(self) -> ConnectionPoolEntry | None:
        """A connection for one statement, if one is there that was not cut; it has to be given back.

        What `connect` does besides is for transactions: it rolls back, and sees to connections that nobody gave back.
        """
        ready = self._pool._queue._queue  # type: ignore[attr-defined]  # nobody else tells which one comes next
        if not ready or not _is_usable(ready[-1]) or not self._places.enter_at_once():
            return None
        return super()._do_get()

    def give_back(self, entry: ConnectionPoolEntry) -> None:
        """What `take_at_once` has answered, invalidated or not."""
        self._do_return_conn(entry)

    def _do_get(self) -> ConnectionPoolEntry:
        if not self._places.enter_at_once():
            await_(self._places.enter())
        try:
            return super()._do_get()
        except BaseException:
            self._places.leave(in_order=False)
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        try:
            super()._do_return_conn(record)
        finally:
            self._places.leave(in_order=record.dbapi_connection is not None)


def _is_usable(entry: _ConnectionRecord) -> bool:
    """Whether a connection of a pool is there, and neither side has given it up."""
    held = entry.dbapi_connection
    return held is not None and not entry._is_hard_or_soft_invalidated() and not held.driver_connection.is_closed()
