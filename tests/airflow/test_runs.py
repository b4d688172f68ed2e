"""Runs of a real Airflow through PyAPI: started, watched, ended, repeated and explained there."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.airflow.running import RunningAirflow

pytestmark = pytest.mark.airflow

PATIENCE_SECONDS = 30
"""On a busy machine."""

PASSWORD = "sesame-8823"

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def wait(airflow: RunningAirflow) -> Wait:
    """Waits until something is true."""
    return lambda holds: airflow.wait_for(holds, PATIENCE_SECONDS)


Make = Callable[..., str]


@pytest.fixture
def make(owner: httpx.Client, airflow: RunningAirflow) -> Make:
    """Makes a record, and answers its path."""

    def make(**config: Any) -> str:
        answer = owner.post("/api/data/", json={"name": "執行", "config": {"schedule": None, **config}})
        return f"/api/data/{answer.raise_for_status().json()['id']}"

    return make


@pytest.fixture
def get(owner: httpx.Client, wait: Wait) -> Callable[[str], Any]:
    """What a GET answers; asked again while Airflow is too busy for two seconds."""

    def get(path: str) -> Any:
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(owner.get(path))
            return answers[-1].status_code != 503

        wait(answered)
        return answers[-1].raise_for_status().json()

    return get


@pytest.fixture
def start(owner: httpx.Client) -> Callable[..., dict[str, Any]]:
    """Starts a run."""

    def start(path: str, **body: Any) -> dict[str, Any]:
        answer = owner.post(f"{path}/runs", json=body)
        assert answer.status_code == 201, answer.text
        run: dict[str, Any] = answer.json()
        return run

    return start


@pytest.fixture
def ended(get: Callable[[str], Any], wait: Wait) -> Callable[[str, str], dict[str, Any]]:
    """Waits for the end of a run, and answers it."""

    def ended(path: str, run_id: str) -> dict[str, Any]:
        wait(lambda: get(f"{path}/runs/{run_id}")["state"] in {"success", "failed"})
        run: dict[str, Any] = get(f"{path}/runs/{run_id}")
        return run

    return ended


Start = Callable[..., dict[str, Any]]
Ended = Callable[[str, str], dict[str, Any]]
Get = Callable[[str], Any]


@pytest.fixture
def frozen_api(airflow: RunningAirflow) -> Iterator[None]:
    """Airflow's API answers nobody."""
    process = airflow.pid_of("api-server")
    os.killpg(process, signal.SIGSTOP)
    yield
    os.killpg(process, signal.SIGCONT)


# --- One run ----------------------------------------------------------------------------------------------------------


def test_a_run_is_started_and_seen_to_its_end(make: Make, start: Start, ended: Ended) -> None:
    path = make()
    run = ended(path, start(path, conf={"day": "2027-03-01", "password": PASSWORD}, note="補跑")["run_id"])
    found = {name: run[name] for name in ("state", "run_type", "conf", "note", "revision")}
    assert found == {
        "state": "success",
        "run_type": "manual",
        "conf": {"day": "2027-03-01", "password": "***"},
        "note": "補跑",
        "revision": 1,
    }
    assert [(task["task_id"], [one["state"] for one in task["tries"]]) for task in run["tasks"]] == [
        ("run", ["success"])
    ]


def test_the_last_run_stands_beside_the_record(make: Make, start: Start, ended: Ended, get: Get, wait: Wait) -> None:
    path = make()
    run_id = start(path)["run_id"]
    ended(path, run_id)
    wait(lambda: (get(path)["last_run"] or {}).get("state") == "success")
    last_run = get(path)["last_run"]
    assert (last_run["run_id"], last_run["run_type"], last_run["duration_seconds"] > 0) == (run_id, "manual", True)


def test_a_run_has_the_revision_that_was_saved_just_before(
    make: Make, owner: httpx.Client, start: Start, ended: Ended, tmp_path: Path
) -> None:
    path = make(task="kit_tasks:write", file=str(tmp_path / "old"), password=PASSWORD)
    changed = {"schedule": None, "task": "kit_tasks:write", "file": str(tmp_path / "new"), "password": PASSWORD}
    owner.patch(path, json={"config": changed}).raise_for_status()
    run = ended(path, start(path)["run_id"])
    written = (tmp_path / "new").exists(), (tmp_path / "old").exists()
    assert (run["state"], run["revision"], written) == ("success", 2, (True, False))


def test_a_log_says_what_happened_without_credentials(
    make: Make, owner: httpx.Client, start: Start, ended: Ended, tmp_path: Path
) -> None:
    path = make(task="kit_tasks:write", file=str(tmp_path / "written"), password=PASSWORD)
    run = ended(path, start(path)["run_id"])
    log = owner.get(f"{path}/runs/{run['run_id']}/logs").raise_for_status().text
    assert (PASSWORD in log, "kit_tasks:write" in log, "INFO" in log) == (False, True, True)


