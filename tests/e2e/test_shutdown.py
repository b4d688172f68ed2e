"""SIGTERM while requests are being served: everyone gets an answer, and nothing is left running."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from pyapi.db.embedded import running_url
from tests.fixtures.application import PASSWORD
from tests.fixtures.servers import RunningServer, sign_up

GRACE_SECONDS = 20
LOGINS = 4
CHANGES = 2
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@dataclass(frozen=True)
class End:
    """How a server with an embedded database ended that was hashing passwords and waiting for a locked row."""

    server: RunningServer
    logins: list[int]
    changes: list[int]
    status: int
    seconds: float
    left: list[int]


@pytest.fixture(scope="module")
async def end(tmp_path_factory: pytest.TempPathFactory) -> End:
    settings = {"PYAPI_WORKERS_COUNT": "2", "PYAPI_GRACEFUL_TIMEOUT_SECONDS": str(GRACE_SECONDS)}
    server = RunningServer(tmp_path_factory.mktemp("shutdown") / "server", settings)
    try:
        server.wait_until_live()
        async with server.client() as client:
            return await end_busy(server, client)
    finally:
        server.clean_up()


async def end_busy(server: RunningServer, client: httpx.AsyncClient) -> End:
    """Nobody can have got an answer before the signal: the row is released after it."""
    account = await sign_up(client, "busy")
    record = await client.post("/api/data/", json={"name": "前"}, headers=account.headers)
    url = (running_url(server.folder / ".pyapi") or "").replace("+asyncpg", "")
    database = await asyncpg.connect(url)
    # Within a transaction PostgreSQL shows the connections that there were when it was first asked, and no later ones.
    watcher = await asyncpg.connect(url)

    async def change(number: int) -> httpx.Response:
        body = {"description": f"change {number}"}
        return await client.put(record.headers["location"], json=body, headers=account.headers)

    async def login() -> httpx.Response:
        return await client.post("/api/auth/login", json={"username": "busy", "password": PASSWORD})

    await asyncio.gather(*(change(number) for number in range(CHANGES)))  # opens the connections
    async with database.transaction():
        await database.execute("SELECT FROM pyapi_data_records FOR UPDATE")
        changes = asyncio.gather(*(change(number) for number in range(CHANGES)))
        # PostgreSQL tells nobody that somebody waits.
        while await watcher.fetchval(WAITING) < CHANGES and not changes.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        logins = asyncio.gather(*(login() for _ in range(LOGINS)))
        await asyncio.sleep(0.05)  # the logins are on their way
        told = time.monotonic()
        ending = asyncio.create_task(asyncio.to_thread(server.terminate))
        await asyncio.sleep(0.3)  # the signal is there; and far from the two seconds that a change waits for a row
    await database.close()
    await watcher.close()
    logged_in = [answer.status_code for answer in await logins]
    changed = [answer.status_code for answer in await changes]
    status = await ending
    return End(server, logged_in, changed, status, time.monotonic() - told, working_in(server.folder))


def working_in(folder: Path) -> list[int]:
    """Pids of processes in the folder: the server's stand in it, PostgreSQL's in the cluster below."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def test_logins_are_answered(end: End) -> None:
    assert end.logins == [200] * LOGINS


def test_changes_are_answered(end: End) -> None:
    assert end.changes == [200] * CHANGES


def test_the_exit_status_is_zero(end: End) -> None:
    assert end.status == 0


def test_it_ends_in_time(end: End) -> None:
    assert end.seconds < GRACE_SECONDS


def test_no_process_is_left(end: End) -> None:
    assert end.left == []


def test_the_embedded_database_is_shut_down_in_order(end: End) -> None:
    assert "database system is shut down" in (end.server.folder / ".pyapi" / "server.log").read_text().splitlines()[-1]


def test_nothing_fails_meanwhile(end: End) -> None:
    assert [event for event in end.server.events if event["level"] in {"warning", "error", "critical"}] == []
