"""`pyapi standalone`: PyAPI, its PostgreSQL and a lean Airflow on one machine, watched until told to stop."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final

import httpx

import pyapi
from pyapi.__main__ import require_free_port, shown_address
from pyapi.airflow_environment import COMPONENTS, USERNAME, LeanAirflow, airflow_environment, project_environment
from pyapi.db.embedded import EmbeddedPostgres, running_url
from pyapi.db.embedded_locks import close_lock, is_locked, take_lock
from pyapi.db.schema_version import prepare_schema
from pyapi.exceptions import ConfigurationError, DataFolderInUse
from pyapi.log import configure_logging
from pyapi.settings import Settings
from pyapi.standalone_files import Addresses, Secrets, forget_addresses, write_private
from pyapi.supervision import Program

ROOT: Final = Path(pyapi.__file__).resolve().parents[1]

_LOOK_SECONDS: Final = 0.2
_START_SECONDS: Final = 300.0
_FAILED_STARTS: Final = 3
# Together with the moment that the guard gives to what is left, and with PostgreSQL, all of it takes less than 30 s.
_GRACE_SECONDS: Final = 10
_STOP_SECONDS: Final = {"pyapi": 11.0, "api-server": 4.0, "scheduler": 8.0, "dag-processor": 8.0, "db": 4.0}
_OUTLIVE_SECONDS: Final = 20.0


class _ToldToStop(Exception):
    """A signal has come."""


def run_standalone(settings: Settings, *, airflow_port: int) -> None:
    """Start everything, and watch it until a signal comes. Raises ConfigurationError when a part cannot run."""
    settings.require_safe()
    if settings.airflow_token is not None:
        raise ConfigurationError("PYAPI_AIRFLOW_TOKEN is for another Airflow: remove it, standalone brings its own.")
    project, uv = find_project(ROOT), find_uv(os.environ)
    if settings.port == airflow_port:
        raise ConfigurationError(f"PyAPI and Airflow cannot both have port {airflow_port}: change --airflow-port.")
    _require_no_other(settings.data_dir / "airflow")
    require_free_port(settings.host, settings.port, named="--port (PYAPI_PORT)")
    require_free_port("127.0.0.1", airflow_port, named="--airflow-port")
    configure_logging(level="WARNING", style=settings.log_format)
    Standalone(settings, airflow_port=airflow_port, project=project, uv=uv).run()


def find_project(root: Path) -> Path:
    """The folder that says what Airflow's environment holds."""
    project = root / "deployment" / "airflow"
    if sys.platform == "win32" or not (project / "pyproject.toml").is_file():
        raise ConfigurationError(
            f"pyapi standalone needs a clone of the repository, on Linux or macOS: there is no {project}."
            " For an Airflow of your own see docs/airflow.md."
        )
    return project


def find_uv(environ: Mapping[str, str]) -> str:
    """The program that makes Airflow's environment; `uv run` names itself in UV."""
    found = shutil.which(environ.get("UV") or "uv", path=environ.get("PATH"))
    if found is None:
        raise ConfigurationError("uv is not found, which installs Airflow: `pip install uv`, or set UV to its path.")
    return found


def _require_no_other(home: Path) -> None:
    """Refuse beside a standalone that runs; wait for the end of what one that was killed has left."""
    deadline = time.monotonic() + _OUTLIVE_SECONDS
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if is_locked(home / "standalone.lock"):
            raise DataFolderInUse(f"The data folder {home.parent} is in use by another `pyapi standalone`: stop that.")
        while is_locked(home / "programs.lock"):
            if time.monotonic() > deadline:
                raise DataFolderInUse(f"In {home} processes of an earlier `pyapi standalone` still run: end them.")
            time.sleep(_LOOK_SECONDS)


