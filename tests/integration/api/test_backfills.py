"""Backfills: who may begin and end them, and what Airflow makes of them."""

import json
from typing import Any

import httpx
import pytest

from pyapi.dag_conventions import describe_dag
from tests.fake_airflow import FakeAirflow, moment
from tests.fixtures.application import assert_outcome, assert_problem
from tests.fixtures.callers import HeadersOf

MISSING_ID = 2**31 - 1
BODY = {"from": "2027-01-01T08:00:00+08:00", "to": "2027-01-31"}
FIELDS = {"backfill_id", "from_date", "to_date", "reprocess", "max_active_runs", "created_at", "completed_at"}


@pytest.fixture
async def owner(headers_of: HeadersOf) -> dict[str, str]:
    return await headers_of("owner")


@pytest.fixture
async def record(client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow) -> int:
    """An active record that Airflow has."""
    body = {"name": "x", "config": {"schedule": "@daily"}}
    record_id = int((await client.post("/api/data/", json=body, headers=owner)).json()["id"])
    fake_airflow.add_dag(record_id)
    return record_id


def url(record_id: int, rest: str = "") -> str:
    return f"/api/data/{record_id}/backfills{rest}"


@pytest.mark.parametrize(
    ("method", "rest", "body", "caller", "status", "code"),
    [
        ("POST", "", BODY, "owner", 201, None),
        ("POST", "", BODY, "superuser", 201, None),
        ("POST", "", BODY, "somebody else", 403, "permission_denied"),
        ("POST", "", BODY, "nobody", 401, "not_authenticated"),
        ("POST", "", {}, "owner", 422, "validation_failed"),
        ("POST", "", BODY | {"to": "2026-12-31T23:59:59Z"}, "owner", 422, "validation_failed"),
        ("POST", "", BODY | {"from": 0}, "owner", 422, "validation_failed"),
        ("POST", "", BODY | {"reprocess": "x"}, "owner", 422, "validation_failed"),
        ("POST", "", BODY | {"max_active_runs": 0}, "owner", 422, "validation_failed"),
        ("POST", "", BODY | {"unknown": 0}, "owner", 422, "validation_failed"),
        ("POST", "?dry_run=true", BODY, "owner", 200, None),
        ("POST", "?dry_run=true", BODY, "somebody else", 403, "permission_denied"),
        ("GET", "", None, "owner", 200, None),
        ("GET", "", None, "somebody else", 200, None),
        ("GET", "", None, "nobody", 401, "not_authenticated"),
        ("GET", "?limit=0", None, "owner", 422, "validation_failed"),
        ("POST", "/1/cancel", None, "nobody", 401, "not_authenticated"),
        ("POST", "/1/cancel", None, "somebody else", 403, "permission_denied"),
        ("POST", "/1/cancel", None, "owner", 404, "not_found"),
        ("POST", "/0/cancel", None, "owner", 422, "validation_failed"),
    ],
)
async def test_status(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    record: int,
    method: str,
    rest: str,
    body: Any,
    caller: str,
    status: int,
    code: str | None,
) -> None:
    answer = await client.request(method, url(record, rest), json=body, headers=await headers_of(caller))
    assert_outcome(answer, status, code)


EACH_ROUTE = pytest.mark.parametrize(
    ("method", "rest", "body"),
    [("POST", "", BODY), ("POST", "?dry_run=true", BODY), ("GET", "", None), ("POST", "/1/cancel", None)],
)


@EACH_ROUTE
async def test_no_record(
    client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow, method: str, rest: str, body: Any
) -> None:
    answer = await client.request(method, url(MISSING_ID, rest), json=body, headers=owner)
    assert_problem(answer, 404, "not_found")


@EACH_ROUTE
async def test_airflow_is_down(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    record: int,
    fake_airflow: FakeAirflow,
    method: str,
    rest: str,
    body: Any,
) -> None:
    fake_airflow.down = True
    answer = await client.request(method, url(record, rest), json=body, headers=owner)
    assert_problem(answer, 503, "airflow_unavailable")


async def test_a_record_that_is_not_active(client: httpx.AsyncClient, owner: dict[str, str], record: int) -> None:
    await client.put(f"/api/data/{record}", json={"status": "inactive"}, headers=owner)
    assert_problem(await client.post(url(record), json=BODY, headers=owner), 409, "record_not_active")


