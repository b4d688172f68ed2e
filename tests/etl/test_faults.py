"""What stands in the way is said, table by table, and leaves the target as it was."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.etl.asking import Kit
from tests.etl.conftest import MIXED, Move
from tests.etl.lakes import AZURE_ACCOUNT, S3_ACCOUNT, Lake

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"tables": "nope"}, "does not let `nope` be read: relation \"public.nope\" does not exist."),
        ({"tables": "a", "cursor": "nope"}, "`a` has no column nope; it has id, n."),
        ({"tables": "a", "columns": "nope"}, "`a` has no column nope; it has id, n."),
        ({"tables": "a", "exclude": ["id", "n"]}, "No column of `a` is left to move."),
        ({"query": "SELECT 1 AS x, 2 AS x"}, "`query` has several columns x; give each a name of its own."),
        ({"query": "SELECT 1; DROP TABLE a"}, "does not let `query` be read: syntax error at or near \";\"."),
        ({"query": "SELECT 1) AS q; DROP TABLE a; SELECT * FROM (SELECT 1"}, "cannot insert multiple commands"),
        ({"query": "DELETE FROM a RETURNING id"}, "does not let `query` be read: syntax error"),
        ({"query": "SELECT 'NaN'::numeric(9, 2) AS n"}, "such as NaN or infinity, that decimal128(9, 2)"),
        ({"query": "SELECT 'infinity'::timestamptz AS t"}, "holds a value, such as NaN or infinity, that timestamp[us"),
        ({"query": "SELECT '-infinity'::date AS t"}, "holds a value, such as NaN or infinity, that date32"),
        ({"mode": "incremental", "cursor": "n", "tables": "flags"}, "cannot be a cursor: it is bool."),
    ],
)  # fmt: skip
async def test_what_another_try_cannot_help(
    source: asyncpg.Connection, move: Move, config: dict[str, Any], told: str
) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id, 2 AS n; CREATE TABLE flags AS SELECT true AS n")
    moved = move(**config)
    assert told in moved["refused"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT '{{1,2},{3,4}}'::int[] AS t", "an array of several dimensions, use a query with to_json"),
        ("SELECT nextval('s')", "cannot execute nextval() in a read-only transaction"),
        ("SELECT 1 / (1000 - id) AS x FROM generate_series(1, 2000) id", "division by zero"),
    ],
)
async def test_what_fails_while_reading(source: asyncpg.Connection, move: Move, query: str, told: str) -> None:
    await source.execute("CREATE SEQUENCE s")
    assert told in move(query=query)["failed"]


async def test_a_source_that_goes_away_while_it_is_read(
    source: asyncpg.Connection, source_url: str, kit: Kit, tmp_path: Path, folder: Path
) -> None:
    slow = "CASE WHEN i > 50000 THEN pg_sleep(0.001) END::text"
    query = f"SELECT i, repeat('x', 1000) AS t, {slow} AS s FROM generate_series(1, 90000) i"
    question = {
        "config": {"source": source_url, "target": f"file://{folder}/", "query": query},
        "folder": str(tmp_path / "etl"),
        "local_dirs": [str(tmp_path)],
    }
    kit.begin(question)
    ended = 0
    while not ended:
        await asyncio.sleep(0.2)
        ended = await source.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'pyapi-etl' AND query LIKE 'COPY%' AND now() - query_start > interval '0.5 s'"
        )
    assert "Reading `query`" in kit.answer()["failed"]
    assert kit.ask(list={"folder": str(folder)}) == []


NOBODY = "http://127.0.0.1:1"
SHARED = {"account": "devstoreaccount1", "sas_token": "sv=2026&sig=word-4711"}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"source": "postgresql://u:word-4711@127.0.0.1:1/db"}, "Connecting to 127.0.0.1:1/db"),
        ({"target": "postgresql://u:word-4711@127.0.0.1:1/db"}, "Connecting to 127.0.0.1:1/db"),
        ({"target": Lake("s3", NOBODY, S3_ACCOUNT).target("lake")}, "Reading s3://lake/"),
        ({"target": Lake("azure", NOBODY, AZURE_ACCOUNT).target("lake")}, "Reading abfss://lake@devstoreaccount1/"),
        ({"target": Lake("azure", NOBODY, SHARED).target("lake")}, "Reading abfss://lake@devstoreaccount1/"),
    ],
)
async def test_who_is_not_there_is_named_without_credentials(
    source: asyncpg.Connection, move: Move, config: dict[str, Any], told: str
) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    failed = move(**config)["failed"]
    assert (told in failed, "4711" in failed) == (True, False)


async def test_one_bad_table_leaves_the_others_of_the_target(
    source: asyncpg.Connection, move: Move, kit: Kit, folder: Path
) -> None:
    await source.execute(MIXED.format(name="orders", rows=10))
    move()
    before = kit.ask(table="orders", place={"folder": str(folder)})
    await source.execute("DELETE FROM orders; CREATE TABLE z AS SELECT 'NaN'::numeric(9, 2) AS n")
    move(run="run-2")
    assert kit.ask(table="orders", place={"folder": str(folder)}) == before


async def test_a_run_that_may_not_be_alone_any_more_says_so(
    source: asyncpg.Connection, kit: Kit, source_url: str
) -> None:
    told = "The connection to PyAPI's database was lost: another run may have begun meanwhile."
    assert kit.ask(lock=source_url) == [1, 7, told]


# --- Places of the worker ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"source": "sqlite:///etc/passwd"},
        {"source": "file:///etc/passwd"},
        {"source": "file:///proc/self/environ"},
        {"target": "file:///etc/cron.d/"},
        {"target": "duckdb:///etc/x.duckdb"},
        {"target": "delta+file:///etc/lake/"},
    ],
)
async def test_a_path_of_the_worker_that_is_not_allowed(
    source: asyncpg.Connection, move: Move, config: dict[str, Any]
) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    assert (
        move(**config)["refused"]
        == "PYAPI_ETL_LOCAL_DIRS of Airflow's environment does not allow this path of the worker."
    )


async def test_a_link_that_leads_out(move: Move, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").symlink_to("/etc/passwd")
    assert "does not allow this path" in move(source=f"file://{tmp_path}/in/*.csv")["refused"]


async def test_a_query_of_sqlite_opens_no_other_file(move: Move, tmp_path: Path) -> None:
    import sqlite3

    sqlite3.connect(tmp_path / "in.db").close()
    query = "SELECT 1); ATTACH '/etc/passwd' AS x; --"
    assert "does not let `query` be read" in move(source=f"sqlite://{tmp_path}/in.db", query=query)["refused"]


def test_a_connection_that_is_not_allowed(kit: Kit, source_url: str, tmp_path: Path) -> None:
    source = {"type": "postgresql", "conn_id": "payroll"}
    config = {"source": source, "target": f"file://{tmp_path}/"}
    answer = kit.ask(config=config, folder=str(tmp_path / "etl"), local_dirs=[str(tmp_path)], conn_ids=["etl_*"])
    assert answer["refused"] == "PYAPI_ETL_CONN_IDS of Airflow's environment does not allow the Connection payroll."


# --- Looking only -----------------------------------------------------------------------------------------------------


@pytest.fixture
def look(kit: Kit, source_url: str, tmp_path: Path, folder: Path) -> Any:
    def ask(**config: Any) -> Any:
        whole = {"source": source_url, "target": f"file://{folder}/", **config}
        return kit.ask(config=whole, check=True, folder=str(tmp_path / "etl"), local_dirs=[str(tmp_path)])

    return ask


async def test_a_look_finds_all_well(source: asyncpg.Connection, look: Any) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    assert look() == {"version": 1, "ok": True, "problems": [], "tables": [{"table": "a", "columns": 1}]}


async def test_a_look_moves_nothing(source: asyncpg.Connection, look: Any, kit: Kit, folder: Path) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    look()
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"tables": "nope"}, ["source"]),
        ({"mode": "incremental", "cursor": "nope"}, ["source"]),
        ({"target": "file:///etc/"}, ["target"]),
        ({"source": "postgresql://127.0.0.1:1/db", "target": "postgresql://127.0.0.1:1/db"}, ["source", "target"]),
    ],
)
async def test_a_look_names_what_failed(
    source: asyncpg.Connection, look: Any, config: dict[str, Any], places: list[str]
) -> None:
    await source.execute("CREATE TABLE a AS SELECT 1 AS id")
    assert [problem["place"] for problem in look(**config)["problems"]] == places
