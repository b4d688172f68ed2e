"""What Airflow has to hear is queued by whoever changes a record, and delivered whatever happens meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db.airflow_dao import AirflowOutboxDAO
from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.exceptions import AirflowUnavailable, DatabaseUnavailable
from pyapi.gateways import connection
from pyapi.services import airflow_courier
from pyapi.services.airflow_courier import BATCH, AirflowCourier
from tests.fake_airflow import FakeAirflow
from tests.fixtures.application import PASSWORD, log_in
from tests.integration.db.conftest import NewEngine, NewRole

LONG_SECONDS = 20
INSERT = "INSERT INTO pyapi_data_records (name, status) VALUES ('x', '{}') RETURNING id"


class Row(NamedTuple):
    record_id: int
    revision: int
    is_active: bool


async def run(engine: AsyncEngine, *statements: str) -> Any:
    """Run statements in a transaction; answers the first value of the last one."""
    async with engine.begin() as opened:
        for statement in statements:
            result = await opened.execute(text(statement))
        return result.scalar() if result.returns_rows else None


async def queued(engine: AsyncEngine) -> list[Row]:
    async with engine.connect() as opened:
        statement = "SELECT record_id, revision, is_active FROM pyapi_airflow_outbox ORDER BY queued_at, record_id"
        return [Row._make(row) for row in await opened.execute(text(statement))]


async def insert(engine: AsyncEngine, status: str = "active") -> int:
    return int(await run(engine, INSERT.format(status)))


def switch(record_id: int, status: str) -> str:
    return f"UPDATE pyapi_data_records SET status = '{status}' WHERE id = {record_id}"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow that is back is asked at once."""
    monkeypatch.setattr(connection, "OPEN_SECONDS", 1e-9)


@pytest.fixture
async def records(committing: AsyncEngine) -> AsyncEngine:
    """The database of this module, without a record and with an empty outbox."""
    await run(committing, "DELETE FROM pyapi_data_records", "DELETE FROM pyapi_airflow_outbox")
    return committing


# --- What is queued ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "change", "expected"),
    [
        ("active", "UPDATE {} SET status = 'inactive'", [(2, False)]),
        ("active", "UPDATE {} SET status = 'pending'", [(2, False)]),
        ("active", "UPDATE {} SET status = 'completed'", [(2, False)]),
        ("inactive", "UPDATE {} SET status = 'active'", [(2, True)]),
        ("pending", "UPDATE {} SET status = 'active'", [(2, True)]),
        ("active", "DELETE FROM {}", [(2, False)]),
        ("inactive", "DELETE FROM {}", []),
        ("active", "UPDATE {} SET name = 'y'", []),
        ("active", "UPDATE {} SET config = '{{}}'", []),
        ("active", "UPDATE {} SET status = 'active'", []),
        ("inactive", "UPDATE {} SET status = 'pending'", []),
        ("active", "SELECT 1 FROM {}", []),
        ("inactive", "SELECT 1 FROM {}", []),
    ],
)
async def test_what_is_queued(records: AsyncEngine, status: str, change: str, expected: list[tuple[int, bool]]) -> None:
    record_id = await insert(records, status)
    await run(records, change.format("pyapi_data_records"))
    assert await queued(records) == [Row(record_id, *one) for one in expected]


@pytest.mark.parametrize("together", [True, False], ids=["in one transaction", "one by one"])
async def test_only_what_holds_now_is_queued(records: AsyncEngine, together: bool) -> None:
    record_id = await insert(records)
    changes = [switch(record_id, status) for status in ("inactive", "active", "pending")]
    for part in [changes] if together else [[change] for change in changes]:
        await run(records, *part)
    assert await queued(records) == [Row(record_id, 4, False)]


async def test_a_change_begins_anew(records: AsyncEngine) -> None:
    """What was tried for an older change says nothing about this one."""
    record_id = await insert(records)
    await run(records, switch(record_id, "inactive"))
    await run(records, "UPDATE pyapi_airflow_outbox SET attempts = 5, told_at = now(), next_attempt_at = 'infinity'")
    await run(records, switch(record_id, "active"))
    statement = "SELECT (attempts, told_at IS NULL, next_attempt_at <= now())::text FROM pyapi_airflow_outbox"
    assert await run(records, statement) == "(0,t,t)"


async def test_what_is_rolled_back_leaves_nothing(records: AsyncEngine) -> None:
    record_id = await insert(records)
    async with records.connect() as opened:
        await opened.execute(text(switch(record_id, "inactive")))
        await opened.rollback()
    assert await queued(records) == []


async def test_many_rows_of_one_statement(records: AsyncEngine) -> None:
    for _ in range(3):
        await insert(records)
    await run(records, "UPDATE pyapi_data_records SET status = 'inactive'")
    assert [(row.revision, row.is_active) for row in await queued(records)] == [(2, False)] * 3


