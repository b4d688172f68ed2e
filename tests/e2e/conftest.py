"""Servers as processes: each in a folder of its own, with nothing in its environment but what a test says."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from pyapi.db.embedded import EmbeddedPostgres
from tests.conftest import NewDatabase
from tests.integration.conftest import PASSWORD, Account, log_in

SCRIPTS = Path(sys.executable).parent
PYAPI = (sys.executable, "-m", "pyapi")
# A Python for `run_command` that has imported PyAPI already; needs the fixture `warm_interpreter`.
WARM = "warm python"
WARM_PYAPI = (WARM, "-m", "pyapi")
WARM_INTERPRETER = str(Path(__file__).with_name("warm_interpreter.py"))
# The commands of the seed's README; `{port}` is filled in by RunningServer.
FACTORY = "pyapi.web.application:get_app"
UVICORN = (str(SCRIPTS / "uvicorn"), FACTORY, "--host", "127.0.0.1", "--port", "{port}")
GUNICORN = (
    *(str(SCRIPTS / "gunicorn"), FACTORY, "--worker-class", "uvicorn.workers.UvicornWorker"),
    *("--bind", "127.0.0.1:{port}"),
)
START_SECONDS = 60
STOP_SECONDS = 45

# Below the ports that systems hand out for outgoing connections and that the embedded server looks for: a port that is
# free here stays free until the server listens.
_ports = iter(random.sample(range(10_000, 20_000), 10_000))


def free_port() -> int:
    """A port that nobody listens on."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What a login shell has, the settings, and what makes coverage measure subprocesses too."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **kept, **settings}


class RunningServer:
    """A command that serves HTTP on `port`, and what it says: the terminal's lines in `output`, the log in `log`."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], *, command: Sequence[str] = PYAPI, port: int | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._files = [folder.with_name(f"{folder.name}-{self.port}.{kind}") for kind in ("output", "log")]
        with self._files[0].open("wb") as output, self._files[1].open("wb") as log:
            self.process = subprocess.Popen(
                [word.format(port=self.port) for word in command],
                cwd=folder,
                env=clean_environment({"PYAPI_PORT": str(self.port), **settings}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._files[0].read_text()

    @property
    def log(self) -> str:
        return self._files[1].read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log, each line of which is one JSON object."""
        return [json.loads(line) for line in self.log.splitlines()]

    def wait_until_live(self) -> "RunningServer":
        deadline = time.monotonic() + START_SECONDS
        while not self.is_live():
            assert self.process.poll() is None, f"the server ended:\n{self.output}{self.log}"
            assert time.monotonic() < deadline, f"the server does not answer:\n{self.output}{self.log}"
            time.sleep(0.05)
        return self

    def is_live(self) -> bool:
        """Ask its own log first: what answers on the port may be the last breath of a server that was killed."""
        try:
            return (
                "Application startup complete." in self.log
                and httpx.get(f"{self.url}/api/health/live", timeout=5, trust_env=False).status_code == 200
            )
        except httpx.TransportError:
            return False

    def seconds(self, response: httpx.Response) -> float:
        """How long the server took for this answer by its own account, whatever the machine is busy with besides."""
        for event in self.events:
            if event["event"] == "request" and event["request_id"] == response.headers["x-request-id"]:
                return float(event["duration_ms"]) / 1000
        raise AssertionError("the request is not in the log")

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, **{"timeout": 30, "trust_env": False, **options})

    def workers(self) -> list[int]:
        """Pids of the processes that answer."""
        return [pid for pid in children(self.process.pid) if b"postgres" not in command_line(pid)]

    @contextlib.contextmanager
    def answered_by(self, worker: int) -> Iterator[httpx.AsyncClient]:
        """Gives a client whose connections this worker takes: all others sleep.

        A connection stays with its worker, also when the others are awake again.
        """
        others = [pid for pid in self.workers() if pid != worker]
        try:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            while any(state(pid) != "T" for pid in others):
                time.sleep(0.001)
            yield self.client(limits=httpx.Limits(keepalive_expiry=None))
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def terminate(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Kill the process that was started, and only that."""
        self.process.kill()
        self.process.wait()

    def clean_up(self) -> None:
        """In order when it still can, and then everything it has started."""
        try:
            self.terminate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _stat(pid: int | str) -> list[str]:
    """State, parent and so on; "pid (name) state ppid ...": the name may hold spaces and parentheses."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ["gone", "0"]


def state(pid: int) -> str:
    """One letter, see proc(5)."""
    return _stat(pid)[0]


def children(pid: int) -> list[int]:
    """Pids of the direct children of a process."""
    pids = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    return sorted(int(found) for found in pids if _stat(found)[1] == str(pid))


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass(frozen=True)
class Finished:
    """A command that has ended by itself, in an empty folder of its own."""

    folder: Path
    status: int
    output: str
    error: str
    seconds: float

    @property
    def said(self) -> str:
        return self.output + self.error

    @property
    def refusal(self) -> str:
        """What a command says that could not do what it was asked to."""
        assert (self.status, self.output) == (1, ""), (self.status, self.output, self.error)
        return self.error


_warm: list[int] = []


@pytest.fixture(scope="session")
def warm_interpreter() -> Iterator[None]:
    """Lets `run_command` run commands of `WARM`; ends with the session, and with it what a test has given up."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, WARM_INTERPRETER],
            cwd="/",
            env=clean_environment({}),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            start_new_session=True,
        )
    with ours:
        _warm.append(ours.fileno())
        yield
        _warm.clear()
    try:
        process.wait(STOP_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run_command(
    folder: Path, *command: str, settings: Mapping[str, str] | None = None, typed: str = "", timeout: float = 60
) -> Finished:
    """Run a command in `folder` to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    is_warm = command[0] == WARM
    if is_warm:
        command = (sys.executable, "-I", "-S", WARM_INTERPRETER, str(_warm[0]), *command[1:])
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(settings or {}),
        input=typed,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        pass_fds=_warm if is_warm else (),
    )
    return Finished(folder, done.returncode, done.stdout, done.stderr, time.monotonic() - started)


