"""What Prometheus scrapes: how many requests of which kind, and how long they took; what runs have moved."""

import os
from functools import cache
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""With several workers prometheus_client shares its numbers through files in this folder. It reads the variable when it
is imported, so the variable is set by the process that starts the workers (see gunicorn_runner)."""

REQUESTS = Counter("pyapi_http_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "pyapi_http_request_seconds", "Time from the first byte in to the last byte out.", ["method", "route"]
)

RUNS = Counter("pyapi_runs_total", "Runs of records that have ended.", ["state"])
MOVED_ROWS = Counter("pyapi_moved_rows_total", "Rows that runs have moved.")
MOVED_BYTES = Counter("pyapi_moved_bytes_total", "Bytes that runs have written into targets.")


def count_run(*, state: str) -> None:
    """Count a run that has ended."""
    RUNS.labels(state).inc()


def count_moved(*, rows: int, size: int) -> None:
    """Count what a run has moved; the size is in bytes."""
    MOVED_ROWS.inc(rows)
    MOVED_BYTES.inc(size)


def count_request(*, method: str, route: str, status: int, seconds: float) -> None:
    """Count one request. `route` is a template such as /api/data/{data_id}, so that there are only so many of them."""
    answered, took = _numbers_of(method, route, status)
    answered.inc()
    took.observe(seconds)


@cache  # the library looks its children up under a lock; it keeps each of them for ever itself
def _numbers_of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, str(status)), SECONDS.labels(method, route)


def render_metrics() -> tuple[bytes, str]:
    """The numbers of all workers in the text format of Prometheus, and its media type."""
    folder = os.environ.get(MULTIPROCESS_DIR)
    registry = REGISTRY
    if folder and Path(folder).is_dir():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
