"""What is measured side by side: each variant a process of its own, on a database of its own with the same content."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import KEY, Place
from benchmarks.server import cpu_seconds_of, free_port, running_process, service_on, wait_until_live

ROOT = Path(__file__).resolve().parents[1]
FLOOR, TUTORIAL, PYAPI = "floor", "tutorial", "PyAPI"


@dataclass(frozen=True)
class Variant:
    """A running server; `pid` is the root of its processes."""

    name: str
    url: str
    pid: int
    place: Place

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far, PostgreSQL's not among them."""
        return cpu_seconds_of(self.pid)


@contextlib.contextmanager
def peer(name: str, place: Place, folder: Path) -> Iterator[Variant]:
    """Start one of `benchmarks.peers`: uvicorn with one process and no access log; ends it afterwards."""
    (own := folder / name).mkdir()
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", f"benchmarks.peers.{name}:app"),
        *("--port", str(port), "--no-access-log", "--log-level", "warning"),
    ]
    variables = {"DATABASE_URL": place.postgres.url, "SECRET_KEY": KEY, "PYTHONPATH": str(ROOT)}
    with running_process(command, own, variables) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_live(f"{url}/api/health")
        yield Variant(name, url, process.pid, place)


@contextlib.contextmanager
def pyapi(
    place: Place, folder: Path, *, name: str = PYAPI, workers: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[Variant]:
    """Start `python -m pyapi` as it is delivered, its log in a file; ends it afterwards."""
    (own := folder / name).mkdir()
    basics = {"SECRET_KEY": KEY, "PYAPI_WORKERS_COUNT": str(workers)}
    with service_on(place.postgres, own, basics | dict(settings or {})) as service:
        yield Variant(name, service.url, service.pid, place)
