"""Records as DAGs of a real Airflow: what PyAPI stores is in force within seconds, and no record disturbs another."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from tests.airflow.running import RunningAirflow

pytestmark = pytest.mark.airflow

IN_FORCE_SECONDS = 20
"""On a busy machine."""

Post = Callable[..., int]
InForce = Callable[..., dict[str, Any]]


@pytest.fixture
def post(owner: httpx.Client) -> Post:
    """Makes a record, and answers its id."""

    def post(name: str = "同步", **config: Any) -> int:
        answer = owner.post("/api/data/", json={"name": name, "config": config})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    return post


@pytest.fixture
def in_force(airflow: RunningAirflow) -> InForce:
    """Waits until the DAG of a record has these properties, and answers it."""

    def in_force(record_id: int, **wanted: Any) -> dict[str, Any]:
        def holds() -> bool:
            dag = airflow.dag(record_id)
            return bool(dag) and all(dag.get(name) == value for name, value in wanted.items())

        airflow.wait_for(holds, IN_FORCE_SECONDS)
        return airflow.dag(record_id)

    return in_force


@pytest.fixture
async def by_sql(shared_database: str) -> AsyncIterator[Any]:
    """Writes past the API."""
    connection = await asyncpg.connect(shared_database.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@pytest.fixture
async def post_by_sql(by_sql: Any) -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Makes a record as no API does; it goes after the test."""
    made: list[int] = []

    async def post(**config: Any) -> int:
        query = "INSERT INTO pyapi_data_records (name, config) VALUES ('encrypted', $1::text::jsonb) RETURNING id"
        made.append(await by_sql.fetchval(query, json.dumps(config)))
        return made[-1]

    yield post
    await by_sql.execute("DELETE FROM pyapi_data_records WHERE id = ANY($1)", made)


@pytest.fixture(scope="session")
def every_minute(owner: httpx.Client, airflow: RunningAirflow) -> dict[str, Any]:
    """A record that begins to run with the first of these tests."""
    body = {"name": "每分鐘", "config": {"schedule": "* * * * *", "timezone": "Asia/Taipei"}}
    record: dict[str, Any] = owner.post("/api/data/", json=body).json()
    return record


def is_in_files(airflow: RunningAirflow, record_id: int) -> bool:
    """Whether one of the files that Airflow reads has the record."""
    files = (airflow.folder / "bundles" / "pyapi" / "current").glob("*.py")
    return any(f'"record_id": {record_id},' in path.read_text() for path in files)


# --- In force ---------------------------------------------------------------------------------------------------------


@pytest.mark.first  # so that the three minutes of the last test pass beside all others
@pytest.mark.usefixtures("every_minute")
def test_a_new_record_is_a_dag(post: Post, in_force: InForce) -> None:
    config = {"schedule": "0 9 * * 1-5", "timezone": "Asia/Taipei", "max_active_runs": 2, "tags": ["每日"]}
    dag = in_force(post("每日同步", **config), timetable_summary="0 9 * * 1-5")
    found = {name: dag[name] for name in ("dag_display_name", "catchup", "max_active_runs", "is_paused")}
    assert found == {"dag_display_name": "每日同步", "catchup": False, "max_active_runs": 2, "is_paused": False}
    assert {tag["name"] for tag in dag["tags"]} == {"pyapi", "每日"}


@pytest.mark.parametrize(
    "config",
    [
        {"schedule": "30 2 * * *", "timezone": "Europe/Paris"},
        {"schedule": 5400},
        {"schedule": 3600, "start_date": "2026-01-01T00:17:00Z"},
        {"schedule": "@monthly", "paused_until": "2098-05-05T00:00:00Z"},
    ],
)
def test_airflow_plans_the_run_that_pyapi_foretells(
    post: Post, in_force: InForce, owner: httpx.Client, config: dict[str, Any]
) -> None:
    record_id = post(**config)
    planned = in_force(record_id, is_paused=False)["next_dagrun_run_after"]
    foretold = owner.get(f"/api/data/{record_id}").json()["next_run_at"]
    assert datetime.fromisoformat(planned) == datetime.fromisoformat(foretold)


