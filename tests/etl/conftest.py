"""The environment of Airflow with the kit, an S3 server, and tables to move."""

import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from pyapi.airflow_environment import project_environment
from tests.airflow.conftest import uv  # noqa: F401  (the fixture)
from tests.airflow.running import INSTALL_SECONDS, PROJECT
from tests.conftest import NewDatabase
from tests.etl.asking import Kit
from tests.fixtures.servers import free_port

MIXED = """
    CREATE TABLE {name} AS SELECT
        i::bigint AS id, (i % 1000)::int AS customer, (i * 0.01)::numeric(12, 2) AS amount, i * 1.5::float8 AS score,
        'name ' || i AS name, CASE WHEN i % 3 > 0 THEN '客戶 𠮷 ' || (i % 977) END AS note, i % 2 = 0 AS flag,
        timestamptz '2026-01-01' + i * interval '1 second' AS updated_at, date '2020-01-01' + (i % 2000)::int AS day,
        jsonb_build_object('k', i % 10)::text AS extra
    FROM generate_series(1, {rows}) i
"""
"""The table of the benchmarks, with as many rows as a test wants."""


@pytest.fixture(scope="session")
def _installed(uv: str, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: F811
    environment = project_environment(os.environ, tmp_path_factory.mktemp("airflow_home"))
    command = [uv, "sync", "--quiet", "--locked", "--project", str(PROJECT)]
    subprocess.run(command, env=environment, check=True, timeout=INSTALL_SECONDS)


@pytest.fixture(scope="session")
def kit(_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """What moves data."""
    started = Kit(tmp_path_factory.mktemp("kit"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def watcher(_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """Another process, which looks at the target meanwhile."""
    started = Kit(tmp_path_factory.mktemp("watcher"))
    yield started
    started.stop()


@dataclass(frozen=True)
class S3:
    """A server that speaks S3; what boto3 and a record have to be told of it."""

    url: str

    @property
    def client(self) -> dict[str, str]:
        """Arguments of boto3."""
        return {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": "key-4711",
            "aws_secret_access_key": "secret-4711",
        }

    def target(self, bucket: str, prefix: str = "", **more: str) -> dict[str, str]:
        """A target or a source."""
        credentials = {"access_key_id": "key-4711", "secret_access_key": "secret-4711"}
        return {"type": "s3", "bucket": bucket, "prefix": prefix, "endpoint_url": self.url, **credentials, **more}


@pytest.fixture(scope="session")
def s3(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:  # noqa: F811
    """In an environment of its own: the next one who needs Airflow's would take it away."""
    port = free_port()
    folder = tmp_path_factory.mktemp("s3")
    environment = project_environment(os.environ, folder) | {"UV_PROJECT_ENVIRONMENT": str(PROJECT / ".venv-s3")}
    command = [uv, "run", "--quiet", "--locked", "--only-group", "dev", "--project", str(PROJECT)]
    sync = [*command, "python", "-c", ""]
    subprocess.run(sync, env=environment, check=True, timeout=INSTALL_SECONDS, cwd=folder)
    with (folder / "s3.log").open("wb") as log:
        server = subprocess.Popen(
            [str(PROJECT / ".venv-s3" / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    url = f"http://127.0.0.1:{port}"
    _wait_for(url)
    yield S3(url)
    server.kill()
    server.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, trust_env=False)
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


_BUCKETS = count()


@pytest.fixture
def bucket(s3: S3, kit: Kit) -> str:
    """An empty one."""
    name = f"lake-{next(_BUCKETS)}"
    kit.ask(put=name, s3=s3.client)
    return name


@pytest.fixture(scope="session")
async def source_url(empty_databases: NewDatabase) -> str:
    """A database with tables to move."""
    return (await empty_databases()).replace("+asyncpg", "")


@pytest.fixture
async def source(source_url: str) -> AsyncIterator[asyncpg.Connection]:
    """An empty one for each test."""
    connection = await asyncpg.connect(source_url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    yield connection
    await connection.close()


Move = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a target of files is."""
    return tmp_path / "lake"


@pytest.fixture
def move(kit: Kit, source_url: str, tmp_path: Path, folder: Path) -> Move:
    """Run a record once: `move(mode="append", run="run-2")`. Without other words from PostgreSQL to a folder."""

    def ask(*, run: str = "run-1", record: int = 7, connections: Any = None, **config: Any) -> Any:
        question = {
            "config": {"source": source_url, "target": f"file://{folder}/", **config},
            "run": run,
            "record": record,
            "folder": str(tmp_path / "etl"),
            "local_dirs": [str(tmp_path)],
            "connections": connections or {},
        }
        return kit.ask(**question)

    return ask
