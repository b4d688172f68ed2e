"""In which transaction? The one place that commits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from pyapi.db.database import Database
from pyapi.db.engine import ANSWER_SECONDS, is_unavailable
from pyapi.db.patience import Patience
from pyapi.db.statements import Statements
from pyapi.exceptions import DatabaseUnavailable, Problem


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
    state = request.scope.setdefault("state", {})  # what `request.state` shows, without its detours
    if "patience" not in state:
        state["patience"] = Patience(ANSWER_SECONDS)
    patience: Patience = state["patience"]
    return patience


async def request_patience(request: Request) -> Patience:
    """The same as a dependency; what runs for every read calls the function, which costs less."""
    return patience_of(request)


RequestPatience = Annotated[Patience, Depends(request_patience)]


def single_statements(request: Request, *, of_records: bool = False) -> Statements:
    """Runs single statements of this request; those about data records wait for a place."""
    opened = database(request)
    places = opened.record_places if of_records else None
    return Statements(opened.connections, patience=patience_of(request), places=places)


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
