"""No connection of ours holds the database up: statements, locks and idle transactions have limits (ASVS 5.0, 13.1.3,
15.2.2). The server itself is asked, over each kind of connection that PyAPI opens.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool

from pyapi.cli import with_engine
from pyapi.db.engine import create_engine
from pyapi.db.leadership import lead
from pyapi.db.migrations import downgrade, upgrade
from pyapi.db.schema_version import current_revision, prepare_schema
from pyapi.exceptions import ConfigurationError
from pyapi.settings import Settings
from pyapi.web.application import get_app
from tests.conftest import NewDatabase
from tests.fixtures.application import SECRET_KEY

LIMITS = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
REQUESTS = ("2300ms", "2s", "1min")
COMMANDS = ("15min", "1min", "15min")


async def serve(url: str) -> None:
    """All that a worker opens. A migrated database is only looked at first, by the rules of migrations."""
    app = get_app(Settings(_env_file=None, DATABASE_URL=url, SECRET_KEY=SECRET_KEY))
    async with app.router.lifespan_context(app), app.state.database.reads() as session:
        await session.connection()


async def keep_the_link(url: str) -> None:
    """The connection with the lock, which also listens; it lives as long as the worker."""
    began = asyncio.Event()

    async def work(_: asyncio.Event) -> None:
        began.set()
        await asyncio.sleep(60)

    leader = asyncio.create_task(lead(url, work))
    await asyncio.wait_for(began.wait(), 30)
    leader.cancel()
    await asyncio.wait([leader])


async def migrate(url: str) -> None:
    await prepare_schema(url, migrate=True)


async def command(_: str) -> None:
    await asyncio.to_thread(with_engine, ask)


async def ask(engine: AsyncEngine) -> None:
    await current_revision(engine)


KINDS: dict[str, tuple[Callable[[str], Awaitable[None]], set[tuple[str, ...]]]] = {
    "worker": (serve, {COMMANDS, REQUESTS}),
    "link to Airflow": (keep_the_link, {REQUESTS}),
    "migration": (migrate, {COMMANDS}),
    "command": (command, {COMMANDS}),
}


@contextmanager
def asked() -> Iterator[set[tuple[str, ...]]]:
    """The limits of every connection that is opened meanwhile, as the server answers them."""
    found: set[tuple[str, ...]] = set()

    def ask_server(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in LIMITS))
        found.add(tuple(cursor.fetchone()))
        cursor.close()
        connection.rollback()

    event.listen(Pool, "connect", ask_server)
    try:
        yield found
    finally:
        event.remove(Pool, "connect", ask_server)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_connection_has_limits(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    url = await new_database()
    monkeypatch.setenv("DATABASE_URL", url)
    open_connections, expected = KINDS[kind]
    with asked() as found:
        await open_connections(url)
    assert found == expected


async def test_a_migration_does_not_wait_for_a_table_for_long(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyapi.db.engine.MIGRATION_LOCK_SECONDS", 1)
    url = await new_database()
    engine = create_engine(url, pool_size=2, patient=True)
    await downgrade(engine, "base")
    await upgrade(engine, "0001")
    async with engine.begin() as writer:
        await writer.execute(text("LOCK TABLE pyapi_data_records IN ROW EXCLUSIVE MODE"))
        with pytest.raises(ConfigurationError, match="a table is locked by somebody else"):
            await prepare_schema(url, migrate=True)
    await engine.dispose()
