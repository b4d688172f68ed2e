"""kill -9 at any moment: after another try the target holds what the source holds, and nobody ever saw half of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.etl.asking import Kit, moments
from tests.etl.conftest import MIXED, StartedLakes, new_bucket
from tests.etl.lakes import LAKES

pytestmark = pytest.mark.airflow

ROWS, MORE, KILLS = 40_000, 500, 3
ADD = f"""
    INSERT INTO orders SELECT id + {{at}}, customer, amount, score, name, note, flag,
        updated_at + {{at}} * interval '1 second', day, extra FROM orders WHERE id <= {MORE}
"""


@pytest.fixture(params=["file", *LAKES])
def place(request: pytest.FixtureRequest, folder: Path, lakes: StartedLakes, kit: Kit) -> dict[str, Any]:
    """A target, and where others look for what is in it."""
    if request.param == "file":
        return {"target": f"file://{folder}/", "seen": {"folder": str(folder)}}
    lake = lakes(request.param)
    bucket = new_bucket(lake, kit)
    return {"target": lake.target(bucket), "seen": lake.place(bucket)}


@pytest.fixture
def question(source_url: str, tmp_path: Path, place: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A run of the record, as the kit is asked for it."""

    def ask(run: str, **config: Any) -> dict[str, Any]:
        return {
            "config": {"source": source_url, "target": place["target"], "tables": "orders", **config},
            "run": run,
            "folder": str(tmp_path / "etl"),
            "local_dirs": [str(tmp_path)],
        }

    return ask


@pytest.mark.parametrize(
    "config", [{"mode": "full"}, {"mode": "incremental", "cursor": "updated_at"}], ids=["full", "incremental"]
)
async def test_killed_and_tried_again(
    source: asyncpg.Connection,
    source_url: str,
    kit: Kit,
    watcher: Kit,
    question: Callable[..., dict[str, Any]],
    place: dict[str, Any],
    config: dict[str, Any],
    tmp_path: Path,
) -> None:
    await source.execute(MIXED.format(name="orders", rows=ROWS))
    sizes = [ROWS, *(ROWS + number * MORE for number in range(1, KILLS + 1)), MORE]
    watcher.begin({"until": str(tmp_path / "stop"), "place": place["seen"], "sizes": sizes})
    started = time.monotonic()
    kit.ask(**question("run-0", **config))
    longest = time.monotonic() - started
    found = []
    for number, moment in enumerate(moments(seed=len(place["target"]), count=KILLS, longest=longest), start=1):
        await source.execute(ADD.format(at=number * ROWS))
        kit.killed_after(question(f"run-{number}", **config), moment)
        kit.ask(**question(f"run-{number}", **config))
        compared = kit.ask(url=source_url, query="SELECT * FROM orders", place=place["seen"], table="orders")
        found.append((compared["rows"], compared["lost"], compared["doubled"]))
    (tmp_path / "stop").touch()
    seen = watcher.answer()
    expected: list[Any] = [(ROWS + number * MORE, [], []) for number in range(1, KILLS + 1)]
    assert (found, seen["wrong"], seen["looks"] > 3) == (expected, [], True)
