"""PostgreSQL to files: cell by cell, in every mode, and what a run says about it."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.etl.asking import Kit
from tests.etl.conftest import MIXED, Move

pytestmark = pytest.mark.airflow

NOTHING_WRONG: dict[str, Any] = {"lost": [], "doubled": []}


@pytest.fixture
def differences(kit: Kit, source_url: str, folder: Path) -> Any:
    """Compare a table with its files."""

    def compare(table: str = "orders", query: str | None = None, place: Any = None) -> dict[str, Any]:
        found = kit.ask(
            url=source_url,
            query=query or f'SELECT * FROM "{table}"',
            place=place or {"folder": str(folder)},
            table=table,
        )
        return {"lost": found["lost"], "doubled": found["doubled"]}

    return compare


async def test_a_table_of_mixed_columns(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=20_000))
    moved = move()
    assert (moved["rows"], differences()) == (20_000, NOTHING_WRONG)


TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE kinds (
        id int, small smallint, exact numeric(38, 10), wide numeric(50, 20), real4 float4, real8 float8, yes boolean,
        t text, v varchar(9), b bytea, d date, moment timestamptz, local timestamp, clock time,
        ints int[], texts text[], "Order ID" int, "客戶" text
    );
    INSERT INTO kinds VALUES
        (1, -5, 1234567890123456789012345678.0123456789, 123456789012345678901234567890.12345678901234567890, 1.5, 0.1,
         true, '𠮷 \U0001f600 "q" , \n', '', '\\x00ff', '0099-01-01', '2026-01-01 10:00+08',
         '2026-01-01 10:00:00.123456', '23:59:59.999999', '{1,NULL,3}', '{"a,b",客}', 5, '客'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (3, 0, 0, -0.5, 'NaN', '-Infinity', false, ' ', ' ', '', '9999-12-31', '9999-12-31', '1900-01-01', '00:00',
         '{}', '{}', 0, '')
"""
AS_TEXT = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE odd (
        u uuid, j jsonb, free numeric, feeling mood, span interval, r int4range, ip inet, exacts numeric[]
    );
    INSERT INTO odd VALUES ('a4a9ed36-1f01-4abc-b617-375d4ad37213', '{"a": "𠮷"}', 123456789012345678901234567890.5,
        'glad', '1 day', '[1,5)', '10.0.0.1', '{1.10,NULL}');
    INSERT INTO odd (u) VALUES (NULL)
