"""kill -9 of a process that moves data, in each of its phases, and another try; somebody else looks at the files."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.report import table
from tests.etl.asking import Kit
from tests.etl.conftest import MIXED
from tests.etl.lakes import Lake

ROWS, MORE = 100_000, 500
# Where a run is, by what it has left in its folder so far.
PHASES = {"reading": None, "normalising": "dlt/record/normalize/extracted/*", "writing": "plan.json"}
ADD = f"""
    INSERT INTO orders SELECT m + i, 1, 1, 1, 'n', NULL, true, u + i * interval '1 s', day, extra FROM orders,
        (SELECT max(id) AS m, max(updated_at) AS u FROM orders) AS top, generate_series(1, {MORE}) i WHERE id = 1
"""


@dataclass(frozen=True)
class Way:
    """A target and a mode, and how others see the target."""

    name: str
    target: Any
    seen: dict[str, Any]
    mode: str


def kill_all(folder: Path, url: str, s3: Lake, *, kills: int) -> str:
    """So many kills that hit a run, of each target and mode."""
    kit, watcher = Kit(folder / "kit"), Kit(folder / "watcher")
    kit.ask(put="kills", lake=s3.place("kills")["lake"])
    told = []
    for mode in ("full", "incremental"):
        files = f"{folder}/kills/{mode}"
        told.append(_killed(kit, watcher, folder, url, Way("file", f"file://{files}/", {"folder": files}, mode), kills))
        way = Way("S3", s3.target("kills", f"{mode}/"), s3.place("kills", f"{mode}/"), mode)
        told.append(_killed(kit, watcher, folder, url, way, kills))
    kit.stop()
    watcher.stop()
    head = ("target, mode", "killed, of tries", "while", "went on", "rows lost, doubled", "looks, files not whole")
    return table(head, told)


def _killed(kit: Kit, watcher: Kit, folder: Path, url: str, way: Way, kills: int) -> list[str]:
    asyncio.run(_sql(url, "DROP TABLE IF EXISTS orders"))
    asyncio.run(_sql(url, MIXED.format(name="orders", rows=ROWS)))
    config = {"source": url, "target": way.target, "tables": "orders", "mode": way.mode, "cursor": "updated_at"}
    home, stop = folder / f"{way.name}-{way.mode}", folder / f"{way.name}-{way.mode}.stop"

    def question(run: str) -> dict[str, Any]:
        return {"config": config, "run": run, "folder": str(home), "local_dirs": [str(folder)]}

    sizes = [MORE, *(ROWS + number * MORE for number in range(10 * kills))]
    watcher.begin({"until": str(stop), "place": way.seen, "sizes": sizes})
    moments = _moments(kit.ask(**question("run-0")))
    hits: Counter[str] = Counter()
    tries = resumed = lost = doubled = 0
    while hits.total() < kills:
        tries += 1
        asyncio.run(_sql(url, ADD))
        phase, seconds = next(moments)
        if _hit(kit, question(f"run-{tries}"), home, PHASES[phase], seconds):
            hits[_phase_of(home)] += 1
        resumed += kit.ask(**question(f"run-{tries}"))["resumed"]
        compared = kit.ask(url=url, query="SELECT * FROM orders", place=way.seen, table="orders")
        lost += len(compared["lost"])
        doubled += len(compared["doubled"])
    stop.touch()
    looks = watcher.answer()
    print(f"kill -9, {way.name}, {way.mode}: {hits.total()} of {tries}, {lost} lost, {doubled} doubled", flush=True)
    return [
        f"{way.name}, {way.mode}",
        f"{hits.total()} of {tries}",
        ", ".join(f"{name} {hits[name]}" for name in PHASES),
        str(resumed),
        f"{lost}, {doubled}",
        f"{looks['looks']:,}, {len(looks['wrong'])}",
    ]


def _moments(first: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """When to kill, the phases in turn: how long after the beginning of each."""
    chance = random.Random(len(first["tables"]))
    lengths = {
        "reading": first["seconds_reading"],
        "normalising": 0.02,
        "writing": max(0.02, first["seconds"] - first["seconds_reading"]),
    }
    for phase in cycle(PHASES):
        yield phase, chance.uniform(0, lengths[phase])


def _hit(kit: Kit, question: dict[str, Any], home: Path, mark: str | None, seconds: float) -> bool:
    """Kill the process so long after the mark of a phase is there; whether it was still at work."""

    def has_begun() -> bool:
        return mark is None or any(home.glob(f"*/{_key(question)}*/{mark}"))

    return kit.killed_after(question, seconds, when=has_begun)


def _key(question: dict[str, Any]) -> str:
    return f"pyapi_7-{question['run']}-"


def _phase_of(home: Path) -> str:
    """The phase in which a run was killed."""
    return next(
        (name for name, mark in reversed(PHASES.items()) if mark is not None and any(home.glob(f"*/*/{mark}"))),
        "reading",
    )


async def _sql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, timeout=1200)
    await connection.close()