async def sign_up(client: httpx.AsyncClient, username: str, *, password: str = PASSWORD) -> Account:
    """Register somebody and sign them in."""
    email = f"{username}@example.com"
    registered = await client.post(
        "/api/auth/register", json={"username": username, "email": email, "password": password}
    )
    assert registered.status_code == 201, registered.text
    tokens = await log_in(client, username, password)
    return Account(registered.json()["id"], username, email, tokens["access_token"], tokens["refresh_token"])


class OwnPostgres:
    """A PostgreSQL server to be mistreated; for the service it is one on the network like any other."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder)
        self.url = self._server.start()

    def start(self) -> None:
        """On the same port: clients must find it again."""
        assert self._server.start() == self.url

    def stop(self) -> None:
        self._server.stop()

    @property
    def _postmaster(self) -> int:
        return int((self._server.data_path / "postmaster.pid").read_text().split()[0])

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """To the postmaster first: it then starts no process that would be missed."""
        os.kill(self._postmaster, number)
        for process in children(self._postmaster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def kill(self) -> None:
        os.kill(self._postmaster, signal.SIGKILL)
        self._server.stop()  # there is nothing to stop any more; gives the folder free

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""), timeout=20)
        try:
            yield connection
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """Asks for a password, as servers do, and runs when a test begins."""
    server = OwnPostgres(tmp_path_factory.mktemp("own") / "data")
    yield server
    server.stop()


StartServer = Callable[..., RunningServer]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts `python -m pyapi`, or `command=...`, in an empty folder; ends it with the test."""
    servers: list[RunningServer] = []

    def start(folder: Path | None = None, *, wait: bool = True, **options: Any) -> RunningServer:
        settings = {"PYAPI_PASSWORD_HASH_ROUNDS": "4"} | options.pop("settings", {})
        servers.append(RunningServer(folder or tmp_path / f"server-{len(servers)}", settings, **options))
        return servers[-1].wait_until_live() if wait else servers[-1]

    yield start
    for server in servers:
        server.clean_up()


@pytest.fixture(scope="session")
async def shared_database(new_database: NewDatabase) -> str:
    """The database of `shared_server`."""
    return await new_database()


@pytest.fixture(scope="session")
def shared_server(shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers on a database of their own, for all tests that leave them as they are."""
    with server_on(shared_database, tmp_path_factory.mktemp("shared") / "server", PYAPI_WORKERS_COUNT="2") as server:
        yield server


@contextlib.contextmanager
def server_on(database_url: str, folder: Path, **settings: str) -> Iterator[RunningServer]:
    """A server on a database, live as long as the block."""
    server = RunningServer(folder, {"DATABASE_URL": database_url, "PYAPI_PASSWORD_HASH_ROUNDS": "4", **settings})
    try:
        yield server.wait_until_live()
    finally:
        server.clean_up()
