"""A record moves data inside Airflow, asked for and seen through PyAPI: checked, started, killed, what it says."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from pyapi.db.engine import parse_database_url
from tests.airflow.running import RunningAirflow
from tests.airflow.stalling import StallingProxy
from tests.conftest import NewDatabase
from tests.etl.asking import Kit
from tests.etl.conftest import (  # noqa: F401  (fixtures)
    MIXED,
    _installed,
    bucket,
    kit,
    lakes,
    s3,
)
from tests.etl.lakes import Lake

pytestmark = pytest.mark.airflow

ROWS = 5_000
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
async def warehouse(empty_databases: NewDatabase) -> str:
    """A database with a table; its URL as people write it."""
    url = (await empty_databases()).replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    await connection.execute(MIXED.format(name="orders", rows=ROWS))
    await connection.close()
    return url


@pytest.fixture(scope="module")
def airflow_with_a_lake(airflow: RunningAirflow, s3: Lake) -> Iterator[RunningAirflow]:  # noqa: F811
    """Its workers have the account of the lake in their environment, as they have in a cloud; and a Connection."""
    account = s3.target("")
    connection = {
        "connection_id": "lake",
        "conn_type": "aws",
        "login": account["access_key_id"],
        "password": account["secret_access_key"],
        "extra": json.dumps({"endpoint_url": s3.url}),
    }
    airflow.post("connections", connection)
    before = dict(airflow.environment)
    airflow.environment |= {
        "AWS_ENDPOINT_URL_S3": s3.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": s3.account["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3.account["secret_access_key"],
    }
    airflow.end_components()
    airflow.start_components()
    yield airflow
    airflow.environment = before


Answer = Callable[..., httpx.Response]


@pytest.fixture
def ask(owner: httpx.Client, airflow_with_a_lake: RunningAirflow) -> Answer:
    """Asks again while Airflow is not ready, or too busy to answer within two seconds."""

    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(owner.request(method, path, timeout=60, **options))
            return answers[-1].status_code != 503

        airflow_with_a_lake.wait_for(answered, PATIENCE_SECONDS)
        return answers[-1].raise_for_status()

    return ask


@pytest.fixture
def moved(ask: Answer, airflow_with_a_lake: RunningAirflow) -> Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]:
    """Posts a record and lets it run once: its path, and the run when it has ended."""

    def move(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        path = f"/api/data/{ask('POST', '/api/data/', json={'name': 'ETL', 'config': config}).json()['id']}"
        run_id = ask("POST", f"{path}/runs", json={}).json()["run_id"]
        one = f"{path}/runs/{run_id}"
        airflow_with_a_lake.wait_for(lambda: ask("GET", one).json()["state"] in {"success", "failed"}, PATIENCE_SECONDS)
        return path, ask("GET", one).json()

    return move


Moved = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]


def configs(warehouse: str, bucket: str) -> dict[str, dict[str, Any]]:  # noqa: F811
    """Those of the seed's README, with the hosts of the tests."""
    url = parse_database_url(warehouse)
    address = {"host": url.host, "port": url.port, "database": url.database}
    account = {"user": url.username, "password": url.password}
    return {
        "urls": {
            "source": warehouse,
            "target": f"s3://{bucket}/path/",
            "schedule": "0 9 * * *",
            "batch_size": 1000,
            "retry_count": 3,
        },
        "objects": {
            "source": {"type": "postgresql", **address, **account},
            "target": {"type": "s3", "bucket": bucket, "prefix": "processed/", "conn_id": "lake"},
            "schedule": "0 2 * * *",
            "retries": 3,
        },
    }


