"""What happens when much is asked at once, and for long.

`uv run python -m benchmarks load [--rows N] [--requests N]` takes about 6 minutes and writes its section of RESULTS.md:
workers 1 and 2, connections 1 to 256, 50 logins in flight, the memory of a worker, the time of a start.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.dataset import PASSWORD, Place, access_token, copy_of, fill
from benchmarks.generator import run
from benchmarks.measure import Round, figures, measure
from benchmarks.operations import MIX, OPERATIONS, READ, REQUESTS, requests_of
from benchmarks.report import table, write_section
from benchmarks.server import children_of, running_postgres
from benchmarks.variants import Variant, pyapi

ROUNDS = 3
SECONDS = 3
WORKERS = (1, 2)
CONNECTIONS = (1, 4, 16, 64, 256)
LOGINS = 50
POOL = 10
STARTS = 3

_BY_NAME = {operation.name: operation for operation in OPERATIONS}


def main(words: Sequence[str]) -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser("python -m benchmarks load")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=50_000, help="mixed requests before memory is read")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name, running_postgres(folder := Path(name)) as postgres:
        asyncio.run(fill(Place(postgres), options.rows))
        place = asyncio.run(copy_of(Place(postgres), "load"))
        parts = [
            more_workers(place, folder, options.rows),
            more_connections(place, folder, options.rows),
            logins(place, folder, options.rows),
            memory(place, folder, options.rows, options.requests),
            start(place, folder),
        ]
    write_section("load", "\n\n".join(parts), words=words)


def more_workers(place: Place, folder: Path, rows: int) -> str:
    """Throughput of one worker and of two, interleaved."""
    found: dict[int, list[Round]] = {workers: [] for workers in WORKERS}
    for number in range(ROUNDS):
        for workers in WORKERS:
            with pyapi(place, folder, name=f"workers-{workers}-{number}", workers=workers) as variant:
                for warm in (True, False):
                    each = measure(variant, _BY_NAME[READ], rows=rows, seed=number, seconds=SECONDS, connections=16)
                    if not warm:
                        found[workers].append(each)
    one, two = (figures(found[workers]) for workers in WORKERS)
    generator, postgres = (_median(found[2], share) for share in (_generator_cores, _postgres_cores))
    cores = os.cpu_count() or 1
    times = two.rate / one.rate
    lines = [
        (
            *(str(workers), f"{each.rate:,.0f}", f"{each.cpu:,.0f}", f"{each.postgres_cpu:,.0f}"),
            *(f"{_median(found[workers], share):.2f}" for share in (_generator_cores, _postgres_cores)),
        )
        for workers, each in zip(WORKERS, (one, two), strict=True)
    ]
    return (
        f"Workers, read one, 16 connections, {cores} cores for everything. Two workers answer {times:.2f} times as much"
        f" as one; {times * cores / (cores - generator):.2f} times when they are given back what the generator takes,"
        f" {times * cores / (cores - generator - postgres):.2f} times when PostgreSQL runs elsewhere, too.\n\n"
        + table(
            (
                *("workers", "requests a second", "CPU, us", "PostgreSQL, us"),
                *("cores that the generator takes", "that PostgreSQL takes"),
            ),
            lines,
        )
    )


def _median(rounds: Sequence[Round], of: Callable[[Round], float]) -> float:
    return statistics.median(map(of, rounds))


def _generator_cores(each: Round) -> float:
    return each.load.generator_cpu_seconds / each.load.seconds


def _postgres_cores(each: Round) -> float:
    return each.postgres_cpu / 1e6 * each.load.rate


def more_connections(place: Place, folder: Path, rows: int) -> str:
    """Latency and errors of one worker while ever more connections ask at once."""
    lines = []
    with pyapi(place, folder, name="connections") as variant:
        measure(variant, _BY_NAME[MIX], rows=rows, seed=0, seconds=2, connections=8)
        for connections in CONNECTIONS:
            with most_backends(place) as most:
                each = measure(
                    variant, _BY_NAME[MIX], rows=rows, seed=connections, seconds=2 * SECONDS, connections=connections
                )
            load = each.load
            lines.append(
                (
                    str(connections),
                    f"{load.rate:,.0f}",
                    f"{load.p50 * 1e3:.1f}",
                    f"{load.p99 * 1e3:.1f}",
                    f"{load.p99 / load.p50:.1f}",
                    str(load.refused),
                    str(load.broken),
                    str(max(most)),
                )
            )
    head = ("connections", "requests a second", "p50, ms", "p99, ms", "p99 / p50", "refused", "broken")
    return f"Connections, mix 80/15/5, one worker; the service may hold {POOL} connections to PostgreSQL.\n\n" + table(
        (*head, "most connections to PostgreSQL"), lines
    )


@contextmanager
def most_backends(place: Place) -> Iterator[list[int]]:
    """Look meanwhile how many connections the service has to PostgreSQL."""
    found, over = [0], threading.Event()

    async def look() -> None:
        connection = await place.connect()
        while not over.is_set():
            found.append(
                await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name = 'pyapi'"
                )
            )
            await asyncio.sleep(0.1)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def logins(place: Place, folder: Path, rows: int) -> str:
    """How long a read takes while many sign in, against how long it takes when nobody does."""
    options = {"rows": rows, "seconds": 2 * SECONDS, "connections": 1}
    # Each login is hashed: the limit of one account would answer most of them with 429.
    with pyapi(place, folder, name="logins", settings={"PYAPI_RATE_LIMIT_ENABLED": "false"}) as variant:
        measure(variant, _BY_NAME[READ], rows=rows, seed=0, seconds=1, connections=1)
        idle = measure(variant, _BY_NAME[READ], seed=1, **options).load
        with signing_in(variant) as statuses:
            busy = measure(variant, _BY_NAME[READ], seed=2, **options).load
    answers = ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
    return (
        f"{LOGINS} logins in flight, one connection that reads one: p99 {idle.p99 * 1e3:.1f} ms before,"
        f" {busy.p99 * 1e3:.1f} ms meanwhile ({busy.p99 / idle.p99:.1f} times), p50 {idle.p50 * 1e3:.1f} and"
        f" {busy.p50 * 1e3:.1f} ms, {busy.refused} refused; the logins were answered {answers}."
    )


@contextmanager
def signing_in(variant: Variant) -> Iterator[list[int]]:
    """Keep so many logins in flight; yields their statuses. Who is told to come back later does so after a second."""
    statuses: list[int] = []
    over = threading.Event()
    account = {"username": "wang", "password": PASSWORD}

    async def sign_in(client: httpx.AsyncClient) -> None:
        while not over.is_set():
            status = (await client.post("/api/auth/login", json=account)).status_code
            statuses.append(status)
            if status == httpx.codes.SERVICE_UNAVAILABLE:
                await asyncio.sleep(1)

    async def all_of_them() -> None:
        limits = httpx.Limits(max_connections=LOGINS)
        async with httpx.AsyncClient(base_url=variant.url, trust_env=False, timeout=60, limits=limits) as client:
            await asyncio.gather(*(sign_in(client) for _ in range(LOGINS)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    time.sleep(1)
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def memory(place: Place, folder: Path, rows: int, requests: int) -> str:
    """The memory of the worker, before and after two times so many mixed requests."""
    with pyapi(place, folder, name="memory") as variant:
        (worker,) = children_of(variant.pid)
        sizes = [_megabytes(worker)]
        for half in range(2):
            answered = 0
            while answered < requests:
                sent = requests_of(_BY_NAME[MIX], rows=rows, token=access_token(), seed=answered + half)
                load = run(variant.url, sent[: min(REQUESTS, requests)], seconds=10, connections=8)
                assert not load.refused, load
                answered += load.requests
            sizes.append(_megabytes(worker))
    started, first, second = sizes
    return (
        f"Memory of a worker (resident): {started:.0f} MB after the start, {first:.0f} MB after {requests:,} mixed"
        f" requests, {second:.0f} MB after {2 * requests:,}."
    )


def _megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no such process")


def start(place: Place, folder: Path) -> str:
    """From the command to the first 200, the database being there."""
    seconds = []
    for number in range(STARTS):
        began = time.perf_counter()
        with pyapi(place, folder, name=f"start-{number}"):
            seconds.append(time.perf_counter() - began)
    return f"Start to the first 200 of `/api/health`, {STARTS} times: {', '.join(f'{each:.2f}' for each in seconds)} s."
