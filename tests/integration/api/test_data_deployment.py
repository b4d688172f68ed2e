"""What is told about the DAG of each record: from what was kept, without a question to Airflow."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.services import deployment_service
from tests.fake_airflow import FakeAirflow
from tests.fixtures.application import SignUp

DAG = {
    "revision": 1,
    "is_paused": False,
    "is_stale": False,
    "is_scheduled": True,
    "is_invalid": False,
    "import_error": None,
}
LINK = """
    INSERT INTO pyapi_airflow_link (id, reached_at, failing_since, reason)
    VALUES (1, now() - make_interval(secs => :reached), now() - make_interval(secs => :failing), :reason)
"""
INSERT_DAG = """
    INSERT INTO pyapi_airflow_dags
    VALUES (:id, :revision, :is_paused, :is_stale, :is_scheduled, :is_invalid, :import_error, '2027-03-01T00:00Z')
"""
RUN = """
    INSERT INTO pyapi_airflow_runs
    VALUES (:id, 'manual__1', :state, 'manual', '2020-03-01T00:00Z', CAST(:start AS timestamptz),
            CAST(:end AS timestamptz))
"""
LONG = True
RECENT = False


@pytest.fixture
async def owner(sign_up: SignUp) -> dict[str, str]:
    return (await sign_up()).headers


async def create(client: httpx.AsyncClient, owner: dict[str, str], **fields: Any) -> int:
    answer = await client.post("/api/data/", json={"name": "x", **fields}, headers=owner)
    return int(answer.json()["id"])


async def reached(connection: AsyncConnection, seconds: float | None = 0, *, failing: float | None = None) -> None:
    reason = "it is down" if failing is not None else None
    await connection.execute(text(LINK), {"reached": seconds, "failing": failing, "reason": reason})


async def read(client: httpx.AsyncClient, owner: dict[str, str], record_id: int) -> dict[str, Any]:
    """What the list says; that one record says the same is a test of its own."""
    answer = await client.get("/api/data/", headers=owner)
    return next(record for record in answer.json()["data"] if record["id"] == record_id)


@pytest.mark.parametrize(
    ("fields", "dag", "since", "state"),
    [
        ({}, {}, RECENT, "live"),
        ({}, {"is_scheduled": False}, RECENT, "live"),
        ({"status": "inactive"}, None, RECENT, "off"),
        ({"status": "inactive"}, {"is_stale": True}, RECENT, "off"),
        ({"status": "inactive"}, {"is_scheduled": False}, RECENT, "off"),
        ({"status": "inactive"}, {"is_paused": True}, RECENT, "off"),
        ({"status": "inactive"}, {}, RECENT, "updating"),
        ({"status": "inactive"}, {}, LONG, "updating"),
        ({}, {"revision": 9}, RECENT, "updating"),
        ({}, {"revision": None}, RECENT, "updating"),
        ({}, {"revision": 9}, LONG, "updating"),
        ({}, {"revision": 9, "is_paused": True}, RECENT, "updating"),
        ({}, None, RECENT, "updating"),
        ({}, {"is_stale": True}, RECENT, "updating"),
        ({}, None, LONG, "missing"),
        ({}, {"is_stale": True}, LONG, "missing"),
        ({}, {"is_paused": True}, RECENT, "paused"),
        ({"config": {"schedule": "x"}}, {}, RECENT, "invalid"),
        ({"config": {"schedule": "x"}}, None, LONG, "invalid"),
        ({}, {"is_invalid": True}, RECENT, "invalid"),
        ({"config": {"schedule": "x"}, "status": "inactive"}, None, RECENT, "off"),
        ({}, {"import_error": "It is damaged."}, RECENT, "import_error"),
        ({}, {"import_error": "It is damaged.", "revision": 9}, RECENT, "import_error"),
    ],
)
async def test_the_state_of_a_record(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    connection: AsyncConnection,
    fake_airflow: FakeAirflow,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    dag: dict[str, Any] | None,
    since: bool,
    state: str,
) -> None:
    monkeypatch.setattr(deployment_service, "UPDATING_FOR", timedelta(0 if since is LONG else 60))
    record_id = await create_by(client, connection, owner, fields)
    await reached(connection)
    if dag is not None:
        await connection.execute(text(INSERT_DAG), {"id": record_id} | DAG | dag)
    deployment = (await read(client, owner, record_id))["airflow"]
    assert (deployment["state"], deployment["reason"] is None) == (state, state in {"live", "off"})


async def create_by(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: dict[str, str], fields: dict[str, Any]
) -> int:
    """A record; its config is written by SQL, which takes wrong ones too, and leaves the revision at 1."""
    record_id = await create(client, owner, **{name: fields[name] for name in fields.keys() - {"config"}})
    if "config" not in fields:
        return record_id
    await connection.execute(text("SELECT set_config('pyapi.schedules_computed', '', true)"))
    insert = "INSERT INTO pyapi_data_records (name, config, status) VALUES ('x', '{\"schedule\": \"x\"}', :status)"
    found = await connection.scalar(text(f"{insert} RETURNING id"), {"status": fields.get("status", "active")})
    return int(found or 0)


@pytest.mark.parametrize(
    ("seconds", "failing", "reason"),
    [
        (0, 5, "it is down"),
        (60, None, "Airflow was not asked for a while: no worker of PyAPI keeps the link."),
        (None, None, "Airflow was not asked for a while: no worker of PyAPI keeps the link."),
    ],
)
async def test_airflow_is_unreachable(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    connection: AsyncConnection,
    fake_airflow: FakeAirflow,
    seconds: float | None,
    failing: float | None,
    reason: str,
) -> None:
    record_id = await create(client, owner)
    await reached(connection, seconds, failing=failing)
    deployment = (await read(client, owner, record_id))["airflow"]
    assert (deployment["state"], deployment["reason"]) == ("unreachable", reason)


async def test_nobody_has_asked_airflow_so_far(
    client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow
) -> None:
    deployment = (await read(client, owner, await create(client, owner)))["airflow"]
    assert (deployment["state"], deployment["since"]) == ("unreachable", None)


@pytest.mark.parametrize(
    ("state", "start", "end", "seconds"),
    [
        ("success", "2020-03-01T00:00:00Z", "2020-03-01T00:00:12.5Z", 12.5),
        ("queued", None, None, None),
        ("failed", "2020-03-01T00:00:05Z", "2020-03-01T00:00:00Z", 0.0),  # two clocks
    ],
)
async def test_the_last_run(
    client: httpx.AsyncClient,
    owner: dict[str, str],
    connection: AsyncConnection,
    fake_airflow: FakeAirflow,
    state: str,
    start: str | None,
    end: str | None,
    seconds: float | None,
) -> None:
    record_id = await create(client, owner)
    run = RUN.replace(":start", f"'{start}'" if start else "NULL").replace(":end", f"'{end}'" if end else "NULL")
    await connection.execute(text(run), {"id": record_id, "state": state})
    last = (await read(client, owner, record_id))["last_run"]
    assert (last["run_id"], last["state"], last["duration_seconds"]) == ("manual__1", state, seconds)


async def test_a_run_that_goes_on_has_lasted_until_now(
    client: httpx.AsyncClient, owner: dict[str, str], connection: AsyncConnection, fake_airflow: FakeAirflow
) -> None:
    record_id = await create(client, owner)
    run = RUN.replace(":start", "'2020-03-01T00:00Z'").replace(":end", "NULL")
    await connection.execute(text(run), {"id": record_id, "state": "running"})
    assert (await read(client, owner, record_id))["last_run"]["duration_seconds"] > 3e7


async def test_there_was_no_run(client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow) -> None:
    assert (await read(client, owner, await create(client, owner)))["last_run"] is None


async def test_without_an_airflow_nothing_is_told(
    client: httpx.AsyncClient, owner: dict[str, str], connection: AsyncConnection
) -> None:
    record_id = await create(client, owner)
    await reached(connection)
    await connection.execute(text(INSERT_DAG), {"id": record_id} | DAG)
    found = await read(client, owner, record_id)
    assert (found["airflow"], found["last_run"]) == (None, None)


async def test_one_record_says_what_the_list_says(
    client: httpx.AsyncClient, owner: dict[str, str], connection: AsyncConnection, fake_airflow: FakeAirflow
) -> None:
    record_id = await create(client, owner)
    await reached(connection)
    await connection.execute(text(INSERT_DAG), {"id": record_id} | DAG | {"is_paused": True})
    one = (await client.get(f"/api/data/{record_id}", headers=owner)).json()
    assert one["airflow"] == (await read(client, owner, record_id))["airflow"]


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_who_is_not_signed_in_hears_nothing_of_airflow(
    client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow, path: str
) -> None:
    record_id = await create(client, owner)
    assert '"airflow"' not in (await client.get(path.format(id=record_id))).text


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_nobody_asks_airflow_for_a_reader(
    client: httpx.AsyncClient, owner: dict[str, str], fake_airflow: FakeAirflow, path: str
) -> None:
    fake_airflow.down = True
    answer = await client.get(path.format(id=await create(client, owner)), headers=owner)
    assert (answer.status_code, fake_airflow.requests) == (200, [])
