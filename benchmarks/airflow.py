"""How soon a change of a record is in force in a real Airflow, and what the DAG processor costs meanwhile.

`uv run python -m benchmarks.airflow [records]` prints a table, for 10 records by default. It needs some minutes, and
more the first time, when it installs Airflow.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import asyncpg
import httpx

from benchmarks.linked import linked, sign_in
from benchmarks.server import Service, cpu_seconds_of
from tests.airflow.running import RunningAirflow

ROUNDS = 8
SETTLE_SECONDS = 90
IDLE_SECONDS = 60
LOADS = 3
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 300


def main(records: int) -> None:
    """Measure, and print the table."""
    with linked() as (service, airflow):
        report(service, airflow, records)


def report(service: Service, airflow: RunningAirflow, records: int) -> None:
    """Fill the database, then change one record again and again."""
    owner = sign_in(service)
    began = time.monotonic()
    last = asyncio.run(fill(service, records))
    wait(lambda: airflow.dag(last).get("timetable_summary") == "0 9 * * *")
    appeared = time.monotonic() - began
    idle = idle_share(airflow)
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for change, seconds in change_once(owner, airflow).items():
            found.setdefault(change, []).append(seconds)
    print(f"{records} active records; {ROUNDS} rounds; seconds from the answer of PyAPI until Airflow has it")
    print("| change | median | slowest |")
    print("|---|---|---|")
    for change, times in found.items():
        print(f"| {change} | {statistics.median(times):.2f} | {max(times):.2f} |")
    everything = sorted(seconds for times in found.values() for seconds in times)
    print(f"| all: 95 of 100 within | {everything[int(len(everything) * 0.95)]:.2f} | |")
    loads = ", ".join(f"{load_seconds(owner):.3f}" for _ in range(LOADS))
    print(f"\nA task finds its DAG and reads its record: {loads} s.")
    print(f"All {records} new at once: {appeared:.1f} s. DAG processor while nothing changes: {idle:.1%} of a core.")


async def fill(service: Service, records: int) -> int:
    """Write records by SQL; answers the id of the last one."""
    connection = await asyncpg.connect(service.database_url.replace("+asyncpg", ""))
    query = """
        INSERT INTO pyapi_data_records (name, config)
        SELECT '同步 ' || n, '{"schedule": "0 9 * * *"}' FROM generate_series(1, $1::integer) n RETURNING id
    """
    ids = await connection.fetch(query, records)
    await connection.close()
    return max(int(row["id"]) for row in ids)


def change_once(owner: httpx.Client, airflow: RunningAirflow) -> dict[str, float]:
    """One record through all its changes: what is changed, and how many seconds that took to be in force."""
    made = owner.post("/api/data/", json={"name": "舊名", "config": {"schedule": "0 8 * * *"}})
    began = time.monotonic()
    record_id = made.raise_for_status().json()["id"]
    path = f"/api/data/{record_id}"
    changes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "new schedule": ({"config": {"schedule": "0 7 * * *"}}, {"timetable_summary": "0 7 * * *"}),
        "rename": ({"name": "新名"}, {"dag_display_name": "新名"}),
        "deactivate": ({"status": "inactive"}, {"timetable_summary": None}),
        "reactivate": ({"status": "active"}, {"timetable_summary": "0 7 * * *"}),
    }
    seconds = {"insert": in_force(airflow, record_id, {"timetable_summary": "0 8 * * *"}, began)}
    for change, (body, wanted) in changes.items():
        owner.patch(path, json=body).raise_for_status()
        seconds[change] = in_force(airflow, record_id, wanted, time.monotonic())
    owner.delete(path).raise_for_status()
    seconds["delete"] = in_force(airflow, record_id, {"timetable_summary": None}, time.monotonic())
    return seconds


def in_force(airflow: RunningAirflow, record_id: int, wanted: dict[str, Any], began: float) -> float:
    """Seconds until the DAG has these properties."""

    def holds() -> bool:
        dag = airflow.dag(record_id)
        return bool(dag) and all(dag[name] == value for name, value in wanted.items())

    wait(holds)
    return time.monotonic() - began


def load_seconds(owner: httpx.Client) -> float:
    """From the start of a task's process on its DAG file until the DAG of its record is there, by its own log."""
    made = owner.post("/api/data/", json={"name": "讀取", "config": {"schedule": None}}).raise_for_status()
    path = f"/api/data/{made.json()['id']}"
    run = owner.post(f"{path}/runs", json={}).raise_for_status().json()["run_id"]
    wait(lambda: owner.get(f"{path}/runs/{run}").json().get("state") == "success")
    log = owner.get(f"{path}/runs/{run}/logs", headers={"Accept": "application/x-ndjson"}).raise_for_status()
    at = {entry.get("event"): entry.get("timestamp") for entry in map(json.loads, log.text.splitlines())}
    began = next(moment for event, moment in at.items() if str(event).startswith("Filling up the DagBag"))
    ended = at["Worker startup parse complete"]
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def idle_share(airflow: RunningAirflow) -> float:
    """The part of a core that the DAG processor takes while nothing changes."""
    time.sleep(SETTLE_SECONDS)  # the files of the first records are read to the end
    before = cpu_seconds_of(airflow.pid_of("dag-processor"))
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds_of(airflow.pid_of("dag-processor")) - before) / IDLE_SECONDS


def wait(holds: Callable[[], bool]) -> None:
    """Ask until it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("Airflow does not have it")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
