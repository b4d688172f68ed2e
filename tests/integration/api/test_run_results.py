"""What runs have told: beside a run, as a series of a record, and as the answer of a check."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.dag_conventions import CHECK_CONF
from pyapi.services import check_service
from pyapi.services.check_service import FAILED, SILENT
from pyapi.services.run_log import TOO_MUCH
from tests.fake_airflow import FakeAirflow
from tests.fixtures.application import assert_problem
from tests.fixtures.callers import HeadersOf

RUN = "manual__1"
SECRET = "p4ssw0rd-geheim"
CONFIG = {"source": f"postgresql://etl:{SECRET}@host/db", "target": "s3://bucket/path/"}
MOVED: dict[str, Any] = {
    "version": 1,
    "mode": "incremental",
    "rows": 1500,
    "bytes": 123_456,
    "seconds": 1.25,
    "seconds_reading": 1.0,
    "resumed": False,
    "tables": [
        {
            "table": "orders",
            "rows": 1500,
            "bytes": 123_456,
            "watermark": "2026-11-24T09:00:00+00:00",
            "schema_changes": [
                {"column": "note", "change": "added", "to": "string"},
                {"column": "old", "change": "dropped", "from": "int64"},
                {"column": "id", "change": "type", "from": "int32", "to": "int64"},
            ],
        }
    ],
}
SHOWN: dict[str, Any] = {
    "mode": "incremental",
    "rows": 1500,
    "bytes": 123_456,
    "seconds": 1.25,
    "resumed": False,
    "tables": [
        {
            "table": "orders",
            "rows": 1500,
            "bytes": 123_456,
            "watermark": "2026-11-24T09:00:00+00:00",
            "schema_changes": [
                {"column": "note", "change": "added", "before": None, "after": "string"},
                {"column": "old", "change": "dropped", "before": "int64", "after": None},
                {"column": "id", "change": "type", "before": "int32", "after": "int64"},
            ],
        }
    ],
}
LOOKED: dict[str, Any] = {
    "version": 1,
    "ok": False,
    "problems": [{"place": "source", "detail": "There is no table orders."}],
    "tables": [{"table": "customers", "columns": 3}, {"table": "lines", "columns": None}],
}


@pytest.fixture
async def owner(headers_of: HeadersOf) -> dict[str, str]:
    return await headers_of("owner")


@pytest.fixture
async def record(client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow) -> int:
    """An active record that Airflow has."""
    answer = await client.post("/api/data/", json={"name": "每日同步", "config": CONFIG}, headers=owner)
    record_id = int(answer.raise_for_status().json()["id"])
    fake_airflow.add_dag(record_id)
    return record_id


@pytest.fixture
def told(client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow) -> Any:
    """The `result` of a run whose task has left something."""

    async def told(left: Any, **fields: Any) -> Any:
        fake_airflow.add_run(record, RUN, **fields)
        fake_airflow.returned[f"pyapi_{record}", RUN] = left
        answer = await client.get(f"/api/data/{record}/runs/{RUN}", headers=owner)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    return told


# --- Beside a run -----------------------------------------------------------------------------------------------------


async def test_a_run_shows_what_it_has_moved(told: Any) -> None:
    assert await told(MOVED) == SHOWN


async def test_a_value_may_be_kept_as_text(told: Any) -> None:
    assert await told('{"ok": true, "problems": [], "tables": []}') == {"ok": True, "problems": [], "tables": []}


async def test_a_check_shows_what_it_has_found(told: Any) -> None:
    assert await told(LOOKED, conf=CHECK_CONF) == {name: LOOKED[name] for name in ("ok", "problems", "tables")}


@pytest.mark.parametrize(
    "left",
    [
        None,
        7,
        "words",
        '{"rows": ',
        "[" * 100_000,
        {},
        {"rows": 1},
        MOVED | {"rows": -1},
        MOVED | {"rows": 2**63},
        MOVED | {"tables": [{"table": "orders"}]},
        {"ok": "perhaps", "problems": [], "tables": []},
    ],
    ids=["nothing", "number", "words", "half", "deep", "empty", "part", "negative", "too many", "tables", "perhaps"],
)
async def test_what_somebody_else_has_left_is_no_result(told: Any, left: Any) -> None:
    assert await told(left) is None


async def test_a_run_that_has_left_nothing_has_no_result(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_run(record, RUN)
    assert (await client.get(f"/api/data/{record}/runs/{RUN}", headers=owner)).json()["result"] is None


async def test_a_task_that_has_not_ended_well_is_not_asked(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_run(record, RUN, state="failed")
    fake_airflow.tries[f"pyapi_{record}", RUN][-1]["state"] = "failed"
    answer = await client.get(f"/api/data/{record}/runs/{RUN}", headers=owner)
    asked = [call for call in fake_airflow.calls if "xcomEntries" in call]
    assert (answer.json()["result"], asked) == (None, [])


async def test_an_account_that_may_not_read_what_runs_say_is_told_so(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    fake_airflow.add_run(record, RUN)
    fake_airflow.refuses["GET return_value"] = 403
    answer = await client.get(f"/api/data/{record}/runs/{RUN}", headers=owner)
    told = "PyAPI's account in Airflow may not read XComs, where runs say what they have moved: give it that right."
    assert (answer.status_code, answer.json()["detail"]) == (503, told)


@pytest.mark.parametrize("said", [f"password {SECRET} is wrong", f"postgresql://etl:{SECRET}@host"])
async def test_a_driver_that_says_the_password_is_not_heard(told: Any, said: str) -> None:
    result = await told(LOOKED | {"problems": [{"place": "source", "detail": said}]})
    assert SECRET not in result["problems"][0]["detail"]


async def test_what_cannot_be_hidden_is_not_shown(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, told: Any
) -> None:
    config = CONFIG | {"tokens": [f"token-{number}" for number in range(300)]}
    (await client.put(f"/api/data/{record}", json={"config": config}, headers=owner)).raise_for_status()
    assert (await told(LOOKED))["problems"] == [{"place": "source", "detail": TOO_MUCH}]


@pytest.mark.parametrize("status", [500, 403])
async def test_an_airflow_that_does_not_tell_is_away(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow, status: int
) -> None:
    fake_airflow.add_run(record, RUN)
    fake_airflow.refuses["GET return_value"] = status
    assert_problem(await client.get(f"/api/data/{record}/runs/{RUN}", headers=owner), 503, "airflow_unavailable")


# --- The key of PyAPI in `conf` ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{"check": True}, None, 7])
async def test_the_key_of_pyapi_is_not_for_others(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow, value: Any
) -> None:
    answer = await client.post(f"/api/data/{record}/runs", json={"conf": {"pyapi": value}}, headers=owner)
    [error] = assert_problem(answer, 422, "validation_failed")["errors"]
    assert (error["pointer"], fake_airflow.runs) == ("/body/conf/pyapi", {})


# --- A check ----------------------------------------------------------------------------------------------------------


async def check(client: httpx.AsyncClient, headers: dict[str, str], record_id: int) -> httpx.Response:
    return await client.post(f"/api/data/{record_id}/check", headers=headers)


@pytest.mark.parametrize("found", [LOOKED, {"version": 1, "ok": True, "problems": [], "tables": []}])
async def test_a_check_answers_what_its_run_has_found(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow, found: dict[str, Any]
) -> None:
    fake_airflow.found = found
    answer = await check(client, owner, record)
    shown = answer.json()
    assert (answer.status_code, shown["state"], {name: shown[name] for name in ("ok", "problems", "tables")}) == (
        200,
        "success",
        {name: found[name] for name in ("ok", "problems", "tables")},
    )


async def test_a_check_starts_one_run_that_only_looks(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    run_id = (await check(client, owner, record)).json()["run_id"]
    assert [(key, run["conf"]) for key, run in fake_airflow.runs.items()] == [((f"pyapi_{record}", run_id), CHECK_CONF)]


async def test_a_check_that_ends_later_is_looked_at_until_then(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    record: int,
    fake_airflow: FakeAirflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check_service, "_LOOK_SECONDS", 0)
    fake_airflow.found = None

    def end_at_the_third_look(request: httpx.Request) -> None:
        looks = [call for call in fake_airflow.calls if "/dagRuns/pyapi__check_" in call]
        if len(looks) == 3:
            [key] = fake_airflow.runs
            fake_airflow.runs[key] |= {"state": "success"}
            fake_airflow.returned[key] = LOOKED

    fake_airflow.before = end_at_the_third_look
    answer = await check(client, owner, record)
    assert (answer.status_code, answer.json()["ok"]) == (200, False)


async def test_a_check_that_takes_long_says_where_to_look(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    record: int,
    fake_airflow: FakeAirflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check_service, "WAITS_FOR", timedelta(0))
    fake_airflow.found = None
    answer = await check(client, owner, record)
    run_id = answer.json()["run_id"]
    assert (answer.status_code, answer.headers["location"], answer.json()) == (
        202,
        f"/api/data/{record}/runs/{run_id}",
        {"run_id": run_id, "state": "queued", "ok": None, "problems": [], "tables": []},
    )


@pytest.mark.parametrize(
    ("state", "detail"), [("failed", FAILED), ("success", SILENT)], ids=["it fails", "it says nothing"]
)
async def test_a_check_without_an_answer_is_none_that_is_well(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    record: int,
    fake_airflow: FakeAirflow,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    detail: str,
) -> None:
    monkeypatch.setattr(check_service, "_LOOK_SECONDS", 0)
    fake_airflow.found = None

    def end(request: httpx.Request) -> None:
        for key, run in fake_airflow.runs.items():
            run["state"] = state
            fake_airflow.tries[key][-1]["state"] = state

    fake_airflow.before = end
    answer = await check(client, owner, record)
    assert (answer.status_code, answer.json()["ok"], answer.json()["problems"]) == (
        200,
        False,
        [{"place": "run", "detail": detail}],
    )


@pytest.mark.parametrize("caller", ["owner", "superuser"])
async def test_who_may_check(client: httpx.AsyncClient, headers_of: HeadersOf, record: int, caller: str) -> None:
    assert (await check(client, await headers_of(caller), record)).status_code == 200


@pytest.mark.parametrize(
    ("caller", "changes", "status", "code"),
    [
        ("somebody else", {}, 403, "permission_denied"),
        ("nobody", {}, 401, "not_authenticated"),
        ("owner", {"status": "inactive"}, 409, "record_not_active"),
        ("owner", {"visibility": "private"}, 200, ""),
        ("somebody else", {"visibility": "private"}, 404, "not_found"),
    ],
)
async def test_who_may_not(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    owner: dict[str, str],
    record: int,
    fake_airflow: FakeAirflow,
    caller: str,
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    if changes:
        (await client.patch(f"/api/data/{record}", json=changes, headers=owner)).raise_for_status()
        fake_airflow.add_dag(record, 2)
    answer = await check(client, await headers_of(caller), record)
    if status == 200:
        assert answer.status_code == 200
    else:
        assert_problem(answer, status, code)
        assert fake_airflow.runs == {}


@pytest.mark.parametrize(("refusal", "status", "code"), [(400, 409, "conflict"), (500, 503, "airflow_unavailable")])
async def test_an_airflow_that_starts_no_check(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    record: int,
    fake_airflow: FakeAirflow,
    refusal: int,
    status: int,
    code: str,
) -> None:
    fake_airflow.refuses["POST dagRuns"] = refusal
    assert_problem(await check(client, owner, record), status, code)


# --- The series of a record -------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
INSERT = text("""
    INSERT INTO pyapi_run_results (record_id, run_id, run_type, state, began_at, ended_at, rows, bytes)
    VALUES (:record_id, :run_id, 'scheduled', :state, :began_at, :ended_at, :rows, :bytes)
    """)


async def put(connection: AsyncConnection, record_id: int, number: int, **fields: Any) -> None:
    began_at = NOON + timedelta(hours=number)
    values = {"state": "success", "rows": number, "bytes": number * 100, "ended_at": began_at + timedelta(seconds=2.5)}
    row = {"record_id": record_id, "run_id": f"run-{number}", "began_at": began_at} | values | fields
    await connection.execute(INSERT, row)


async def test_the_series_is_in_order(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, connection: AsyncConnection
) -> None:
    await put(connection, record, 2)
    await put(connection, record, 1, state="failed", rows=None, bytes=None)
    answer = await client.get(f"/api/data/{record}/stats", headers=owner)
    assert answer.json() == {
        "runs": [
            {
                "run_id": "run-1",
                "run_type": "scheduled",
                "state": "failed",
                "started": "2026-11-24T13:00:00Z",
                "seconds": 2.5,
                "rows": None,
                "bytes": None,
            },
            {
                "run_id": "run-2",
                "run_type": "scheduled",
                "state": "success",
                "started": "2026-11-24T14:00:00Z",
                "seconds": 2.5,
                "rows": 2,
                "bytes": 200,
            },
        ]
    }


async def test_the_series_has_the_newest_thirty(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, connection: AsyncConnection
) -> None:
    for number in range(35):
        await put(connection, record, number)
    runs = (await client.get(f"/api/data/{record}/stats", headers=owner)).json()["runs"]
    assert [run["rows"] for run in runs] == list(range(5, 35))


async def test_the_series_is_of_one_record(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, connection: AsyncConnection
) -> None:
    await put(connection, record + 1, 1)
    assert (await client.get(f"/api/data/{record}/stats", headers=owner)).json() == {"runs": []}


async def test_the_series_asks_nobody_but_the_database(
    client: httpx.AsyncClient, owner: dict[str, str], record: int, fake_airflow: FakeAirflow
) -> None:
    before = len(fake_airflow.requests)
    assert (await client.get(f"/api/data/{record}/stats", headers=owner)).status_code == 200
    assert len(fake_airflow.requests) == before


@pytest.mark.parametrize(
    ("caller", "visibility", "status", "code"),
    [
        ("nobody", "public", 401, "not_authenticated"),
        ("somebody else", "private", 404, "not_found"),
    ],
)
async def test_whose_series_nobody_sees(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    owner: dict[str, str],
    record: int,
    caller: str,
    visibility: str,
    status: int,
    code: str,
) -> None:
    (await client.patch(f"/api/data/{record}", json={"visibility": visibility}, headers=owner)).raise_for_status()
    assert_problem(await client.get(f"/api/data/{record}/stats", headers=await headers_of(caller)), status, code)
