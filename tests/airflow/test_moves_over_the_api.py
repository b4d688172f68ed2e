"""A record moves data, asked for and seen through PyAPI alone: checked, started, its result, the series of its runs."""

from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from pyapi.db.engine import parse_database_url
from tests.airflow.running import RunningAirflow
from tests.conftest import NewDatabase
from tests.etl.asking import Kit
from tests.etl.conftest import (  # noqa: F401  (fixtures)
    MIXED,
    S3,
    _installed,
    bucket,
    kit,
    s3,
)

pytestmark = pytest.mark.airflow

ROWS = 500
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
def airflow_with_a_lake(airflow: RunningAirflow, s3: S3) -> Iterator[RunningAirflow]:  # noqa: F811
    """Its workers have the account of the lake in their environment, as they have in a cloud."""
    before = dict(airflow.environment)
    airflow.environment |= {
        "AWS_ENDPOINT_URL_S3": s3.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": s3.client["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3.client["aws_secret_access_key"],
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
            "target": {"type": "s3", "bucket": bucket, "prefix": "processed/"},
            "schedule": "0 2 * * *",
            "retries": 3,
        },
    }


@pytest.mark.parametrize(("form", "prefix"), [("urls", "path/"), ("objects", "processed/")])
def test_the_configs_of_the_seed(
    moved: Moved, warehouse: str, kit: Kit, s3: S3, bucket: str, form: str, prefix: str  # noqa: F811
) -> None:
    _, run = moved(configs(warehouse, bucket)[form])
    compared = kit.ask(
        url=warehouse,
        query="SELECT * FROM orders",
        table="orders",
        place={"s3": s3.client, "bucket": bucket, "prefix": prefix},
    )
    result = run["result"] or {}
    tables = [(table["table"], table["rows"]) for table in result.get("tables", [])]
    assert (run["state"], result.get("rows"), tables, compared) == (
        "success",
        ROWS,
        [("orders", ROWS)],
        {"rows": ROWS, "lost": [], "doubled": []},
    )


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
    assert (checked["ok"], [problem["place"] for problem in checked["problems"]]) == (ok, places)
