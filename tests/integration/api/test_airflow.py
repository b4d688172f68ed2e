"""The link to Airflow as superusers see it, and what repairs it."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.dag_conventions import describe_dag
from pyapi.services import airflow_service
from tests.fake_airflow import URL, FakeAirflow
from tests.fixtures.application import assert_outcome, assert_problem
from tests.fixtures.callers import HeadersOf

HEALTHY = dict.fromkeys(("metadatabase", "scheduler", "dag_processor", "triggerer"), "healthy")
LINK = """
    INSERT INTO pyapi_airflow_link (id, reached_at, failing_since, reason, health)
    VALUES (
        1, now() - make_interval(secs => :reached), now() - make_interval(secs => :failing), :reason,
        CAST(:health AS jsonb))
"""


@pytest.fixture
async def admin(headers_of: HeadersOf) -> dict[str, str]:
    return await headers_of("superuser")


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed a moment ago is drift already."""
    monkeypatch.setattr(airflow_service, "UPDATING_FOR", timedelta(0))


async def linked(
    connection: AsyncConnection,
    *,
    reached: float | None = 0,
    failing: float | None = None,
    health: dict[str, Any] | None = None,
) -> None:
    values = {"reached": reached, "failing": failing, "health": json.dumps(HEALTHY | (health or {}))}
    await connection.execute(text(LINK), values | {"reason": "it is down" if failing is not None else None})


