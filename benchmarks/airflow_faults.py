"""What a real Airflow loses when records are hostile and the database is away: nothing.

`uv run python -m benchmarks airflow-faults` writes 200 hostile rows among 50 good records, refuses the database to the
kit for 60 seconds, locks the tables for 40, stops PyAPI for 60, and prints what became of the good DAGs and of one that
runs each minute.
"""

import asyncio
import json
import os
import secrets
import signal
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.linked import airflow_on
from benchmarks.server import Postgres, Service, running_postgres, service_on
from tests.airflow.running import RunningAirflow

GOOD = 50
HOSTILE = 200
REFUSED_SECONDS = 60
LOCKED_SECONDS = 40
STOPPED_SECONDS = 60
PATIENCE_SECONDS = 180

_CONFIGS = (
    '{"schedule": "0 0 31 2 *"}',
    '{"schedule": "0 0 12 * * *"}',
    '{"schedule": "R * * * *", "tags": [5]}',
    '{"schedule": "* * * * *", "timezone": "Nowhere"}',
    '{"schedule": 1e300, "max_active_runs": -1}',
    '{"schedule": {"a": []}, "start_date": "yesterday"}',
    "[1, 2]",
    '"text"',
    json.dumps({"schedule": "x" * 1_000_000}),
    "[" * 2000 + "]" * 2000,
)
_NAMES = ('"; import os #', "'''\n\\", "\u2028\u202e", "名" * 255, " x ")


def main() -> None:
    """Make it all happen, and print what is left."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_postgres(folder := Path(name)) as postgres,
        airflow_on(postgres, folder, kit_database_url=asyncio.run(make_role(postgres))) as airflow,
        service_on(postgres, folder, airflow.settings) as service,
    ):
        airflow.start(pyapi_url=service.url)
        asyncio.run(faults(service, airflow))


async def make_role(postgres: Postgres) -> str:
    """A role that may do what docs/airflow.md says, and nothing else; answers the URL for it."""
    connection = await asyncpg.connect(postgres.url.replace("+asyncpg", ""))
    password = secrets.token_hex(8)
    await connection.execute(f"CREATE ROLE kit LOGIN PASSWORD '{password}'")
    await connection.execute("GRANT SELECT ON pyapi_data_revisions, pyapi_records_v1 TO kit")
    await connection.close()
    place = postgres.url.rpartition("@")[2]
    return f"postgresql://kit:{password}@{place}"


async def faults(service: Service, airflow: RunningAirflow) -> None:
    """One after the other, with a record that runs every minute all the time."""
    connection = await asyncpg.connect(service.database_url.replace("+asyncpg", ""))
    insert = "INSERT INTO pyapi_data_records (name, config) VALUES ($1, $2::text::jsonb) RETURNING id"
    minutely = await connection.fetchval(insert, "每分鐘", '{"schedule": "* * * * *"}')
    good = [await connection.fetchval(insert, f"good {n}", '{"schedule": "0 9 * * *"}') for n in range(GOOD)]
    began = time.monotonic()
    for number in range(HOSTILE):
        name, config = _NAMES[number % len(_NAMES)], _CONFIGS[number % len(_CONFIGS)]
        await connection.fetchval(insert, name, config)
    airflow.wait_for(lambda: count_invalid(airflow) == HOSTILE, PATIENCE_SECONDS)
    print(f"{HOSTILE} hostile rows are DAGs that say why after {time.monotonic() - began:.1f} s")
    airflow.wait_for(lambda: all(airflow.dag(record_id) for record_id in good), PATIENCE_SECONDS)
    show("hostile rows", airflow, good)
    await connection.execute("ALTER ROLE kit NOLOGIN")
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'kit'")
    await asyncio.sleep(REFUSED_SECONDS)
    show(f"database refused for {REFUSED_SECONDS} s", airflow, good)
    await connection.execute("ALTER ROLE kit LOGIN")
    async with connection.transaction():
        await connection.execute("LOCK TABLE pyapi_data_records, pyapi_data_revisions IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(LOCKED_SECONDS)
        show(f"tables locked for {LOCKED_SECONDS} s", airflow, good)
    os.kill(service.pid, signal.SIGTERM)
    await asyncio.sleep(STOPPED_SECONDS)
    show(f"PyAPI stopped for {STOPPED_SECONDS} s", airflow, good)
    changed = await connection.fetchval(insert, "after", '{"schedule": "0 3 * * *"}')
    began = time.monotonic()
    airflow.wait_for(lambda: airflow.dag(changed).get("timetable_summary") == "0 3 * * *", PATIENCE_SECONDS)
    print(f"a change after all that is in force after {time.monotonic() - began:.1f} s")
    await asyncio.sleep(30)
    show_runs(airflow, minutely)
    run_all(airflow, good)
    await connection.close()


def count_invalid(airflow: RunningAirflow) -> int:
    """How many DAGs say that their record is wrong."""
    return int(airflow.get("dags", tags="pyapi-invalid", limit=1)["total_entries"])


def show(after: str, airflow: RunningAirflow, good: list[Any]) -> None:
    """How many of the good DAGs are live."""
    live = sum(airflow.dag(record_id).get("is_stale") is False for record_id in good)
    errors = airflow.get("importErrors")["total_entries"]
    print(f"{after}: {live} of {len(good)} good DAGs live, {errors} files failed")


def run_all(airflow: RunningAirflow, good: list[Any]) -> None:
    """Start a run of each good record, and wait for the end of all."""
    planned = sum(airflow.dag(record_id)["next_dagrun_run_after"] is not None for record_id in good)
    started = {
        record_id: airflow.post(f"dags/pyapi_{record_id}/dagRuns", {"logical_date": None})["dag_run_id"]
        for record_id in good
    }

    def states() -> list[str]:
        return [airflow.run(record_id, run_id)["state"] for record_id, run_id in started.items()]

    airflow.wait_for(lambda: all(state in {"success", "failed"} for state in states()), PATIENCE_SECONDS)
    print(f"good records: {planned} of {len(good)} have a next run, {states().count('success')} ran well when started")


def show_runs(airflow: RunningAirflow, record_id: int) -> None:
    """Which minutes the record has run in, and which it should have."""
    runs = airflow.get(f"dags/pyapi_{record_id}/dagRuns", order_by="run_after", limit=100)["dag_runs"]
    states = {datetime.fromisoformat(run["run_after"]): run["state"] for run in runs}
    print("runs:", ", ".join(f"{moment:%H:%M} {state}" for moment, state in sorted(states.items())))
    minute, missed, wanted = min(states), 0, 0
    while minute < datetime.now(UTC) - timedelta(seconds=20):
        wanted += 1
        missed += states.get(minute) != "success"
        minute += timedelta(minutes=1)
    print(f"every minute: {wanted - missed} of {wanted} runs succeeded")


if __name__ == "__main__":
    main()
