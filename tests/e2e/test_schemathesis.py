"""schemathesis with all its checks, in all its phases, on every operation: as anybody, as a user, as a superuser.

Each run has a server and a database of its own, because it changes both. What a run leaves out, and why, stands in
schemathesis.toml and schemathesis_hooks.py. By hand, from the root of the repository, with the first account made:
`SCHEMATHESIS_SIGN_IN=1 python -m schemathesis.cli --config-file tests/e2e/schemathesis.toml run URL/api/openapi.json`.
"""

import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.conftest import NewDatabase
from tests.e2e.schemathesis_hooks import PASSWORD, USERNAME
from tests.fixtures.servers import QUICK, RunningServer

EXAMPLES, MANY_EXAMPLES = 50, 400
"""How many requests an operation gets in a phase; the many take ten minutes for each caller, and run at night."""

SECONDS = 3600
ROOT = Path(__file__).parents[2]
CALLERS = ("anonymous", "user", "superuser")


class Run:
    """schemathesis at work; it gets one worker, so that the same run does the same again."""

    def __init__(self, server: RunningServer, *, signed_in: bool, examples: int) -> None:
        self._server = server
        self._report = server.folder.with_name(f"{server.folder.name}.report")
        command = ["-m", "schemathesis.cli", "--config-file", "tests/e2e/schemathesis.toml", "run"]
        options = [f"--max-examples={examples}", "--seed=1", "--no-color"]
        with self._report.open("wb") as report:
            # Nobody waits for it but the last tests: the others go first.
            self._process = subprocess.Popen(
                ["nice", sys.executable, *command, f"{server.url}/api/openapi.json", *options],
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"} | ({"SCHEMATHESIS_SIGN_IN": "1"} if signed_in else {}),
                stdin=subprocess.DEVNULL,
                stdout=report,
                stderr=subprocess.STDOUT,
            )

    def findings(self) -> str:
        """What it found; nothing when it found nothing."""
        return "" if self._process.wait(SECONDS) == 0 else self._report.read_text()

    def operations(self) -> set[str]:
        """Everything there is to do, as `GET /api/data/{data_id}`."""
        paths = httpx.get(f"{self._server.url}/api/openapi.json", trust_env=False).json()["paths"]
        return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}

    def successes(self) -> set[str]:
        """Those operations that worked at least once."""
        self._process.wait(SECONDS)
        lines = [event for event in self._server.events if event["event"] == "request" and event["status"] < 300]
        done = {f"{line['method']} {line['path']}" for line in lines}
        templates = {operation: re.compile(re.sub("{.*?}", "[0-9a-f-]+", operation)) for operation in self.operations()}
        return {operation for operation, template in templates.items() if any(map(template.fullmatch, done))}

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.asynccontextmanager
async def started_runs(new_database: NewDatabase, folder: Path, *, examples: int) -> AsyncIterator[dict[str, Run]]:
    """A run for each kind of caller, all at the same time."""
    databases = {caller: await new_database() for caller in CALLERS}
    with contextlib.ExitStack() as stack:
        servers = {}
        for caller, database in databases.items():
            settings = {"DATABASE_URL": database, **QUICK}
            servers[caller] = RunningServer(folder / caller, settings)
            stack.callback(servers[caller].clean_up)
        started = {}
        for caller, server in servers.items():
            server.wait_until_live()
            await register(server, databases[caller], superuser=caller == "superuser")
            started[caller] = Run(server, signed_in=caller != "anonymous", examples=examples)
            stack.callback(started[caller].stop)
        yield started


@pytest.fixture(scope="session")
async def runs(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Run]]:
    """Runs beside the other tests."""
    async with started_runs(new_database, tmp_path_factory.mktemp("schemathesis"), examples=EXAMPLES) as started:
        yield started


@pytest.fixture(scope="module")
async def long_runs(
    new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Run]]:
    """Runs that take so long that nobody waits for them by day."""
    async with started_runs(new_database, tmp_path_factory.mktemp("nightly"), examples=MANY_EXAMPLES) as started:
        yield started


async def register(server: RunningServer, database: str, *, superuser: bool) -> None:
    """Make the account that schemathesis_hooks.py signs in with."""
    account = {"username": USERNAME, "email": f"{USERNAME}@example.com", "password": PASSWORD}
    async with server.client() as client:
        (await client.post("/api/auth/register", json=account)).raise_for_status()
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    await connection.execute("UPDATE pyapi_users SET is_superuser = $1", superuser)
    await connection.close()


@pytest.mark.first
@pytest.mark.parametrize("caller", CALLERS)
def test_schemathesis_starts(runs: dict[str, Run], caller: str) -> None:
    assert runs[caller].operations()


@pytest.mark.last
@pytest.mark.parametrize("caller", CALLERS)
def test_schemathesis_finds_nothing(runs: dict[str, Run], caller: str) -> None:
    assert runs[caller].findings() == ""


@pytest.mark.nightly
@pytest.mark.parametrize("caller", CALLERS)
def test_schemathesis_finds_nothing_with_many_examples(long_runs: dict[str, Run], caller: str) -> None:
    assert long_runs[caller].findings() == ""


@pytest.mark.last
def test_the_run_of_the_superuser_gets_behind_every_door(runs: dict[str, Run]) -> None:
    """A run that is only ever refused finds nothing either. What needs an Airflow has its own tests, with one."""
    needs_airflow = re.compile("runs|backfills|reconcile|/check")
    expected = {operation for operation in runs["superuser"].operations() if not needs_airflow.search(operation)}
    assert runs["superuser"].successes() == expected