async def status(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, Any]:
    answer = await client.get("/api/airflow", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# --- Who gets which status --------------------------------------------------------------------------------------------

ROUTES = [("GET", "/api/airflow"), ("POST", "/api/airflow/reconcile")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("caller", "status", "code"),
    [
        ("superuser", 200, None),
        ("owner", 403, "permission_denied"),
        ("nobody", 401, "not_authenticated"),
        ("a forger", 401, "invalid_token"),
    ],
)
async def test_status(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    fake_airflow: FakeAirflow,
    method: str,
    path: str,
    caller: str,
    status: int,
    code: str | None,
) -> None:
    answer = await client.request(method, path, headers=await headers_of(caller))
    assert_outcome(answer, status, code)


async def test_nothing_is_reconciled_while_airflow_is_down(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    fake_airflow.down = True
    answer = await client.post("/api/airflow/reconcile", headers=admin)
    assert_problem(answer, 503, "airflow_unavailable")


async def test_the_status_is_told_while_airflow_is_down(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    fake_airflow.down = True
    await status(client, admin)
    assert fake_airflow.requests == []


# --- How the link is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "state", "reason"),
    [
        ({}, "ok", None),
        ({"health": {"triggerer": None}}, "ok", None),
        ({"health": {"scheduler": "unhealthy"}}, "degraded", "Not healthy: scheduler."),
        ({"health": {"scheduler": None, "dag_processor": "x"}}, "degraded", "Not healthy: scheduler, dag_processor."),
        ({"failing": 5}, "unreachable", "it is down"),
        ({"failing": 5, "health": {"scheduler": None}}, "unreachable", "it is down"),
        ({"reached": 60}, "unreachable", "Airflow was not asked for a while: no worker keeps the link."),
        ({"reached": None}, "unreachable", "Airflow was not asked for a while: no worker keeps the link."),
    ],
)
async def test_the_state_of_the_link(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    fake_airflow: FakeAirflow,
    connection: AsyncConnection,
    link: dict[str, Any],
    state: str,
    reason: str | None,
) -> None:
    await linked(connection, **link)
    found = await status(client, admin)
    assert (found["state"], found["reason"], found["url"]) == (state, reason, URL)


async def test_the_components_are_told(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow, connection: AsyncConnection
) -> None:
    await linked(connection, health={"triggerer": None})
    assert (await status(client, admin))["components"] == HEALTHY | {"triggerer": None}


async def test_nobody_has_asked_so_far(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    found = await status(client, admin)
    assert (found["state"], found["components"], found["reached_at"]) == ("unreachable", None, None)


async def test_no_airflow_is_configured(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    await client.post("/api/data/", json={"name": "x"}, headers=admin)
    found = await status(client, admin)
    assert (found["state"], found["url"], found["drift"]) == ("not_configured", None, [])


async def test_what_waits_is_counted(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow, connection: AsyncConnection
) -> None:
    for _ in range(2):
        record_id = (await client.post("/api/data/", json={"name": "x"}, headers=admin)).json()["id"]
        await client.put(f"/api/data/{record_id}", json={"status": "inactive"}, headers=admin)
    await connection.execute(text(f"UPDATE pyapi_airflow_outbox SET told_at = now() WHERE record_id = {record_id}"))
    assert (await status(client, admin))["backlog"]["count"] == 1


async def test_nothing_waits(client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow) -> None:
    assert (await status(client, admin))["backlog"] == {"count": 0, "since": None}


# --- Drift and repair -------------------------------------------------------------------------------------------------

READ = "token%2Fof%20pyapi_{id}"
CASES = [
    ("active", None, "missing", "none", ""),
    ("active", {"is_stale": True}, "missing", "none", ""),
    ("active", {"is_paused": True}, "paused", "unpaused", "unpaused"),
    ("active", {"description": describe_dag("", revision=9)}, "outdated", "read_again", READ),
    ("active", {"has_import_errors": True}, "import_error", "read_again", READ),
    ("inactive", {}, "scheduled", "paused", "paused"),
    (None, {}, "scheduled", "paused", "paused"),
]
FINE = [
    ("active", {}),
    ("inactive", None),
    ("inactive", {"is_paused": True}),
    ("inactive", {"timetable_summary": None, "next_dagrun_run_after": None}),
    ("inactive", {"is_stale": True}),
    (None, {"is_stale": True}),
]


async def make(
    client: httpx.AsyncClient,
    headers: dict[str, str],
    connection: AsyncConnection,
    fake: FakeAirflow,
    status: str | None,
    dag: dict[str, Any] | None,
) -> int:
    """A record with this status, None for a deleted one, and its DAG; Airflow has heard of the status."""
    body = {"name": "每日", "status": status or "active"}
    record_id = int((await client.post("/api/data/", json=body, headers=headers)).json()["id"])
    if status is None:
        await client.delete(f"/api/data/{record_id}", headers=headers)
        await connection.execute(text("DELETE FROM pyapi_airflow_outbox"))
    if dag is not None:
        fake.add_dag(record_id, **dag)
    return record_id


@pytest.mark.parametrize(("of", "dag", "problem", "action", "effect"), CASES)
async def test_what_differs_is_repaired_and_said(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    fake_airflow: FakeAirflow,
    connection: AsyncConnection,
    of: str | None,
    dag: dict[str, Any] | None,
    problem: str,
    action: str,
    effect: str,
) -> None:
    record_id = await make(client, admin, connection, fake_airflow, of, dag)
    before = is_paused(fake_airflow, record_id)
    answer = (await client.post("/api/airflow/reconcile", headers=admin)).json()
    told = [(one["record_id"], one["name"], one["problem"], one["action"]) for one in answer["repairs"]]
    changed = {(False, True): "paused", (True, False): "unpaused"}.get((before, is_paused(fake_airflow, record_id)), "")
    done = "".join([changed, *fake_airflow.read_again])
    assert (told, done) == ([(record_id, "每日" if of else None, problem, action)], effect.format(id=record_id))


async def test_what_is_paused_is_let_go_when_its_schedule_has_gone(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow, connection: AsyncConnection
) -> None:
    record_id = await make(client, admin, connection, fake_airflow, "inactive", {})
    await client.post("/api/airflow/reconcile", headers=admin)
    waiting = "SELECT record_id, is_active, told_at IS NOT NULL FROM pyapi_airflow_outbox"
    assert [tuple(row) for row in await connection.execute(text(waiting))] == [(record_id, False, True)]


def is_paused(fake: FakeAirflow, record_id: int) -> bool:
    return bool(fake.dags.get(f"pyapi_{record_id}", {}).get("is_paused"))


@pytest.mark.parametrize(("of", "dag"), FINE)
async def test_what_is_as_it_should_be_is_left(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    fake_airflow: FakeAirflow,
    connection: AsyncConnection,
    of: str | None,
    dag: dict[str, Any] | None,
) -> None:
    await make(client, admin, connection, fake_airflow, of, dag)
    assert (await client.post("/api/airflow/reconcile", headers=admin)).json()["repairs"] == []


async def test_what_was_compared_is_counted(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    for dag in (1, 2, "etl"):
        fake_airflow.add_dag(dag, is_paused=True)
    assert (await client.post("/api/airflow/reconcile", headers=admin)).json() == {"checked": 2, "repairs": []}


@pytest.mark.parametrize(
    ("dag", "reason"),
    [
        ({"is_paused": True}, "Airflow does not take it; it is tried again."),
        ({"has_import_errors": True}, "Airflow refuses it (422)."),
    ],
    ids=["pause", "read"],
)
async def test_what_airflow_refuses_is_said(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    fake_airflow: FakeAirflow,
    connection: AsyncConnection,
    dag: dict[str, Any],
    reason: str,
) -> None:
    record_id = await make(client, admin, connection, fake_airflow, "active", dag)
    fake_airflow.refuses = {f"PATCH pyapi_{record_id}": 422, f"PUT token%2Fof%20pyapi_{record_id}": 422}
    (repair,) = (await client.post("/api/airflow/reconcile", headers=admin)).json()["repairs"]
    assert (repair["action"], repair["reason"]) == ("none", reason)


async def test_a_dag_that_goes_meanwhile(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow, connection: AsyncConnection
) -> None:
    await make(client, admin, connection, fake_airflow, "active", {"is_paused": True})
    fake_airflow.after = lambda request: fake_airflow.dags.clear() if request.url.path.endswith("/dags") else None
    (repair,) = (await client.post("/api/airflow/reconcile", headers=admin)).json()["repairs"]
    assert (repair["action"], repair["reason"]) == ("none", "Airflow has no DAG of it any more.")


async def test_what_differs_is_told(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow, connection: AsyncConnection
) -> None:
    record_id = await make(client, admin, connection, fake_airflow, "active", None)
    told = [(one["record_id"], one["name"], one["problem"]) for one in (await status(client, admin))["drift"]]
    assert told == [(record_id, "每日", "missing")]


async def test_what_waits_to_be_delivered_is_no_drift(
    client: httpx.AsyncClient, admin: dict[str, str], fake_airflow: FakeAirflow, connection: AsyncConnection
) -> None:
    record_id = await make(client, admin, connection, fake_airflow, "inactive", None)
    await client.put(f"/api/data/{record_id}", json={"status": "active"}, headers=admin)
    assert (await status(client, admin))["drift"] == []


async def test_what_changed_a_moment_ago_is_no_drift(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    fake_airflow: FakeAirflow,
    connection: AsyncConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(airflow_service, "UPDATING_FOR", timedelta(minutes=1))
    await make(client, admin, connection, fake_airflow, "active", None)
    assert (await status(client, admin))["drift"] == []
