"""A real Airflow: scheduler, DAG processor and API server as processes, with the bundle of the reader kit."""

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from pyapi.airflow_environment import COMPONENTS, USERNAME, LeanAirflow, airflow_environment
from tests.fixtures.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "deployment" / "airflow"
# The first call downloads and installs Airflow.
INSTALL_SECONDS = 1800
START_SECONDS = 180


class RunningAirflow:
    """Airflow on the database of a PyAPI; `folder` is its home."""

    username = USERNAME
    password = "tests-sign-in-with-this"

    def __init__(self, uv: str, folder: Path, *, database_url: str, kit_database_url: str | None = None) -> None:
        self.folder = folder
        self._airflow = LeanAirflow(
            home=folder,
            port=free_port(),
            database_url=database_url,
            pyapi_url="",  # known when it starts
            jwt_secret="tests-sign-with-this-" * 4,
            fernet_key=base64.urlsafe_b64encode(b"tests-encrypt-with-this-32-bytes").decode(),
        )
        self.url = self._airflow.url
        self.environment = airflow_environment(os.environ, self._airflow) | {
            "PYAPI_TASK_PREFIXES": "kit_tasks",
            "PYAPI_FERNET_KEYS": "OPCaHqFd1I1N3EocN9UCBEYlr5w9NpWDTEZKmJqE38s=",
            "PYTHONPATH": str(Path(__file__).with_name("tasks")),
        }
        if kit_database_url is not None:
            self.environment["PYAPI_DATABASE_URL"] = kit_database_url
        self._uv = uv
        self._processes: list[subprocess.Popen[bytes]] = []
        self._client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    @property
    def settings(self) -> dict[str, str]:
        """What PyAPI has to be told to find it."""
        return {
            "PYAPI_AIRFLOW_URL": self.url,
            "PYAPI_AIRFLOW_USERNAME": self.username,
            "PYAPI_AIRFLOW_PASSWORD": self.password,
        }

    def start(self, *, pyapi_url: str) -> None:
        """Make the environment and the tables, start all components, sign in."""
        self.environment["PYAPI_WEB_URL"] = pyapi_url
        self._airflow.passwords_file.write_text(json.dumps({self.username: self.password}))
        command = [self._uv, "sync", "--quiet", "--locked", "--project", str(PROJECT)]
        subprocess.run(command, env=self.environment, check=True, timeout=INSTALL_SECONDS)
        self._run("db", "migrate").wait()
        self.start_components()
        answer = self._client.post("/auth/token", json={"username": self.username, "password": self.password})
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def start_components(self) -> None:
        """Start them, and wait until all are healthy."""
        self._processes = [self._run(*words) for words in COMPONENTS.values()]
        self.wait_for(self._is_healthy, START_SECONDS)

    def stop(self) -> None:
        """End all of it for good."""
        self.end_components()
        self._client.close()

    def end_components(self) -> None:
        """End all of it, the tasks that run included."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes = []

    def pid_of(self, component: str) -> int:
        """The process of one of its components."""
        return self._processes[list(COMPONENTS).index(component)].pid

    def get(self, path: str, **query: str | int) -> Any:
        """What `GET /api/v2/...` answers; None for a 404."""
        answer = self._client.get(f"/api/v2/{path}", params=query)
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        """What `POST /api/v2/...` answers."""
        return self._client.post(f"/api/v2/{path}", json=body).raise_for_status().json()

    def patch(self, path: str, body: Any) -> Any:
        """What `PATCH /api/v2/...` answers."""
        return self._client.patch(f"/api/v2/{path}", json=body).raise_for_status().json()

    def dag(self, record_id: int) -> dict[str, Any]:
        """The DAG of a record; empty while there is none."""
        return self.get(f"dags/pyapi_{record_id}/details") or {}

    def run(self, record_id: int, run_id: str) -> dict[str, Any]:
        """A run of a record."""
        found: dict[str, Any] = self.get(f"dags/pyapi_{record_id}/dagRuns/{run_id}")
        return found

    def trigger(self, record_id: int) -> dict[str, Any]:
        """Start a run, and wait until it has ended."""
        run_id = self.post(f"dags/pyapi_{record_id}/dagRuns", {"logical_date": None})["dag_run_id"]
        self.wait_for(lambda: self.run(record_id, run_id)["state"] in {"success", "failed"}, 90)
        return self.run(record_id, run_id)

    def task_log(self, record_id: int, run_id: str, *, attempt: int = 1) -> str:
        """What a run's task has said."""
        path = f"dags/pyapi_{record_id}/dagRuns/{run_id}/taskInstances/run/logs/{attempt}"
        return json.dumps(self.get(path), ensure_ascii=False)

    def wait_for(self, holds: Callable[[], object], seconds: float) -> None:
        """Wait until something is true. Raises AssertionError with the end of the logs when it never is."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self._logs()
            time.sleep(0.1)

    def _is_healthy(self) -> bool:
        try:
            health = self._client.get("/api/v2/monitor/health").json()
        except (httpx.TransportError, ValueError):
            return False
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def _run(self, *words: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{words[0]}.log").open("wb") as log:
            return subprocess.Popen(
                [str(PROJECT / ".venv" / "bin" / "airflow"), *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))