"""


async def test_every_type_is_kept(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(TYPES)
    move()
    assert differences("kinds") == NOTHING_WRONG


async def test_what_arrow_has_no_type_for_is_text(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(AS_TEXT)
    move()
    names = [
        row["attname"]
        for row in await source.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'odd'::regclass AND attnum > 0 ORDER BY attnum"
        )
    ]
    query = f"SELECT {', '.join(f'{name}::text' for name in names)} FROM odd"
    assert differences("odd", query) == NOTHING_WRONG


async def test_decimals_and_times_keep_their_types(
    source: asyncpg.Connection, move: Move, kit: Kit, folder: Path
) -> None:
    await source.execute(TYPES)
    move()
    types = kit.ask(table="kinds", place={"folder": str(folder)})["types"]
    assert (types["exact"], types["wide"], types["moment"], types["local"], types["ints"]) == (
        "decimal128(38, 10)",
        "decimal256(50, 20)",
        "timestamp[us, tz=UTC]",
        "timestamp[us]",
        "list<element: int32>",
    )


async def test_an_empty_table_has_its_columns(source: asyncpg.Connection, move: Move, kit: Kit, folder: Path) -> None:
    await source.execute("CREATE TABLE nothing (id int, at timestamptz)")
    move()
    assert kit.ask(table="nothing", place={"folder": str(folder)}) == {
        "rows": [],
        "types": {"id": "int32", "at": "timestamp[us, tz=UTC]"},
    }


async def test_one_row(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute("CREATE TABLE one AS SELECT 1 AS id")
    move()
    assert differences("one") == NOTHING_WRONG


async def test_a_text_of_50_mb(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute("CREATE TABLE big AS SELECT 1 AS id, repeat('客戶 𠮷', 4000000) AS t")
    move()
    assert differences("big") == NOTHING_WRONG


async def test_all_tables_of_the_schema_and_nothing_else(
    source: asyncpg.Connection, move: Move, kit: Kit, folder: Path
) -> None:
    await source.execute("""
        CREATE TABLE a AS SELECT 1 AS id; CREATE TABLE "b c/d" AS SELECT 2 AS id; CREATE VIEW v AS SELECT 3 AS id;
        CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
    """)
    move()
    assert kit.ask(list={"folder": str(folder)}) == ["a/a.parquet", "b c%2Fd/b c%2Fd.parquet", "p/p.parquet"]


async def test_chosen_columns(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(tables="orders", columns=["id", "amount", "note"], exclude="note")
    assert differences(query="SELECT id, amount FROM orders") == NOTHING_WRONG


async def test_a_query(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    query = "SELECT id, '${run.date}' AS day FROM orders WHERE id > 5; "
    move(query=query, into="late")
    assert differences("late", "SELECT id, '2026-01-31' AS day FROM orders WHERE id > 5") == NOTHING_WRONG


# --- Modes ------------------------------------------------------------------------------------------------------------


async def test_full_replaces(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move()
    await source.execute("DELETE FROM orders WHERE id > 4")
    move(run="run-2")
    assert differences() == NOTHING_WRONG


async def test_full_with_a_date_in_its_path_keeps_all_days(
    source: asyncpg.Connection, move: Move, kit: Kit, folder: Path
) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    target = f"file://{folder}/dt=${{run.date}}/${{run.id}}/"
    move(target=target)
    move(target=target, run="run-2")
    assert kit.ask(list={"folder": str(folder)}) == [
        "dt=2026-01-31/run-1/a/a.parquet",
        "dt=2026-01-31/run-2/a/a.parquet",
    ]


async def test_append_adds_all_rows_of_each_run(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(mode="append")
    move(mode="append", run="run-2")
    assert differences(query="SELECT * FROM orders UNION ALL SELECT * FROM orders") == NOTHING_WRONG


async def test_a_run_of_append_that_is_tried_again_adds_nothing(
    source: asyncpg.Connection, move: Move, differences: Any
) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(mode="append")
    move(mode="append")
    assert differences() == NOTHING_WRONG


INCREMENTAL = {"mode": "incremental", "cursor": "updated_at", "tables": "orders"}


async def test_incremental_reads_only_what_is_new(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(**INCREMENTAL)
    await source.execute("INSERT INTO orders SELECT id + 10, customer, amount, score, name, note, flag,"
                         " updated_at + interval '1 day', day, extra FROM orders WHERE id < 4")  # fmt: skip
    moved = move(**INCREMENTAL, run="run-2")
    assert (moved["rows"], moved["tables"][0]["watermark"], differences()) == (
        3,
        "2026-01-02 00:00:03.000000Z",
        NOTHING_WRONG,
    )


async def test_incremental_without_anything_new(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(**INCREMENTAL)
    moved = move(**INCREMENTAL, run="run-2")
    assert (moved["rows"], differences()) == (0, NOTHING_WRONG)


@pytest.mark.parametrize("cursor", ["small", "exact", "word", "day", "local", "moment"])
async def test_a_cursor_of_each_type(source: asyncpg.Connection, move: Move, differences: Any, cursor: str) -> None:
    columns = """i::int AS small, (i / 4.0)::numeric(20, 5) AS exact, chr(90 + i) AS word,
        date '2026-01-01' + i AS day, timestamp '2026-01-01' + i * interval '1 us' AS local,
        timestamptz '2026-01-01' + i * interval '1 us' AS moment"""
    await source.execute(f"CREATE TABLE orders AS SELECT {columns} FROM generate_series(0, 9) i")
    config = {**INCREMENTAL, "cursor": cursor}
    move(**config)
    await source.execute(f"INSERT INTO orders SELECT {columns} FROM generate_series(10, 14) i")
    assert (move(**config, run="run-2")["rows"], differences()) == (5, NOTHING_WRONG)


async def test_rows_that_share_the_last_cursor_are_not_lost(
    source: asyncpg.Connection, move: Move, differences: Any
) -> None:
    await source.execute("CREATE TABLE orders AS SELECT i AS id, 1 AS updated_at FROM generate_series(1, 3) i")
    config = {**INCREMENTAL, "primary_key": "id"}
    move(**config)
    await source.execute("INSERT INTO orders VALUES (4, 1)")
    move(**config, run="run-2")
    await source.execute("INSERT INTO orders VALUES (5, 1), (6, 2)")
    move(**config, run="run-3")
    assert differences() == NOTHING_WRONG


async def test_an_incremental_run_that_is_tried_again_adds_nothing(
    source: asyncpg.Connection, move: Move, differences: Any
) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(**INCREMENTAL)
    move(**INCREMENTAL)
    assert differences() == NOTHING_WRONG


async def test_another_cursor_is_refused_while_the_old_rows_are_there(source: asyncpg.Connection, move: Move) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(**INCREMENTAL)
    assert "has changed" in move(**{**INCREMENTAL, "cursor": "id"}, run="run-2")["refused"]


async def test_a_full_run_starts_incremental_anew(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(**INCREMENTAL)
    changed = {**INCREMENTAL, "cursor": "id"}
    move(**changed | {"mode": "full"}, run="run-2")
    await source.execute("INSERT INTO orders (id) VALUES (11)")
    assert (move(**changed, run="run-3")["rows"], differences()) == (1, NOTHING_WRONG)


async def test_two_records_write_beside_each_other(source: asyncpg.Connection, move: Move, differences: Any) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move(mode="append")
    move(mode="append", record=8)
    assert differences(query="SELECT * FROM orders UNION ALL SELECT * FROM orders") == NOTHING_WRONG


# --- Columns that change ----------------------------------------------------------------------------------------------

CHANGES = "ALTER TABLE a ADD COLUMN new text, DROP COLUMN old, ALTER COLUMN wide TYPE bigint"
TOLD = [
    {"column": "new", "change": "added", "to": "string"},
    {"column": "old", "change": "dropped", "from": "int32"},
    {"column": "wide", "change": "type", "from": "int32", "to": "int64"},
]


@pytest.fixture
async def table(source: asyncpg.Connection) -> asyncpg.Connection:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id, 2 AS old, 3 AS wide")
    return source


async def test_changed_columns_are_told(table: asyncpg.Connection, move: Move) -> None:
    move()
    await table.execute(CHANGES)
    assert move(run="run-2")["tables"][0]["schema_changes"] == TOLD


async def test_changed_columns_are_moved(table: asyncpg.Connection, move: Move, differences: Any) -> None:
    move()
    await table.execute(CHANGES)
    move(run="run-2")
    assert differences("a") == NOTHING_WRONG


async def test_frozen_columns_that_change_stop_the_run(table: asyncpg.Connection, move: Move) -> None:
    move(schema_contract="freeze")
    await table.execute(CHANGES)
    assert move(schema_contract="freeze", run="run-2")["refused"] == (
        "The columns of `a` are frozen and have changed: new (added), old (dropped), wide (type). Nothing was moved."
    )


async def test_frozen_columns_that_change_leave_the_target(
    table: asyncpg.Connection, move: Move, kit: Kit, folder: Path
) -> None:
    move(schema_contract="freeze")
    before = kit.ask(table="a", place={"folder": str(folder)})
    await table.execute(CHANGES)
    move(schema_contract="freeze", run="run-2")
    assert kit.ask(table="a", place={"folder": str(folder)}) == before


# --- Formats ----------------------------------------------------------------------------------------------------------


CSV = (
    '"id","exact","t","at","tags","raw"\n' '1,1.10,"""客""",2026-01-01 02:00:00.000000Z,"[""x""]","AP8="\n' '2,,"",,,\n'
)
JSON_LINES = (
    r'{"id": 1, "exact": "1.10", "t": "\"客\"", "at": "2026-01-01T02:00:00+00:00", "tags": ["x"], "raw": "AP8="}'
    "\n"
    '{"id": 2, "exact": null, "t": "", "at": null, "tags": null, "raw": null}\n'
)


@pytest.mark.parametrize(("format_", "content"), [("csv", CSV), ("jsonl", JSON_LINES)])
async def test_other_formats(
    source: asyncpg.Connection, move: Move, kit: Kit, folder: Path, format_: str, content: str
) -> None:
    await source.execute("""
        CREATE TABLE a (id int, exact numeric(9, 2), t text, at timestamptz, tags text[], raw bytea);
        INSERT INTO a VALUES (1, 1.1, '"客"', '2026-01-01 10:00+08', '{x}', '\\x00ff');
        INSERT INTO a (id, t) VALUES (2, '')
    """)
    move(target={"type": "local", "path": str(folder), "format": format_})
    assert kit.ask(text={"folder": str(folder)}) == {f"a/a.{format_}": content}


# --- What a run says --------------------------------------------------------------------------------------------------


async def test_a_result(source: asyncpg.Connection, move: Move, folder: Path) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    moved = move()
    assert moved | {"seconds": 0, "seconds_reading": 0} == {
        "version": 1,
        "mode": "full",
        "rows": 1,
        "bytes": (folder / "a" / "a.parquet").stat().st_size,
        "seconds": 0,
        "seconds_reading": 0,
        "resumed": False,
        "tables": [
            {
                "table": "a",
                "rows": 1,
                "bytes": (folder / "a" / "a.parquet").stat().st_size,
                "watermark": None,
                "schema_changes": [],
            }
        ],
    }


async def test_nothing_stays_of_a_run(source: asyncpg.Connection, move: Move, tmp_path: Path) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    move()
    assert [path for path in (tmp_path / "etl" / "pyapi_7").rglob("*") if path.is_file()] == []
