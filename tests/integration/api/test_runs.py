"""Runs: who may start, watch, end and repeat them, and what they are told while Airflow has a bad day."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.dag_conventions import describe_dag
from pyapi.db.database import Database
from pyapi.db.engine import create_engine
from pyapi.services import runnable_records
from pyapi.services.run_log import CUT_OFF
from tests.conftest import NewDatabase
from tests.fake_airflow import NDJSON, FakeAirflow
from tests.fixtures.application import SignUp, assert_outcome, assert_problem
from tests.fixtures.callers import HeadersOf

MISSING_ID = 2**31 - 1
RUN = "manual__2027-03-01T00:00:00+00:00"
CONFIG: dict[str, Any] = {
    "source": "postgresql://etl:p%40ss-word@host/db",
    "api_token": "tok-123456",
    "pin": {"password": 24681357},
}
READ_RUN = {"run_id", "state", "run_type", "logical_date", "run_after", "start_date", "end_date"}
READ_RUN |= {"duration_seconds", "conf", "note", "revision"}

Cursors = Callable[[str], Awaitable[str]]
both_lists = pytest.mark.parametrize("path", ["/api/runs", "/api/data/{id}/runs"])


@pytest.fixture
async def owner(headers_of: HeadersOf) -> dict[str, str]:
    return await headers_of("owner")


@pytest.fixture
async def record(client: httpx.AsyncClient, headers_of: HeadersOf, fake_airflow: FakeAirflow) -> int:
    """An active record of "owner" that Airflow has, with a run that has ended and its log."""
    body = {"name": "每日同步", "config": CONFIG}
    record_id = int((await client.post("/api/data/", json=body, headers=await headers_of("owner"))).json()["id"])
    fake_airflow.add_dag(record_id)
    fake_airflow.add_run(record_id, RUN)
    fake_airflow.logs[f"pyapi_{record_id}", RUN, "run", 1] = [{"event": "done", "level": "info"}]
    return record_id


def url(record_id: int, rest: str = "") -> str:
    return f"/api/data/{record_id}/runs{rest}"


ONE = f"/{quote(RUN)}"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("POST", "", {}),
    ("GET", ONE, None),
    ("GET", f"{ONE}/logs", None),
    ("POST", f"{ONE}/cancel", None),
    ("POST", f"{ONE}/retry", None),
]
EACH_ROUTE = pytest.mark.parametrize(("method", "rest", "body"), ROUTES)


# --- Who gets which status --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "rest", "body", "caller", "status", "code"),
    [
        ("GET", "", None, "owner", 200, None),
        ("GET", "", None, "somebody else", 200, None),
        ("GET", "?limit=0", None, "owner", 422, "validation_failed"),
        ("GET", "?limit=101", None, "owner", 422, "validation_failed"),
        ("GET", "?state=paused", None, "owner", 422, "validation_failed"),
        ("GET", "?type=x", None, "owner", 422, "validation_failed"),
        ("GET", "?from=yesterday", None, "owner", 422, "validation_failed"),
        ("GET", "?cursor=garbage", None, "owner", 422, "validation_failed"),
        ("GET", "?unknown=1", None, "owner", 422, "validation_failed"),
        ("POST", "", {}, "owner", 201, None),
        ("POST", "", {"conf": {"day": 1}, "note": "補跑"}, "owner", 201, None),
        ("POST", "", {}, "superuser", 201, None),
        ("POST", "", {}, "somebody else", 403, "permission_denied"),
        ("POST", "", {"conf": []}, "owner", 422, "validation_failed"),
        ("POST", "", {"note": "x" * 1001}, "owner", 422, "validation_failed"),
        ("POST", "", {"note": "\x00"}, "owner", 422, "validation_failed"),
        ("POST", "", {"unknown": 1}, "owner", 422, "validation_failed"),
        ("GET", ONE, None, "owner", 200, None),
        ("GET", ONE, None, "somebody else", 200, None),
        ("GET", "/none", None, "owner", 404, "not_found"),
        ("GET", f"{ONE}/logs", None, "owner", 200, None),
        ("GET", f"{ONE}/logs", None, "somebody else", 200, None),
        ("GET", f"{ONE}/logs?try=1", None, "owner", 200, None),
        ("GET", f"{ONE}/logs?try=2", None, "owner", 404, "not_found"),
        ("GET", f"{ONE}/logs?task=none", None, "owner", 404, "not_found"),
        ("GET", f"{ONE}/logs?task=none&try=1", None, "owner", 404, "not_found"),
        ("GET", f"{ONE}/logs?task=..%2fx", None, "owner", 422, "validation_failed"),
        ("GET", f"{ONE}/logs?try=0", None, "owner", 422, "validation_failed"),
        ("GET", "/none/logs", None, "owner", 404, "not_found"),
        ("POST", f"{ONE}/cancel", None, "owner", 409, "run_ended"),
        ("POST", f"{ONE}/cancel", None, "somebody else", 403, "permission_denied"),
        ("POST", "/none/cancel", None, "owner", 404, "not_found"),
        ("POST", f"{ONE}/retry", None, "owner", 200, None),
        ("POST", f"{ONE}/retry", {"latest": True}, "owner", 200, None),
        ("POST", f"{ONE}/retry", {"latest": "x"}, "owner", 422, "validation_failed"),
        ("POST", f"{ONE}/retry", None, "superuser", 200, None),
        ("POST", f"{ONE}/retry", None, "somebody else", 403, "permission_denied"),
        ("POST", "/none/retry", None, "owner", 404, "not_found"),
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


@EACH_ROUTE
@pytest.mark.parametrize(("caller", "code"), [("nobody", "not_authenticated"), ("a forger", "invalid_token")])
async def test_runs_are_for_people_signed_in(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    fake_airflow: FakeAirflow,
    method: str,
    rest: str,
    body: Any,
    caller: str,
    code: str,
) -> None:
    """Also where everybody may read records, as here."""
    answer = await client.request(method, url(1, rest), json=body, headers=await headers_of(caller))
    assert_problem(answer, 401, code)


async def test_all_runs_are_for_people_signed_in(client: httpx.AsyncClient, fake_airflow: FakeAirflow) -> None:
    assert_problem(await client.get("/api/runs"), 401, "not_authenticated")


@EACH_ROUTE
async def test_no_record(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    fake_airflow: FakeAirflow,
    method: str,
    rest: str,
    body: Any,
) -> None:
    answer = await client.request(method, url(MISSING_ID, rest), json=body, headers=owner)
    assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", "/%2e%2e"),
        ("GET", "/.x"),
        ("GET", "/a%20b"),
        ("GET", f"/{'x' * 251}"),
        ("GET", "/-x"),
        ("GET", "/%00"),
        ("GET", "/%E9%80%B1"),
        ("GET", "/%2e%2e/logs"),
        ("POST", "/%2e%2e/cancel"),
        ("POST", "/%2e%2e/retry"),
    ],
)
async def test_what_no_run_is_called(
    client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow, method: str, rest: str
) -> None:
    answer = await client.request(method, url(1, rest), headers=owner)
    assert_problem(answer, 422, "validation_failed")


@EACH_ROUTE
async def test_airflow_is_down(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    fake_airflow: FakeAirflow,
    record: int,
    method: str,
    rest: str,
    body: Any,
) -> None:
    fake_airflow.down = True
    answer = await client.request(method, url(record, rest), json=body, headers=await headers_of("owner"))
    assert_problem(answer, 503, "airflow_unavailable")
    assert answer.headers["retry-after"] == "5"


async def test_airflow_is_down_for_all_runs(
    client: httpx.AsyncClient, headers_of: HeadersOf, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.down = True
    assert_problem(await client.get("/api/runs", headers=await headers_of("owner")), 503, "airflow_unavailable")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/data/", None, 200),
        ("GET", "/api/data/{id}", None, 200),
        ("POST", "/api/data/", {"name": "x"}, 201),
        ("PUT", "/api/data/{id}", {"status": "inactive"}, 200),
        ("DELETE", "/api/data/{id}", None, 200),
        ("GET", "/api/health", None, 200),
    ],
)
async def test_records_need_no_airflow(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    fake_airflow: FakeAirflow,
    record: int,
    method: str,
    path: str,
    body: Any,
    status: int,
) -> None:
    fake_airflow.down = True
    answer = await client.request(method, path.format(id=record), json=body, headers=await headers_of("owner"))
    assert (answer.status_code, fake_airflow.requests) == (status, [])


async def test_no_airflow_is_configured(client: httpx.AsyncClient, headers_of: HeadersOf) -> None:
    answer = await client.get("/api/runs", headers=await headers_of("owner"))
    assert "PYAPI_AIRFLOW_URL" in assert_problem(answer, 503, "airflow_unavailable")["detail"]


# --- Starting ---------------------------------------------------------------------------------------------------------


async def start(
    client: httpx.AsyncClient, record: int, headers: dict[str, str], body: Any = None, *, key: str | None = None
) -> httpx.Response:
    headers = headers | ({"Idempotency-Key": key} if key is not None else {})
    return await client.post(url(record), json=body or {}, headers=headers)


async def test_a_started_run_has_all_fields(client: httpx.AsyncClient, record: int, owner: dict[str, str]) -> None:
    assert set((await start(client, record, owner)).json()) == READ_RUN


async def test_airflow_gets_conf_and_note(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    body = {"conf": {"password": "p-secret", "day": "x"}, "note": "補跑"}
    await start(client, record, owner, body)
    sent = json.loads(fake_airflow.requests[-1].content)
    assert {name: sent[name] for name in body} == body


async def test_credentials_in_conf_are_masked(client: httpx.AsyncClient, record: int, owner: dict[str, str]) -> None:
    body = {"conf": {"password": "p-secret", "url": "postgresql://u:p-secret@h/d", "day": "x"}}
    started = (await start(client, record, owner, body)).json()["conf"]
    assert started == {"password": "***", "url": "postgresql://u:***@h/d", "day": "x"}


@pytest.mark.parametrize("path", ["/api/runs", "/api/data/{id}/runs", f"/api/data/{{id}}/runs{ONE}"])
async def test_credentials_in_conf_are_masked_ever_after(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow, path: str
) -> None:
    fake_airflow.add_run(record, RUN, conf={"password": "p-secret"})
    assert "p-secret" not in (await client.get(path.format(id=record), headers=owner)).text


async def test_each_request_starts_a_run(client: httpx.AsyncClient, record: int, owner: dict[str, str]) -> None:
    ids = {(await start(client, record, owner)).json()["run_id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize("status", ["inactive", "pending", "completed"])
@pytest.mark.parametrize("rest", ["", f"{ONE}/retry"])
async def test_a_record_that_is_not_active(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], status: str, rest: str
) -> None:
    await client.put(f"/api/data/{record}", json={"status": status}, headers=owner)
    assert_problem(await client.post(url(record, rest), json={}, headers=owner), 409, "record_not_active")


@pytest.mark.parametrize("rest", ["", f"{ONE}/retry"])
@pytest.mark.parametrize("dag", [None, {"description": describe_dag("", revision=7)}, {"is_stale": True}], ids=str)
async def test_airflow_does_not_have_the_revision(
    client: httpx.AsyncClient,
    record: int,
    owner: dict[str, str],
    fake_airflow: FakeAirflow,
    monkeypatch: pytest.MonkeyPatch,
    rest: str,
    dag: dict[str, Any] | None,
) -> None:
    monkeypatch.setattr(runnable_records, "READY_WITHIN", timedelta(0))
    if dag is None:
        fake_airflow.dags.clear()
    else:
        fake_airflow.add_dag(record, **dag)
    answer = await client.post(url(record, rest), json={}, headers=owner)
    assert_problem(answer, 503, "airflow_not_ready")
    assert answer.headers["retry-after"] == "5"


async def test_airflow_is_given_time_to_read_the_revision(
    client: httpx.AsyncClient,
    record: int,
    owner: dict[str, str],
    fake_airflow: FakeAirflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runnable_records, "READY_WITHIN", timedelta(minutes=1))
    monkeypatch.setattr(runnable_records, "_LOOK_SECONDS", 0)
    fake_airflow.dags.clear()
    looks = 0

    def come_up(request: httpx.Request) -> None:
        nonlocal looks
        looks += request.method == "GET"
        if looks == 3:
            fake_airflow.add_dag(record)

    fake_airflow.after = come_up
    assert (await start(client, record, owner)).status_code == 201


async def test_airflow_refuses_to_start(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    fake_airflow.refuses = {"POST dagRuns": 400}
    assert_problem(await start(client, record, owner), 409, "conflict")


# --- Idempotency-Key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"conf": {"day": 1}, "note": "x"}, {"conf": {}}, {"conf": None}])
async def test_the_same_key_is_the_same_run(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], body: Any
) -> None:
    first, second = [await start(client, record, owner, body, key="k") for _ in range(2)]
    assert (first.status_code, second.status_code, second.json()) == (201, 200, first.json())


@pytest.mark.parametrize("body", [{"conf": {"day": 2}, "note": "x"}, {"conf": {"day": 1}}, {}])
async def test_the_same_key_with_another_body(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], body: Any
) -> None:
    await start(client, record, owner, {"conf": {"day": 1}, "note": "x"}, key="k")
    problem = assert_problem(await start(client, record, owner, body, key="k"), 422, "validation_failed")
    assert problem["errors"][0]["pointer"] == "/header/Idempotency-Key"


async def test_the_same_key_is_answered_when_the_record_is_not_active_any_more(
    client: httpx.AsyncClient, record: int, owner: dict[str, str]
) -> None:
    first = await start(client, record, owner, key="k")
    await client.patch(f"/api/data/{record}", json={"status": "inactive"}, headers=owner)
    second, other = await start(client, record, owner, key="k"), await start(client, record, owner, key="l")
    assert (second.status_code, second.json(), other.status_code) == (200, first.json(), 409)


async def test_another_key_is_another_run(client: httpx.AsyncClient, record: int, owner: dict[str, str]) -> None:
    answers = [await start(client, record, owner, key=key) for key in "ab"]
    assert len({answer.json()["run_id"] for answer in answers}) == 2


async def test_the_key_of_somebody_else_is_another_one(
    client: httpx.AsyncClient, record: int, headers_of: HeadersOf
) -> None:
    answers = [await start(client, record, await headers_of(caller), key="k") for caller in ("owner", "superuser")]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_the_key_of_another_record_is_another_one(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    other = (await client.post("/api/data/", json={"name": "x"}, headers=owner)).json()["id"]
    fake_airflow.add_dag(other)
    ids = {(await start(client, of, owner, key="k")).json()["run_id"] for of in (record, other)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "keys", [[b""], [b"a b"], [b"x" * 256], [b"a", b"a"], ["鍵".encode()], [b"a\tb"]], ids=lambda keys: str(keys)[:20]
)
async def test_a_key_that_nobody_means(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow, keys: list[bytes]
) -> None:
    headers = [(b"authorization", owner["Authorization"].encode()), *((b"idempotency-key", key) for key in keys)]
    assert_problem(await client.post(url(record), json={}, headers=headers), 400, "bad_request")


@pytest.mark.parametrize("key", ["!", "~" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
async def test_a_key_may_be_any_word(client: httpx.AsyncClient, record: int, owner: dict[str, str], key: str) -> None:
    assert (await start(client, record, owner, key=key)).status_code == 201


# --- Reading ----------------------------------------------------------------------------------------------------------


async def test_a_run_has_its_tasks_and_their_tries(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    (first,) = fake_airflow.tries[f"pyapi_{record}", RUN]
    fake_airflow.tries[f"pyapi_{record}", RUN] = [first | {"state": "failed"}, first | {"try_number": 2}]
    (task,) = (await client.get(url(record, ONE), headers=owner)).json()["tasks"]
    tries = [(one["try_number"], one["state"], one["hostname"]) for one in task["tries"]]
    assert (task["task_id"], task["state"], tries) == (
        "run",
        "success",
        [(1, "failed", "worker-1"), (2, "success", "worker-1")],
    )


async def test_a_run_without_tasks(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    fake_airflow.tries.clear()
    assert (await client.get(url(record, ONE), headers=owner)).json()["tasks"] == []


@pytest.mark.parametrize(
    ("version", "revision"),
    [("{0}", 1), ("{1}", 2), ("{1}0", 2), ("0", None), ("a1b2c3", None), (None, None), ("", None)],
)
async def test_the_revision_of_a_run(
    client: httpx.AsyncClient,
    record: int,
    owner: dict[str, str],
    fake_airflow: FakeAirflow,
    connection: AsyncConnection,
    version: str | None,
    revision: int | None,
) -> None:
    await client.put(f"/api/data/{record}", json={"name": "x"}, headers=owner)
    statement = text("SELECT change_id FROM pyapi_data_revisions WHERE record_id = :id ORDER BY revision")
    changes = list(await connection.scalars(statement, {"id": record}))
    fake_airflow.add_run(record, RUN, bundle_version=version and version.format(*changes))
    (run,) = (await client.get("/api/runs", headers=owner)).json()["data"]
    assert run["revision"] == revision


@pytest.mark.parametrize(("caller", "deleted"), [("owner", set()), ("superuser", {(MISSING_ID, None)})])
async def test_runs_of_all_records_are_named(
    client: httpx.AsyncClient,
    record: int,
    headers_of: HeadersOf,
    fake_airflow: FakeAirflow,
    caller: str,
    deleted: set[tuple[int, None]],
) -> None:
    """Who saw a deleted record cannot be known any more, so its runs are for superusers."""
    for of in (f"pyapi_{MISSING_ID}", "pyapi_of_others", "other"):
        fake_airflow.add_run(of, "r")
    found = (await client.get("/api/runs", headers=await headers_of(caller))).json()["data"]
    assert {(run["record_id"], run["record_name"]) for run in found} == {(record, "每日同步"), *deleted}


async def test_runs_of_a_record_are_its_own(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_run(record + 1, "r")
    found = (await client.get(url(record), headers=owner)).json()["data"]
    assert [run["run_id"] for run in found] == [RUN]


async def test_a_record_that_airflow_does_not_have_has_no_runs(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    fake_airflow.dags.clear()
    assert (await client.get(url(record), headers=owner)).json() == {"data": [], "next_cursor": None}


@both_lists
async def test_pages_follow_each_other(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow, path: str
) -> None:
    for day in (2, 3, 4):
        fake_airflow.add_run(record, f"r{day}", run_after=f"2027-03-0{day}T00:00:00Z")
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(path.format(id=record), params=query, headers=owner)).json()
        found += [run["run_id"] for run in page["data"]]
        cursor = page["next_cursor"]
    assert found == ["r4", "r3", "r2", RUN]


@both_lists
async def test_a_cursor_that_is_none(client: httpx.AsyncClient, record: int, owner: dict[str, str], path: str) -> None:
    answer = await client.get(path.format(id=record), params={"cursor": "garbage"}, headers=owner)
    assert assert_problem(answer, 422, "validation_failed")["errors"][0]["pointer"] == "/query/cursor"


@pytest.fixture
async def cursors(client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow) -> Cursors:
    """A cursor of each list, the owner's."""
    fake_airflow.add_run(record, "r2", run_after="2027-03-02T00:00:00Z")

    async def cursor(path: str) -> str:
        answer = await client.get(path.format(id=record), params={"limit": 1}, headers=owner)
        return str(answer.json()["next_cursor"])

    return cursor


