"""Airflow's own environment, as a subprocess."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from pyapi.airflow_environment import project_environment
from tests.airflow.running import INSTALL_SECONDS, PROJECT, RunningAirflow
from tests.conftest import NewDatabase
from tests.fixtures.servers import RunningServer, server_on


@pytest.fixture(scope="session")
def uv() -> str:
    """The program that makes Airflow's environment."""
    found = os.environ.get("UV") or shutil.which("uv")
    assert found is not None, "uv is missing: Airflow's environment could not be made"
    return found


class Question:
    """A script of this folder at work in `deployment/airflow`, with a question and an answer in JSON."""

    def __init__(self, uv: str, script: str, question: Any, home: Path, settings: Mapping[str, str]) -> None:
        self._files = {name: home / name for name in ("question", "answer", "errors")}
        self._files["question"].write_text(json.dumps(question))
        command = [uv, "run", "--quiet", "--locked", "--project", str(PROJECT), "python"]
        with (
            self._files["question"].open("rb") as stdin,
            self._files["answer"].open("wb") as stdout,
            self._files["errors"].open("wb") as stderr,
        ):
            # Nobody waits for it but the last tests: the others go first.
            self._process = subprocess.Popen(
                ["nice", *command, str(Path(__file__).with_name(script))],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=home,
                env={**project_environment(os.environ, home), **settings},
                start_new_session=True,
            )

    @property
    def is_asked(self) -> bool:
        """It is at work, or has answered."""
        return self._process.poll() in {None, 0}

    def answer(self) -> Any:
        """What the script says."""
        assert self._process.wait(INSTALL_SECONDS) == 0, self._files["errors"].read_text()[-4000:]
        return json.loads(self._files["answer"].read_text().splitlines()[-1])  # Airflow logs before

    def stop(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # uv and what it runs
        self._process.wait()


AskAirflow = Callable[..., Question]


@pytest.fixture(scope="session")
def ask_airflow(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AskAirflow]:
    """Asks, and does not wait for the answer: `ask_airflow(script, question, **settings)`."""
    asked: list[Question] = []

    def ask(script: str, question: Any, **settings: str) -> Question:
        asked.append(Question(uv, script, question, tmp_path_factory.mktemp("airflow_home"), settings))
        return asked[-1]

    yield ask
    for question in asked:
        question.stop()


@pytest.fixture(scope="session")
async def shared_database(new_database: NewDatabase) -> str:
    """The database that PyAPI and Airflow share."""
    return await new_database()


@pytest.fixture(scope="session")
def stopped_airflow(
    uv: str, shared_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAirflow]:
    """The Airflow of the session, before it is started: PyAPI has to know where it will be."""
    running = RunningAirflow(uv, tmp_path_factory.mktemp("airflow"), database_url=shared_database)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def pyapi(
    shared_database: str, stopped_airflow: RunningAirflow, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A PyAPI on that database, linked to Airflow; two workers, of which one keeps the link."""
    folder = tmp_path_factory.mktemp("pyapi") / "server"
    with server_on(shared_database, folder, PYAPI_WORKERS_COUNT="2", **stopped_airflow.settings) as server:
        yield server


@pytest.fixture(scope="session")
def airflow(stopped_airflow: RunningAirflow, pyapi: RunningServer) -> RunningAirflow:
    """One Airflow for the whole session; it takes half a minute to start."""
    stopped_airflow.start(pyapi_url=pyapi.url)
    return stopped_airflow


@pytest.fixture(scope="session")
def owner(pyapi: RunningServer) -> Iterator[httpx.Client]:
    """Somebody who has signed in to PyAPI."""
    account = {"username": "wang", "email": "wang@example.com", "password": "SecurePass123"}
    signs_in = {name: account[name] for name in ("username", "password")}
    with httpx.Client(base_url=pyapi.url, trust_env=False, timeout=30) as client:
        client.post("/api/auth/register", json=account).raise_for_status()
        token = client.post("/api/auth/login", json=signs_in).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


@pytest.fixture(scope="session")
async def superuser(pyapi: RunningServer, shared_database: str) -> AsyncIterator[httpx.Client]:
    """Somebody who may do everything."""
    account = {"username": "boss", "email": "boss@example.com", "password": "SecurePass123"}
    with httpx.Client(base_url=pyapi.url, trust_env=False, timeout=30) as client:
        client.post("/api/auth/register", json=account).raise_for_status()
        connection = await asyncpg.connect(shared_database.replace("+asyncpg", ""))
        await connection.execute("UPDATE pyapi_users SET is_superuser = true WHERE username = 'boss'")
        await connection.close()
        signs_in = {name: account[name] for name in ("username", "password")}
        token = client.post("/api/auth/login", json=signs_in).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client