class Standalone:
    """One run of everything. It stays in one thread: programs die with the thread that has started them."""

    def __init__(self, settings: Settings, *, airflow_port: int, project: Path, uv: str) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir.resolve()
        self._home = self._data_dir / "airflow"
        self._airflow_port = airflow_port
        self._project, self._uv = project, uv
        self._pyapi_url = shown_address(settings)
        self._database: EmbeddedPostgres | None = None
        self._database_url = ""
        self._programs: dict[str, Program] = {}
        self._locks: list[int] = []
        self._is_told = self._is_healthy = False

    def run(self) -> None:
        """Until a signal comes; SIGINT, SIGTERM and SIGHUP mean the same, and a second one means nothing."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take_note)
        try:
            with contextlib.suppress(_ToldToStop):
                self._install()
                self._start()
                while True:
                    self._look()
        finally:
            self._stop()

    def _take_note(self, _: int, __: FrameType | None) -> None:
        self._is_told = True

    def _install(self) -> None:
        """Make Airflow's environment as its lock says; nothing happens when it is there."""
        if not (self._project / ".venv").exists():
            _say(f"Airflow is being installed into {self._project}, once; this takes a few minutes.")
        command = [self._uv, "sync", "--locked", "--project", str(self._project)]
        environment = project_environment(os.environ, self._home)
        with subprocess.Popen(command, env=environment) as process:  # noqa: S603 - the words are our own
            try:
                while process.poll() is None:
                    self._pause()
            finally:
                process.terminate()
        if process.returncode != 0:
            raise ConfigurationError(f"Airflow could not be installed into {self._project}: uv says above why.")

    def _start(self) -> None:
        started = time.monotonic()
        self._start_database()
        asyncio.run(prepare_schema(self._database_url, migrate=self._settings.migrate_on_start))
        airflow, secrets = self._prepare_home()
        self._prepare_programs(airflow, secrets)
        _say(f"Starting; what the parts say is in {self._data_dir / 'pyapi.log'} and {self._home}/logs-*.log.")
        self._programs["pyapi"].start()
        self._migrate_airflow()
        for component in COMPONENTS:
            self._programs[component].start()
        while not (_answers_well(self._pyapi_url) and _airflow_is_healthy(airflow.url)):
            if time.monotonic() - started > _START_SECONDS:
                raise ConfigurationError(f"Airflow is not healthy after {_START_SECONDS:.0f} s: see {self._home}.")
            self._look()
        self._is_healthy = True
        addresses = Addresses(self._pyapi_url, airflow.url, USERNAME, secrets.password, self._database_url)
        addresses.save(self._data_dir)
        _say(self._banner(addresses, time.monotonic() - started))

    def _start_database(self) -> None:
        if self._settings.database_url is not None:
            self._database_url = self._settings.database_url.get_secret_value()
            return
        self._database = EmbeddedPostgres(self._data_dir)
        self._database_url = self._database.start()

    def _prepare_home(self) -> tuple[LeanAirflow, Secrets]:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home.chmod(0o700)
        for name in ("standalone.lock", "programs.lock"):
            lock = take_lock(self._home / name, patience=0)
            if lock is None:
                raise DataFolderInUse(f"The data folder {self._data_dir} is in use by another `pyapi standalone`.")
            self._locks.append(lock)
        forget_addresses(self._data_dir)
        secrets = Secrets.kept_in(self._home)
        airflow = LeanAirflow(
            home=self._home,
            port=self._airflow_port,
            database_url=self._database_url,
            pyapi_url=self._pyapi_url,
            jwt_secret=secrets.jwt_secret,
            fernet_key=secrets.fernet_key,
        )
        write_private(airflow.passwords_file, json.dumps({USERNAME: secrets.password}))
        return airflow, secrets

    def _prepare_programs(self, airflow: LeanAirflow, secrets: Secrets) -> None:
        # Both sides have the same ones, wherever they were set; Airflow's own is there at every start.
        own = self._settings.fernet_keys
        keys = {"PYAPI_FERNET_KEYS": ",".join([*([own.get_secret_value()] if own else []), secrets.fernet_key])}
        self._programs["pyapi"] = Program(
            "PyAPI",
            [sys.executable, "-m", "pyapi"],
            environment=os.environ | keys | self._pyapi_environment(airflow, secrets),
            folder=Path.cwd(),  # where its .env is
            log=self._data_dir / "pyapi.log",
            stop_seconds=_STOP_SECONDS["pyapi"],
            lock=self._locks[-1],
        )
        environment = airflow_environment(os.environ | keys, airflow)
        for name, words in (COMPONENTS | {"db": ("db", "migrate")}).items():
            self._programs[name] = Program(
                f"Airflow's {name}",
                [self._project / ".venv" / "bin" / "airflow", *words],
                environment=environment,
                folder=self._home,
                log=self._home / f"logs-{name}.log",
                stop_seconds=_STOP_SECONDS[name],
                lock=self._locks[-1],
            )

    def _pyapi_environment(self, airflow: LeanAirflow, secrets: Secrets) -> dict[str, str]:
        return {
            "DATABASE_URL": self._database_url,
            "PYAPI_PORT": str(self._settings.port),
            "PYAPI_RELOAD": "false",
            "PYAPI_GRACEFUL_TIMEOUT_SECONDS": str(min(self._settings.graceful_timeout_seconds, _GRACE_SECONDS)),
            "PYAPI_AIRFLOW_URL": airflow.url,
            "PYAPI_AIRFLOW_USERNAME": USERNAME,
            "PYAPI_AIRFLOW_PASSWORD": secrets.password,
        }

    def _migrate_airflow(self) -> None:
        migration = self._programs.pop("db")
        migration.start()
        try:
            while migration.status is None:
                self._look()
        finally:
            migration.stop()
        if migration.status != 0:
            raise ConfigurationError(
                f"Airflow's tables could not be made{migration.last_words()}: see {migration.log}."
            )

    def _look(self) -> None:
        """See after everything once."""
        self._pause()
        self._see_after_database()
        for program in self._programs.values():
            if program.status is None:
                continue
            if program is self._programs["pyapi"]:
                raise ConfigurationError(
                    f"PyAPI has ended, and all else with it{program.last_words()}: see {program.log}."
                )
            if program.start_again():
                self._report(program)

    def _report(self, program: Program) -> None:
        if not self._is_healthy and program.deaths >= _FAILED_STARTS:
            raise ConfigurationError(f"{program.name} does not start{program.last_words()}: see {program.log}.")
        _say(f"{program.name} has ended and is started again: see {program.log}.")

    def _see_after_database(self) -> None:
        """Others can bear that it is away for a moment; at another address nobody would find it."""
        if self._database is None or running_url(self._data_dir) is not None:
            return
        _say(f"PostgreSQL has ended and is started again: see {self._data_dir / 'server.log'}.")
        self._database.stop()
        if self._database.start() != self._database_url:
            raise ConfigurationError("PostgreSQL's port has been taken by another program: start everything again.")

    def _pause(self) -> None:
        time.sleep(_LOOK_SECONDS)
        if self._is_told:
            raise _ToldToStop

    def _stop(self) -> None:
        """Airflow's API and the database last: tasks that end meanwhile can still say so."""
        if self._programs:
            _say("Stopping.")
            forget_addresses(self._data_dir)
        last = self._programs.pop("api-server", None)
        for program in self._programs.values():
            program.tell_to_stop()
        for program in self._programs.values():
            program.wait()
        if last is not None:
            last.stop()
        if self._database is not None:
            self._database.stop()
        while self._locks:
            close_lock(self._locks.pop())

    def _banner(self, addresses: Addresses, seconds: float) -> str:
        return (
            f"PyAPI       {addresses.pyapi_url}\n"
            f"Docs        {addresses.pyapi_url}/api/docs\n"
            f"Airflow     {addresses.airflow_url}\n"
            f"            user {addresses.airflow_username}, password {addresses.airflow_password}\n"
            f"Superuser   uv run pyapi user create-superuser\n"
            f"Data        {self._data_dir}\n"
            f"Logs        {self._data_dir / 'pyapi.log'}\n"
            f"            {self._home / 'logs-*.log'}\n"
            f"Ready after {seconds:.0f} s. Ctrl-C stops everything."
        )


def _answers_well(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _airflow_is_healthy(url: str) -> bool:
    try:
        health = httpx.get(f"{url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return False


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(text, flush=True)  # noqa: T201 - for people at a terminal