def test_parallel_requests_with_one_key_start_one_run(make: Make, owner: httpx.Client, get: Get) -> None:
    path = make()

    def request(_: int) -> tuple[int, str]:
        answer = owner.post(f"{path}/runs", json={"conf": {"a": 1}}, headers={"Idempotency-Key": "one"})
        return answer.status_code, answer.json().get("run_id", answer.text)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(request, range(20)))
    (run,) = get(f"{path}/runs")["data"]
    assert sorted(answers) == [(200, run["run_id"])] * 19 + [(201, run["run_id"])]


def test_a_run_that_is_cancelled_fails_and_its_task_ends(
    make: Make, owner: httpx.Client, start: Start, wait: Wait, tmp_path: Path
) -> None:
    path = make(task="kit_tasks:wait", file=str(tmp_path / "process"))
    run_id = start(path)["run_id"]
    wait((tmp_path / "process").exists)
    cancelled = owner.post(f"{path}/runs/{run_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "failed")
    process = int((tmp_path / "process").read_text())
    wait(lambda: not Path(f"/proc/{process}").exists())


@pytest.mark.parametrize(("latest", "written"), [(False, "first"), (True, "second")])
def test_a_run_is_repeated_as_it_was_or_with_the_newest_revision(
    make: Make,
    owner: httpx.Client,
    start: Start,
    ended: Ended,
    wait: Wait,
    tmp_path: Path,
    latest: bool,
    written: str,
) -> None:
    def config(name: str) -> dict[str, Any]:
        return {"schedule": None, "task": "kit_tasks:write", "file": str(tmp_path / name), "password": PASSWORD}

    path = make(**config("first"))
    run_id = start(path)["run_id"]
    ended(path, run_id)
    (tmp_path / "first").unlink()
    owner.patch(path, json={"config": config("second")}).raise_for_status()
    retried = owner.post(f"{path}/runs/{run_id}/retry", json={"latest": latest})
    assert retried.status_code == 200, retried.text
    wait(lambda: any(tmp_path.iterdir()))
    assert [file.name for file in tmp_path.iterdir()] == [written]


def test_runs_are_listed_newest_first_and_page_by_page(make: Make, start: Start, get: Get) -> None:
    path = make()
    started = [start(path)["run_id"] for _ in range(3)]
    first = get(f"{path}/runs?limit=2")
    second = get(f"{path}/runs?limit=2&cursor={first['next_cursor']}")
    listed = [run["run_id"] for page in (first, second) for run in page["data"]]
    assert (listed, second["next_cursor"]) == (started[::-1], None)


def test_runs_are_found_by_state_type_and_time(make: Make, start: Start, ended: Ended, get: Get) -> None:
    path = make()
    run = ended(path, start(path)["run_id"])
    due = run["run_after"].replace("+00:00", "Z")
    queries = ("state=success", "state=failed", "type=manual", "type=scheduled", f"from={due}", f"to={due}")
    found = {query.split("=Z")[0]: len(get(f"{path}/runs?{query}")["data"]) for query in queries}
    assert list(found.values()) == [1, 0, 1, 0, 1, 1]


def test_the_runs_of_all_records_have_their_names(make: Make, start: Start, get: Get) -> None:
    path = make()
    run_id = start(path)["run_id"]
    newest = get("/api/runs?limit=1")["data"][0]
    assert (newest["run_id"], newest["record_name"], f"/api/data/{newest['record_id']}") == (run_id, "執行", path)


# --- Backfills --------------------------------------------------------------------------------------------------------

DAYS = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T12:00:00Z"}
NINES = ["2026-01-01T09:00:00Z", "2026-01-02T09:00:00Z", "2026-01-03T09:00:00Z"]


def test_a_backfill_is_tried_made_and_seen(make: Make, owner: httpx.Client, get: Get, wait: Wait) -> None:
    path = make(schedule="0 9 * * *")
    tried = owner.post(f"{path}/backfills?dry_run=true", json=DAYS)
    assert (tried.status_code, tried.json()) == (200, {"logical_dates": NINES})
    assert get(f"{path}/backfills")["total"] == 0
    made = owner.post(f"{path}/backfills", json=DAYS | {"max_active_runs": 3})
    assert made.status_code == 201, made.text
    wait(lambda: len(get(f"{path}/runs?state=success&type=backfill")["data"]) == 3)
    assert sorted(run["logical_date"] for run in get(f"{path}/runs")["data"]) == NINES
    assert get(f"{path}/backfills")["data"][0]["backfill_id"] == made.json()["backfill_id"]


def test_a_backfill_is_cancelled(make: Make, owner: httpx.Client, get: Get) -> None:
    path = make(schedule="0 9 * * *")
    year = {"from": "2025-01-01T00:00:00Z", "to": "2025-03-01T00:00:00Z"}
    backfill_id = owner.post(f"{path}/backfills", json=year).raise_for_status().json()["backfill_id"]
    assert owner.post(f"{path}/backfills", json=year).json()["code"] == "backfill_conflict"
    cancelled = owner.post(f"{path}/backfills/{backfill_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["completed_at"] is not None) == (200, True)
    assert owner.post(f"{path}/backfills/{backfill_id}/cancel").json()["code"] == "backfill_conflict"


def test_a_record_without_schedule_has_nothing_to_make_up_for(make: Make, owner: httpx.Client) -> None:
    answer = owner.post(f"{make()}/backfills", json=DAYS)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/body")


# --- What Airflow has -------------------------------------------------------------------------------------------------


def state_becomes(get: Get, wait: Wait, path: str, state: str) -> None:
    wait(lambda: get(path)["airflow"]["state"] == state)


def test_a_record_says_when_airflow_has_it(make: Make, owner: httpx.Client, get: Get, wait: Wait) -> None:
    path = make(schedule="0 9 * * *")
    assert get(path)["airflow"]["state"] == "updating"
    state_becomes(get, wait, path, "live")
    owner.patch(path, json={"config": {"schedule": "0 8 * * *"}}).raise_for_status()
    assert get(path)["airflow"]["state"] == "updating"
    state_becomes(get, wait, path, "live")


def test_a_dag_that_somebody_pauses_in_airflow_is_seen_and_reconciled(
    make: Make, airflow: RunningAirflow, superuser: httpx.Client, get: Get, wait: Wait
) -> None:
    path = make(schedule="0 9 * * *")
    record_id = int(path.rpartition("/")[2])
    state_becomes(get, wait, path, "live")
    airflow.patch(f"dags/pyapi_{record_id}", {"is_paused": True})
    state_becomes(get, wait, path, "paused")
    repairs = superuser.post("/api/airflow/reconcile").raise_for_status().json()["repairs"]
    assert (record_id, "paused", "unpaused") in {
        (repair["record_id"], repair["problem"], repair["action"]) for repair in repairs
    }
    state_becomes(get, wait, path, "live")


def test_what_is_switched_off_is_paused_and_then_let_go(
    make: Make, owner: httpx.Client, airflow: RunningAirflow, get: Get, wait: Wait
) -> None:
    path = make(schedule="0 9 * * *")
    record_id = int(path.rpartition("/")[2])
    state_becomes(get, wait, path, "live")
    owner.patch(path, json={"status": "inactive"}).raise_for_status()
    wait(lambda: airflow.dag(record_id)["is_paused"])
    state_becomes(get, wait, path, "off")
    wait(lambda: not airflow.dag(record_id)["is_paused"])
    assert airflow.dag(record_id)["timetable_summary"] is None


def test_the_link_says_how_airflow_is(superuser: httpx.Client, airflow: RunningAirflow, wait: Wait) -> None:
    wait(lambda: superuser.get("/api/airflow").json()["state"] == "ok")
    status = superuser.get("/api/airflow").json()
    assert (status["url"], status["components"]["scheduler"]) == (airflow.url, "healthy")


# --- Airflow is away --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("frozen_api")
def test_while_airflow_is_away_records_are_answered_and_runs_are_not(
    make: Make, owner: httpx.Client, get: Get, wait: Wait
) -> None:
    path = make(schedule="0 9 * * *")
    answer = owner.get(f"{path}/runs")
    assert (answer.status_code, answer.json()["code"]) == (503, "airflow_unavailable")
    wait(lambda: owner.get(path).json()["airflow"]["state"] == "unreachable")
    assert owner.get("/api/data/").status_code == 200


def test_changes_while_airflow_is_away_reach_it_afterwards(
    make: Make, owner: httpx.Client, airflow: RunningAirflow, get: Get, wait: Wait
) -> None:
    paths = [make(schedule="0 9 * * *") for _ in range(6)]
    for path in paths:
        state_becomes(get, wait, path, "live")
    process = airflow.pid_of("api-server")
    os.killpg(process, signal.SIGSTOP)
    try:
        for path in paths:
            for status in ("inactive", "active", "inactive"):
                owner.patch(path, json={"status": status}).raise_for_status()
        time.sleep(3)
    finally:
        os.killpg(process, signal.SIGCONT)
    for path in paths:
        state_becomes(get, wait, path, "off")
    wait(lambda: not any(airflow.dag(int(path.rpartition("/")[2]))["is_paused"] for path in paths))
