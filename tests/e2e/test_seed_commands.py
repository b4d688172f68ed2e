"""The other ways to start that the first README prints: uvicorn, gunicorn, and reloading for development."""

import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import NewDatabase
from tests.fixtures.servers import GUNICORN, PYAPI, UVICORN, RunningServer, sign_up

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 60


def checkout(folder: Path) -> Path:
    """A copy of the source, to be edited; a server that is started in it runs the copy."""
    for part in ("pyapi", "migrations"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@dataclass(frozen=True)
class Started:
    """A server that answers, and the address of a record that it has stored."""

    server: RunningServer
    record: str


COMMANDS = ["uvicorn --reload", "PYAPI_RELOAD", "gunicorn", "gunicorn embedded"]
RELOADING = COMMANDS[:2]


@pytest.fixture(scope="module")
async def started(
    new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Started]]:
    """All of them at once: they wait more than they work."""
    folder = tmp_path_factory.mktemp("commands")
    fast = {"PYAPI_PASSWORD_HASH_ROUNDS": "4"}
    database = {"DATABASE_URL": await new_database()}
    servers = [
        RunningServer(checkout(folder / "uvicorn"), fast, command=(*UVICORN, "--reload")),
        RunningServer(checkout(folder / "reload"), {**fast, "PYAPI_RELOAD": "true"}, command=PYAPI),
        RunningServer(folder / "gunicorn", {**fast, **database}, command=(*GUNICORN, "--workers", "4")),
        RunningServer(folder / "embedded", fast, command=(*GUNICORN, "--workers", "2")),
    ]
    try:
        records = [await store_record(server.wait_until_live()) for server in servers]
        yield {name: Started(*pair) for name, pair in zip(COMMANDS, zip(servers, records, strict=True), strict=True)}
    finally:
        for server in servers:
            server.clean_up()


async def store_record(server: RunningServer) -> str:
    async with server.client() as client:
        account = await sign_up(client, "somebody")
        answer = await client.post("/api/data/", json={"name": "每日同步"}, headers=account.headers)
        return str(answer.raise_for_status().headers["location"])


def wait_for(url: str, **expected: str) -> None:
    """Until the answer has these fields."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            answer = httpx.get(url, timeout=WAIT_SECONDS)
        except httpx.TransportError:
            pass  # between two processes
        else:
            if answer.is_success and expected.items() <= answer.json().items():
                return
        assert time.monotonic() < deadline, f"{url} does not answer {expected}"
        time.sleep(0.05)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_serves(started: dict[str, Started], command: str) -> None:
    server, record = started[command].server, started[command].record

    assert httpx.get(f"{server.url}{record}").json()["name"] == "每日同步"


@pytest.fixture(scope="module", params=RELOADING)
def reloaded(started: dict[str, Started], request: pytest.FixtureRequest) -> Started:
    """After a change of a source file, as soon as that is in force."""
    changed = started[request.param]
    source = changed.server.folder / "pyapi" / "web" / "api" / "monitoring.py"
    source.write_text(source.read_text().replace('name="pyapi"', 'name="changed"'))
    wait_for(f"{changed.server.url}/api/version", name="changed")
    return changed


def test_records_survive_a_reload(reloaded: Started) -> None:
    """Under uvicorn the database ends and starts with the process that is replaced."""
    assert httpx.get(f"{reloaded.server.url}{reloaded.record}").json()["name"] == "每日同步"


def test_gunicorn_has_as_many_workers_as_it_was_told(started: dict[str, Started]) -> None:
    assert len(started["gunicorn"].server.workers()) == 4


async def names_by_worker(started: Started) -> list[str]:
    names = []
    for worker in started.server.workers():
        with started.server.answered_by(worker) as client:
            async with client:
                names.append((await client.get(started.record)).json()["name"])
    return names


async def test_workers_share_one_embedded_database(started: dict[str, Started]) -> None:
    assert await names_by_worker(started["gunicorn embedded"]) == ["每日同步"] * 2


async def test_the_death_of_the_worker_that_runs_the_database_is_survived(started: dict[str, Started]) -> None:
    """gunicorn starts another worker, that one starts the database, and those that lived on find it again."""
    embedded = started["gunicorn embedded"]
    owner = int((embedded.server.folder / ".pyapi" / "holder.lock").read_text().split()[0])
    assert owner in embedded.server.workers()

    os.kill(owner, signal.SIGKILL)
    while owner in embedded.server.workers() or len(embedded.server.workers()) < 2:
        time.sleep(0.05)
    wait_for(f"{embedded.server.url}/api/health", status="ok")

    assert await names_by_worker(embedded) == ["每日同步"] * 2


@pytest.mark.parametrize("command", COMMANDS)
def test_it_ends_in_order(started: dict[str, Started], command: str) -> None:
    assert started[command].server.terminate() == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_it_ends_without_a_traceback(started: dict[str, Started], command: str) -> None:
    server = started[command].server
    server.terminate()

    assert "Traceback" not in server.output + server.log
