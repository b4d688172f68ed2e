"""In which transaction? The one place that commits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from pyapi.db.engine import ANSWER_SECONDS, Database, is_unavailable
from pyapi.db.places import limits_of_request
from pyapi.exceptions import DatabaseUnavailable, Problem


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
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(None) as limit:

            def start() -> None:
                if self._left is not None and limit.when() is None:
                    limit.reschedule(clock() + self._left)

            session.info["start"] = start
            others = limits_of_request.get()
            limits_of_request.set((*others, limit))
            try:
                yield start
            finally:
                limits_of_request.set(others)
                if (deadline := limit.when()) is not None:
                    self._left = max(0.0, deadline - clock())


@event.listens_for(Session, "after_transaction_create")
def _start_clock(session: Session, _: object) -> None:
    """SQLAlchemy begins a transaction with the first statement, before it asks the pool for a connection."""
    if (start := session.info.get("start")) is not None:
        start()


@asynccontextmanager
async def transaction(
    factory: async_sessionmaker[AsyncSession],
    *,
    patience: Patience | None = None,
    places: AbstractAsyncContextManager[None] | None = None,
) -> AsyncIterator[AsyncSession]:
    """Commit when the block ends, roll back when it fails; `places` are waited for first.

    A Problem that says `keeps_writes` is committed and goes on: ending a stolen session must survive its own 401.
    Raises DatabaseUnavailable for whatever passes by itself, and when `patience` ends.
    """
    session = factory()
    try:
        async with (patience or Patience(None)).watch(session) as start_clock:
            if places is not None:
                start_clock()
            async with places or nullcontext(), _committed(session):
                yield session
    except Exception as error:
        if is_unavailable(error):
            raise DatabaseUnavailable from error
        raise


@asynccontextmanager
async def _committed(session: AsyncSession) -> AsyncIterator[None]:
    try:
        yield
        await session.commit()
    except Problem as problem:
        if problem.keeps_writes:
            await session.commit()
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) or is_unavailable(error):
            # Throw the connection away: a server that does not answer would not answer a rollback either.
            await session.invalidate()
        raise
    finally:
        await session.close()


def database(request: Request) -> Database:
    """The database that the lifespan of the application opened."""
    opened: Database = request.app.state.database
    return opened


def patience_of(request: Request) -> Patience:
    """One for each request, whoever needs it."""
    if not hasattr(request.state, "patience"):
        request.state.patience = Patience(ANSWER_SECONDS)
    patience: Patience = request.state.patience
    return patience


async def request_patience(request: Request) -> Patience:
    """The same as a dependency; what runs for every read calls the function, which costs less."""
    return patience_of(request)


RequestPatience = Annotated[Patience, Depends(request_patience)]


async def get_db_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One transaction for the whole request."""
    async with transaction(database(request).transactions, patience=patience_of(request)) as session:
        yield session


async def get_db_read_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session in autocommit, for routes that only read."""
    async with transaction(database(request).reads, patience=patience_of(request)) as session:
        yield session


async def get_record_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One transaction for the whole request, for routes that change data records."""
    opened = database(request)
    async with transaction(opened.transactions, patience=patience_of(request), places=opened.record_places) as session:
        yield session


async def get_record_read_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session in autocommit, for routes that only read data records."""
    opened = database(request)
    async with transaction(opened.reads, patience=patience_of(request), places=opened.record_places) as session:
        yield session


# scope="function": the code after `yield` runs before the response is sent. With FastAPI's default a client would hold
# a 201 for a row that was never committed.
DbSession = Annotated[AsyncSession, Depends(get_db_session, scope="function")]
DbReadSession = Annotated[AsyncSession, Depends(get_db_read_session, scope="function")]
RecordSession = Annotated[AsyncSession, Depends(get_record_session, scope="function")]
RecordReadSession = Annotated[AsyncSession, Depends(get_record_read_session, scope="function")]
