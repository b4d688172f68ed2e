"""The environment of Airflow with the kit, servers for files, and tables to move."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pyapi.airflow_environment import project_environment
from tests.airflow.conftest import uv  # noqa: F401  (the fixture)
from tests.airflow.running import INSTALL_SECONDS, PROJECT
from tests.conftest import NewDatabase
from tests.etl.asking import Kit
from tests.etl.lakes import LAKES, Lake

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


StartedLakes = Callable[[str], Lake]


@pytest.fixture(scope="session")
def lakes(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedLakes]:  # noqa: F811
    """Servers for files, each started when it is first asked for: `lakes("gcs")`."""
    with ExitStack() as servers:
        yield cache(lambda type_: servers.enter_context(LAKES[type_](tmp_path_factory.mktemp(type_), uv=uv)))


@pytest.fixture(scope="session")
def s3(lakes: StartedLakes) -> Lake:
    """The one that most tests need."""
    return lakes("s3")


@pytest.fixture(params=LAKES)
def lake(request: pytest.FixtureRequest, lakes: StartedLakes) -> Lake:
    """Each of them."""
    return lakes(request.param)


_BUCKETS = count()


@pytest.fixture
def bucket(s3: Lake, kit: Kit) -> str:
    """An empty one of S3."""
    return new_bucket(s3, kit)


def new_bucket(lake: Lake, kit: Kit) -> str:
    """Another empty one."""
    name = f"lake-{next(_BUCKETS)}"
    kit.ask(put=name, lake=lake.place(name)["lake"])
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
