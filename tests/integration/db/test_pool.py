"""The pool of connections: a queue that costs no patience, and never one connection more than it may hold."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db import engine as engine_module
from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.db.engine import create_engine
from pyapi.db.patience import Patience


@pytest.fixture
def one_connection(database_url: str) -> AsyncEngine:
    return create_engine(database_url, pool_size=1)


async def ask(engine: AsyncEngine, statement: str = "SELECT 1") -> None:
    async with transaction(Database.on(engine).reads, patience=Patience(2)) as session:
        await session.execute(text(statement))


async def test_a_crowd_waits_longer_than_one_request_may(one_connection: AsyncEngine) -> None:
    """Four seconds for the last one, and nobody is refused."""
    crowd = [ask(one_connection, "SELECT pg_sleep(0.5)") for _ in range(8)]
    assert await asyncio.gather(*crowd, return_exceptions=True) == [None] * len(crowd)
    await one_connection.dispose()


async def test_a_connection_is_replaced_when_it_is_gone(
    one_connection: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the server has the old one, there would be two."""
    may_close, close = asyncio.Event(), engine_module._close

    async def close_late(connection: object) -> None:
        await may_close.wait()
        await close(connection)

    monkeypatch.setattr(engine_module, "_close", close_late)
    async with one_connection.connect() as connection:
        await connection.invalidate()
    asking = asyncio.create_task(ask(one_connection))
    assert await asyncio.wait([asking], timeout=0.5) == (set(), {asking})
    may_close.set()
    await asking
    await one_connection.dispose()


async def test_nothing_is_said_about_a_pool_that_is_closed(
    one_connection: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        await ask(one_connection)
        await one_connection.dispose()
    assert caplog.messages == []
