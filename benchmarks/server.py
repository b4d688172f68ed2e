"""The service as users run it: a process of its own on a PostgreSQL of its own, and the CPU time it takes."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from pyapi.db.embedded import EmbeddedPostgres
from pyapi.db.schema_version import prepare_schema

_TICK = os.sysconf("SC_CLK_TCK")
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL."""

    url: str
    pid: int


@dataclass(frozen=True)
class Service:
    """A running service; `url` without a slash at its end."""

    url: str
    database_url: str
    pid: int
    postgres_pid: int

    def cpu_seconds(self) -> float:
        """CPU time of the service so far, all its processes together, without PostgreSQL."""
        return cpu_seconds_of(self.pid)

    def postgres_cpu_seconds(self) -> float:
        """CPU time of PostgreSQL's processes that are alive."""
        return cpu_seconds_of(self.postgres_pid)


def cpu_seconds_of(pid: int) -> float:
    """CPU time of a process and of all below it so far."""
    return sum(map(_cpu_seconds, _tree(pid)))


@contextlib.contextmanager
def running_service(folder: Path) -> Iterator[Service]:
    """Start PostgreSQL and the service, one worker; end both afterwards."""
    with running_postgres(folder) as postgres, service_on(postgres, folder, {}) as service:
        yield service


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Start a PostgreSQL with the tables of the service; end it afterwards."""
    postgres = EmbeddedPostgres(folder / "postgres")
    try:
        url = postgres.start()
        asyncio.run(prepare_schema(url, migrate=True))
        yield Postgres(url, int((postgres.data_path / "postmaster.pid").read_text().split()[0]))
    finally:
        postgres.stop()


@contextlib.contextmanager
def service_on(postgres: Postgres, folder: Path, settings: Mapping[str, str]) -> Iterator[Service]:
    """Start the service, one worker; end it afterwards."""
    port = free_port()
    basics = {"DATABASE_URL": postgres.url, "PYAPI_PORT": str(port), "PYAPI_DATA_DIR": str(folder / "data")}
    command = [sys.executable, "-m", "pyapi"]
    with running_process(command, folder, basics | dict(settings)) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_live(f"{url}/api/health")
        yield Service(url, postgres.url, process.pid, postgres.pid)


@contextlib.contextmanager
def running_process(
    command: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server in `folder`, with what it says in `service.log`; ends it afterwards."""
    with (folder / "service.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | dict(variables), stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
    return port


def wait_until_live(url: str) -> None:
    """Ask until the answer is 200."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("the service did not start")


def children_of(pid: int) -> list[int]:
    """The processes that a process has started; none when it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _tree(pid: int) -> list[int]:
    found = [pid]
    for known in found:
        found += children_of(known)
    return found


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended; 0 for one that is gone."""
    try:
        # The second field, the name in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK
