"""How long one request may wait for the database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from pyapi.db.engine import STATEMENT_SECONDS
from pyapi.db.places import limits_of_request

Result = TypeVar("Result")


class Patience:
    """How long one request may still wait for the database, None for ever; all its sessions draw on one account."""

    def __init__(self, seconds: float | None) -> None:
        self._left = seconds

    @asynccontextmanager
    async def watch(self, session: AsyncSession) -> AsyncIterator[Callable[[], None]]:
        """Raise TimeoutError when the block waits too long; yields what starts the clock, which queues may stop.

        The first statement of the session starts it as well: a password that is hashed before that is no wait for the
        database.
        """
        async with self.limit() as start:
            session.info["start"] = start
            yield start

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[Callable[[], None]]:
        """The same without a session."""
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(None) as limit:

            def start() -> None:
                if self._left is not None and limit.when() is None:
                    limit.reschedule(clock() + self._left)

            others = limits_of_request.get()
            limits_of_request.set((*others, limit))
            try:
                yield start
            finally:
                limits_of_request.set(others)
                if (deadline := limit.when()) is not None:
                    self._left = max(0.0, deadline - clock())

    async def spend(self, statement: Callable[..., Awaitable[Result]]) -> Result:
        """Run one statement, whose `timeout` are the seconds that it may take."""
        began = monotonic()
        try:
            return await statement(timeout=None if self._left is None else min(self._left, STATEMENT_SECONDS))
        finally:
            if self._left is not None:
                self._left = max(0.0, self._left - (monotonic() - began))


@event.listens_for(Session, "after_transaction_create")
def _start_clock(session: Session, _: object) -> None:
    """SQLAlchemy begins a transaction with the first statement, before it asks the pool for a connection."""
    if (start := session.info.get("start")) is not None:
        start()
