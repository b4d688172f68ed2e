"""`python -m pyapi`: start the server, and with it the database when none is configured."""

import gc

if __name__ == "__main__":
    gc.disable()  # while all is imported: to look through it, again and again, would be a tenth of a start

import asyncio
import errno
import socket
import sys
import time
from functools import partial

import uvicorn
from fastapi import FastAPI

from pyapi.db.embedded import EmbeddedPostgres
from pyapi.db.engine import parse_database_url
from pyapi.db.schema_version import prepare_schema
from pyapi.exceptions import ConfigurationError
from pyapi.gunicorn_runner import serve
from pyapi.http_protocol import Protocol
from pyapi.log import configure_logging, warn_of_settings
from pyapi.settings import Settings

PORT_SECONDS = 2.0


def start(settings: Settings) -> None:
    """Serve until told to stop. Raises ConfigurationError before anything is started that would have to be stopped."""
    settings.require_safe()
    require_free_port(settings.host, settings.port, named="PYAPI_HOST, PYAPI_PORT")
    configure_logging(level=settings.log_level, style=settings.log_format)
    warn_of_settings(settings.warnings())
    server = EmbeddedPostgres(settings.data_dir) if settings.database_url is None else None
    try:
        url = server.start() if server else settings.database_url.get_secret_value()  # type: ignore[union-attr]
        asyncio.run(prepare_schema(url, migrate=settings.migrate_on_start))
        settings.signing_key()  # made here once, not by the workers at one instant
        print(_banner(settings, url, server), flush=True)  # noqa: T201
        gc.freeze()  # what is here now stays, and the workers share it as long as nobody writes to it
        gc.enable()
        _serve(settings)
    finally:
        if server is not None:
            server.stop()


def _serve(settings: Settings) -> None:
    if settings.reload:
        uvicorn.run(
            "pyapi.web.application:get_app",
            factory=True,
            http=Protocol,
            timeout_keep_alive=Protocol.keep_alive_seconds,
            reload=True,
            reload_dirs=["pyapi"],
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.forwarded_allow_ips,
        )
        return
    serve(
        partial(_load, settings),
        host=settings.host,
        port=settings.port,
        workers=settings.workers_count,
        graceful_timeout_seconds=settings.graceful_timeout_seconds,
        forwarded_allow_ips=settings.forwarded_allow_ips,
    )


def _load(settings: Settings) -> FastAPI:
    """Make the application inside a worker.

    Imported here, because prometheus_client decides when it is imported whether it shares its numbers with others.
    """
    from pyapi.web.application import get_app

    return get_app(settings)


def require_free_port(host: str, port: int, *, named: str) -> None:
    """Say in one line that the port is taken, before a database is started for nothing.

    Waits a little: the workers of a server that was killed notice that within a second.
    """
    deadline = time.monotonic() + PORT_SECONDS
    while error := _cannot_listen(host, port):
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise ConfigurationError(f"{named}: cannot listen on {host}:{port} ({error.strerror}); set another one.")
        time.sleep(0.05)


def _cannot_listen(host: str, port: int) -> OSError | None:
    """Why; None when it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def _banner(settings: Settings, url: str, server: EmbeddedPostgres | None) -> str:
    """What a newcomer needs, and no secret."""
    base = shown_address(settings)
    where = parse_database_url(url)
    database = (
        f"{server.data_path} (embedded PostgreSQL)" if server else f"{where.host}:{where.port or 5432}/{where.database}"
    )
    return (
        f"PyAPI       {base}\n"
        f"Docs        {base}/api/docs\n"
        f"Data        {database}\n"
        "Superuser   uv run pyapi user create-superuser"
    )


def shown_address(settings: Settings) -> str:
    """The URL to type on this machine."""
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(settings.host, settings.host)  # noqa: S104 - only shown
    return f"http://[{shown}]:{settings.port}" if ":" in shown else f"http://{shown}:{settings.port}"


def main() -> None:
    """Start with the settings of the environment; one line on stderr when that cannot work."""
    try:
        start(Settings.load())
    except ConfigurationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
