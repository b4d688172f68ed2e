"""One round of load against one variant, and what many rounds come to."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.dataset import access_token, open_sessions
from benchmarks.generator import Load, run
from benchmarks.operations import TOKENS, Operation, requests_of
from benchmarks.server import cpu_seconds_of
from benchmarks.variants import Variant

SETTLE_SECONDS = 0.15
MOST_SETTLES = 20
STILL_SECONDS = 0.02


@dataclass(frozen=True)
class Round:
    """One variant under one load. CPU in microseconds a request: of the variant's processes, and of PostgreSQL's."""

    cpu: float
    postgres_cpu: float
    load: Load


@dataclass(frozen=True)
class Figures:
    """Medians of rounds; CPU in microseconds, times in milliseconds."""

    cpu: float
    postgres_cpu: float
    rate: float
    p50: float
    p99: float
    requests: int
    refused: int
    broken: int

    @property
    def sum_cpu(self) -> float:
        """CPU of the variant and of PostgreSQL together."""
        return self.cpu + self.postgres_cpu


def measure(variant: Variant, operation: Operation, *, rows: int, seed: int, seconds: float, connections: int) -> Round:
    """Send one kind of request for some seconds."""
    requests = requests_of(operation, rows=rows, token=access_token(), seed=seed)
    tokens = asyncio.run(open_sessions(variant.place, TOKENS)) if operation.chained else None
    return measure_requests(variant, requests, seconds=seconds, connections=connections, tokens=tokens)


def measure_requests(
    variant: Variant,
    requests: Sequence[bytes],
    *,
    seconds: float,
    connections: int,
    tokens: Sequence[str] | None = None,
) -> Round:
    """Send these requests for some seconds."""
    server, postgres = variant.cpu_seconds(), cpu_seconds_of(variant.place.postgres.pid)
    load = run(variant.url, requests, seconds=seconds, connections=connections, tokens=tokens)
    _settle(variant)
    # When time is up each connection has a request in flight; the server works on it all the same.
    answered = load.requests + connections
    return Round(
        cpu=(variant.cpu_seconds() - server) / answered * 1e6,
        postgres_cpu=(cpu_seconds_of(variant.place.postgres.pid) - postgres) / answered * 1e6,
        load=load,
    )


def _settle(variant: Variant) -> None:
    """Wait until the server has done what was in flight when the load ended."""
    seen = variant.cpu_seconds()
    for _ in range(MOST_SETTLES):
        time.sleep(SETTLE_SECONDS)
        before, seen = seen, variant.cpu_seconds()
        if seen - before <= STILL_SECONDS:
            return


def figures(rounds: Sequence[Round]) -> Figures:
    """The medians."""
    return Figures(
        cpu=statistics.median(each.cpu for each in rounds),
        postgres_cpu=statistics.median(each.postgres_cpu for each in rounds),
        rate=statistics.median(each.load.rate for each in rounds),
        p50=statistics.median(each.load.p50 for each in rounds) * 1e3,
        p99=statistics.median(each.load.p99 for each in rounds) * 1e3,
        requests=sum(each.load.requests for each in rounds),
        refused=sum(each.load.refused for each in rounds),
        broken=sum(each.load.broken for each in rounds),
    )