def test_a_new_schedule_is_in_force(post: Post, in_force: InForce, owner: httpx.Client) -> None:
    record_id = post(schedule="0 9 * * *")
    in_force(record_id, timetable_summary="0 9 * * *")
    owner.patch(f"/api/data/{record_id}", json={"name": "改名", "config": {"schedule": "0 6 * * *"}}).raise_for_status()
    in_force(record_id, timetable_summary="0 6 * * *", dag_display_name="改名")


def test_the_page_of_a_dag_says_whose_it_is(post: Post, in_force: InForce, owner: httpx.Client) -> None:
    record_id = post(schedule=None)
    link = f"{str(owner.base_url).rstrip('/')}/api/data/{record_id}"
    page = in_force(record_id, is_stale=False)["doc_md"]
    assert page == f"Record {record_id}, revision 1\n\nOwner: wang\n\n[Open in PyAPI]({link})"


@pytest.mark.parametrize("change", ["inactive", "deleted"])
def test_what_is_switched_off_loses_its_schedule(
    post: Post, in_force: InForce, owner: httpx.Client, change: str
) -> None:
    record_id = post(schedule="0 9 * * *")
    in_force(record_id, timetable_summary="0 9 * * *")
    if change == "deleted":
        owner.delete(f"/api/data/{record_id}").raise_for_status()
    else:
        owner.patch(f"/api/data/{record_id}", json={"status": change}).raise_for_status()
    in_force(record_id, timetable_summary=None, next_dagrun_run_after=None)


def test_what_is_switched_off_loses_its_schedule_beside_other_changes(
    post: Post, in_force: InForce, owner: httpx.Client
) -> None:
    """A file is written again before Airflow has read it; the DAG must not go from it with its schedule."""
    record_id, other = post(schedule="0 9 * * *"), post(schedule="0 9 * * *")
    in_force(record_id, timetable_summary="0 9 * * *")
    owner.patch(f"/api/data/{record_id}", json={"status": "inactive"}).raise_for_status()
    for minute in range(5):
        owner.patch(f"/api/data/{other}", json={"config": {"schedule": f"{minute} 9 * * *"}}).raise_for_status()
        time.sleep(0.5)
    in_force(record_id, next_dagrun_run_after=None)


def test_what_is_switched_on_again_has_its_schedule(post: Post, in_force: InForce, owner: httpx.Client) -> None:
    record_id = post(schedule="0 9 * * *")
    in_force(record_id, timetable_summary="0 9 * * *")
    for status, summary in (("inactive", None), ("active", "0 9 * * *")):
        owner.patch(f"/api/data/{record_id}", json={"status": status}).raise_for_status()
        in_force(record_id, timetable_summary=summary)


def test_what_left_goes_from_the_files_when_nothing_runs(
    post: Post, in_force: InForce, owner: httpx.Client, airflow: RunningAirflow
) -> None:
    record_id = post(schedule="0 9 * * *")
    in_force(record_id, timetable_summary="0 9 * * *")
    owner.delete(f"/api/data/{record_id}").raise_for_status()
    airflow.wait_for(lambda: not is_in_files(airflow, record_id), 60)


def test_an_unchanged_record_keeps_its_version(
    post: Post, in_force: InForce, owner: httpx.Client, airflow: RunningAirflow
) -> None:
    kept, changed = post(schedule="0 9 * * *"), post(schedule="0 9 * * *")
    for record_id in (kept, changed):
        in_force(record_id, timetable_summary="0 9 * * *")
    owner.patch(f"/api/data/{changed}", json={"config": {"schedule": "0 7 * * *"}}).raise_for_status()
    in_force(changed, timetable_summary="0 7 * * *")
    assert len(airflow.get(f"dags/pyapi_{kept}/dagVersions")["dag_versions"]) == 1


# --- What must not disturb others -------------------------------------------------------------------------------------

WRONG_ROWS = {
    "a day that never comes": '{"schedule": "0 0 31 2 *"}',
    "no zone": '{"schedule": "* * * * *", "timezone": "Nowhere"}',
    "absurd numbers": '{"schedule": 1e300, "max_active_runs": -1}',
    "a list": "[1, 2]",
    "a megabyte": '{"schedule": "' + "x" * 1_000_000 + '"}',
    "deep": "[" * 3000 + "]" * 3000,
}
ODD_NAME = "\"; import os #\\'''\n\u2028"


