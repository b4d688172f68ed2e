"""A real PostgreSQL for the whole session, and databases on it."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import create_async_engine

from pyapi.db.embedded import EmbeddedPostgres
from pyapi.db.engine import create_engine, parse_database_url
from pyapi.db.migrations import upgrade

pytest_plugins = [f"tests.fixtures.{name}" for name in ("application", "callers", "issued", "servers", "workers")]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes begins before the other tests and is asked for its result after them.

    What takes longer than that runs when it is asked for: `pytest -m nightly`.
    """
    if "nightly" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if item.get_closest_marker("nightly") is None]
    items.sort(key=lambda item: (item.get_closest_marker("first") is None, item.get_closest_marker("last") is not None))


@dataclass
class PostgresServer:
    """A server on which tests may make and drop databases."""

    url: URL
    _numbers: Iterator[int] = field(default_factory=count)

    async def create_database(self, *, template: str = "template0") -> str:
        """Make a database and answer its URL, password included."""
        name = f"pyapi_test_{os.getpid()}_{next(self._numbers)}"
        await self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url.set(database=name).render_as_string(hide_password=False)

    async def drop_database(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        await self.execute(f'DROP DATABASE IF EXISTS "{parse_database_url(url).database}" WITH (FORCE)')

    async def execute(self, statement: str) -> None:
        """Run one statement outside of transactions."""
        engine = create_async_engine(self.url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(statement))
        await engine.dispose()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The server of PYAPI_TEST_DATABASE_URL or, without that, an embedded one."""
    given = os.environ.get("PYAPI_TEST_DATABASE_URL")
    if given:
        yield PostgresServer(parse_database_url(given))
        return
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    try:
        yield PostgresServer(parse_database_url(embedded.start()))
    finally:
        embedded.stop()


NewDatabase = Callable[[], Awaitable[str]]


@pytest.fixture(scope="session")
async def empty_databases(postgres_server: PostgresServer) -> AsyncIterator[NewDatabase]:
    """Makes databases without a table; they are dropped at the end of the session."""
    made: list[str] = []

    async def make() -> str:
        made.append(await postgres_server.create_database())
        return made[-1]

    yield make
    for url in made:
        await postgres_server.drop_database(url)


@pytest.fixture(scope="session")
async def new_database(postgres_server: PostgresServer) -> AsyncIterator[NewDatabase]:
    """Makes migrated databases, as copies of one; they are dropped at the end of the session."""
    template = await postgres_server.create_database()
    engine = create_engine(template, pool_size=1, patient=True)
    await upgrade(engine)
    await engine.dispose()
    made = [template]

    async def make() -> str:
        made.append(await postgres_server.create_database(template=parse_database_url(template).database or ""))
        return made[-1]

    yield make
    for url in reversed(made):
        await postgres_server.drop_database(url)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's own environment and `.env` out of the tests."""
    for name in list(os.environ):
        if name in {"AIRFLOW__CORE__FERNET_KEY", "DATABASE_URL", "SECRET_KEY"} or name.startswith("PYAPI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