async def test_who_may_only_write_records_can_do_so(
    records: AsyncEngine, engines: NewEngine, new_role: NewRole
) -> None:
    record_id = await insert(records)
    theirs = engines(await new_role(records.url.render_as_string(hide_password=False)))
    role = theirs.url.username
    await run(records, f"GRANT SELECT, UPDATE ON pyapi_data_records TO {role}")
    await run(theirs, switch(record_id, "inactive"))
    await theirs.dispose()
    assert await queued(records) == [Row(record_id, 2, False)]


async def test_nobody_can_queue_by_hand(records: AsyncEngine) -> None:
    statement = "SELECT has_function_privilege('public', 'pyapi_queue_for_airflow()', 'EXECUTE')"
    assert await run(records, statement) is False


async def test_lastval_is_the_users_own(records: AsyncEngine) -> None:
    async with records.begin() as opened:
        record_id = await opened.scalar(text(INSERT.format("active")))
        before = await opened.scalar(text("SELECT lastval()"))
        await opened.execute(text(switch(record_id, "inactive")))
        assert await opened.scalar(text("SELECT lastval()")) == before


@pytest.fixture
async def callers(app: FastAPI, records: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is signed in, of the application on this database."""
    opened, app.state.database = app.state.database, Database.on(records)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await run(records, "DELETE FROM pyapi_users")
        body = {"username": "owner", "email": "owner@example.com", "password": PASSWORD}
        assert (await client.post("/api/auth/register", json=body)).status_code == 201
        client.headers["Authorization"] = f"Bearer {(await log_in(client, 'owner'))['access_token']}"
        yield client
    app.state.database = opened


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        ("PUT", {"status": "inactive"}, [(2, False)]),
        ("PUT", {"status": "pending", "name": "y"}, [(2, False)]),
        ("PUT", {"name": "y"}, []),
        ("DELETE", None, [(2, False)]),
    ],
)
async def test_what_the_api_queues(
    records: AsyncEngine, callers: httpx.AsyncClient, method: str, body: Any, expected: list[tuple[int, bool]]
) -> None:
    record_id = (await callers.post("/api/data/", json={"name": "x"})).json()["id"]
    await callers.request(method, f"/api/data/{record_id}", json=body)
    assert await queued(records) == [Row(record_id, *one) for one in expected]


async def test_a_dry_run_queues_nothing(records: AsyncEngine, callers: httpx.AsyncClient) -> None:
    record_id = (await callers.post("/api/data/", json={"name": "x"})).json()["id"]
    answer = await callers.put(f"/api/data/{record_id}?dry_run=true", json={"status": "inactive"})
    assert (answer.status_code, await queued(records)) == (200, [])


# --- What is delivered ------------------------------------------------------------------------------------------------


@dataclass
class Post:
    """An outbox on a database, a courier, and the Airflow it goes to."""

    database: Database
    fake: FakeAirflow = field(default_factory=FakeAirflow)
    failures: list[Exception] = field(default_factory=list)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.courier = AirflowCourier(self.fake.gateway(), self.open)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AirflowOutboxDAO]:
        if self.failures:
            raise self.failures.pop(0)
        async with transaction(self.database.transactions) as session:
            dao = AirflowOutboxDAO(session)
            yield dao
        async with transaction(self.database.transactions) as session:
            if await session.scalar(text("SELECT count(*) FROM pyapi_airflow_outbox")) == 0:
                self.emptied.set()


@pytest.fixture
async def post(records: AsyncEngine) -> Post:
    return Post(Database.on(records))


@pytest.fixture
async def stopped(records: AsyncEngine, post: Post) -> int:
    """A record that is not active any more, of which Airflow does not know yet."""
    record_id = await insert(records)
    post.fake.add_dag(record_id)
    await run(records, switch(record_id, "inactive"))
    return record_id


async def now(engine: AsyncEngine) -> None:
    """What was to be looked at later is due."""
    await run(engine, "UPDATE pyapi_airflow_outbox SET next_attempt_at = now()")


async def is_paused(post: Post, record_id: int) -> bool:
    return bool(post.fake.dags[f"pyapi_{record_id}"]["is_paused"])


def without_schedule(post: Post, record_id: int) -> None:
    post.fake.dags[f"pyapi_{record_id}"] |= {"timetable_summary": None, "next_dagrun_run_after": None}


async def test_a_record_that_is_not_active_is_paused(records: AsyncEngine, post: Post, stopped: int) -> None:
    await post.courier.deliver()
    assert await is_paused(post, stopped)


async def test_the_pause_is_kept_while_there_is_a_schedule(records: AsyncEngine, post: Post, stopped: int) -> None:
    for _ in range(3):
        await post.courier.deliver()
        await now(records)
    assert (await is_paused(post, stopped), len(await queued(records))) == (True, 1)


@pytest.mark.parametrize("how", ["no schedule", "stale"])
async def test_the_pause_is_lifted_when_the_schedule_has_gone(
    records: AsyncEngine, post: Post, stopped: int, how: str
) -> None:
    await post.courier.deliver()
    if how == "stale":
        post.fake.dags[f"pyapi_{stopped}"]["is_stale"] = True
    else:
        without_schedule(post, stopped)
    await now(records)
    await post.courier.deliver()
    assert (await is_paused(post, stopped), await queued(records)) == (False, [])


async def test_what_only_waits_is_no_backlog(records: AsyncEngine, post: Post, stopped: int) -> None:
    await post.courier.deliver()
    async with post.open() as outbox:
        assert (await outbox.backlog()).waiting == 0


async def test_what_was_not_tried_is_backlog(records: AsyncEngine, post: Post, stopped: int) -> None:
    async with post.open() as outbox:
        assert (await outbox.backlog()).waiting == 1


async def test_a_record_that_is_active_again_runs_again(records: AsyncEngine, post: Post, stopped: int) -> None:
    await post.courier.deliver()
    await run(records, switch(stopped, "active"))
    await post.courier.deliver()
    assert not await is_paused(post, stopped)


async def test_a_pause_that_arrives_late_is_lifted(records: AsyncEngine, post: Post, stopped: int) -> None:
    """Airflow goes on with a request that was given up."""
    await post.courier.deliver()
    await run(records, switch(stopped, "active"))
    await post.courier.deliver()
    post.fake.dags[f"pyapi_{stopped}"]["is_paused"] = True
    for _ in range(2):
        await now(records)
        await post.courier.deliver()
    assert (await is_paused(post, stopped), await queued(records)) == (False, [])


async def test_one_dag_that_airflow_cannot_handle_is_in_nobodys_way(records: AsyncEngine, post: Post) -> None:
    first, second = [await insert(records, "active") for _ in range(2)]
    for record_id in (first, second):
        post.fake.add_dag(record_id)
        await run(records, switch(record_id, "inactive"))
    post.fake.refuses = {f"PATCH pyapi_{first}": 500}
    await post.courier.deliver()
    assert (await is_paused(post, first), await is_paused(post, second)) == (False, True)


async def test_an_open_transaction_is_in_nobodys_way(records: AsyncEngine, post: Post) -> None:
    first, second = [await insert(records, "active") for _ in range(2)]
    for record_id in (first, second):
        post.fake.add_dag(record_id)
        await run(records, switch(record_id, "inactive"))
    async with records.begin() as connection:
        await connection.execute(text(switch(first, "active")))
        await post.courier.deliver()
        assert await is_paused(post, second)


async def test_a_deleted_record_that_is_inserted_again_runs_again(
    records: AsyncEngine, post: Post, stopped: int
) -> None:
    await run(records, f"DELETE FROM pyapi_data_records WHERE id = {stopped}")
    await post.courier.deliver()
    await run(records, f"INSERT INTO pyapi_data_records (id, name) VALUES ({stopped}, 'again')")
    await post.courier.deliver()
    assert not await is_paused(post, stopped)


@pytest.mark.parametrize("status", ["active", "inactive"])
async def test_a_dag_that_is_not_there_needs_nothing(records: AsyncEngine, post: Post, status: str) -> None:
    record_id = await insert(records, "active" if status == "inactive" else "inactive")
    await run(records, switch(record_id, status))
    await post.courier.deliver()
    assert await queued(records) == []


async def test_a_dag_that_goes_while_it_is_paused(records: AsyncEngine, post: Post, stopped: int) -> None:
    await post.courier.deliver()
    post.fake.dags.clear()
    await now(records)
    await post.courier.deliver()
    assert await queued(records) == []


async def test_what_changed_first_is_asked_first(records: AsyncEngine, post: Post) -> None:
    made = [await insert(records) for _ in range(9)]
    for record_id in reversed(made):
        await run(records, switch(record_id, "inactive"))
    await post.courier.deliver()
    assert post.fake.calls == [f"PATCH dags/pyapi_{record_id}" for record_id in reversed(made)]


async def hundred(engine: AsyncEngine, number: int = BATCH) -> None:
    """So many records that have ceased to be active."""
    rows = f"SELECT 'x', 'active' FROM generate_series(1, {number})"
    change = "UPDATE pyapi_data_records SET status = 'inactive'"
    await run(engine, f"INSERT INTO pyapi_data_records (name, status) {rows}", change)


async def test_nothing_is_lost_while_airflow_is_down(records: AsyncEngine, post: Post) -> None:
    await hundred(records)
    post.fake.down = True
    with pytest.raises(AirflowUnavailable):
        await post.courier.deliver()
    assert len(await queued(records)) == BATCH


async def test_all_is_delivered_when_airflow_is_back(records: AsyncEngine, post: Post) -> None:
    await hundred(records)
    post.fake.down = True
    with pytest.raises(AirflowUnavailable):
        await post.courier.deliver()
    post.fake.down = False
    await post.courier.deliver()
    assert await queued(records) == []


async def test_more_than_a_batch_is_not_all(records: AsyncEngine, post: Post) -> None:
    await hundred(records, BATCH + 1)
    assert [await post.courier.deliver() for _ in range(2)] == [False, True]


async def test_what_changes_while_it_is_delivered_stays(records: AsyncEngine, post: Post) -> None:
    record_id = await insert(records, "inactive")
    await run(records, switch(record_id, "active"))
    post.fake.hold = asyncio.Event()
    delivering = asyncio.ensure_future(post.courier.deliver())
    await post.fake.asked.wait()
    await run(records, switch(record_id, "inactive"))
    post.fake.hold.set()
    await delivering
    assert await queued(records) == [Row(record_id, 3, False)]


async def test_what_changes_while_it_is_paused_is_due_at_once(records: AsyncEngine, post: Post, stopped: int) -> None:
    post.fake.hold = asyncio.Event()
    delivering = asyncio.ensure_future(post.courier.deliver())
    await post.fake.asked.wait()
    await run(records, switch(stopped, "active"))
    post.fake.hold.set()
    await delivering
    async with post.open() as outbox:
        assert [row.is_active for row in await outbox.due(most=9)] == [True]


async def test_what_airflow_refuses_is_postponed(records: AsyncEngine, post: Post, stopped: int) -> None:
    post.fake.refuses = {f"PATCH pyapi_{stopped}": 422}
    await post.courier.deliver()
    statement = "SELECT (attempts, told_at IS NULL, next_attempt_at > now())::text FROM pyapi_airflow_outbox"
    assert await run(records, statement) == "(1,t,t)"


async def test_a_refusal_keeps_nobody_else_waiting(records: AsyncEngine, post: Post, stopped: int) -> None:
    other = await insert(records)
    post.fake.add_dag(other)
    await run(records, switch(other, "inactive"))
    post.fake.refuses = {f"PATCH pyapi_{stopped}": 422}
    await post.courier.deliver()
    assert await is_paused(post, other)


async def test_what_was_delivered_and_not_crossed_out_is_delivered_again(
    records: AsyncEngine, post: Post, stopped: int
) -> None:
    """As when the process is killed between the two."""

    def kill(request: httpx.Request) -> None:
        post.fake.after = None
        post.failures.append(DatabaseUnavailable())

    await post.fake.gateway().health()  # signed in
    post.fake.after = lambda request: kill(request) if request.method == "PATCH" else None
    with pytest.raises(DatabaseUnavailable):
        await post.courier.deliver()
    await post.courier.deliver()
    sent = [json.loads(request.content) for request in post.fake.requests if request.method == "PATCH"]
    assert (sent, await is_paused(post, stopped)) == ([{"is_paused": True}] * 2, True)


# --- For ever ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def at_work(post: Post, woken: asyncio.Event) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(post.courier.run(woken))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_it_is_woken(records: AsyncEngine, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_courier, "IDLE_SECONDS", 3600)
    woken = asyncio.Event()
    async with at_work(post, woken):
        await asyncio.wait_for(post.emptied.wait(), LONG_SECONDS)  # there was nothing
        record_id = await insert(records)
        await run(records, switch(record_id, "inactive"))
        post.emptied.clear()
        woken.set()
        await asyncio.wait_for(post.emptied.wait(), LONG_SECONDS)
    assert post.fake.calls == [f"PATCH dags/pyapi_{record_id}"]


async def test_it_looks_by_itself(records: AsyncEngine, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_courier, "IDLE_SECONDS", 0.01)
    async with at_work(post, asyncio.Event()):
        await asyncio.wait_for(post.emptied.wait(), LONG_SECONDS)
        record_id = await insert(records)
        await run(records, switch(record_id, "inactive"))
        post.emptied.clear()
        await asyncio.wait_for(post.emptied.wait(), LONG_SECONDS)
    assert post.fake.calls == [f"PATCH dags/pyapi_{record_id}"]


@pytest.mark.parametrize(
    "failure", [DatabaseUnavailable(), AirflowUnavailable(), ValueError("nobody thought of this")], ids=type
)
async def test_it_survives(
    records: AsyncEngine, post: Post, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(airflow_courier, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(airflow_courier, "AWAY_SECONDS", 0.01)
    record_id = await insert(records)
    await run(records, switch(record_id, "inactive"))
    post.failures = [failure, failure]
    async with at_work(post, asyncio.Event()):
        await asyncio.wait_for(post.emptied.wait(), LONG_SECONDS)
    assert post.fake.calls == [f"PATCH dags/pyapi_{record_id}"]