async def test_a_backfill_has_all_fields(client: httpx.AsyncClient, owner: dict[str, str], record: int) -> None:
    assert set((await client.post(url(record), json=BODY, headers=owner)).json()) == FIELDS


async def test_airflow_gets_the_plan(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    more = {"reprocess": "failed", "max_active_runs": 3, "run_backwards": True}
    await client.post(url(record), json=BODY | more, headers=owner)
    assert json.loads(fake_airflow.requests[-1].content) == {
        "dag_id": f"pyapi_{record}",
        "from_date": "2027-01-01T00:00:00+00:00",
        "to_date": "2027-01-31T00:00:00+00:00",
        "reprocess_behavior": "failed",
        "max_active_runs": 3,
        "run_backwards": True,
    }


async def test_one_backfill_at_a_time(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_backfill(record)
    assert_problem(await client.post(url(record), json=BODY, headers=owner), 409, "backfill_conflict")


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(("query", "last"), [("", "backfills"), ("?dry_run=true", "dry_run")])
async def test_what_airflow_cannot_make_up_for(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    record: int,
    fake_airflow: FakeAirflow,
    status: int,
    query: str,
    last: str,
) -> None:
    fake_airflow.refuses = {f"POST {last}": status}
    problem = assert_problem(await client.post(url(record, query), json=BODY, headers=owner), 422, "validation_failed")
    assert "needs a schedule" in problem["errors"][0]["detail"]


async def test_a_dry_run_says_the_times(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.dry_dates = ["2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"]
    answer = await client.post(url(record, "?dry_run=true"), json=BODY, headers=owner)
    assert answer.json() == {"logical_dates": fake_airflow.dry_dates}


async def test_a_dry_run_begins_nothing(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    await client.post(url(record, "?dry_run=true"), json=BODY, headers=owner)
    assert fake_airflow.backfills == {}


async def test_backfills_of_a_record_newest_first(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    for of in (record, record + 1, record, record):
        fake_airflow.add_backfill(of)
    page = (await client.get(url(record, "?skip=1&limit=1"), headers=owner)).json()
    told = ([one["backfill_id"] for one in page["data"]], page["total"], page["skip"], page["limit"])
    assert told == ([3], 3, 1, 1)


async def test_a_backfill_is_cancelled(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_backfill(record)
    answer = await client.post(url(record, "/1/cancel"), headers=owner)
    assert (answer.status_code, answer.json()["completed_at"]) == (200, moment())


async def test_a_backfill_that_has_ended(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_backfill(record, completed_at=moment())
    assert_problem(await client.post(url(record, "/1/cancel"), headers=owner), 409, "backfill_conflict")


@pytest.mark.parametrize("of", ["another record", "somebody else's DAG"])
async def test_a_backfill_of_something_else_is_out_of_reach(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow, of: str
) -> None:
    fake_airflow.add_backfill(record + 1 if of == "another record" else "etl")
    assert_problem(await client.post(url(record, "/1/cancel"), headers=owner), 404, "not_found")


async def test_a_backfill_of_something_else_goes_on(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_backfill(record + 1)
    await client.post(url(record, "/1/cancel"), headers=owner)
    assert fake_airflow.backfills[1]["completed_at"] is None


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
@pytest.mark.parametrize(("to", "status"), [("2026-09-26", 201), ("2026-09-27", 422)])
async def test_a_backfill_has_a_thousand_runs_at_most(
    client: httpx.AsyncClient,
    record: int,
    owner: dict[str, str],
    fake_airflow: FakeAirflow,
    query: str,
    to: str,
    status: int,
) -> None:
    """@daily from the first of 2024: the thousandth is on 2026-09-26."""
    answer = await client.post(url(record, query), json={"from": "2024-01-01", "to": f"{to}T12:00:00Z"}, headers=owner)
    assert answer.status_code == (200 if status == 201 and query else status)
    assert bool(fake_airflow.backfills) == (answer.status_code == 201)


async def test_a_backfill_of_a_million_runs_is_refused_before_airflow_is_asked(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    await client.patch(f"/api/data/{record}", json={"config": {"schedule": "* * * * *"}}, headers=owner)
    fake_airflow.add_dag(record, description=describe_dag("", revision=2))
    answer = await client.post(url(record), json={"from": "1970-01-01", "to": "2026-01-01"}, headers=owner)
    problem = assert_problem(answer, 422, "validation_failed")
    assert problem["errors"][0]["pointer"] == "/body/to"
