"""Databases whose transactions really commit: the triggers of the records write revisions at the commit."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db.engine import create_engine, parse_database_url
from tests.conftest import NewDatabase, PostgresServer

PASSWORD = "of-a-role-of-the-tests"

NewEngine = Callable[[str], AsyncEngine]
NewRole = Callable[[str], Awaitable[str]]


@pytest.fixture(scope="module")
async def engines() -> AsyncIterator[NewEngine]:
    """Makes engines without limits of time; they are closed at the end of the module."""
    made: list[AsyncEngine] = []

    def make(url: str) -> AsyncEngine:
        made.append(create_engine(url, pool_size=25, patient=True))
        return made[-1]

    yield make
    for engine in made:
        await engine.dispose()


@pytest.fixture(scope="module")
async def committing(new_database: NewDatabase, engines: NewEngine) -> AsyncEngine:
    """A migrated database of this module alone. Nothing in it is rolled back: each test looks at its own records."""
    return engines(await new_database())


@pytest.fixture
async def new_role(postgres_server: PostgresServer) -> AsyncIterator[NewRole]:
    """Makes roles that may do nothing but sign in, and answers the URL for a database; they end with the test."""
    made: list[tuple[str, str]] = []
    numbers = count()

    async def make(url: str) -> str:
        role = f"pyapi_test_role_{os.getpid()}_{next(numbers)}"
        await postgres_server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        made.append((role, url))
        return parse_database_url(url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)

    yield make
    for role, url in made:
        engine = create_engine(url, pool_size=1, patient=True)
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP OWNED BY {role} CASCADE"))
        await engine.dispose()
        await postgres_server.execute(f"DROP ROLE {role}")
