"""`pyapi standalone`: one command brings everything, and takes everything away again."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from pyapi.exceptions import ConfigurationError
from pyapi.standalone import find_project
from tests.fixtures.servers import SCRIPTS, Finished, children, clean_environment, command_line, free_port, run_command

pytestmark = pytest.mark.airflow

CLI = str(SCRIPTS / "pyapi")
READY_SECONDS = 300
STOP_SECONDS = 30
# The task leaves a process behind that has a session of its own.
TASK = """
import subprocess, time

def sleep(config, context):
    subprocess.Popen(["sleep", config["secret"]], start_new_session=True)
    time.sleep(987)
"""


def settings_for(folder: Path) -> dict[str, str]:
    """What a shell has besides; the name of the folder is in the environment of all that is started."""
    kept = {name: os.environ[name] for name in ("HOME", "UV") if name in os.environ}
    return kept | {
        "PYAPI_DATA_DIR": str(folder / "data"),
        "PYAPI_PASSWORD_HASH_ROUNDS": "4",
        "PYAPI_TASK_PREFIXES": "slow_tasks",
    }


def processes_of(folder: Path) -> set[int]:
    """Pids of all others that stand in the folder, were started with it or know it, whoever their parent is."""
    name, found = os.fsencode(folder), set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            places = os.fsencode((process / "cwd").readlink()), (process / "environ").read_bytes()
            if any(name in place for place in (*places, (process / "cmdline").read_bytes())):
                found.add(int(process.name))
        except OSError:  # it has ended
            continue
    return found - {os.getpid()}


def wait_for(holds: Callable[[], Any], seconds: float, said: Callable[[], str] = str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, said()
        time.sleep(0.1)
    return found


class Running:
    """A standalone from its start on, and somebody who has signed in to both of its services."""

    def __init__(self, folder: Path, ports: tuple[int, int]) -> None:
        self.folder, self.data = folder, folder / "data"
        self.pyapi, self.airflow = (httpx.Client(trust_env=False, timeout=60) for _ in range(2))
        self._output = folder.with_name(f"{folder.name}.output")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [CLI, "standalone", "--port", str(ports[0]), "--airflow-port", str(ports[1])],
                cwd=folder,
                env=clean_environment(settings_for(folder)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def sign_in(self) -> "Running":
        """Once it has said where and how, in the file for programs."""
        wait_for(self._is_ready, READY_SECONDS, lambda: self.output)
        self.addresses = json.loads((self.data / "standalone.json").read_text())
        self.pyapi.base_url, self.airflow.base_url = self.addresses["pyapi_url"], self.addresses["airflow_url"]
        account = {"username": self.addresses["airflow_username"], "password": self.addresses["airflow_password"]}
        answer = self.airflow.post("/auth/token", json=account).raise_for_status()
        self.airflow.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        person = {"username": "wang", "password": "SecurePass123"}
        self.pyapi.post("/api/auth/register", json={**person, "email": "wang@example.com"})
        answer = self.pyapi.post("/api/auth/login", json=person).raise_for_status()
        self.pyapi.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.output
        return "Ready after" in self.output

    def new_dag(self, name: str) -> dict[str, Any]:
        """What Airflow knows of a record that has just been written."""
        record: dict[str, Any] = {
            "name": name,
            "status": "active",
            "config": {"schedule": None, "task": "slow_tasks:sleep"},
        }
        record["config"]["secret"] = "987"
        record_id = self.pyapi.post("/api/data/", json=record).raise_for_status().json()["id"]
        dag: dict[str, Any] = wait_for(lambda: self._dag(record_id), 60, lambda: self.output)
        return dag

    def _dag(self, record_id: int) -> dict[str, Any] | None:
        answer = self.airflow.get(f"/api/v2/dags/pyapi_{record_id}/details")
        return answer.json() if answer.status_code == 200 else None

    def run_task(self, dag: dict[str, Any]) -> None:
        """Until the process that it leaves behind is there."""
        self.airflow.post(f"/api/v2/dags/{dag['dag_id']}/dagRuns", json={"logical_date": None}).raise_for_status()
        wait_for(self.is_task_running, 60, lambda: self.output)

    def is_task_running(self) -> bool:
        return any(b"sleep\x00987" in command_line(pid) for pid in processes_of(self.folder))

    def component(self, word: bytes) -> int | None:
        """The pid of a part of Airflow: a child of the guard that this process has started."""
        guards = [pid for pid in children(self.process.pid) if word in command_line(pid)]
        return next(iter(children(guards[0])), None) if guards else None

    def clean_up(self) -> None:
        for pid in processes_of(self.folder):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.pyapi.close()
        self.airflow.close()


@dataclass
class Story:
    """Two starts on one folder: the first one is killed, the second one is stopped; both while a task runs."""

    first: dict[str, str] = field(default_factory=dict)
    second: dict[str, str] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    health: int = 0
    beside: str = ""
    dags: list[str] = field(default_factory=list)
    stored_secrets: set[str] = field(default_factory=set)
    is_processor_new: bool = False
    seconds_after_kill: float = 0
    banner: str = ""
    status: int | None = None
    seconds_to_stop: float = 0
    left: set[int] = field(default_factory=set)
    files_left: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("standalone") / "資料 夾"
    tasks = folder / "data" / "airflow" / "plugins"
    tasks.mkdir(parents=True)
    (tasks / "slow_tasks.py").write_text(TASK)
    story, ports, runs = Story(), (free_port(), free_port()), list[Running]()
    try:
        runs.append(Running(folder, ports))
        begin(story, runs[0].sign_in())
        runs.append(Running(folder, ports))
        end(story, runs[1].sign_in())
        yield story
    finally:
        for running in runs:
            running.clean_up()


def begin(story: Story, running: Running) -> None:
    story.first = running.addresses
    secret = ("standalone.json", "airflow/secrets.json", "airflow/passwords.json")
    story.modes = {name: stat.S_IMODE((running.data / name).stat().st_mode) for name in secret}
    story.health = running.pyapi.get("/api/health").status_code
    story.beside = standalone(running.folder, free_port(), free_port(), PYAPI_DATA_DIR=str(running.data)).said
    dag = running.new_dag("每日資料同步")
    killed = running.component(b"dag-processor")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    story.dags = [dag["dag_display_name"], running.new_dag("after the death")["dag_display_name"]]
    story.stored_secrets = asyncio.run(stored_secrets(story.first["database_url"]))
    story.is_processor_new = running.component(b"dag-processor") not in {None, killed}
    running.run_task(dag)
    running.process.kill()
    running.process.wait()
    told = time.monotonic()
    wait_for(lambda: not processes_of(running.folder), 60, lambda: str(processes_of(running.folder)))
    story.seconds_after_kill = time.monotonic() - told


async def stored_secrets(database_url: str) -> set[str]:
    """What the table holds of them, without what differs."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    found = await connection.fetch("SELECT left(config ->> 'secret', 12) FROM pyapi_data_records")
    await connection.close()
    return {row[0] for row in found}