@both_lists
async def test_a_cursor_tells_nothing_of_airflow_s(cursors: Cursors, path: str) -> None:
    """Airflow writes the time and the id of the last row into its own, and that run may be hidden from the caller."""
    cursor = await cursors(path)
    read = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert ("after-" in cursor, b"after-" in read) == (False, False)


@both_lists
async def test_a_cursor_is_only_for_whom_it_was_made(
    client: httpx.AsyncClient, cursors: Cursors, record: int, sign_up: SignUp, path: str
) -> None:
    other = (await sign_up("reader", superuser=True)).headers
    answer = await client.get(path.format(id=record), params={"cursor": await cursors(path)}, headers=other)
    assert assert_problem(answer, 422, "validation_failed")["errors"][0]["pointer"] == "/query/cursor"


@both_lists
async def test_a_cursor_of_airflow_s_is_none(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow, path: str
) -> None:
    answer = await client.get(path.format(id=record), params={"cursor": "after-1"}, headers=owner)
    assert_problem(answer, 422, "validation_failed")


async def test_airflow_is_asked_for_the_wanted_runs_only(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    query = {"state": "failed", "type": "manual", "from": "2027-01-01T08:00:00+08:00", "to": "2027-02-01"}
    await client.get("/api/runs", params=query, headers=owner)
    asked = dict(fake_airflow.requests[-1].url.params)
    assert asked == {
        "state": "failed",
        "run_type": "manual",
        "run_after_gte": "2027-01-01T00:00:00+00:00",
        "run_after_lte": "2027-02-01T00:00:00+00:00",
        "order_by": "-run_after",
        "limit": "10",
        "cursor": "",
        "dag_id_prefix_pattern": "pyapi",
    }


# --- Ending and repeating ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_a_run_is_cancelled(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow, state: str
) -> None:
    fake_airflow.add_run(record, RUN, state=state)
    answer = await client.post(url(record, f"{ONE}/cancel"), headers=owner)
    assert (answer.status_code, answer.json()["state"]) == (200, "failed")


