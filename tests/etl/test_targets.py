"""Targets that are no files: the same rows, whatever happens, and merge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import NewDatabase
from tests.etl.asking import Kit, moments
from tests.etl.conftest import MIXED, Move
from tests.etl.lakes import Lake

pytestmark = pytest.mark.airflow

Rows = Callable[..., list[str]]


@pytest.fixture(params=["postgresql", "duckdb", "delta", "delta on s3"])
async def target(request: pytest.FixtureRequest, tmp_path: Path, empty_databases: NewDatabase) -> Any:
    """Where it goes."""
    match request.param:
        case "postgresql":
            return (await empty_databases()).replace("+asyncpg", "")
        case "duckdb":
            return f"duckdb://{tmp_path}/warehouse.duckdb"
        case "delta":
            return f"delta+file://{tmp_path}/lake/"
    s3: Lake = request.getfixturevalue("s3")
    there = s3.target(request.getfixturevalue("bucket"))
    names = ("endpoint_url", "access_key_id", "secret_access_key")
    return {"type": "delta", "url": f"s3://{there['bucket']}/lake/", **{name: there[name] for name in names}}


@pytest.fixture
def lost_and_doubled(kit: Kit, source_url: str, target: Any) -> Callable[..., Any]:
    """Compare a table of the source with the target's."""

    def compare(query: str = "SELECT * FROM orders", table: str = "orders") -> Any:
        found = kit.ask(url=source_url, query=query, table=table, target=target, place=None)
        return found["lost"], found["doubled"]

    return compare


async def test_mixed_columns(
    source: asyncpg.Connection, move: Move, target: Any, lost_and_doubled: Callable[..., Any]
) -> None:
    await source.execute(MIXED.format(name="orders", rows=3_000))
    moved = move(target=target)
    assert (moved.get("rows", moved), lost_and_doubled()) == (3_000, ([], []))


async def test_full_replaces(
    source: asyncpg.Connection, move: Move, target: Any, lost_and_doubled: Callable[..., Any]
) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(target=target)
    await source.execute("DELETE FROM orders WHERE id > 4; ALTER TABLE orders ADD COLUMN new text DEFAULT 'x'")
    move(target=target, run="run-2")
    assert lost_and_doubled() == ([], [])


async def test_merge_replaces_rows_by_their_key(
    source: asyncpg.Connection, move: Move, target: Any, lost_and_doubled: Callable[..., Any]
) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    config = {"mode": "merge", "primary_key": "id", "target": target}
    move(**config)
    await source.execute("UPDATE orders SET name = 'other' WHERE id < 4; INSERT INTO orders (id) VALUES (99)")
    move(**config, run="run-2")
    assert lost_and_doubled() == ([], [])


async def test_incremental_with_a_key_updates(
    source: asyncpg.Connection, move: Move, target: Any, lost_and_doubled: Callable[..., Any]
) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    config = {"mode": "incremental", "cursor": "updated_at", "primary_key": ["id"], "target": target}
    move(**config)
    await source.execute("UPDATE orders SET name = 'other', updated_at = updated_at + interval '1 day' WHERE id < 4")
    moved = move(**config, run="run-2")
    assert (moved["rows"], lost_and_doubled()) == (3, ([], []))


async def test_append_that_is_tried_again_adds_nothing(
    source: asyncpg.Connection, move: Move, target: Any, lost_and_doubled: Callable[..., Any]
) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(mode="append", target=target)
    move(mode="append", target=target)
    assert lost_and_doubled() == ([], [])


async def test_columns_that_come_and_go(
    source: asyncpg.Connection, move: Move, target: Any, lost_and_doubled: Callable[..., Any]
) -> None:
    await source.execute("CREATE TABLE orders AS SELECT 1 AS id, 2 AS old")
    move(mode="append", target=target)
    await source.execute("ALTER TABLE orders ADD COLUMN new text, DROP COLUMN old")
    move(mode="append", target=target, run="run-2")
    wanted = "SELECT 1 AS id, 2 AS old, NULL AS new UNION ALL SELECT 1, NULL, NULL"
    assert lost_and_doubled(wanted) == ([], [])


async def test_a_column_that_grows(source: asyncpg.Connection, move: Move, target: Any) -> None:
    await source.execute("CREATE TABLE orders AS SELECT 1 AS wide")
    move(mode="append", target=target)
    await source.execute("ALTER TABLE orders ALTER COLUMN wide TYPE bigint")
    await source.execute("UPDATE orders SET wide = 5000000000")
    moved = move(mode="append", target=target, run="run-2")
    keeps_types = "delta" in str(target)
    told = "Delta keeps the types of columns, and wide has another one: run it with mode full."
    assert (moved.get("refused"), moved.get("rows")) == ((told, None) if keeps_types else (None, 1))


async def test_killed_and_tried_again(
    source: asyncpg.Connection,
    kit: Kit,
    source_url: str,
    target: Any,
    tmp_path: Path,
    lost_and_doubled: Callable[..., Any],
) -> None:
    await source.execute(MIXED.format(name="orders", rows=20_000))
    found = []
    for number, moment in enumerate(moments(seed=9, count=3, longest=2.0)):
        question = {
            "config": {
                "source": source_url,
                "target": target,
                "mode": "append",
                "query": f"SELECT *, {number} AS n FROM orders",
                "into": "orders",
            },
            "run": f"run-{number}",
            "folder": str(tmp_path / "etl"),
            "local_dirs": [str(tmp_path)],
        }
        kit.killed_after(question, moment)
        kit.ask(**question)
        numbers = ",".join(map(str, range(number + 1)))
        found.append(lost_and_doubled(f"SELECT orders.*, n FROM orders, unnest(ARRAY[{numbers}]) n"))
    assert found == [([], [])] * 3