def end(story: Story, running: Running) -> None:
    story.second, story.banner = running.addresses, running.output
    running.run_task(running.new_dag("the last one"))
    told = time.monotonic()
    os.killpg(running.process.pid, signal.SIGINT)
    time.sleep(0.5)
    running.process.send_signal(signal.SIGTERM)
    story.status = running.process.wait(2 * STOP_SECONDS)
    story.seconds_to_stop = time.monotonic() - told
    story.left = processes_of(running.folder)
    story.files_left = {path.name for path in running.data.iterdir()}


def test_the_file_for_programs_says_how_to_reach_everything(story: Story) -> None:
    assert list(story.first) == ["pyapi_url", "airflow_url", "airflow_username", "airflow_password", "database_url"]


def test_only_its_owner_reads_what_is_secret(story: Story) -> None:
    assert set(story.modes.values()) == {0o600}, story.modes


def test_pyapi_is_healthy(story: Story) -> None:
    assert story.health == 200


def test_a_second_one_beside_it_is_refused(story: Story) -> None:
    assert "is in use by another `pyapi standalone`" in story.beside


def test_a_record_is_a_dag_also_after_the_death_of_the_dag_processor(story: Story) -> None:
    assert (story.dags, story.is_processor_new) == (["每日資料同步", "after the death"], True)