async def test_a_run_of_a_record_that_is_not_active_can_be_cancelled(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    await client.put(f"/api/data/{record}", json={"status": "inactive"}, headers=owner)
    fake_airflow.add_run(record, RUN, state="running")
    assert (await client.post(url(record, f"{ONE}/cancel"), headers=owner)).status_code == 200


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_a_run_that_has_not_ended_is_not_repeated(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow, state: str
) -> None:
    fake_airflow.add_run(record, RUN, state=state)
    assert_problem(await client.post(url(record, f"{ONE}/retry"), headers=owner), 409, "run_not_ended")


@pytest.mark.parametrize(("body", "latest"), [(None, False), ({}, False), ({"latest": True}, True)])
async def test_a_run_is_repeated(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow, body: Any, latest: bool
) -> None:
    await client.post(url(record, f"{ONE}/retry"), json=body, headers=owner)
    sent = json.loads(fake_airflow.requests[-1].content)
    assert sent == {"dry_run": False, "only_failed": False, "run_on_latest_version": latest}


@pytest.mark.parametrize(
    ("rest", "state", "code"), [("cancel", "running", "run_ended"), ("retry", "failed", "run_not_ended")]
)
async def test_a_run_that_changes_meanwhile(
    client: httpx.AsyncClient,
    record: int,
    owner: dict[str, str],
    fake_airflow: FakeAirflow,
    rest: str,
    state: str,
    code: str,
) -> None:
    fake_airflow.add_run(record, RUN, state=state)
    fake_airflow.refuses = {f"PATCH {quote(RUN, safe='')}": 409, "POST clear": 409}
    assert_problem(await client.post(url(record, f"{ONE}/{rest}"), headers=owner), 409, code)


# --- Logs -------------------------------------------------------------------------------------------------------------

SAID = "at p%40ss-word p@ss-word tok-123456 24681357 c-secret mysql://u:m-secret@h"
HIDDEN = "at *** *** *** *** *** mysql://u:***@h"


@pytest.fixture
async def logged(record: int, fake_airflow: FakeAirflow) -> int:
    """The record, with a log that tells all its credentials, and one of the run's conf."""
    fake_airflow.add_run(record, RUN, conf={"password": "c-secret"})
    entry = {"timestamp": "2027-03-01T00:00:00Z", "event": SAID, "level": "info", "extra": [SAID]}
    fake_airflow.logs[f"pyapi_{record}", RUN, "run", 1] = [entry, f"no JSON {SAID}"]
    return record


async def test_a_log_as_text(client: httpx.AsyncClient, logged: int, owner: dict[str, str]) -> None:
    answer = await client.get(url(logged, f"{ONE}/logs"), headers=owner)
    told = (answer.headers["content-type"], answer.text)
    assert told == ("text/plain; charset=utf-8", f"2027-03-01T00:00:00Z INFO {HIDDEN}\nno JSON {HIDDEN}\n")


async def test_a_log_as_json(client: httpx.AsyncClient, logged: int, owner: dict[str, str]) -> None:
    answer = await client.get(url(logged, f"{ONE}/logs"), headers=owner | {"Accept": NDJSON})
    entry = {"timestamp": "2027-03-01T00:00:00Z", "event": HIDDEN, "level": "info", "extra": [HIDDEN]}
    told = (answer.headers["content-type"], [json.loads(line) for line in answer.text.splitlines()])
    assert told == (NDJSON, [entry, {"event": f"no JSON {HIDDEN}"}])


async def test_what_was_secret_at_the_time_of_the_run_is_hidden(
    client: httpx.AsyncClient,
    logged: int,
    owner: dict[str, str],
    fake_airflow: FakeAirflow,
    connection: AsyncConnection,
) -> None:
    statement = text("SELECT change_id FROM pyapi_data_revisions WHERE record_id = :id")
    change = await connection.scalar(statement, {"id": logged})
    await client.put(f"/api/data/{logged}", json={"config": {"api_token": "newer"}}, headers=owner)
    fake_airflow.add_run(logged, RUN, bundle_version=str(change))
    assert "tok-123456" not in (await client.get(url(logged, f"{ONE}/logs"), headers=owner)).text


@pytest.mark.parametrize(
    ("accept", "last"), [("*/*", CUT_OFF), (NDJSON, json.dumps({"event": CUT_OFF}))], ids=["text", "json"]
)
async def test_a_log_that_breaks_off_says_so(
    client: httpx.AsyncClient, logged: int, owner: dict[str, str], fake_airflow: FakeAirflow, accept: str, last: str
) -> None:
    fake_airflow.breaks_off = True
    answer = await client.get(url(logged, f"{ONE}/logs"), headers=owner | {"Accept": accept})
    assert (answer.status_code, len(answer.text.splitlines()), answer.text.splitlines()[-1]) == (200, 3, last)


async def test_the_newest_try_is_read(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    (first,) = fake_airflow.tries[f"pyapi_{record}", RUN]
    fake_airflow.tries[f"pyapi_{record}", RUN] = [first, first | {"try_number": 2}]
    fake_airflow.logs[f"pyapi_{record}", RUN, "run", 2] = ["second"]
    assert (await client.get(url(record, f"{ONE}/logs"), headers=owner)).text == "second\n"


async def test_an_empty_log(
    client: httpx.AsyncClient, record: int, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    fake_airflow.logs[f"pyapi_{record}", RUN, "run", 1] = []
    answer = await client.get(url(record, f"{ONE}/logs"), headers=owner)
    assert (answer.status_code, answer.text) == (200, "")


# --- The database does not wait for Airflow ---------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", ""), ("GET", ONE), ("POST", f"{ONE}/cancel")])
async def test_no_connection_waits_for_airflow(
    app: FastAPI,
    client: httpx.AsyncClient,
    sign_up: SignUp,
    fake_airflow: FakeAirflow,
    single: Database,
    method: str,
    rest: str,
) -> None:
    """The pool has one: whoever keeps it keeps everybody out."""
    opened, app.state.database = app.state.database, single
    try:
        owner = (await sign_up(f"owner_{method}_{len(rest)}")).headers
        record = (await client.post("/api/data/", json={"name": "x"}, headers=owner)).json()["id"]
        fake_airflow.add_dag(record)
        fake_airflow.add_run(record, RUN, state="running")
        fake_airflow.hold = asyncio.Event()
        waiting = asyncio.ensure_future(client.request(method, url(record, rest), json={}, headers=owner))
        await fake_airflow.asked.wait()
        meanwhile = await client.get("/api/data/", headers=owner)
        fake_airflow.hold.set()
        statuses = [(await waiting).status_code // 100, meanwhile.status_code]
    finally:
        app.state.database = opened
    assert statuses == [2, 200]


@pytest.fixture(scope="module")
async def single(new_database: NewDatabase) -> Any:
    """A database over one connection, whose transactions are committed."""
    engine = create_engine(await new_database(), pool_size=1)
    yield Database.on(engine)
    await engine.dispose()
