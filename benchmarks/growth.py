"""What reads cost when there are a thousand times as many records.

`uv run python -m benchmarks growth [--rows N] [--rounds N] [--seconds N]` takes about 5 minutes and writes its section
of RESULTS.md. A read that the service refuses (503: the database was too slow), or does not answer within a
round, is shown as such.
"""

import argparse
import asyncio
import contextlib
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.dataset import Place, access_token, copy_of, fill
from benchmarks.measure import Figures, Round, figures, measure_requests
from benchmarks.operations import raw
from benchmarks.report import table, write_section
from benchmarks.server import running_postgres
from benchmarks.variants import Variant, pyapi
from pyapi.schemas.paging import encode_cursor

SMALL = 1000
CONNECTIONS = 2
"""Few, so that the times are those of the requests and not of a queue."""

DEPTH = 0.9
REQUESTS = 500

Reads = dict[str, Callable[[random.Random], str]]
"""Paths, by what they read."""


def main(words: Sequence[str]) -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser("python -m benchmarks growth")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name, running_postgres(folder := Path(name)) as postgres:
        empty = Place(postgres)
        places = {rows: asyncio.run(copy_of(empty, f"rows_{rows}")) for rows in (SMALL, options.rows)}
        for rows, place in places.items():
            asyncio.run(fill(place, rows))
        with contextlib.ExitStack() as stack:
            variants = {
                rows: stack.enter_context(pyapi(place, folder, name=f"{rows:,}")) for rows, place in places.items()
            }
            text = report(compare(variants, rounds=options.rounds, seconds=options.seconds), rows=options.rows)
    write_section("growth", text, words=words)


def compare(variants: dict[int, Variant], *, rounds: int, seconds: int) -> dict[str, dict[int, Figures]]:
    """Both sizes and all reads, round by round."""
    reads = {rows: asyncio.run(reads_of(variant.place, rows)) for rows, variant in variants.items()}
    found: dict[str, dict[int, list[Round]]] = {}
    for number in range(rounds + 1):
        for what in reads[SMALL]:
            for rows, variant in variants.items():
                draw, token = random.Random(number), access_token()
                requests = [raw("GET", reads[rows][what](draw), token) for _ in range(REQUESTS)]
                each = measure_requests(variant, requests, seconds=seconds, connections=CONNECTIONS)
                if number:  # the first round only warms up
                    found.setdefault(what, {}).setdefault(rows, []).append(each)
    return {what: {rows: figures(each) for rows, each in by_rows.items()} for what, by_rows in found.items()}


async def reads_of(place: Place, rows: int) -> Reads:
    """What is read; words for `q` that few records have, and a cursor behind nine tenths of the records."""
    connection = await place.connect()
    deep = await connection.fetchrow(
        "SELECT created_at, name, id FROM pyapi_data_records WHERE id = $1", max(1, round(rows * (1 - DEPTH)))
    )
    await connection.close()
    cursor = encode_cursor("-created_at", [deep["created_at"], deep["id"]])
    by_status = encode_cursor("status", ["active", round(rows * DEPTH)])
    mixed = encode_cursor("-created_at,name", [deep["created_at"], deep["name"], deep["id"]])
    return {
        "read one": lambda draw: f"/api/data/{draw.randint(1, rows)}",
        "first page of 10, filtered, with total": lambda _: "/api/data/?status=active&limit=10",
        "first page of 10, not filtered, with total": lambda _: "/api/data/?limit=10",
        "search, few found, with total": lambda draw: (
            f"/api/data/?{urlencode({'q': f'同步任務 {draw.randint(1, rows)}'})}"
        ),
        "search, many found, with total": lambda _: f"/api/data/?{urlencode({'q': '同步'})}",
        "in the order of next runs, without total": lambda _: "/api/data/?order_by=next_run_at&include_total=false",
        "page behind nine tenths, by cursor, without total": lambda _: (
            f"/api/data/?{urlencode({'cursor': cursor})}&include_total=false"
        ),
        "in the order of status, without total": lambda _: "/api/data/?order_by=status&include_total=false",
        "the same, behind nine tenths of the active ones": lambda _: (
            f"/api/data/?{urlencode({'cursor': by_status, 'order_by': 'status'})}&include_total=false"
        ),
        "newest first, equal ones by name, behind nine tenths": lambda _: (
            f"/api/data/?{urlencode({'cursor': mixed, 'order_by': '-created_at,name'})}&include_total=false"
        ),
    }


def report(results: dict[str, dict[int, Figures]], *, rows: int) -> str:
    """The table."""
    lines = []
    for what, found in results.items():
        small, large = found[SMALL], found[rows]
        lines.append(
            (
                what,
                *(_times(getattr(large, name) / getattr(small, name), large) for name in ("sum_cpu", "cpu", "p50")),
                *(f"{each.sum_cpu / 1e3:.1f}" for each in (small, large)),
                *(f"{each.p50:.1f}" for each in (small, large)),
                *(f"{each.p99:.1f}" for each in (small, large)),
            )
        )
    head = (
        *("read", "CPU with PostgreSQL", "CPU without", "p50", f"CPU with PostgreSQL, ms: {SMALL:,}", f"{rows:,}"),
        *(f"p50, ms: {SMALL:,}", f"{rows:,}", f"p99, ms: {SMALL:,}", f"{rows:,}"),
    )
    return (
        f"{rows:,} records against {SMALL:,}, in the same run, {CONNECTIONS} connections; the first columns are"
        " ratios.\n\n" + table(head, lines)
    )


def _times(ratio: float, large: Figures) -> str:
    if large.refused or not large.requests:
        return "refused" if large.refused else "no answer"
    return f"{ratio:.2f}"
