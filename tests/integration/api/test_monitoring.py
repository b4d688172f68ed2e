"""Health, version and metrics."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from pyapi.db.database import Database
from pyapi.db.engine import create_engine
from pyapi.settings import Settings
from pyapi.web.application import get_app
from pyapi.web.metrics import MULTIPROCESS_DIR, render_metrics
from tests.fixtures.application import SignUp, assert_problem

HEALTH = ["/api/health", "/api/health/ready"]
PASSWORD_OF_THE_DATABASE = "hunter2"


@asynccontextmanager
async def database_at(app: FastAPI, port: int) -> AsyncIterator[None]:
    """Let the application use whatever listens on that port of this machine."""
    opened = app.state.database
    engine = create_engine(f"postgresql://airflow:{PASSWORD_OF_THE_DATABASE}@127.0.0.1:{port}/airflow", pool_size=2)
    app.state.database = Database.on(engine)
    yield
    app.state.database = opened
    await engine.dispose()


@pytest.fixture
async def database_away(app: FastAPI, client: httpx.AsyncClient, unused_tcp_port: int) -> AsyncIterator[None]:
    """A database that refuses connections: nobody listens there."""
    async with database_at(app, unused_tcp_port):
        yield


@pytest.fixture
async def database_silent(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[None]:
    """A database that accepts connections and says nothing."""
    finished = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await finished.wait()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with database_at(app, server.sockets[0].getsockname()[1]):
        yield
    finished.set()
    server.close()
    await server.wait_closed()


def numbers(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Each sample of the text format of Prometheus by its name and the values of its labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# --- health ---


@pytest.mark.parametrize("path", HEALTH)
async def test_health_names_each_component(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "components": {"database": "ok"}}


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize("path", HEALTH)
async def test_health_without_a_database(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json() == {"status": "unavailable", "components": {"database": "unavailable"}}


@pytest.mark.usefixtures("database_silent")
async def test_health_waits_two_seconds_at_most(client: httpx.AsyncClient) -> None:
    began = time.monotonic()
    answer = await client.get("/api/health")
    assert (answer.status_code, time.monotonic() - began < 2) == (503, True)


@pytest.mark.usefixtures("database_away")
async def test_liveness_never_asks_the_database(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize("path", [*HEALTH, "/api/health/live", "/api/version"])
async def test_nothing_secret_is_said_about_the_database(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    said = (await client.get(path)).text
    said += "".join(capsys.readouterr())
    assert not re.findall(rf"{PASSWORD_OF_THE_DATABASE}|airflow|127\.0\.0\.1:|PostgreSQL|asyncpg", said)


async def test_version(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/version")
    assert (answer.status_code, answer.json()) == (200, {"name": "pyapi", "version": version("pyapi")})


# --- without a database: what needs it says so ---

NEED_THE_DATABASE = [
    ("POST", "/api/auth/register", {"username": "wang", "email": "a@b.c", "password": "SecurePass123"}),
    ("POST", "/api/auth/login", {"username": "wang", "password": "SecurePass123"}),
    ("POST", "/api/auth/refresh", {"refresh_token": "x"}),
    ("GET", "/api/data/", None),
    ("GET", "/api/data/1", None),
]


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize(("method", "path", "body"), NEED_THE_DATABASE)
async def test_routes_that_need_the_database_say_when_to_come_back(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, str] | None
) -> None:
    answer = await client.request(method, path, json=body)
    problem = assert_problem(answer, 503, "database_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert PASSWORD_OF_THE_DATABASE not in str(problem)


async def test_a_token_cannot_be_checked_without_the_database(
    app: FastAPI, client: httpx.AsyncClient, sign_up: SignUp, unused_tcp_port: int
) -> None:
    """503 and not 401: a client would throw its tokens away."""
    account = await sign_up()
    async with database_at(app, unused_tcp_port):
        answer = await client.get("/api/auth/me", headers=account.headers)
    assert_problem(answer, 503, "database_unavailable")


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/api/auth/me", {}, 401, "not_authenticated"),
        ("GET", "/api/auth/me", {"Authorization": "Bearer garbage"}, 401, "invalid_token"),
        ("GET", "/api/data/", {"Authorization": "Bearer garbage"}, 401, "invalid_token"),
        ("GET", "/api/nothing", {}, 404, "not_found"),
        ("DELETE", "/api/auth/login", {}, 405, "method_not_allowed"),
        ("POST", "/api/auth/login", {"Content-Type": "application/json"}, 422, "validation_failed"),
        ("GET", "/api/data/0", {}, 422, "validation_failed"),
    ],
)
async def test_what_is_wrong_anyway_needs_no_database(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    assert_problem(await client.request(method, path, headers=headers), status, code)


# --- metrics ---


async def counted(client: httpx.AsyncClient, method: str, path: str) -> dict[tuple[str, ...], float]:
    """What a request adds to the counter of requests."""
    before, _ = render_metrics()
    await client.request(method, path)
    after, _ = render_metrics()
    old, new = numbers(before.decode()), numbers(after.decode())
    return {
        labels: value - old.get((name, labels), 0)
        for (name, labels), value in new.items()
        if name == "pyapi_http_requests_total" and value != old.get((name, labels), 0)
    }


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/api/health/live", ("GET", "/api/health/live", "200")),
        ("GET", "/api/data/", ("GET", "/api/data/", "200")),
        ("GET", "/api/data", ("GET", "/api/data", "200")),
        ("GET", "/api/data/123456", ("GET", "/api/data/{data_id}", "404")),
        ("GET", "/api/auth/users/7", ("GET", "/api/auth/users/{user_id}", "401")),
        ("GET", "/api/nothing/at/all", ("GET", "unmatched", "404")),
        ("GET", "/wp-login.php?a=b", ("GET", "unmatched", "404")),
        ("PROPFIND", "/api/nothing", ("other", "unmatched", "404")),
    ],
)
async def test_requests_are_counted_by_route_and_not_by_address(
    client: httpx.AsyncClient, method: str, path: str, labels: tuple[str, ...]
) -> None:
    assert await counted(client, method, path) == {labels: 1}


async def test_metrics_are_text_for_prometheus(client: httpx.AsyncClient) -> None:
    await client.get("/api/health/live")
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = numbers(answer.text)
    requests = found["pyapi_http_requests_total", ("GET", "/api/health/live", "200")]
    assert requests >= 1
    assert found["pyapi_http_request_seconds_count", ("GET", "/api/health/live")] == requests


async def test_metrics_can_be_switched_off(settings: Settings) -> None:
    app = get_app(settings.model_copy(update={"metrics_enabled": False}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert_problem(await client.get("/metrics"), 404, "not_found")


COUNT = """
from pyapi.web.metrics import count_moved, count_request, count_run
count_request(method="GET", route="/api/data/", status=200, seconds=0.25)
count_run(state="success")
count_moved(rows=7, size=700)
"""


def test_metrics_add_up_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus asks one worker; the answer counts the requests of all, also of those that have died."""
    monkeypatch.setenv(MULTIPROCESS_DIR, str(tmp_path))
    for _ in range(2):
        subprocess.run([sys.executable, "-c", COUNT], check=True)
    body, _ = render_metrics()
    found = numbers(body.decode())
    assert found["pyapi_http_requests_total", ("GET", "/api/data/", "200")] == 2
    assert found["pyapi_http_request_seconds_sum", ("GET", "/api/data/")] == 0.5
    # One worker counts these, and when it has ended another does.
    assert found["pyapi_runs_total", ("success",)] == 2
    assert (found["pyapi_moved_rows_total", ()], found["pyapi_moved_bytes_total", ()]) == (14, 1400)
