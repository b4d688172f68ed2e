"""What runs have moved is kept: each run once, whoever looks and however often; the newest of each record."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.dag_conventions import CHECK_CONF
from pyapi.db.airflow_dao import AirflowSeenDAO
from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.db.run_result_dao import MOST_QUESTIONS, RunResultDAO
from pyapi.db.run_result_models import MOST_KEPT
from pyapi.gateways import connection
from pyapi.gateways.answers import Run
from pyapi.services.airflow_observer import AirflowObserver
from pyapi.services.result_keeper import COUNTED_FOR, MOST_QUESTIONS_AT_ONCE, ResultKeeper
from tests.fake_airflow import FakeAirflow

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MOVED = {"version": 1, "mode": "full", "rows": 7, "bytes": 700, "seconds": 1.5, "tables": []}


@dataclass
class Counted:
    """Everything that was counted."""

    states: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def count_run(self, *, state: str) -> None:
        self.states.append(state)

    def count_moved(self, *, rows: int, size: int) -> None:
        assert size == rows * 100
        self.rows.append(rows)


@dataclass
class Archive:
    """A database, who keeps results in it, and the Airflow whose runs they are of."""

    database: Database
    engine: AsyncEngine
    record_id: int = 0
    fake: FakeAirflow = field(default_factory=FakeAirflow)
    counted: Counted = field(default_factory=Counted)
    now: datetime = NOON

    def __post_init__(self) -> None:
        self.keeper = self.new_keeper()

    def new_keeper(self) -> ResultKeeper:
        return ResultKeeper(self.fake.gateway(), self.results, self.counted, clock=lambda: self.now)

    @asynccontextmanager
    async def results(self) -> AsyncIterator[RunResultDAO]:
        async with transaction(self.database.transactions) as session:
            yield RunResultDAO(session)

    @asynccontextmanager
    async def seen(self) -> AsyncIterator[AirflowSeenDAO]:
        async with transaction(self.database.transactions) as session:
            yield AirflowSeenDAO(session)

    async def run_sql(self, statement: str, **parameters: Any) -> Any:
        async with self.engine.begin() as opened:
            result = await opened.execute(text(statement), parameters)
            return result.scalar() if result.returns_rows else None

    def ended(self, run_id: str, *, left: Any = MOVED, ended_at: datetime = NOON, **fields: Any) -> Run:
        """A run that has ended, as Airflow answers it."""
        times = {"start_date": (ended_at - MINUTE).isoformat(), "end_date": ended_at.isoformat()}
        run = self.fake.add_run(fields.pop("record_id", self.record_id), run_id, **times, **fields)
        if left is not None:
            self.fake.returned[run["dag_id"], run_id] = left
        return Run.model_validate(run)

    async def kept(self) -> dict[str, tuple[str, int | None, int | None, int | None]]:
        """State, rows, bytes, and how often Airflow was asked in vain."""
        async with self.engine.connect() as opened:
            rows = await opened.execute(text("SELECT run_id, state, rows, bytes, asked FROM pyapi_run_results"))
            return {row.run_id: tuple(row)[1:] for row in rows}


@pytest.fixture
async def archive(committing: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive with a record, in which nothing is kept so far."""
    monkeypatch.setattr(connection, "OPEN_SECONDS", 1e-9)
    made = Archive(Database.on(committing), committing)
    await made.run_sql("DELETE FROM pyapi_run_results")
    made.record_id = await made.run_sql("INSERT INTO pyapi_data_records (name) VALUES ('x') RETURNING id")
    return made


