"""A record moves data inside Airflow: the two configs of the README, from the POST to what is in the bucket."""

import json
from collections.abc import Callable
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

Ran = Callable[..., tuple[dict[str, Any], Any, str]]


@pytest.fixture(scope="module")
async def warehouse(empty_databases: NewDatabase) -> str:
    """A database with a table; its URL as people write it."""
    url = (await empty_databases()).replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    await connection.execute(MIXED.format(name="orders", rows=1_000))
    await connection.close()
    return url


@pytest.fixture
def ran(owner: httpx.Client, airflow: RunningAirflow) -> Ran:
    """Post a record, run it once: the run, what it says in XCom, its log."""

    def run(conf: dict[str, Any] | None = None, **config: Any) -> tuple[dict[str, Any], Any, str]:
        body = {"name": "moves", "config": {"schedule": None, **config}}
        record_id = owner.post("/api/data/", json=body).raise_for_status().json()["id"]
        airflow.wait_for(lambda: airflow.dag(record_id).get("is_stale") is False, 60)
        started = airflow.post(f"dags/pyapi_{record_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        run_id = started["dag_run_id"]
        airflow.wait_for(lambda: airflow.run(record_id, run_id)["state"] in {"success", "failed"}, 120)
        path = f"dags/pyapi_{record_id}/dagRuns/{run_id}/taskInstances/run/xcomEntries/return_value"
        found = airflow.get(path)
        value = None if found is None else found["value"]
        return airflow.run(record_id, run_id), value, airflow.task_log(record_id, run_id)

    return run


async def test_the_urls_of_the_readme(
    ran: Ran, warehouse: str, kit: Kit, s3: S3, bucket: str, airflow: RunningAirflow  # noqa: F811
) -> None:
    connection = {"connection_id": "lake", "conn_type": "aws", "login": "key-4711", "password": "secret-4711",
                  "extra": json.dumps({"endpoint_url": s3.url})}  # fmt: skip
    airflow.post("connections", connection)
    target = {"type": "s3", "bucket": bucket, "prefix": "path/", "conn_id": "lake"}
    run, result, log = ran(source=warehouse, target=target, batch_size=1000, retry_count=3)
    compared = kit.ask(
        url=warehouse,
        query="SELECT * FROM orders",
        table="orders",
        place={"s3": s3.client, "bucket": bucket, "prefix": "path/"},
    )
    secrets = [parse_database_url(warehouse).password or "", "secret-4711"]
    assert (run["state"], result and result["rows"], compared, [part for part in secrets if part in log]) == (
        "success",
        1_000,
        {"rows": 1_000, "lost": [], "doubled": []},
        [],
    )


async def test_the_objects_of_the_readme(ran: Ran, warehouse: str, kit: Kit, s3: S3, bucket: str) -> None:  # noqa: F811
    url = parse_database_url(warehouse)
    source = {
        "type": "postgresql",
        "host": url.host,
        "port": url.port,
        "database": url.database,
        "user": url.username,
        "password": url.password,
    }
    run, _, _ = ran(source=source, target=s3.target(bucket, "processed/"), retries=3)
    compared = kit.ask(
        url=warehouse,
        query="SELECT * FROM orders",
        table="orders",
        place={"s3": s3.client, "bucket": bucket, "prefix": "processed/"},
    )
    assert (run["state"], compared) == ("success", {"rows": 1_000, "lost": [], "doubled": []})


async def test_a_run_that_only_looks(ran: Ran, warehouse: str, kit: Kit, s3: S3, bucket: str) -> None:  # noqa: F811
    config = {"source": warehouse, "target": s3.target(bucket), "tables": "nope"}
    run, result, _ = ran({"pyapi": {"check": True}}, **config)
    seen = kit.ask(list={"s3": s3.client, "bucket": bucket})
    assert (run["state"], result["ok"], [item["place"] for item in result["problems"]], seen) == (
        "success",
        False,
        ["source"],
        [],
    )