@pytest.mark.parametrize("config", WRONG_ROWS.values(), ids=WRONG_ROWS)
async def test_a_wrong_row_is_a_dag_that_says_why(
    by_sql: Any, in_force: InForce, airflow: RunningAirflow, config: str
) -> None:
    query = "INSERT INTO pyapi_data_records (name, config) VALUES ($1, $2::text::jsonb) RETURNING id"
    record_id = await by_sql.fetchval(query, ODD_NAME, config)
    dag = in_force(record_id, timetable_summary=None)
    assert {tag["name"] for tag in dag["tags"]} == {"pyapi", "pyapi-invalid"}
    assert dag["doc_md"].startswith("**Not scheduled.**")
    assert airflow.get("importErrors")["import_errors"] == []


async def test_a_wrong_row_that_was_deleted_goes(by_sql: Any, in_force: InForce, airflow: RunningAirflow) -> None:
    query = "INSERT INTO pyapi_data_records (name, config) VALUES ('wrong', '{\"schedule\": \"x\"}') RETURNING id"
    record_id = await by_sql.fetchval(query)
    in_force(record_id, timetable_summary=None)
    await by_sql.execute("DELETE FROM pyapi_data_records WHERE id = $1", record_id)
    airflow.wait_for(lambda: not is_in_files(airflow, record_id), 60)


async def test_dags_outlive_a_database_that_does_not_answer(
    by_sql: Any, airflow: RunningAirflow, post: Post, in_force: InForce
) -> None:
    record_id = post(schedule="0 9 * * *")
    in_force(record_id, timetable_summary="0 9 * * *")
    async with by_sql.transaction():
        await by_sql.execute("LOCK TABLE pyapi_data_revisions IN ACCESS EXCLUSIVE MODE")
        log = airflow.folder / "dag-processor.log"
        airflow.wait_for(lambda: "so their DAGs stay as they are" in log.read_text(), 30)
        assert airflow.dag(record_id)["is_stale"] is False
    in_force(post(schedule="0 3 * * *"), timetable_summary="0 3 * * *")


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_a_run_calls_what_the_record_names(
    post: Post, in_force: InForce, airflow: RunningAirflow, tmp_path: Path
) -> None:
    written = tmp_path / "written"
    record_id = post(schedule=None, task="kit_tasks:write", file=str(written), password="sesame-4711")
    in_force(record_id, is_stale=False)
    run = airflow.trigger(record_id)
    assert (run["state"], written.read_text()) == ("success", "sesame-4711 manual\n")
    files = (airflow.folder / "bundles" / "pyapi").rglob("*.py")
    places = [airflow.task_log(record_id, run["dag_run_id"]), *(path.read_text() for path in files)]
    assert all("sesame-4711" not in place for place in places)


# Made with the key that this Airflow has, and with another one.
SECRET = "sesame-4712 密碼\nsecond-line-of-it"
ENCRYPTED = (
    "fernet:gAAAAABrA2Mugu0AEam_LWJBbVWKRVupOlpJVA_xfhpN1hUTo3Cr3xb1ZQ8fSxTk4JT2DFNCfMEfZ_l3"
    "tqwy4xJaGZsOcbWVjgzDe8gcFuMd-894ShazzxegfO9LaqgcqHTi1O0vt_Px"
)
UNREADABLE = (
    "fernet:gAAAAABrA2MuJahA3hO5d9kliN1nxdpYXOzSRjnATkgTTVetnCqO6J8OfBxW506z4A5Mngy43j05TuEuJI9r7q8VwC8-7xen_Q=="
)


