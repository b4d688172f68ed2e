"""What Airflow has is kept: its health, the DAG of each record, and the newest run of each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.dag_conventions import INVALID_TAG
from pyapi.db.airflow_dao import AirflowOutboxDAO, AirflowSeenDAO, LinkRow, SeenDag
from pyapi.db.audit_dao import AuditJournal
from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.exceptions import AirflowUnavailable
from pyapi.gateways import connection
from pyapi.services import airflow_observer
from pyapi.services.airflow_observer import FIRST_LOOK_BACK, MOST_ASKED_ONE_BY_ONE, OVERLAP, AirflowObserver
from pyapi.services.airflow_service import AirflowService
from pyapi.services.audit_trail import AuditTrail
from tests.fake_airflow import FakeAirflow, moment

LONG_SECONDS = 20
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TABLES = ("data_records", "airflow_outbox", "airflow_dags", "airflow_runs", "airflow_link")


@dataclass
class Observatory:
    """A database, an observer, and the Airflow that it looks at."""

    database: Database
    engine: AsyncEngine
    fake: FakeAirflow = field(default_factory=FakeAirflow)
    now: datetime = NOON

    def __post_init__(self) -> None:
        self.observer = self.new_observer()

    def new_observer(self, **options: Any) -> AirflowObserver:
        return AirflowObserver(self.fake.gateway(**options), self.open, clock=lambda: self.now)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AirflowSeenDAO]:
        async with transaction(self.database.transactions) as session:
            yield AirflowSeenDAO(session)

    async def run(self, *statements: str, **parameters: Any) -> Any:
        async with self.engine.begin() as opened:
            for statement in statements:
                result = await opened.execute(text(statement), parameters)
            return result.scalar() if result.returns_rows else None

    async def record(self, status: str = "active") -> int:
        statement = f"INSERT INTO pyapi_data_records (name, status) VALUES ('x', '{status}') RETURNING id"
        return int(await self.run(statement))

    async def link(self) -> LinkRow:
        async with self.open() as seen:
            return await seen.link()

    async def dags(self) -> dict[int, SeenDag]:
        columns = ", ".join(SeenDag._fields)
        async with self.engine.connect() as opened:
            rows = await opened.execute(text(f"SELECT {columns} FROM pyapi_airflow_dags"))
            return {row.record_id: SeenDag._make(row) for row in rows}

    async def since(self, record_id: int) -> datetime:
        found = await self.run("SELECT since FROM pyapi_airflow_dags WHERE record_id = :id", id=record_id)
        assert isinstance(found, datetime)
        return found

    async def runs(self) -> dict[int, tuple[str, str]]:
        async with self.engine.connect() as opened:
            rows = await opened.execute(text("SELECT record_id, run_id, state FROM pyapi_airflow_runs"))
            return {row.record_id: (row.run_id, row.state) for row in rows}

    async def changing(self) -> list[int]:
        async with self.open() as seen:
            return await seen.changing(within_seconds=60, most=100)

    async def drift(self, *, grace: float = 0) -> dict[int, str]:
        async with self.open() as seen:
            return {row.record_id: row.problem for row in await seen.drift(grace_seconds=grace, most=100)}


UNREADABLE = "Airflow cannot read the file of this DAG."


@pytest.fixture
async def seen(committing: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> Observatory:
    """An observatory that has seen nothing so far."""
    monkeypatch.setattr(connection, "OPEN_SECONDS", 1e-9)
    observatory = Observatory(Database.on(committing), committing)
    await observatory.run(*(f"DELETE FROM pyapi_{table}" for table in reversed(TABLES)))
    await observatory.run("DELETE FROM pyapi_airflow_outbox")
    return observatory


# --- Health -----------------------------------------------------------------------------------------------------------


async def test_health_is_kept(seen: Observatory) -> None:
    seen.fake.health["scheduler"]["status"] = "unhealthy"
    del seen.fake.health["triggerer"]
    await seen.observer.look_at_health()
    kept = {"metadatabase": "healthy", "scheduler": "unhealthy", "dag_processor": "healthy", "triggerer": None}
    assert (await seen.link()).health == kept


async def test_since_when_it_fails_is_kept(seen: Observatory) -> None:
    async with seen.open() as dao:
        await dao.keep_failing("first")
    first = (await seen.link()).failing_since
    async with seen.open() as dao:
        await dao.keep_failing("second")
    link = await seen.link()
    assert (link.failing_since, link.reason) == (first, "second")


async def test_a_failure_keeps_when_it_was_reached(seen: Observatory) -> None:
    await seen.observer.look_at_health()
    before = await seen.link()
    async with seen.open() as dao:
        await dao.keep_failing("x")
    after = await seen.link()
    assert (after.reached_at, after.health) == (before.reached_at, before.health)


async def test_a_success_ends_a_failure(seen: Observatory) -> None:
    async with seen.open() as dao:
        await dao.keep_failing("x")
    await seen.observer.look_at_health()
    link = await seen.link()
    assert (link.failing_since, link.reason) == (None, None)


async def test_a_long_reason_is_cut(seen: Observatory) -> None:
    async with seen.open() as dao:
        await dao.keep_failing("x" * 1000)
    assert (await seen.link()).reason == "x" * 500


# --- DAGs -------------------------------------------------------------------------------------------------------------


async def test_dags_are_kept(seen: Observatory) -> None:
    seen.fake.add_dag(1, 7)
    seen.fake.add_dag(2, is_paused=True, timetable_summary=None, next_dagrun_run_after=None)
    seen.fake.add_dag(3, has_import_errors=True, description="no revision")
    tags = [{"name": "pyapi"}, {"name": INVALID_TAG}]
    seen.fake.add_dag(4, tags=tags, timetable_summary=None, next_dagrun_run_after=moment())
    seen.fake.add_dag("etl")
    await seen.observer.look_at_all()
    assert await seen.dags() == {
        1: SeenDag(1, 7, False, False, True, False, None),
        2: SeenDag(2, 1, True, False, False, False, None),
        3: SeenDag(3, None, False, False, True, False, f"{UNREADABLE} Airflow's import errors say why."),
        4: SeenDag(4, 1, False, False, True, True, None),
    }


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        ("Traceback:\n  line 1\nImportError: no module pyapi\n\n", "ImportError: no module pyapi"),
        ("OSError: postgresql://etl:sesame@host/db", "OSError: postgresql://etl:***@host/db"),
        ("x" * 1000, "x" * (500 - len(UNREADABLE) - 1)),
        ("", ""),
    ],
)
async def test_a_file_that_cannot_be_read_says_why(seen: Observatory, trace: str, reason: str) -> None:
    other = {"bundle_name": "other", "filename": "records.py", "stack_trace": "not this one"}
    seen.fake.import_errors = [other, other | {"bundle_name": "pyapi", "stack_trace": trace}]
    seen.fake.add_dag(1, has_import_errors=True)
    await seen.observer.look_at_all()
    assert (await seen.dags())[1].import_error == f"{UNREADABLE} {reason}"


async def test_a_dag_that_stays_the_same_keeps_its_time(seen: Observatory) -> None:
    seen.fake.add_dag(1)
    await seen.observer.look_at_all()
    before = await seen.since(1)
    await seen.observer.look_at_all()
    assert await seen.since(1) == before


@pytest.mark.parametrize(
    "change",
    [
        {"description": "revision 2"},
        {"is_paused": True},
        {"timetable_summary": None, "next_dagrun_run_after": None},
        {"tags": [{"name": "pyapi"}, {"name": INVALID_TAG}]},
        {"has_import_errors": True},
        {"description": None},
    ],
)
async def test_a_dag_that_changes_has_changed_now(seen: Observatory, change: dict[str, Any]) -> None:
    seen.fake.add_dag(1)
    await seen.observer.look_at_all()
    before = await seen.since(1)
    seen.fake.add_dag(1, **change)
    await seen.observer.look_at_all()
    assert await seen.since(1) > before


async def test_more_dags_than_a_page(seen: Observatory) -> None:
    for record_id in range(1, 252):
        seen.fake.add_dag(record_id)
    assert (await seen.observer.look_at_all(), len(await seen.dags())) == (251, 251)


async def test_no_dag_at_all(seen: Observatory) -> None:
    assert (await seen.observer.look_at_all(), await seen.dags()) == (0, {})


@pytest.mark.parametrize(("sweeps", "is_stale"), [(0, False), (1, False), (2, True), (3, True)])
async def test_twice_not_found_is_stale(seen: Observatory, sweeps: int, is_stale: bool) -> None:
    record_id = await seen.record()
    seen.fake.add_dag(record_id)
    await seen.observer.look_at_all()
    seen.fake.dags.clear()
    for _ in range(sweeps):
        await seen.observer.look_at_all()
    dag = (await seen.dags())[record_id]
    assert (dag.is_stale, dag.is_scheduled) == (is_stale, not is_stale)


async def test_what_is_left_of_deleted_records_goes(seen: Observatory) -> None:
    seen.fake.add_dag(1)
    seen.fake.add_run(1, "r")
    await seen.observer.look_at_all()
    await seen.observer.look_at_runs()
    seen.fake.dags.clear()
    for _ in range(2):
        await seen.observer.look_at_all()
    assert (await seen.dags(), await seen.runs()) == ({}, {})


async def test_the_dag_of_a_deleted_record_is_kept_while_airflow_has_it(seen: Observatory) -> None:
    seen.fake.add_dag(1)
    for _ in range(3):
        await seen.observer.look_at_all()
    assert set(await seen.dags()) == {1}


async def test_half_a_sweep_lets_nothing_go(seen: Observatory) -> None:
    for record_id in range(1, 152):
        seen.fake.add_dag(record_id)
    await seen.observer.look_at_all()
    pages = 0

    def go_down(request: httpx.Request) -> None:
        nonlocal pages
        pages += request.url.path.endswith("/dags")
        seen.fake.down = pages == 1

    seen.fake.after = go_down
    with pytest.raises(AirflowUnavailable):
        await seen.observer.look_at_all()
    assert [dag.is_stale for dag in (await seen.dags()).values()] == [False] * 151


# --- Records that have just changed -----------------------------------------------------------------------------------

STATES: list[tuple[str, dict[str, Any] | None, bool]] = [
    ("active", None, True),
    ("active", {}, False),
    ("active", {"description": "revision 9"}, True),
    ("active", {"description": "x"}, True),
    ("active", {"is_paused": True}, False),
    ("active", {"has_import_errors": True}, False),
    ("inactive", None, False),
    ("inactive", {}, True),
    ("inactive", {"is_paused": True}, True),
    ("inactive", {"timetable_summary": None, "next_dagrun_run_after": None}, False),
]


@pytest.mark.parametrize(("status", "dag", "expected"), STATES)
async def test_what_airflow_has_not_caught_up_with(
    seen: Observatory, status: str, dag: dict[str, Any] | None, expected: bool
) -> None:
    record_id = await seen.record(status)
    if dag is not None:
        seen.fake.add_dag(record_id, **dag)
    await seen.observer.look_at_all()
    assert await seen.changing() == ([record_id] if expected else [])


async def test_what_changed_long_ago_is_not_asked_for(seen: Observatory) -> None:
    await seen.record()
    async with seen.open() as dao:
        assert await dao.changing(within_seconds=0, most=100) == []


def dag_requests(seen: Observatory) -> list[str]:
    return [call for call in seen.fake.calls if call.startswith("GET dags/pyapi_") or call == "GET dags"]


async def test_what_has_just_changed_is_asked_for_by_itself(seen: Observatory) -> None:
    await seen.observer.look()
    seen.fake.requests.clear()
    record_id = await seen.record()
    seen.fake.add_dag(record_id)
    await seen.observer.look()
    assert (dag_requests(seen), set(await seen.dags())) == ([f"GET dags/pyapi_{record_id}"], {record_id})


async def test_what_is_known_is_not_asked_for_again(seen: Observatory) -> None:
    seen.fake.add_dag(await seen.record())
    await seen.observer.look()
    seen.fake.requests.clear()
    await seen.observer.look()
    assert dag_requests(seen) == []


async def test_many_changes_are_one_question(seen: Observatory, monkeypatch: pytest.MonkeyPatch) -> None:
    await seen.observer.look()
    seen.fake.requests.clear()
    for _ in range(MOST_ASKED_ONE_BY_ONE + 1):
        seen.fake.add_dag(await seen.record())
    monkeypatch.setattr(airflow_observer, "QUICKEST_SWEEP_SECONDS", -1)
    await seen.observer.look()
    assert (dag_requests(seen), len(await seen.dags())) == (["GET dags"], MOST_ASKED_ONE_BY_ONE + 1)


# --- Runs -------------------------------------------------------------------------------------------------------------


def at(hour: int) -> str:
    return moment(NOON + (hour - 12) * HOUR)


def add_run(seen: Observatory, run_id: str, hour: int, **fields: Any) -> None:
    times = {"start_date": at(hour), "queued_at": at(hour), "run_after": at(hour), "updated_at": at(hour)}
    seen.fake.add_run(1, run_id, **(times | fields))


async def test_the_newest_run_is_kept(seen: Observatory) -> None:
    for run_id, hour in (("a", 9), ("b", 11), ("c", 10)):
        add_run(seen, run_id, hour)
    await seen.observer.look_at_runs()
    assert await seen.runs() == {1: ("b", "success")}


async def test_runs_of_others_are_left_out(seen: Observatory) -> None:
    for dag_id in ("pyapi_of_others", "pyapi_", "etl"):
        seen.fake.add_run(dag_id, "r", updated_at=at(11))
    await seen.observer.look_at_runs()
    assert await seen.runs() == {}


async def test_a_later_run_replaces_it(seen: Observatory) -> None:
    add_run(seen, "a", 10)
    await seen.observer.look_at_runs()
    add_run(seen, "b", 11, state="running", updated_at=at(13))
    await seen.observer.look_at_runs()
    assert await seen.runs() == {1: ("b", "running")}


async def test_an_older_run_that_changes_does_not(seen: Observatory) -> None:
    add_run(seen, "b", 11)
    await seen.observer.look_at_runs()
    add_run(seen, "a", 9, state="failed", updated_at=at(13))
    await seen.observer.look_at_runs()
    assert await seen.runs() == {1: ("b", "success")}


async def test_a_run_goes_on(seen: Observatory) -> None:
    add_run(seen, "a", 11, state="running", end_date=None)
    await seen.observer.look_at_runs()
    add_run(seen, "a", 11, state="failed", end_date=at(12), updated_at=at(12))
    await seen.observer.look_at_runs()
    assert await seen.runs() == {1: ("a", "failed")}


async def test_a_run_that_begins_again_earlier_is_the_same(seen: Observatory) -> None:
    """A run that is repeated has no start until its first task begins."""
    add_run(seen, "a", 11)
    await seen.observer.look_at_runs()
    add_run(seen, "a", 10, state="queued", start_date=None, updated_at=at(12))
    await seen.observer.look_at_runs()
    assert await seen.runs() == {1: ("a", "queued")}


@pytest.mark.parametrize(
    ("missing", "began_at"),
    [({}, at(9)), ({"start_date": None}, at(10)), ({"start_date": None, "queued_at": None}, at(11))],
)
async def test_when_a_run_began(seen: Observatory, missing: dict[str, Any], began_at: str) -> None:
    times = {"start_date": at(9), "queued_at": at(10), "run_after": at(11)}
    add_run(seen, "a", 11, **(times | missing))
    await seen.observer.look_at_runs()
    found = await seen.run("SELECT began_at FROM pyapi_airflow_runs")
    assert moment(found) == began_at


def asked_since(seen: Observatory) -> list[datetime]:
    requests = [request for request in seen.fake.requests if request.url.path.endswith("/dagRuns")]
    return [datetime.fromisoformat(request.url.params["updated_at_gte"]) for request in requests]


async def test_the_first_look_goes_far_back(seen: Observatory) -> None:
    await seen.observer.look_at_runs()
    assert asked_since(seen) == [NOON - FIRST_LOOK_BACK - OVERLAP]


async def test_the_next_look_goes_back_to_the_last(seen: Observatory) -> None:
    await seen.observer.look_at_runs()
    seen.now += HOUR
    await seen.new_observer().look_at_runs()
    assert asked_since(seen)[1:] == [NOON - OVERLAP]


async def test_a_failed_look_is_made_again(seen: Observatory) -> None:
    seen.fake.down = True
    with pytest.raises(AirflowUnavailable):
        await seen.observer.look_at_runs()
    assert (await seen.link()).runs_seen_until is None


def cursors(seen: Observatory) -> list[str]:
    requests = [request for request in seen.fake.requests if request.url.path.endswith("/dagRuns")]
    return [request.url.params["cursor"] for request in requests]


@pytest.fixture
def many_runs(seen: Observatory, monkeypatch: pytest.MonkeyPatch) -> Observatory:
    """Runs on seven pages."""
    monkeypatch.setattr(airflow_observer, "PAGE_SIZE", 2)
    for number in range(1, 15):
        seen.fake.add_run(number, "r", updated_at=moment(NOON + number * timedelta(minutes=1)))
    return seen


async def test_a_look_takes_some_pages(many_runs: Observatory) -> None:
    await many_runs.observer.look_at_runs()
    seen_until = (await many_runs.link()).runs_seen_until
    assert (cursors(many_runs), seen_until) == (["", "after-2", "after-4", "after-6", "after-8"], None)


async def test_the_next_look_goes_on(many_runs: Observatory) -> None:
    for _ in range(2):
        await many_runs.observer.look_at_runs()
    assert (cursors(many_runs)[5:], len(await many_runs.runs())) == (["after-10", "after-12"], 14)


async def test_all_pages_count_from_the_first(many_runs: Observatory) -> None:
    """A run that changes while the pages are read may be on one that was read before."""
    await many_runs.observer.look_at_runs()
    many_runs.now += HOUR
    await many_runs.observer.look_at_runs()
    assert (await many_runs.link()).runs_seen_until == NOON


# --- Drift ------------------------------------------------------------------------------------------------------------

DRIFT: list[tuple[str | None, dict[str, Any] | None, str | None]] = [
    ("active", {}, None),
    ("active", {"timetable_summary": None, "next_dagrun_run_after": None}, None),
    ("active", None, "missing"),
    ("active", {"description": "revision 9"}, "outdated"),
    ("active", {"description": "x"}, "outdated"),
    ("active", {"is_paused": True}, "paused"),
    ("active", {"has_import_errors": True}, "import_error"),
    ("active", {"has_import_errors": True, "description": "revision 9"}, "import_error"),
    ("active", {"is_paused": True, "description": "revision 9"}, "outdated"),
    ("inactive", None, None),
    ("inactive", {}, "scheduled"),
    ("inactive", {"is_paused": True}, None),
    ("inactive", {"timetable_summary": None, "next_dagrun_run_after": None}, None),
    (None, {}, "scheduled"),
    (None, {"is_paused": True}, None),
]


@pytest.mark.parametrize(("status", "dag", "problem"), DRIFT)
async def test_drift(seen: Observatory, status: str | None, dag: dict[str, Any] | None, problem: str | None) -> None:
    record_id = await seen.record(status) if status is not None else 1_000_000
    if dag is not None:
        seen.fake.add_dag(record_id, **dag)
    await seen.observer.look_at_all()
    assert await seen.drift() == ({record_id: problem} if problem is not None else {})


@pytest.mark.parametrize("status", ["active", "inactive"])
async def test_a_dag_that_went_away(seen: Observatory, status: str) -> None:
    record_id = await seen.record(status)
    seen.fake.add_dag(record_id)
    await seen.observer.look_at_all()
    seen.fake.dags.clear()
    await seen.new_observer().look_at_all()
    assert await seen.drift() == ({record_id: "missing"} if status == "active" else {})


async def test_what_changed_a_moment_ago_is_no_drift(seen: Observatory) -> None:
    await seen.record()
    assert await seen.drift(grace=60) == {}


async def test_what_waits_to_be_delivered_is_no_drift(seen: Observatory) -> None:
    record_id = await seen.record("inactive")
    await seen.run(f"UPDATE pyapi_data_records SET status = 'active' WHERE id = {record_id}")
    assert await seen.drift() == {}


async def test_reconciling_makes_it_as_it_should_be(seen: Observatory) -> None:
    """One of each that can be repaired; the next look finds no more of them."""
    paused, stopped = await seen.record(), await seen.record("inactive")
    seen.fake.add_dag(paused, is_paused=True)
    seen.fake.add_dag(stopped)

    @asynccontextmanager
    async def stores() -> AsyncIterator[tuple[AirflowOutboxDAO, AirflowSeenDAO]]:
        async with transaction(seen.database.transactions) as session:
            yield AirflowOutboxDAO(session), AirflowSeenDAO(session)

    audit = AuditTrail(AuditJournal(partial(transaction, seen.database.transactions)))
    service = AirflowService(seen.fake.gateway(), stores, audit)
    first, second = await service.reconcile(), await service.reconcile()
    assert ([repair.action for repair in first.repairs], second.repairs) == (["unpaused", "paused"], [])


# --- For ever ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(observer: AirflowObserver) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(observer.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURN_SECONDS", "HEALTH_SECONDS", "RUNS_SECONDS"):
        monkeypatch.setattr(airflow_observer, name, 0.01)


async def asked(seen: Observatory, what: str, times: int) -> None:
    """Wait until Airflow was asked so often for this."""
    enough = asyncio.Event()

    def count(request: httpx.Request) -> None:
        if sum(call == what for call in seen.fake.calls) >= times:
            enough.set()

    seen.fake.before = count
    await asyncio.wait_for(enough.wait(), LONG_SECONDS)
    seen.fake.before = None


@pytest.mark.usefixtures("_quick")
async def test_it_looks_at_everything(seen: Observatory) -> None:
    async with running(seen.observer):
        await asked(seen, "GET monitor/health", 2)
    assert set(seen.fake.calls) == {"GET monitor/health", "GET dags/~/dagRuns", "GET dags"}


@pytest.mark.usefixtures("_quick")
async def test_a_wrong_password_is_no_airflow(seen: Observatory) -> None:
    """Its health is there for everybody, and says nothing about the account."""
    async with running(seen.new_observer(password="wrong-horse")):
        await asked(seen, "GET dags/~/dagRuns", 4)
    link = await seen.link()
    assert (link.reached_at, "PYAPI_AIRFLOW_PASSWORD" in (link.reason or "")) == (None, True)


@pytest.mark.usefixtures("_quick")
async def test_airflow_comes_back(seen: Observatory) -> None:
    seen.fake.status = 500
    async with running(seen.observer):
        await asked_at_all(seen, 3)
        seen.fake.status = None
        await asked(seen, "GET monitor/health", 2)
    assert (await seen.link()).failing_since is None


async def asked_at_all(seen: Observatory, times: int) -> None:
    """Wait for so many requests, whatever becomes of them."""
    begin = len(seen.fake.requests)
    while len(seen.fake.requests) < begin + times:
        seen.fake.asked.clear()
        await asyncio.wait_for(seen.fake.asked.wait(), LONG_SECONDS)


@pytest.mark.usefixtures("_quick")
async def test_a_cursor_that_airflow_refuses_begins_again(seen: Observatory) -> None:
    seen.observer._runs_cursor = "of another release"
    async with running(seen.observer):
        await asked(seen, "GET dags/~/dagRuns", 2)
    assert cursors(seen)[:2] == ["of another release", ""]


@pytest.mark.usefixtures("_quick")
async def test_it_ends_when_cancelled(seen: Observatory) -> None:
    async with running(seen.observer) as task:
        await asked(seen, "GET monitor/health", 1)
    assert task.cancelled()
