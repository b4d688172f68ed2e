"""In which transaction? The one place that commits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from pyapi.db.engine import Database, is_unavailable
from pyapi.exceptions import DatabaseUnavailable, Problem


@asynccontextmanager
async def transaction(factory: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    """Commit when the block ends, roll back when it fails.

    A Problem that says `keeps_writes` is committed and goes on: ending a stolen session must survive its own 401.
    Raises DatabaseUnavailable for whatever passes by itself; the connection is then thrown away, not rolled back,
    because a server that does not answer would not answer that either.
    """
    session = factory()
    try:
        yield session
        await session.commit()
    except Problem as problem:
        if problem.keeps_writes:
            await session.commit()
        raise
    except Exception as error:
        if is_unavailable(error):
            await session.invalidate()
            raise DatabaseUnavailable from error
        raise
    finally:
        await session.close()


def database(request: Request) -> Database:
    """The database that the lifespan of the application opened."""
    opened: Database = request.app.state.database
    return opened


async def get_db_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One transaction for the whole request."""
    async with transaction(database(request).transactions) as session:
        yield session


async def get_read_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session in autocommit, for routes that only read."""
    async with transaction(database(request).reads) as session:
        yield session


# scope="function": the code after `yield` runs before the response is sent. With FastAPI's default a client would hold
# a 201 for a row that was never committed.
DbSession = Annotated[AsyncSession, Depends(get_db_session, scope="function")]
ReadSession = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
