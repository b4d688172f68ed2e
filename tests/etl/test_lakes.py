"""Files in S3, Google Cloud Storage and Azure, as targets and as sources: the same promises for all."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.airflow.stalling import StallingProxy
from tests.etl.asking import Kit
from tests.etl.conftest import MIXED, Move, new_bucket
from tests.etl.lakes import Lake

pytestmark = pytest.mark.airflow

STATE = "_pyapi/pyapi_7/orders.state"


@pytest.fixture
def bucket(lake: Lake, kit: Kit) -> str:
    """An empty one of each server."""
    return new_bucket(lake, kit)


Compared = Callable[..., Any]


@pytest.fixture
def compared(kit: Kit, source_url: str, lake: Lake, bucket: str) -> Compared:
    """Compares a table with what is in the bucket, cell by cell: how many rows, what is lost, what is doubled."""

    def compare(prefix: str = "", query: str = "SELECT * FROM orders") -> Any:
        found = kit.ask(url=source_url, query=query, table="orders", place=lake.place(bucket, prefix))
        return found["rows"], found["lost"], found["doubled"]

    return compare


@pytest.fixture
def everything(kit: Kit, lake: Lake, bucket: str) -> Callable[[], list[str]]:
    """The names of all objects, of those as well that are not for readers."""
    return lambda: kit.ask(everything=lake.place(bucket))


async def test_full(
    source: asyncpg.Connection, move: Move, lake: Lake, bucket: str, compared: Compared, everything: Any
) -> None:
    await source.execute(MIXED.format(name="orders", rows=20_000))
    move(target=lake.target(bucket, "lake/客 戶/"))
    first = compared("lake/客 戶/")
    await source.execute("DELETE FROM orders WHERE id > 4000")
    move(target=lake.target(bucket, "lake/客 戶/"), run="run-2")
    names = [f"lake/客 戶/{name}" for name in (STATE, "orders/orders.parquet")]
    assert (first, compared("lake/客 戶/"), everything()) == ((20_000, [], []), (4_000, [], []), names)


async def test_incremental(source: asyncpg.Connection, move: Move, lake: Lake, bucket: str, compared: Compared) -> None:
    await source.execute(MIXED.format(name="orders", rows=3_000))
    config = {"target": lake.target(bucket), "mode": "incremental", "cursor": "updated_at"}
    move(**config)
    await source.execute("INSERT INTO orders SELECT id + 3000, customer, amount, score, name, note, flag,"
                         " updated_at + interval '1 day', day, extra FROM orders WHERE id <= 500")  # fmt: skip
    moved = [move(**config, run=run)["rows"] for run in ("run-2", "run-2", "run-3")]
    assert (moved, compared()) == ([500, 500, 0], (3_500, [], []))


@pytest.mark.parametrize("format_", ["parquet", "csv", "jsonl"])
async def test_as_a_source(
    source: asyncpg.Connection, move: Move, kit: Kit, lake: Lake, bucket: str, folder: Path, format_: str
) -> None:
    await source.execute("CREATE TABLE a AS SELECT i AS id, '客 ' || i AS word FROM generate_series(1, 3) i")
    move(target=lake.target(bucket, "in/", format=format_))
    moved = move(source=lake.target(bucket, f"in/a/*.{format_}"), into="b", record=8)
    rows = kit.ask(table="b", place={"folder": str(folder)})["rows"]
    assert ([row["word"] for row in rows], moved.get("rows", moved)) == ([f"str '客 {i}'" for i in (1, 2, 3)], 3)


async def test_a_bucket_that_is_not_there(source: asyncpg.Connection, move: Move, lake: Lake) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    failed = move(target=lake.target("nowhere-at-all"))["failed"]
    assert ("nowhere-at-all" in failed, "4711" in failed) == (True, False)


async def test_a_look_leaves_nothing(
    source: asyncpg.Connection, move: Move, kit: Kit, source_url: str, lake: Lake, bucket: str, everything: Any
) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    config = {"source": source_url, "target": lake.target(bucket)}
    found = kit.ask(config=config, check=True, folder="/nowhere")
    assert (found["ok"], everything()) == (True, [])


@pytest.fixture
def stalling(lake: Lake) -> Iterator[StallingProxy]:
    """In the middle of the second part of an upload, whatever the size of a part is."""
    proxy = StallingProxy(lake.url, most=14 * 2**20)
    yield proxy
    proxy.close()


async def test_killed_in_the_middle_of_an_upload(
    source: asyncpg.Connection,
    source_url: str,
    kit: Kit,
    lake: Lake,
    bucket: str,
    stalling: StallingProxy,
    compared: Compared,
    everything: Any,
    tmp_path: Path,
) -> None:
    # Texts that no compression makes smaller: 19 MB.
    await source.execute(
        "CREATE TABLE orders AS SELECT i AS id, sha512(i::text::bytea) AS h FROM generate_series(1, 300000) i"
    )
    target = lake.target(bucket)
    question = {
        "config": {"source": source_url, "target": target | {"endpoint_url": stalling.url}, "mode": "append"},
        "folder": str(tmp_path / "etl"),
    }
    pid = kit.begin(question)
    is_stalled = stalling.is_stalled.wait(60)
    os.kill(pid, signal.SIGKILL)
    kit.has_ended()
    stalling.let_go()
    before = compared(query="SELECT * FROM orders LIMIT 0")
    again = kit.ask(**question)
    assert (is_stalled, before, again.get("resumed", again), compared()) == (True, (0, [], []), True, (300_000, [], []))
    assert [name for name in everything() if not name.startswith("orders/")] == [STATE]
