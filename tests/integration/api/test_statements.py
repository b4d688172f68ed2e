"""How often each operation asks the database: statements and transactions on the wire, connections of the pool.

Counts, not times: they are the same on every machine. Lower a number when an operation needs less; a higher one has to
be meant.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry

from pyapi.db.database import Database
from pyapi.db.engine import create_engine, parse_database_url
from pyapi.db.places import FairPool
from tests.conftest import NewDatabase
from tests.fixtures.application import PASSWORD, log_in


@dataclass
class Traffic:
    """What was asked since the last `clear`. `simple` are texts without parameters: BEGIN and COMMIT, nothing else."""

    prepared: int = 0
    simple: list[bytes] = field(default_factory=list)
    checkouts: int = 0

    def clear(self) -> None:
        self.prepared, self.checkouts = 0, 0
        self.simple.clear()


async def listen(reader: asyncio.StreamReader, server: asyncio.StreamWriter, traffic: Traffic) -> None:
    """Hand on what a client says, and count it (PostgreSQL's protocol, 54.7): Bind runs a statement, so does Query."""
    kind = b""  # the first message has no letter
    while True:
        size = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(size) - 4)
        traffic.prepared += kind == b"B"
        if kind == b"Q":
            traffic.simple.append(body.rstrip(b"\0;"))
        server.write(kind + size + body)
        await server.drain()
        kind = await reader.readexactly(1)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture(scope="module")
async def overheard_url(new_database: NewDatabase, traffic: Traffic) -> AsyncIterator[str]:
    """A database behind a listener: whatever way a statement takes through the libraries, here it comes by."""
    url = parse_database_url(await new_database())

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection(url.host, url.port)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await asyncio.gather(listen(reader, server, traffic), pipe(answers, writer))
        server.close()
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    near = url.set(host="127.0.0.1", port=port).update_query_dict({"ssl": "disable"})
    yield near.render_as_string(hide_password=False)
    listener.close()
    await listener.wait_closed()


@pytest.fixture(scope="module")
async def pooled(app: FastAPI, overheard_url: str, traffic: Traffic) -> AsyncIterator[None]:
    """The application on a pool of real connections to a database of its own; the other tests share one connection."""
    engine = create_engine(overheard_url, pool_size=5)

    pool = engine.sync_engine.pool
    assert isinstance(pool, FairPool)
    take_at_once = pool.take_at_once

    def take() -> ConnectionPoolEntry | None:
        entry = take_at_once()
        traffic.checkouts += entry is not None
        return entry

    @event.listens_for(engine.sync_engine, "checkout")
    def count(*_: object) -> None:
        traffic.checkouts += 1

    opened = app.state.database
    app.state.database = Database.on(engine, record_places=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "take_at_once", take)
        yield
    app.state.database = opened
    await engine.dispose()


@dataclass
class Caller:
    """Somebody who has signed in and owns a record."""

    client: httpx.AsyncClient
    record_id: int
    refresh_token: str


@pytest.fixture(scope="module")
async def caller(app: FastAPI, pooled: None) -> AsyncIterator[Caller]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        account = {"username": "wang", "email": "wang@example.com", "password": PASSWORD}
        assert (await client.post("/api/auth/register", json=account)).status_code == 201
        tokens = await log_in(client, "wang")
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        for _ in range(2):
            made = await client.post("/api/data/", json={"name": "同步", "config": {"schedule": "0 9 * * *"}})
        yield Caller(client, made.json()["id"], tokens["refresh_token"])


Ask = Callable[[Caller], Awaitable[httpx.Response]]


async def read_one(caller: Caller) -> httpx.Response:
    return await caller.client.get(f"/api/data/{caller.record_id}")


async def list_with_total(caller: Caller) -> httpx.Response:
    return await caller.client.get("/api/data/", params={"status": "active", "limit": 1})


async def last_page_with_total(caller: Caller) -> httpx.Response:
    return await caller.client.get("/api/data/", params={"status": "active", "limit": 100})


async def list_without_total(caller: Caller) -> httpx.Response:
    return await caller.client.get("/api/data/", params={"include_total": False})


async def create(caller: Caller) -> httpx.Response:
    return await caller.client.post("/api/data/", json={"name": "同步", "config": {"schedule": "0 9 * * *"}})


async def update(caller: Caller) -> httpx.Response:
    return await caller.client.put(f"/api/data/{caller.record_id}", json={"config": {"schedule": "0 8 * * *"}})


async def refresh(caller: Caller) -> httpx.Response:
    answer = await caller.client.post("/api/auth/refresh", json={"refresh_token": caller.refresh_token})
    caller.refresh_token = answer.json()["refresh_token"]
    return answer


async def login(caller: Caller) -> httpx.Response:
    return await caller.client.post("/api/auth/login", json={"username": "wang", "password": PASSWORD})


@pytest.mark.parametrize(
    ("ask", "statements", "transactions", "checkouts"),
    [
        pytest.param(read_one, 1, 0, 1, id="read one"),
        pytest.param(list_with_total, 2, 0, 2, id="list with total"),
        pytest.param(last_page_with_total, 1, 0, 1, id="last page with total"),
        pytest.param(list_without_total, 1, 0, 1, id="list without total"),
        pytest.param(create, 1, 0, 1, id="create"),
        pytest.param(update, 2, 0, 2, id="update"),
        pytest.param(refresh, 1, 0, 1, id="refresh"),
        pytest.param(login, 4, 1, 2, id="login"),
    ],
)
async def test_each_operation_asks_the_database_so_often(
    caller: Caller, traffic: Traffic, ask: Ask, statements: int, transactions: int, checkouts: int
) -> None:
    """A transaction is a BEGIN and a COMMIT, each a round trip of its own beside the statements."""
    await ask(caller)  # asyncpg asks for types before the first use of a statement
    traffic.clear()
    answer = await ask(caller)
    assert answer.is_success, answer.text
    begins = [text.split()[0] for text in traffic.simple]
    assert begins == [b"BEGIN", b"COMMIT"] * transactions
    assert (traffic.prepared, traffic.checkouts) == (statements, checkouts)
