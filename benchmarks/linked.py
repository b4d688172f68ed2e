"""A real Airflow, and the service linked to it, on one PostgreSQL."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.server import Postgres, Service, running_postgres, service_on
from tests.airflow.running import RunningAirflow


@contextlib.contextmanager
def airflow_on(postgres: Postgres, folder: Path, *, kit_database_url: str | None = None) -> Iterator[RunningAirflow]:
    """An Airflow that is not started yet; ends it afterwards."""
    uv = shutil.which("uv")
    assert uv is not None
    (home := folder / "airflow").mkdir()
    airflow = RunningAirflow(uv, home, database_url=postgres.url, kit_database_url=kit_database_url)
    try:
        yield airflow
    finally:
        airflow.stop()


@contextlib.contextmanager
def linked() -> Iterator[tuple[Service, RunningAirflow]]:
    """Start all three; end them afterwards."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_postgres(folder := Path(name)) as postgres,
        airflow_on(postgres, folder) as airflow,
        service_on(postgres, folder, airflow.settings) as service,
    ):
        airflow.start(pyapi_url=service.url)
        yield service, airflow


def sign_in(service: Service) -> httpx.Client:
    """A client of PyAPI that may write."""
    client = httpx.Client(base_url=service.url, trust_env=False, timeout=30)
    account = {"username": "wang", "email": "wang@example.com", "password": "SecurePass123"}
    client.post("/api/auth/register", json=account).raise_for_status()
    signs_in = {name: account[name] for name in ("username", "password")}
    client.headers["Authorization"] = f"Bearer {client.post('/api/auth/login', json=signs_in).json()['access_token']}"
    return client
