"""Airflow's own API server, with 1,000 DAGs in its database."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import httpx

from benchmarks.dataset import Place
from benchmarks.linked import airflow_on
from benchmarks.measure import Figures, Round, figures, measure_requests
from benchmarks.operations import LIST_10, LIST_100, READ, raw
from benchmarks.server import Postgres
from benchmarks.variants import Variant
from pyapi.airflow_environment import COMPONENTS
from pyapi.db.engine import parse_database_url
from pyapi.db.schema_version import prepare_schema
from tests.airflow.running import RunningAirflow

AIRFLOW = "Airflow"
DAGS = 1000
SECONDS = 6
PATIENCE_SECONDS = 300
SETTLE_SECONDS = 5
MOST_ROUNDS = 3
API_SERVER = "api-server"
PATHS = {READ: "/api/v2/dags/pyapi_500", LIST_10: "/api/v2/dags?limit=10", LIST_100: "/api/v2/dags?limit=100"}

_RECORDS = """
INSERT INTO pyapi_data_records (name, config)
SELECT '同步 ' || n, '{"schedule": "0 9 * * *"}' FROM generate_series(1, $1::integer) n
"""


def measure_airflow(postgres: Postgres, folder: Path, *, rounds: int) -> Mapping[str, Figures]:
    """Read one DAG, list 10, list 100, with one connection: all but one of the requests of a round are answered in it.

    Airflow and the records it makes DAGs of have a database of their own on the server.
    """
    place = asyncio.run(_prepare(postgres))
    with airflow_on(place.postgres, folder) as airflow:
        airflow.start(pyapi_url="http://127.0.0.1:1")
        token = _sign_in(airflow)
        _wait_for_dags(airflow)
        for component in COMPONENTS.keys() - {API_SERVER}:
            os.killpg(airflow.pid_of(component), signal.SIGTERM)
        time.sleep(SETTLE_SECONDS)
        server = Variant(AIRFLOW, airflow.url, airflow.pid_of(API_SERVER), place)
        found: dict[str, list[Round]] = {}
        for number in range(min(rounds, MOST_ROUNDS) + 1):
            for operation, path in PATHS.items():
                each = measure_requests(server, [raw("GET", path, token)], seconds=SECONDS, connections=1)
                assert not each.load.refused, each.load
                if number:
                    found.setdefault(operation, []).append(each)
    return {operation: figures(each) for operation, each in found.items()}


async def _prepare(postgres: Postgres) -> Place:
    url = parse_database_url(postgres.url)
    connection = await asyncpg.connect(Place(postgres).dsn)
    await connection.execute("CREATE DATABASE airflow TEMPLATE template0")
    await connection.close()
    place = Place(Postgres(url.set(database="airflow").render_as_string(hide_password=False), postgres.pid))
    await prepare_schema(place.postgres.url, migrate=True)
    connection = await place.connect()
    await connection.execute(_RECORDS, DAGS)
    await connection.close()
    return place


def _sign_in(airflow: RunningAirflow) -> str:
    account = {"username": airflow.username, "password": airflow.password}
    answer = httpx.post(f"{airflow.url}/auth/token", json=account, trust_env=False, timeout=30).raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def _wait_for_dags(airflow: RunningAirflow) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while airflow.get("dags", limit=1)["total_entries"] < DAGS:
        if time.monotonic() > deadline:
            raise TimeoutError("Airflow does not have all DAGs")
        time.sleep(1)
