"""The application over ASGI, on one connection whose transaction is rolled back after each test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from pyapi.db.engine import Database, create_engine
from pyapi.enums import Environment
from pyapi.settings import Settings
from pyapi.web.application import get_app
from tests.conftest import NewDatabase
from tests.fake_airflow import FakeAirflow

PASSWORD = "SecurePass123"
SECRET_KEY = "integration-tests-sign-with-this-key-0123456789"


@pytest.fixture(scope="session")
async def database_url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture(scope="session")
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, pool_size=5)
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
def settings(database_url: str) -> Settings:
    return Settings(
        _env_file=None,
        environment=Environment.TEST,
        DATABASE_URL=database_url,
        SECRET_KEY=SECRET_KEY,
        password_hash_rounds=4,
        cors_origins="https://frontend.example",
    )


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its lifespan entered; httpx's transport does not do that."""
    app = get_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction that is rolled back. Revisions are written at once, not at the commit."""
    async with engine.connect() as connection, connection.begin() as transaction:
        await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        yield connection
        await transaction.rollback()


@pytest.fixture
async def sessions(app: FastAPI, connection: AsyncConnection) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """The session factory that the application uses during this test."""
    factory = async_sessionmaker(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
    opened = app.state.database
    app.state.database = Database(transactions=factory, reads=factory)
    yield factory
    app.state.database = opened


@pytest.fixture
async def client(app: FastAPI, sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is not signed in. Exceptions do not pass through it: a 500 is an answer here too."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def fake_airflow(app: FastAPI) -> AsyncIterator[FakeAirflow]:
    """The Airflow that the application asks during this test. Nobody keeps the link to it."""
    fake = FakeAirflow()
    opened = app.state.airflow
    app.state.airflow = fake.gateway()
    yield fake
    await app.state.airflow.close()
    app.state.airflow = opened


@dataclass(frozen=True)
class Account:
    """Somebody who has signed in."""

    id: int
    username: str
    email: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}


SignUp = Callable[..., Awaitable[Account]]


@pytest.fixture
def sign_up(client: httpx.AsyncClient, connection: AsyncConnection) -> SignUp:
    """Registers somebody and signs them in: `await sign_up()`, `await sign_up("name", superuser=True)`."""
    numbers = count(1)

    async def sign_up(username: str | None = None, *, superuser: bool = False) -> Account:
        username = username or f"user_{next(numbers)}"
        email = f"{username}@example.com"
        body = {"username": username, "email": email, "password": PASSWORD, "full_name": "王小明"}
        registered = await client.post("/api/auth/register", json=body)
        assert registered.status_code == 201, registered.text
        if superuser:
            await connection.execute(
                text("UPDATE pyapi_users SET is_superuser = true WHERE id = :id"), {"id": registered.json()["id"]}
            )
        tokens = await log_in(client, username)
        return Account(registered.json()["id"], username, email, tokens["access_token"], tokens["refresh_token"])

    return sign_up


async def log_in(client: httpx.AsyncClient, username: str, password: str = PASSWORD) -> dict[str, Any]:
    """The token pair of a new session."""
    answer = await client.post("/api/auth/login", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def assert_outcome(answer: httpx.Response, status: int, code: str | None) -> None:
    """The answer is this problem or, without a code, a success."""
    if code is not None:
        assert_problem(answer, status, code)
    else:
        assert answer.status_code == status, answer.text


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is this problem document, complete; what it says is handed back."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    assert document["type"] == f"urn:pyapi:problem:{code}"
    assert document["status"] == status
    assert document["instance"] == answer.request.url.path
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["title"]
    assert document["detail"]
    assert ("errors" in document) == (status == 422)
    return document
