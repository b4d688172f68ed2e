"""What the link between PyAPI and a real Airflow does: how soon, and while one of the two is down.

`uv run python -m benchmarks airflow-link` needs about six minutes.
"""

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx

from benchmarks.linked import linked, sign_in
from tests.airflow.running import RunningAirflow

RUNS = 10
PARALLEL = 20
CHANGES = 100
DOWN_SECONDS = 60
READS_EACH_SECOND = 20
PATIENCE_SECONDS = 180


def main() -> None:
    """Measure one after the other, and print what came out."""
    with linked() as (service, airflow):
        owner = sign_in(service)
        runs(owner)
        parallel_triggers(owner)
        down(owner, airflow)


def runs(owner: httpx.Client) -> None:
    """From the request that starts a run until PyAPI says that it succeeded."""
    record_id = make(owner, {"schedule": None})
    wait(lambda: state_of(owner, record_id) == "live")
    seconds = []
    for _ in range(RUNS):
        began = time.monotonic()
        run_id = owner.post(f"/api/data/{record_id}/runs", json={}).raise_for_status().json()["run_id"]
        wait(partial(has_succeeded, owner, f"/api/data/{record_id}/runs/{run_id}"))
        seconds.append(time.monotonic() - began)
    print(
        f"start of an empty run until its success is seen: median {statistics.median(seconds):.2f} s, "
        f"slowest {max(seconds):.2f} s of {RUNS}"
    )


def parallel_triggers(owner: httpx.Client) -> None:
    """Many requests with one key."""
    record_id = make(owner, {"schedule": None})
    wait(lambda: state_of(owner, record_id) == "live")

    def start(_: int) -> tuple[int, str]:
        answer = owner.post(f"/api/data/{record_id}/runs", json={}, headers={"Idempotency-Key": "one"})
        return answer.status_code, answer.json().get("run_id", "")

    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = list(pool.map(start, range(PARALLEL)))
    found = owner.get(f"/api/data/{record_id}/runs").json()["data"]
    statuses = sorted(status for status, _ in answers)
    print(f"{PARALLEL} requests at once with one key: {len(found)} run; statuses {statuses}")


def down(owner: httpx.Client, airflow: RunningAirflow) -> None:
    """Changes while Airflow is down, and how PyAPI answers meanwhile."""
    records = [make(owner, {"schedule": f"{n} 9 * * *"}) for n in range(CHANGES // 2)]
    wait(lambda: all(state_of(owner, record_id) == "live" for record_id in records))
    normal = Latencies(owner, records[0])
    time.sleep(20)
    normal.stop()
    airflow.end_components()
    began = time.monotonic()
    meanwhile = Latencies(owner, records[0])
    changes = change_all(owner, records)
    time.sleep(max(0.0, DOWN_SECONDS - (time.monotonic() - began)))
    meanwhile.stop()
    refused = owner.post(f"/api/data/{records[0]}/runs", json={})
    print(f"runs while Airflow is down: {refused.status_code} {refused.json()['code']}")
    airflow.start_components()
    back = time.monotonic()
    wait(lambda: all(in_force(airflow, record_id, wanted) for record_id, wanted in changes.items()))
    print(
        f"{CHANGES} changes while Airflow was down for {DOWN_SECONDS} s: {len(changes)} of {len(records)} records in "
        f"force {time.monotonic() - back:.1f} s after it was healthy again"
    )
    print(f"GET of a record: p50/p99 {normal.words()} before, {meanwhile.words()} meanwhile")


def change_all(owner: httpx.Client, records: list[int]) -> dict[int, dict[str, Any]]:
    """Two changes for each record; answers what Airflow should have of each afterwards."""
    wanted: dict[int, dict[str, Any]] = {}
    for number, record_id in enumerate(records):
        schedule = f"{number} 6 * * *"
        owner.patch(f"/api/data/{record_id}", json={"config": {"schedule": schedule}}).raise_for_status()
        if number % 2:
            owner.patch(f"/api/data/{record_id}", json={"status": "inactive"}).raise_for_status()
            wanted[record_id] = {"timetable_summary": None}
        else:
            owner.patch(f"/api/data/{record_id}", json={"name": "改名"}).raise_for_status()
            wanted[record_id] = {"timetable_summary": schedule, "dag_display_name": "改名", "is_paused": False}
    return wanted


def in_force(airflow: RunningAirflow, record_id: int, wanted: dict[str, Any]) -> bool:
    """Whether the DAG has these properties; one that has gone has no schedule."""
    dag = airflow.dag(record_id)
    if not dag or dag["is_stale"]:
        return wanted["timetable_summary"] is None
    return all(dag[name] == value for name, value in wanted.items())


class Latencies:
    """Reads a record again and again in a thread of its own."""

    def __init__(self, owner: httpx.Client, record_id: int) -> None:
        self._found: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(owner, f"/api/data/{record_id}"))
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._ended.set()
        self._thread.join()

    def words(self) -> str:
        """The 50th and the 99th percentile."""
        ordered = sorted(self._found)
        return f"{ordered[len(ordered) // 2] * 1000:.1f}/{ordered[int(len(ordered) * 0.99)] * 1000:.1f} ms"

    def _read(self, owner: httpx.Client, path: str) -> None:
        while not self._ended.wait(1 / READS_EACH_SECOND):
            began = time.monotonic()
            owner.get(path).raise_for_status()
            self._found.append(time.monotonic() - began)


def make(owner: httpx.Client, config: dict[str, Any]) -> int:
    """A new record."""
    answer = owner.post("/api/data/", json={"name": "同步", "config": config}).raise_for_status()
    return int(answer.json()["id"])


def state_of(owner: httpx.Client, record_id: int) -> Any:
    """What PyAPI says about Airflow's state."""
    return owner.get(f"/api/data/{record_id}").json()["airflow"]["state"]


def has_succeeded(owner: httpx.Client, path: str) -> bool:
    """Whether a run has; no answer in time says nothing."""
    return bool(owner.get(path).json().get("state") == "success")


def wait(holds: Callable[[], bool]) -> None:
    """Ask until it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it does not come")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