async def test_a_run_is_kept_with_what_it_has_moved(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a")])
    await archive.keeper.ask()
    assert (await archive.kept(), archive.counted) == ({"a": ("success", 7, 700, None)}, Counted(["success"], [7]))


async def test_its_times_are_kept(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a")])
    found = await archive.run_sql("SELECT ARRAY[began_at, ended_at] FROM pyapi_run_results")
    assert found == [NOON - MINUTE, NOON]


async def test_a_run_that_is_seen_again_is_the_same(archive: Archive) -> None:
    for _ in range(3):
        await archive.keeper.note([archive.ended("a")])
        await archive.keeper.ask()
    assert (len(await archive.kept()), archive.counted) == (1, Counted(["success"], [7]))


async def test_airflow_is_asked_once_for_each_run(archive: Archive) -> None:
    for _ in range(3):
        await archive.keeper.note([archive.ended("a")])
        await archive.keeper.ask()
    assert [call for call in archive.fake.calls if "xcomEntries" in call] == [
        f"GET dags/pyapi_{archive.record_id}/dagRuns/a/taskInstances/run/xcomEntries/return_value"
    ]


async def test_a_run_that_was_started_again_ends_again(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a", state="failed", left=None)])
    await archive.keeper.note([archive.ended("a", ended_at=NOON + MINUTE)])
    await archive.keeper.ask()
    assert (await archive.kept(), archive.counted) == (
        {"a": ("success", 7, 700, None)},
        Counted(["failed", "success"], [7]),
    )


async def test_what_it_had_moved_before_is_forgotten_then(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a")])
    await archive.keeper.ask()
    await archive.keeper.note([archive.ended("a", state="failed", ended_at=NOON + MINUTE)])
    assert await archive.kept() == {"a": ("failed", None, None, None)}


async def test_a_run_that_has_failed_is_not_asked(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a", state="failed")])
    await archive.keeper.ask()
    assert (archive.fake.calls, archive.counted) == ([], Counted(["failed"], []))


@pytest.mark.parametrize("left", [None, "words", {"ok": True, "problems": [], "tables": []}])
async def test_what_has_told_nothing_is_not_asked_again(archive: Archive, left: Any) -> None:
    await archive.keeper.note([archive.ended("a", left=left)])
    await archive.keeper.ask()
    assert (await archive.kept(), archive.counted) == ({"a": ("success", None, None, None)}, Counted(["success"], []))


@pytest.mark.parametrize(
    "fields",
    [
        {"conf": CHECK_CONF},
        {"state": "running"},
        {"state": "queued"},
        {"record_id": "of_others"},
        {"record_id": 2**31 - 1},
    ],
    ids=["a check", "running", "queued", "of somebody else", "of a deleted record"],
)
async def test_what_is_no_run_of_the_series(archive: Archive, fields: dict[str, Any]) -> None:
    await archive.keeper.note([archive.ended("a", **fields)])
    assert (await archive.kept(), archive.counted) == ({}, Counted())


async def test_what_is_left_of_a_deleted_record_goes(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a")])
    await archive.run_sql("DELETE FROM pyapi_data_records WHERE id = :id", id=archive.record_id)
    await archive.keeper.forget()
    assert await archive.kept() == {}


async def test_what_ended_long_ago_is_kept_and_not_counted(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a", ended_at=NOON - COUNTED_FOR)])
    await archive.keeper.ask()
    assert (await archive.kept(), archive.counted) == ({"a": ("success", 7, 700, None)}, Counted())


# --- How many ---------------------------------------------------------------------------------------------------------


async def test_only_the_newest_are_kept(archive: Archive) -> None:
    runs = [archive.ended(f"{number:02}", ended_at=NOON + number * MINUTE) for number in range(MOST_KEPT + 3)]
    await archive.keeper.note(runs[:-1])
    await archive.run_sql("UPDATE pyapi_run_results SET noted_at = noted_at - interval '2 hours'")
    await archive.keeper.note(runs[-1:])
    assert sorted(await archive.kept()) == [f"{number:02}" for number in range(3, MOST_KEPT + 3)]


async def test_those_of_the_last_hour_stay_so_that_none_is_counted_twice(archive: Archive) -> None:
    runs = [archive.ended(f"{number}", ended_at=NOON + number * MINUTE) for number in range(MOST_KEPT + 3)]
    for _ in range(2):
        await archive.keeper.note(runs)
    assert len(archive.counted.states) == MOST_KEPT + 3


async def test_other_records_lose_nothing(archive: Archive) -> None:
    other = await archive.run_sql("INSERT INTO pyapi_data_records (name) VALUES ('y') RETURNING id")
    await archive.keeper.note([archive.ended("first", record_id=other, ended_at=NOON - MINUTE)])
    await archive.run_sql("UPDATE pyapi_run_results SET noted_at = noted_at - interval '2 hours'")
    await archive.keeper.note([archive.ended(f"{number}") for number in range(MOST_KEPT)])
    assert "first" in await archive.kept()


async def test_so_many_are_asked_for_at_once(archive: Archive) -> None:
    await archive.keeper.note([archive.ended(f"{number}") for number in range(MOST_QUESTIONS_AT_ONCE + 1)])
    await archive.keeper.ask()
    assert len(archive.fake.calls) == MOST_QUESTIONS_AT_ONCE


# --- Faults -----------------------------------------------------------------------------------------------------------


async def test_a_run_that_airflow_cannot_answer_is_asked_for_some_times(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a")])
    archive.fake.refuses["GET return_value"] = 500
    asked = []
    for _ in range(MOST_QUESTIONS + 2):
        await archive.keeper.ask()
        asked.append((await archive.kept())["a"][3])
    assert (asked, len(archive.fake.calls)) == ([1, 2, None, None, None], MOST_QUESTIONS)


async def test_others_are_asked_for_beside_it(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("bad", left={"value": "unreadable"}), archive.ended("good")])
    archive.fake.before = lambda request: setattr(archive.fake, "status", 500 if "/bad/" in request.url.path else None)
    await archive.keeper.ask()
    assert (await archive.kept())["good"] == ("success", 7, 700, None)


async def test_two_who_ask_count_it_once(archive: Archive) -> None:
    """For a moment there may be two who lead."""
    await archive.keeper.note([archive.ended("a")])
    archive.fake.hold = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(archive.new_keeper().ask())
        while len(archive.fake.requests) < 2:  # both have read the question, and sign in
            archive.fake.asked.clear()
            await archive.fake.asked.wait()
        archive.fake.hold.set()
    assert archive.counted.rows == [7]


async def test_two_who_note_count_it_once(archive: Archive) -> None:
    run = archive.ended("a")
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(archive.new_keeper().note([run]))
    assert archive.counted.states == ["success"]


async def test_an_answer_that_comes_after_another_start_is_not_kept(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a")])
    async with archive.results() as results:
        [question] = await results.questions(most=1)
    await archive.keeper.note([archive.ended("a", state="failed", ended_at=NOON + MINUTE)])
    async with archive.results() as results:
        assert not await results.answer(question, rows=1, size=1)
    assert await archive.kept() == {"a": ("failed", None, None, None)}


# --- Who looks --------------------------------------------------------------------------------------------------------


async def test_the_observer_notes_and_asks(archive: Archive) -> None:
    await archive.run_sql("DELETE FROM pyapi_airflow_link")
    archive.fake.add_dag(archive.record_id)
    archive.ended("a", updated_at=NOON.isoformat())
    observer = AirflowObserver(archive.fake.gateway(), archive.seen, archive.keeper, clock=lambda: archive.now)
    await observer.look()
    assert await archive.kept() == {"a": ("success", 7, 700, None)}


async def test_the_sweep_of_the_observer_forgets(archive: Archive) -> None:
    await archive.keeper.note([archive.ended("a")])
    await archive.run_sql("DELETE FROM pyapi_data_records WHERE id = :id", id=archive.record_id)
    observer = AirflowObserver(archive.fake.gateway(), archive.seen, archive.keeper, clock=lambda: archive.now)
    await observer.look_at_all()
    assert await archive.kept() == {}
