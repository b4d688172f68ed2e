"""The production server: a gunicorn arbiter in this process, uvicorn in its workers."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any, ClassVar

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from uvicorn import Server as UvicornServer
from uvicorn_worker import UvicornWorker

from pyapi.fair_listener import FairServer
from pyapi.http_protocol import Protocol

NOTIFY_SECONDS = 1


class Worker(UvicornWorker):  # type: ignore[misc]
    """A uvicorn worker that leaves logging to us and does not name itself in the answers."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "auto",
        "http": Protocol,
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "ws": "none",
        "timeout_notify": NOTIFY_SECONDS,
    }

    async def _serve(self) -> None:
        """The same as uvicorn's, with a server that leaves connections to the other workers."""
        self.config.app = self.wsgi
        server = (FairServer if self.cfg.workers > 1 else UvicornServer)(config=self.config)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def callback_notify(self) -> None:
        """Tell the arbiter that this worker lives. Without an arbiter, end: it would hold the port for ever."""
        if os.getppid() != self.ppid:
            signal.raise_signal(signal.SIGTERM)
        self.notify()


class QuietLogger(Logger):
    """gunicorn's events without gunicorn's own format: they go where `pyapi.log` sends everything."""

    def setup(self, cfg: Config) -> None:  # noqa: ARG002 - gunicorn's signature
        """Leave level and handlers alone."""
        self.error_log.propagate = True


class Server(BaseApplication):
    """Runs the application that `load` makes, once in each worker."""

    def __init__(self, load: Callable[[], Any], options: dict[str, Any]) -> None:
        self._load = load
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Take our options and nothing from the command line."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make the application of one worker.

        What it is made of stays as long as the worker does. The collector of cycles, which would look through all of it
        again and again, waits until it is made and then leaves it alone.
        """
        gc.disable()
        application = self._load()
        gc.freeze()
        gc.enable()
        return application


def serve(
    load: Callable[[], Any],
    *,
    host: str,
    port: int,
    workers: int,
    graceful_timeout_seconds: int,
    forwarded_allow_ips: str,
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight get `graceful_timeout_seconds` to end. Does not return."""
    metrics = tempfile.mkdtemp(prefix="pyapi-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics  # before a worker imports prometheus_client
    owner = os.getpid()
    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": workers,
        "worker_class": f"{Worker.__module__}.{Worker.__qualname__}",
        "graceful_timeout": graceful_timeout_seconds,
        "keepalive": Protocol.keep_alive_seconds,
        "forwarded_allow_ips": forwarded_allow_ips,
        "logger_class": QuietLogger,
        "proc_name": "pyapi",
        "child_exit": _forget_worker,
        "control_socket_disable": True,
    }
    try:
        Server(load, options).run()
    finally:
        if os.getpid() == owner:  # workers unwind through here as well
            shutil.rmtree(metrics, ignore_errors=True)


def _forget_worker(_: Arbiter, worker: UvicornWorker) -> None:
    """Let the metrics of a dead worker count for the past and no longer for the present."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
