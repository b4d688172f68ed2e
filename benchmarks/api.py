"""What a request costs: PyAPI beside a floor, what the tutorials teach and, when asked, Airflow's own API.

`uv run python -m benchmarks api [--rows N] [--rounds N] [--seconds N] [--airflow]` takes about 5 minutes, with Airflow
5 more. It writes its section of RESULTS.md, and chart.svg.
"""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from benchmarks.chart import draw
from benchmarks.dataset import Place, access_token, copy_of, fill, open_sessions
from benchmarks.measure import Figures, Round, figures, measure
from benchmarks.operations import LIST_10, LIST_100, OPERATIONS, READ, check
from benchmarks.peer_airflow import AIRFLOW, measure_airflow
from benchmarks.report import table, write_section
from benchmarks.server import running_postgres
from benchmarks.variants import FLOOR, PYAPI, TUTORIAL, Variant, peer, pyapi

CONNECTIONS = 8
CHART = Path(__file__).with_name("chart.svg")

_SCALE = (
    "{rows:,} records, {connections} connections. CPU is what the processes of a variant take for a request, as the"
    " kernel counts it (gunicorn's arbiter included); the columns with a sum add what PostgreSQL takes for it."
)
_RATIOS = (
    *("operation", "CPU: PyAPI / floor", "tutorial / PyAPI", "sum: PyAPI / floor", "tutorial / PyAPI"),
    *("requests a second: PyAPI / floor", "PyAPI / tutorial"),
)

Results = Mapping[str, Mapping[str, Figures]]
"""By operation, then by variant."""


def main(words: Sequence[str]) -> None:
    """Measure, and write the section."""
    options = _options(words)
    with tempfile.TemporaryDirectory() as name, running_postgres(folder := Path(name)) as postgres:
        asyncio.run(fill(place := Place(postgres), options.rows))
        results = compare(place, folder, rows=options.rows, rounds=options.rounds, seconds=options.seconds)
        if options.airflow:
            for operation, found in measure_airflow(postgres, folder, rounds=options.rounds).items():
                results[operation][AIRFLOW] = found
    text = report(results, rows=options.rows)
    write_section("api", text, words=words)
    CHART.write_text(draw(results), encoding="utf-8")


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks api")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--airflow", action="store_true")
    return parser.parse_args(words)


def compare(place: Place, folder: Path, *, rows: int, rounds: int, seconds: int) -> dict[str, dict[str, Figures]]:
    """All variants and operations, round by round: A B C, C B A, A B C ..."""
    with contextlib.ExitStack() as stack:
        variants = [stack.enter_context(peer(name, _copy(place, name), folder)) for name in (FLOOR, TUTORIAL)]
        variants.insert(1, stack.enter_context(pyapi(_copy(place, "pyapi_own"), folder)))
        for variant in variants:
            _check(variant, rows)
        found: dict[str, dict[str, list[Round]]] = {}
        for number in range(rounds + 1):
            for operation in OPERATIONS:
                for variant in variants if number % 2 else reversed(variants):
                    options = {"rows": rows, "seed": number, "seconds": seconds if number else 1}
                    each = measure(variant, operation, connections=CONNECTIONS, **options)
                    assert not each.load.refused, (variant.name, operation.name, each.load)
                    if number:  # the first round only warms up
                        found.setdefault(operation.name, {}).setdefault(variant.name, []).append(each)
    return {
        operation: {name: figures(each) for name, each in by_variant.items()} for operation, by_variant in found.items()
    }


def _copy(place: Place, name: str) -> Place:
    return asyncio.run(copy_of(place, name))


def _check(variant: Variant, rows: int) -> None:
    tokens = asyncio.run(open_sessions(variant.place, 1))
    headers = {"Authorization": f"Bearer {access_token()}"}
    with httpx.Client(base_url=variant.url, headers=headers, trust_env=False, timeout=30) as client:
        check(client, rows=rows, refresh_tokens=tokens)


def report(results: Results, *, rows: int) -> str:
    """The tables."""
    ratios, absolute = [], []
    for operation, found in results.items():
        floor, ours, tutorial = (found[name] for name in (FLOOR, PYAPI, TUTORIAL))
        ratios.append(
            (
                operation,
                f"{ours.cpu / floor.cpu:.2f}",
                f"{tutorial.cpu / ours.cpu:.2f}",
                f"{ours.sum_cpu / floor.sum_cpu:.2f}",
                f"{tutorial.sum_cpu / ours.sum_cpu:.2f}",
                f"{ours.rate / floor.rate:.2f}",
                f"{ours.rate / tutorial.rate:.2f}",
            )
        )
        absolute += [
            (
                operation if name == FLOOR else "",
                name,
                *(f"{value:,.0f}" for value in (each.cpu, each.postgres_cpu, each.rate)),
                *(f"{value:.1f}" for value in (each.p50, each.p99)),
            )
            for name, each in found.items()
        ]
    parts = [
        _SCALE.format(rows=rows, connections=CONNECTIONS),
        table(
            _RATIOS,
            ratios,
        ),
        table(
            ["operation", "variant", "CPU, us", "PostgreSQL, us", "requests a second", "p50, ms", "p99, ms"], absolute
        ),
    ]
    if AIRFLOW in results[READ]:
        times = [
            f"{operation} {results[operation][AIRFLOW].cpu / results[operation][PYAPI].cpu:.1f}"
            for operation in (READ, LIST_10, LIST_100)
        ]
        parts.append(
            "Airflow has 1,000 DAGs. Its API server takes so many times the CPU of PyAPI for one of them, or for a list"
            f" of them: {', '.join(times)}."
        )
    return "\n\n".join(parts)