def test_secrets_are_stored_encrypted_and_a_task_gets_them(story: Story) -> None:
    """That it sleeps for so many seconds is a secret here; without it none of the other tests would have a task."""
    assert story.stored_secrets == {"fernet:gAAAA"}


def test_whatever_a_killed_one_has_started_ends_by_itself(story: Story) -> None:
    assert story.seconds_after_kill < STOP_SECONDS


def test_accounts_and_addresses_are_the_same_at_the_next_start(story: Story) -> None:
    assert story.second == story.first


def test_the_banner_says_where_and_how(story: Story) -> None:
    words = [story.second[name] for name in ("pyapi_url", "airflow_url", "airflow_username", "airflow_password")]
    assert [word for word in [*words, "create-superuser", "pyapi.log", "logs-"] if word not in story.banner] == []


def test_a_signal_stops_everything_in_time(story: Story) -> None:
    assert (story.status, story.left) == (0, set())
    assert story.seconds_to_stop < STOP_SECONDS


def test_nothing_claims_to_run_after_the_end(story: Story) -> None:
    assert "pyapi.log" in story.files_left
    assert "standalone.json" not in story.files_left


def standalone(folder: Path, port: int, airflow_port: int, **settings: str) -> Finished:
    """One that ends by itself."""
    words = (CLI, "standalone", "--port", str(port), "--airflow-port", str(airflow_port))
    return run_command(folder, *words, settings=settings_for(folder) | settings, timeout=READY_SECONDS)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def refused(folder: Path, port: int, airflow_port: int, **settings: str) -> str:
    """The one line, from a start that has left the folder as it was."""
    said = standalone(folder, port, airflow_port, **settings).refusal
    assert (said.count("\n"), list(folder.iterdir())) == (1, []), said
    return said


def test_pyapi_s_port_is_taken(tmp_path: Path, taken: int) -> None:
    assert refused(tmp_path / "f", taken, free_port()).startswith(
        f"--port (PYAPI_PORT): cannot listen on 127.0.0.1:{taken}"
    )


def test_airflow_s_port_is_taken(tmp_path: Path, taken: int) -> None:
    assert refused(tmp_path / "f", free_port(), taken).startswith(f"--airflow-port: cannot listen on 127.0.0.1:{taken}")


def test_both_ports_are_the_same(tmp_path: Path) -> None:
    port = free_port()
    assert refused(tmp_path / "f", port, port) == (
        f"PyAPI and Airflow cannot both have port {port}: change --airflow-port.\n"
    )


def test_uv_is_not_there(tmp_path: Path) -> None:
    assert "uv is not found" in refused(tmp_path / "f", free_port(), free_port(), PATH="/nowhere", UV="")


def test_a_token_for_another_airflow(tmp_path: Path) -> None:
    assert "PYAPI_AIRFLOW_TOKEN" in refused(tmp_path / "f", free_port(), free_port(), PYAPI_AIRFLOW_TOKEN="x")


def test_there_is_no_clone_of_the_repository(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs a clone of the repository"):
        find_project(tmp_path)


def test_airflow_cannot_be_started(tmp_path: Path) -> None:
    """With a configuration file that nobody can read."""
    home = tmp_path / "data" / "airflow"
    home.mkdir(parents=True)
    (home / "airflow.cfg").write_text("[[[ nothing of the kind")
    done = standalone(tmp_path, free_port(), free_port())
    assert done.status == 1
    assert f"see {home / 'logs-db.log'}." in done.error.splitlines()[-1]
    assert [command_line(pid) for pid in processes_of(tmp_path)] == []


def test_pyapi_cannot_be_started(tmp_path: Path) -> None:
    """Since it cannot keep a key."""
    (tmp_path / "data" / "secret_key").mkdir(parents=True)
    done = standalone(tmp_path, free_port(), free_port())
    assert done.status == 1
    assert done.error.splitlines()[-1].startswith("PyAPI has ended, and all else with it (PYAPI_DATA_DIR: no key")
    assert [command_line(pid) for pid in processes_of(tmp_path)] == []
