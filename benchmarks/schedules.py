"""What schedules cost: the calendar of 10,000 records, a list in the order of next runs, and keeping those true.

`uv run python -m benchmarks.schedules` prints a table; it takes about a minute.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import httpx
from croniter import croniter

from benchmarks.records import configs, schedules
from benchmarks.server import Service, running_service
from pyapi.schedules.outlook import outlook

RECORDS = 10_000
ROUNDS = 5
WEEK = timedelta(days=7)
STEPPED = 200
"""Rules that the plain way is measured with; all of them would take minutes."""

LISTED = 1000


def main() -> None:
    """Measure, and print a table of medians."""
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        kept = asyncio.run(fill(service))
        calendar: list[tuple[float, float, int]] = []
        stepped, by_next_run, by_id, computed = [], [], [], []
        with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
            for number in range(ROUNDS):
                calendar.append(calendar_cost(service, client, number))
                stepped.append(step_cost())
                by_next_run.append(list_cost(service, client, "next_run_at"))
                by_id.append(list_cost(service, client, "id"))
                computed.append(compute_cost())
    cpu, wall, size = (statistics.median(values) for values in zip(*calendar, strict=True))
    plain = statistics.median(stepped) * RECORDS / STEPPED
    shown, plain_list, work = (statistics.median(values) for values in (by_next_run, by_id, computed))
    print(f"{RECORDS} active records, medians of {ROUNDS} rounds, CPU of the service without PostgreSQL")
    print("| what | CPU seconds | against |")
    print("|---|---|---|")
    print(f"| calendar, 7 days by hour ({size / 1e6:.1f} MB, {wall:.2f} s) | {cpu:.2f} | at most 2 |")
    print(
        f"| the same by stepping through croniter ({STEPPED} records, scaled) | {plain:.0f} | {plain / cpu:.0f} times |"
    )
    print(f"| list {LISTED} in the order of next runs | {shown:.4f} | {shown / plain_list:.2f} x the order of ids |")
    print(f"| computing {LISTED} next runs instead | {work:.4f} | {work / shown:.2f} x that list, on top of it |")
    print(f"| reading {RECORDS} rows that SQL has written | {kept:.2f} | {kept / RECORDS * 1e3:.2f} ms each |")


async def fill(service: Service) -> float:
    """Write the records by SQL; answers the CPU time that the service needs to read them all."""
    connection = await asyncpg.connect(service.database_url.replace("+asyncpg", ""))
    before = service.cpu_seconds()
    rows = [(f"同步 {place}", json.dumps(config)) for place, config in enumerate(configs(RECORDS))]
    await connection.copy_records_to_table("pyapi_data_records", records=rows, columns=["name", "config"])
    while await connection.fetchval("SELECT count(*) FROM pyapi_data_records WHERE schedule_summary IS NULL"):
        await asyncio.sleep(0.2)
    await connection.execute("VACUUM ANALYZE pyapi_data_records")
    await connection.close()
    return service.cpu_seconds() - before


def calendar_cost(service: Service, client: httpx.Client, number: int) -> tuple[float, float, int]:
    """CPU seconds, seconds and bytes of one calendar; each begins at another minute, so that none is remembered."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=number)
    params = {"from": start.isoformat(), "to": (start + WEEK).isoformat(), "bucket": "hour"}
    before, began = service.cpu_seconds(), time.perf_counter()
    answer = client.get("/api/schedules/calendar", params=params)
    answer.raise_for_status()
    return service.cpu_seconds() - before, time.perf_counter() - began, len(answer.content)


def step_cost() -> float:
    """CPU seconds of the plain way for some records: croniter's `get_next` until the week is over."""

    def step() -> None:
        start = datetime.now(UTC)
        for rule in schedules(STEPPED):
            steps = croniter(rule["schedule"], start.astimezone(ZoneInfo(rule["timezone"])))
            while steps.get_next(datetime) < start + WEEK:
                pass

    return _cpu(step)


def list_cost(service: Service, client: httpx.Client, order: str) -> float:
    """CPU seconds of one list, the mean of five."""
    before = service.cpu_seconds()
    for _ in range(5):
        client.get("/api/data/", params={"limit": LISTED, "order_by": order}).raise_for_status()
    return (service.cpu_seconds() - before) / 5


def compute_cost() -> float:
    """CPU seconds of reading as many schedules and looking for their next run."""
    now = datetime.now(UTC)

    def compute() -> None:
        for config in found:
            outlook(config, is_active=True, since=now).next_run(after=now)

    found = configs(LISTED)
    return _cpu(compute)


def _cpu(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    main()