@pytest.fixture
def compared(warehouse: str, kit: Kit, s3: Lake, bucket: str) -> Callable[[str], dict[str, Any]]:  # noqa: F811
    """Compares the table with what is in the bucket, cell by cell."""

    def compare(prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = kit.ask(
            url=warehouse, query="SELECT * FROM orders", table="orders", place=s3.place(bucket, prefix)
        )
        return found

    return compare


Compared = Callable[[str], dict[str, Any]]
THE_SAME: dict[str, Any] = {"rows": ROWS, "lost": [], "doubled": []}


@pytest.fixture
async def told(airflow_with_a_lake: RunningAirflow, shared_database: str) -> Callable[[str, str], Any]:
    """All that Airflow keeps of a run that people may read: log, XCom, and the DAG as it stores it."""

    async def tell(path: str, run_id: str) -> str:
        record_id = int(path.rpartition("/")[2])
        connection = await asyncpg.connect(shared_database.replace("+asyncpg", ""))
        dags = await connection.fetch(
            "SELECT s.data::text, c.source_code FROM serialized_dag s JOIN dag_code c USING (dag_version_id)"
            " WHERE s.dag_id = $1",
            f"pyapi_{record_id}",
        )
        await connection.close()
        of_task = f"dags/pyapi_{record_id}/dagRuns/{run_id}/taskInstances/run"
        kept = [
            airflow_with_a_lake.task_log(record_id, run_id),
            airflow_with_a_lake.get(f"{of_task}/xcomEntries/return_value"),
            airflow_with_a_lake.get(of_task),
            [tuple(dag) for dag in dags],
        ]
        assert all(kept), "there is nothing to look at"
        return json.dumps(kept)

    return tell


@pytest.mark.parametrize(("form", "prefix"), [("urls", "path/"), ("objects", "processed/")])
async def test_the_configs_of_the_seed(
    moved: Moved,
    warehouse: str,
    compared: Compared,
    told: Callable[[str, str], Any],
    s3: Lake,  # noqa: F811
    bucket: str,  # noqa: F811
    form: str,
    prefix: str,
) -> None:
    path, run = moved(configs(warehouse, bucket)[form])
    result = run["result"] or {}
    tables = [(table["table"], table["rows"]) for table in result.get("tables", [])]
    assert (run["state"], result.get("rows"), tables, compared(prefix)) == (
        "success",
        ROWS,
        [("orders", ROWS)],
        THE_SAME,
    )
    kept = await told(path, run["run_id"])
    secrets = [parse_database_url(warehouse).password or "", s3.account["secret_access_key"]]
    assert [secret for secret in secrets if secret in kept] == []


def test_the_series_and_the_counters_have_each_run_once(
    moved: Moved,
    ask: Answer,
    airflow_with_a_lake: RunningAirflow,
    warehouse: str,
    bucket: str,  # noqa: F811
) -> None:
    """Of two workers one counts, and whichever answers says the same."""

    def counted() -> float:
        lines = ask("GET", "/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("pyapi_moved_rows_total"))

    def in_the_series() -> dict[str, Any]:
        path, run = moved(configs(warehouse, bucket)["urls"])
        airflow_with_a_lake.wait_for(
            lambda: [one["rows"] for one in ask("GET", f"{path}/stats").json()["runs"]] == [ROWS], PATIENCE_SECONDS
        )
        [figures] = ask("GET", f"{path}/stats").json()["runs"]
        assert (figures["run_id"], figures["bytes"]) == (run["run_id"], run["result"]["bytes"])
        figures_of_run: dict[str, Any] = figures
        return figures_of_run

    in_the_series()  # so that whatever ended before is counted
    airflow_with_a_lake.wait_for(lambda: counted() >= ROWS, PATIENCE_SECONDS)
    before = counted()
    assert in_the_series()["state"] == "success"
    airflow_with_a_lake.wait_for(lambda: counted() > before, PATIENCE_SECONDS)
    assert [counted() for _ in range(4)] == [before + ROWS] * 4


# --- Killed -----------------------------------------------------------------------------------------------------------

Started = Callable[[dict[str, Any]], tuple[str, str]]


@pytest.fixture
def started(ask: Answer) -> Started:
    """Posts a record and starts a run: the paths of both."""

    def start(config: dict[str, Any]) -> tuple[str, str]:
        config |= {"schedule": None, "retries": 1, "retry_delay_seconds": 1}
        path = f"/api/data/{ask('POST', '/api/data/', json={'name': 'ETL', 'config': config}).json()['id']}"
        return path, f"{path}/runs/{ask('POST', f'{path}/runs', json={}).json()['run_id']}"

    return start


def kill_task(airflow: RunningAirflow, one: str) -> None:
    """kill -9 of the process that works on a run: Airflow has to notice it."""
    _, _, _, record_id, _, run_id = one.split("/")
    pid = airflow.get(f"dags/pyapi_{record_id}/dagRuns/{run_id}/taskInstances/run")["pid"]
    os.kill(pid, signal.SIGKILL)


def after_its_end(ask: Answer, airflow: RunningAirflow, one: str) -> Any:
    """What PyAPI says of a run: its state, the states of its tries, rows, and whether the last try went on."""
    airflow.wait_for(lambda: ask("GET", one).json()["state"] in {"success", "failed"}, PATIENCE_SECONDS)
    run = ask("GET", one).json()
    [task] = run["tasks"]
    result = run["result"] or {}
    return run["state"], [one_try["state"] for one_try in task["tries"]], result.get("rows"), result.get("resumed")


async def test_killed_while_it_reads(
    started: Started,
    ask: Answer,
    airflow_with_a_lake: RunningAirflow,
    warehouse: str,
    bucket: str,  # noqa: F811
    compared: Compared,
) -> None:
    """Half of what was read is of no use: the next try reads all of it."""
    connection = await asyncpg.connect(warehouse)
    await connection.execute("CREATE TABLE pace AS SELECT 0.1 AS seconds")
    columns = "id, customer, amount, score, name, note, flag, updated_at, day, extra"
    query = f"SELECT {columns} FROM (SELECT *, pg_sleep(seconds) FROM orders, pace OFFSET 0) AS slow"
    config = {"source": warehouse, "target": f"s3://{bucket}/x/", "query": query, "into": "orders", "mode": "append"}
    _, one = started(config)
    reads = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%pg_sleep%' AND wait_event = 'PgSleep'"
    reading, deadline = 0, time.monotonic() + PATIENCE_SECONDS
    while not reading:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        reading = await connection.fetchval(reads)
    kill_task(airflow_with_a_lake, one)
    await connection.execute("UPDATE pace SET seconds = 0")
    found = after_its_end(ask, airflow_with_a_lake, one)
    await connection.execute("DROP TABLE pace")
    await connection.close()
    assert (found, compared("x/")) == (("success", ["failed", "success"], ROWS, False), THE_SAME)


@pytest.fixture
def stalling(s3: Lake) -> Iterator[StallingProxy]:  # noqa: F811
    proxy = StallingProxy(s3.url, most=50_000)
    yield proxy
    proxy.close()


def test_killed_while_it_writes(
    started: Started,
    ask: Answer,
    airflow_with_a_lake: RunningAirflow,
    warehouse: str,
    bucket: str,  # noqa: F811
    compared: Compared,
    stalling: StallingProxy,
) -> None:
    """What was read is there: the next try goes on with it."""
    target = {"type": "s3", "bucket": bucket, "prefix": "x/", "endpoint_url": stalling.url}
    _, one = started({"source": warehouse, "target": target, "tables": "orders", "mode": "append"})
    airflow_with_a_lake.wait_for(stalling.is_stalled.is_set, PATIENCE_SECONDS)
    kill_task(airflow_with_a_lake, one)
    nothing = compared("x/")["rows"]
    stalling.let_go()
    found = after_its_end(ask, airflow_with_a_lake, one)
    assert (nothing, found, compared("x/")) == (0, ("success", ["failed", "success"], ROWS, True), THE_SAME)


# --- Looking only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "ok", "places"),
    [
        ({}, True, []),
        ({"tables": "nope"}, False, ["source"]),
        ({"target": "s3://there-is-no-such-bucket/x/"}, False, ["target"]),
    ],
    ids=["all is well", "no such table", "no such bucket"],
)
def test_a_check_names_what_failed(
    ask: Answer,
    airflow_with_a_lake: RunningAirflow,
    warehouse: str,
    kit: Kit,  # noqa: F811
    s3: Lake,  # noqa: F811
    bucket: str,  # noqa: F811
    changes: dict[str, Any],
    ok: bool,
    places: list[str],
) -> None:
    body = {"name": "check", "config": configs(warehouse, bucket)["urls"] | changes}
    path = f"/api/data/{ask('POST', '/api/data/', json=body).json()['id']}"
    answer = ask("POST", f"{path}/check")
    checked = answer.json()
    if answer.status_code == 202:  # on a busy machine
        one = f"{path}/runs/{checked['run_id']}"
        airflow_with_a_lake.wait_for(lambda: ask("GET", one).json()["result"], PATIENCE_SECONDS)
        checked = ask("GET", one).json()["result"]
    found = [problem["place"] for problem in checked["problems"]]
    assert (checked["ok"], found, kit.ask(list=s3.place(bucket))) == (ok, places, [])