async def test_a_run_gets_decrypted_secrets_and_its_log_shows_none(
    post_by_sql: Callable[..., Awaitable[int]], in_force: InForce, airflow: RunningAirflow, tmp_path: Path
) -> None:
    written = tmp_path / "written"
    source = f"postgresql://etl:{quote('p@ss-4713')}@host/db"
    secrets = {"password": ENCRYPTED, "source": source, "smtp": [{"api_key": "key-4714"}]}
    record_id = await post_by_sql(schedule=None, task="kit_tasks:write", file=str(written), **secrets)
    in_force(record_id, is_stale=False)
    run = airflow.trigger(record_id)
    assert (run["state"], written.read_text()) == ("success", f"{SECRET} manual\n")
    log = airflow.task_log(record_id, run["dag_run_id"])
    assert [words in log for words in ("printed: ", "logged: ", "'smtp': [{'api_key': '***'}]")] == [True] * 3
    assert [part for part in ("sesame", "4712", "second-line", "4713", "4714", "fernet:") if part in log] == []


async def test_the_error_of_a_task_shows_no_secret(
    post_by_sql: Callable[..., Awaitable[int]], in_force: InForce, airflow: RunningAirflow
) -> None:
    record_id = await post_by_sql(schedule=None, task="kit_tasks:fail", password=ENCRYPTED)
    in_force(record_id, is_stale=False)
    run = airflow.trigger(record_id)
    log = airflow.task_log(record_id, run["dag_run_id"])
    assert (run["state"], "nobody may come in with ***" in log) == ("failed", True)
    assert [part for part in ("sesame", "second-line") if part in log] == []


async def test_a_run_whose_secret_cannot_be_decrypted_fails_and_says_what_to_do(
    post_by_sql: Callable[..., Awaitable[int]], in_force: InForce, airflow: RunningAirflow
) -> None:
    record_id = await post_by_sql(schedule=None, task="kit_tasks:fail", password=UNREADABLE, retries=3)
    in_force(record_id, is_stale=False)
    run = airflow.trigger(record_id)
    log = airflow.task_log(record_id, run["dag_run_id"])
    told = f"A secret of record {record_id} cannot be decrypted: set PYAPI_FERNET_KEYS in Airflow's environment"
    assert (run["state"], told in log) == ("failed", True)
    assert [part for part in ("failed: nobody", "gAAAA", airflow.environment["PYAPI_FERNET_KEYS"]) if part in log] == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"task": "os:system"}, "not in PYAPI_TASK_PREFIXES"),
        ({"task": 5}, "package.module:function"),
        ({"source": "postgresql://a/b", "target": "kafka://c/d"}, "/target: Write a URL or an object of a known type"),
    ],
)
async def test_what_cannot_run_fails_and_says_why(
    post_by_sql: Callable[..., Awaitable[int]],
    in_force: InForce,
    airflow: RunningAirflow,
    config: dict[str, Any],
    words: str,
) -> None:
    record_id = await post_by_sql(schedule=None, **config)  # over the API some of it is refused
    in_force(record_id, is_stale=False)
    run = airflow.trigger(record_id)
    assert (run["state"], words in airflow.task_log(record_id, run["dag_run_id"])) == ("failed", True)


def test_a_deleted_record_does_not_run(
    post: Post, in_force: InForce, owner: httpx.Client, airflow: RunningAirflow, tmp_path: Path
) -> None:
    record_id = post(schedule=None, task="kit_tasks:write", file=str(tmp_path / "written"), password="x")
    in_force(record_id, is_stale=False)
    owner.delete(f"/api/data/{record_id}").raise_for_status()
    run = airflow.trigger(record_id)
    said = "was deleted" in airflow.task_log(record_id, run["dag_run_id"])
    assert (run["state"], said, (tmp_path / "written").exists()) == ("failed", True, False)


@pytest.mark.last
def test_three_runs_came_when_they_were_foretold(
    every_minute: dict[str, Any], owner: httpx.Client, airflow: RunningAirflow
) -> None:
    foretold = [run["utc"] for run in every_minute["next_runs"][:3]]

    def succeeded() -> list[str]:
        path = f"dags/pyapi_{every_minute['id']}/dagRuns"
        runs = airflow.get(path, order_by="run_after")["dag_runs"]
        return [run["run_after"] for run in runs if run["state"] == "success"]

    passed = datetime.now(UTC) - datetime.fromisoformat(foretold[0])
    airflow.wait_for(lambda: len(succeeded()) >= 3, max(200 - passed.total_seconds(), 30))
    assert succeeded()[:3] == foretold
