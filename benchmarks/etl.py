"""Moving data with the reader kit, beside a bare writer and beside dlt alone; and kill -9 while it does.

`uv run python -m benchmarks etl [--only speed,rows,kills] [--kills N]` writes a section of RESULTS.md for each part;
all of them take about 25 minutes on a quiet machine of 2 cores.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.etl_kills import kill_all
from benchmarks.report import table, write_section
from benchmarks.server import running_postgres
from pyapi.airflow_environment import project_environment
from tests.airflow.running import INSTALL_SECONDS, PROJECT
from tests.etl.conftest import MIXED
from tests.etl.lakes import Lake, s3_lake

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, KILLS = 3, 20
MILLION = 1_000_000
CHANGED = 1_500

Part = Callable[[Path, str, Lake], str]


def main(words: Sequence[str]) -> None:
    """Measure, and write a section for each part that was asked for."""
    parser = argparse.ArgumentParser("python -m benchmarks etl")
    parser.add_argument("--only", type=lambda text: text.split(","), default=["speed", "rows", "kills"])
    parser.add_argument("--kills", type=int, default=KILLS, help="that have to hit a run, of each kind")
    options = parser.parse_args(words)
    parts: dict[str, Part] = {"speed": _speed, "rows": _rows, "kills": partial(kill_all, kills=options.kills)}
    if unknown := set(options.only) - set(parts):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as name, running_postgres(Path(name)) as postgres:
        folder, url = Path(name), postgres.url.replace("+asyncpg", "")
        _install(folder)
        with s3_lake(folder) as s3:
            for part in options.only:
                _write(part, parts[part](folder, url, s3), words)


def _write(part: str, text: str, words: Sequence[str]) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    told = f"Load of the machine at the end (1, 5, 15 minutes): {load}."
    write_section(f"etl-{part}", f"{told}\n\n{text}", words=words, command="etl", tools=_libraries())


def _libraries() -> str:
    """Those of Airflow's environment."""
    [packages] = (PROJECT / ".venv" / "lib").glob("python*/site-packages")
    found = {item.name: item.version for item in distributions(path=[str(packages)])}
    names = ("apache-airflow", "dlt", "adbc-driver-postgresql", "pyarrow", "boto3")
    return ", ".join(f"{name} {found[name]}" for name in names)


def _speed(folder: Path, url: str, s3: Lake) -> str:
    """The ways take turns. A run of one row is what a run costs by itself."""
    asyncio.run(_sql(url, MIXED.format(name="million", rows=MILLION)))
    asyncio.run(_sql(url, MIXED.format(name="single", rows=1)))
    ways = ("kit", "bare", "dlt", "kit-s3", "bare-s3")
    runs = [*((way, "million") for way in ways), ("kit", "single"), ("bare", "single")]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {run: [] for run in runs}
    for _ in range(ROUNDS):
        for way, name in runs:
            found[way, name].append(_inside(folder, way, url, name, s3.url))
    asyncio.run(_sql(url, "DROP TABLE million, single"))
    against = {"kit": ("bare", "dlt"), "kit-s3": ("bare-s3",)}
    rows = [(*_figures(way, found[way, name]), *_ratios(found, way, name, against.get(way, ()))) for way, name in runs]
    return table(("way", "rows", "seconds, median (all)", "rows/s", "peak memory", "speed against"), rows)


def _ratios(found: dict[tuple[str, str], list[dict[str, Any]]], way: str, name: str, peers: Sequence[str]) -> list[str]:
    told = []
    for peer in peers:
        if (peer, name) in found:
            pairs = zip(found[way, name], found[peer, name], strict=True)
            ratio = statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)
            told.append(f"{peer}: {ratio:.2f}")
    return ["; ".join(told)]


def _rows(folder: Path, url: str, s3: Lake) -> str:
    """Ten million rows, then a few changes. The statement is explained as the kit writes it."""
    del s3
    for statement in (
        MIXED.format(name="large", rows=10 * MILLION),
        "CREATE INDEX ON large (updated_at)",
        "ANALYZE large",
    ):
        asyncio.run(_sql(url, statement))
    config = {"mode": "incremental", "cursor": "updated_at"}
    first = _inside(folder, "kit", url, "large", "", **config)
    change = f"UPDATE large SET updated_at = now() + id * interval '1 s' WHERE id % {10 * MILLION // CHANGED} = 0"
    asyncio.run(_sql(url, change))
    again = _inside(folder, "kit", url, "large", "", run="run-2", **config)
    asyncio.run(_sql(url, "DROP TABLE large"))
    rows = [_figures("kit, all", [first]), _figures("kit, incremental", [again])]
    told = table(("way", "rows", "seconds, median (all)", "rows/s", "peak memory"), rows)
    return f"{told}\n\nThe statement of the incremental run, explained:\n\n```\n{again['plan']}\n```"


def _figures(way: str, found: list[dict[str, Any]]) -> list[str]:
    seconds, rows = [item["seconds"] for item in found], found[0]["rows"]
    middle = statistics.median(seconds)
    return [
        way,
        f"{rows:,}",
        f"{middle:.2f} ({min(seconds):.2f}-{max(seconds):.2f})",
        f"{rows / middle:,.0f}",
        f"{max(item['peak_mb'] for item in found)} MB",
    ]


def _inside(folder: Path, way: str, url: str, table: str, s3: str, **config: str) -> dict[str, Any]:
    """What one process says, which has done nothing else."""
    question = {
        "way": way,
        "url": url,
        "table": table,
        "rows": MILLION,
        "s3": s3,
        "folder": str(folder / "speed"),
        "config": config,
    }
    environment = project_environment(os.environ, folder) | {"PYTHONPATH": f"{PROJECT}:{ROOT}"}
    # -P: `airflow` is a module of this folder as well.
    done = subprocess.run(
        [
            str(PROJECT / ".venv" / "bin" / "python"),
            "-P",
            str(Path(__file__).with_name("etl_inside.py")),
            json.dumps(question),
        ],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


async def _sql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, timeout=1200)
    await connection.close()


def _install(folder: Path) -> None:
    command = ["uv", "sync", "--quiet", "--locked", "--project", str(PROJECT)]
    subprocess.run(command, env=project_environment(os.environ, folder), check=True, timeout=INSTALL_SECONDS)
