"""A real MariaDB as a source: each type cell by cell, and what has its own way there."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.etl.asking import Kit
from tests.etl.conftest import Move
from tests.fixtures.servers import free_port

PROGRAMS = ("mariadb-install-db", "mariadbd")
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin"
MISSING = [name for name in (*PROGRAMS, "my_print_defaults") if shutil.which(name, path=PATHS) is None]

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.mariadb,
    pytest.mark.skipif(
        bool(MISSING), reason=f"{', '.join(MISSING)} is not installed: MySQL was not tried as a source."
    ),
]

START_SECONDS = 60
ACCOUNT = """
    CREATE USER 'loader'@'%' IDENTIFIED BY 'word-4711';
    GRANT SELECT ON *.* TO 'loader'@'%';
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Its port, and the socket of its owner."""
    folder, port = tmp_path_factory.mktemp("mariadb"), free_port()
    # Programs of a distribution read its settings, which are not for this server.
    install, serve = ([shutil.which(name, path=PATHS) or name, "--no-defaults"] for name in PROGRAMS)
    # The owner of a socket's folder is who runs the tests; root has to say that it means it.
    options = [f"--datadir={folder}/data", *(["--user=root"] if os.geteuid() == 0 else [])]
    subprocess.run(
        [*install, *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
        timeout=START_SECONDS,
    )
    (folder / "init.sql").write_text(ACCOUNT)

    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(*serve, *options, f"--socket={folder}/s", f"--port={port}", "--bind-address=127.0.0.1"),
                *(f"--init-file={folder}/init.sql", f"--pid-file={folder}/pid", "--innodb-buffer-pool-size=32M"),
            ],
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + START_SECONDS
    while b"ready for connections" not in (folder / "log").read_bytes():
        assert (process.poll(), time.monotonic() < deadline) == (None, True), (folder / "log").read_text()
        time.sleep(0.1)
    yield port, folder / "s"
    process.kill()
    process.wait()


Sql = Callable[..., Any]
_DATABASES = count()


@pytest.fixture
def database(server: tuple[int, Path], kit: Kit) -> str:
    """An empty one."""
    name = f"shop{next(_DATABASES)}"
    kit.ask(mysql=[f"CREATE DATABASE {name} CHARACTER SET utf8mb4"], socket=str(server[1]), database=None)
    return name


@pytest.fixture
def sql(server: tuple[int, Path], kit: Kit, database: str) -> Sql:
    """Run statements in it."""
    return lambda *statements: kit.ask(mysql=statements, socket=str(server[1]), database=database)


@pytest.fixture
def url(server: tuple[int, Path], database: str) -> str:
    return f"mysql://loader:word-4711@127.0.0.1:{server[0]}/{database}"


@pytest.fixture
def seen(kit: Kit, folder: Path) -> Callable[[str], Any]:
    """The rows of a table in the target, and the types of its columns."""
    return lambda table: kit.ask(table=table, place={"folder": str(folder)})


# Each column: its type, the values of a row, what is read of them, the type in Parquet.
KINDS: dict[str, tuple[str, str, str, str]] = {
    "tiny": ("tinyint", "-128", "int -128", "int16"),
    "tiny_u": ("tinyint unsigned", "255", "int 255", "int16"),
    "yes": ("boolean", "true", "int 1", "int16"),
    "small": ("smallint", "-32768", "int -32768", "int32"),
    "small_u": ("smallint unsigned", "65535", "int 65535", "int32"),
    "medium": ("mediumint", "-8388608", "int -8388608", "int32"),
    "medium_u": ("mediumint unsigned", "16777215", "int 16777215", "int32"),
    "whole": ("int", "-2147483648", "int -2147483648", "int64"),
    "whole_u": ("int unsigned", "4294967295", "int 4294967295", "int64"),
    "big": ("bigint", "-9223372036854775808", "int -9223372036854775808", "int64"),
    "big_u": ("bigint unsigned", "18446744073709551615", "int 18446744073709551615", "uint64"),
    "exact": ("decimal(12, 2)", "-9999999999.99", "decimal -9999999999.99", "decimal128(12, 2)"),
    "exact_u": ("decimal(12, 2) unsigned", "9999999999.99", "decimal 9999999999.99", "decimal128(12, 2)"),
    "round": ("decimal(10, 0)", "9999999999", "decimal 9999999999", "decimal128(10, 0)"),
    "wide": (
        "decimal(65, 30)",
        f"-{'9' * 35}.{'9' * 29}1",
        f"decimal -{'9' * 35}.{'9' * 29}1",
        "decimal256(65, 30)",
    ),
    "real4": ("float", "16777217.5", "float 16777218.0", "float"),
    "third": ("float", "1.0 / 3", "float 0.3333333432674408", "float"),
    "real8": ("double", "0.1", "float 0.1", "double"),
    "greatest": ("double", "1.7976931348623157e308", "float 1.7976931348623157e+308", "double"),
    "day": ("date", "'0099-12-31'", "date datetime.date(99, 12, 31)", "date32[day]"),
    "local": (
        "datetime(6)",
        "'2026-01-01 23:59:59.999999'",
        "datetime datetime.datetime(2026, 1, 1, 23, 59, 59, 999999)",
        "timestamp[us]",
    ),
    "moment": (
        "timestamp(6) NULL",
        "'2026-01-01 10:00:00.000001'",
        "instant 2026-01-01T10:00:00.000001",
        "timestamp[us, tz=UTC]",
    ),
    "span": ("time(3)", "'-838:59:58.999'", "str '-838:59:58.999'", "string"),
    "year": ("year", "2026", "int 2026", "int16"),
    "bits": ("bit(9)", "b'100000001'", "bytes b'\\x01\\x01'", "binary"),
    "fixed": ("char(4)", "'客 '", "str '客'", "string"),
    "word": ("varchar(40)", "'𠮷 😀 \\'\" %s 100% \\\\'", "str '𠮷 😀 \\'\" %s 100% \\\\'", "string"),
    "latin": ("varchar(9) CHARACTER SET latin1", "'café'", "str 'café'", "string"),
    "long_text": ("longtext", "''", "str ''", "string"),
    "raw": ("varbinary(4)", "x'00ff25'", "bytes b'\\x00\\xff%'", "binary"),
    "fixed_raw": ("binary(3)", "x'01'", "bytes b'\\x01\\x00\\x00'", "binary"),
    "lump": ("longblob", "x'80'", "bytes b'\\x80'", "binary"),
    "choice": ("enum('客', 'b')", "'客'", "str '客'", "string"),
    "choices": ("set('a', 'b', 'c')", "'a,c'", "str 'a,c'", "string"),
    "json": ("json", """'{"k": "客"}'""", """str '{"k": "客"}'""", "string"),
    "uuid": ("uuid", "'a4a9ed36-1f01-4abc-b617-375d4ad37213'", "str 'a4a9ed36-1f01-4abc-b617-375d4ad37213'", "string"),
    "address": ("inet6", "'::1'", "str '::1'", "string"),
    "point": ("point", "ST_GeomFromText('POINT(1 2)')", "", "binary"),
    "a `b` 100%": ("int", "5", "int 5", "int64"),
}  # fmt: skip


@pytest.fixture
def kinds(sql: Sql) -> None:
    names = {name: "`" + name.replace("`", "``") + "`" for name in KINDS}
    columns = ", ".join(f"{names[name]} {kind[0]}" for name, kind in KINDS.items())
    values = ", ".join(kind[1] for kind in KINDS.values())
    nulls = ", ".join("NULL" for _ in KINDS)
    sql(f"CREATE TABLE kinds ({columns})", f"INSERT INTO kinds VALUES ({values}), ({nulls})")


def test_every_type(kinds: None, move: Move, seen: Any, url: str) -> None:
    moved = move(source=url)
    assert "tables" in moved, moved
    found = seen("kinds")
    point = found["rows"][0].pop("point")
    assert found["rows"] == [
        {name: kind[2] for name, kind in KINDS.items() if name != "point"},
        dict.fromkeys(KINDS, "NoneType None"),
    ]
    # Four bytes of a reference system, then WKB.
    assert point.startswith(r"bytes b'\x00\x00\x00\x00\x01\x01\x00\x00\x00")
    assert found["types"] == {name: kind[3] for name, kind in KINDS.items()}


def test_an_empty_table_has_its_columns(sql: Sql, move: Move, seen: Any, url: str) -> None:
    sql("CREATE TABLE nothing (id int, at datetime)")
    move(source=url)
    assert seen("nothing") == {"rows": [], "types": {"id": "int64", "at": "timestamp[us]"}}


def test_all_tables_and_no_view(sql: Sql, move: Move, url: str) -> None:
    sql("CREATE TABLE a AS SELECT 1 AS id", "CREATE TABLE `b 100%` AS SELECT 2 AS id", "CREATE VIEW v AS SELECT 3 AS x")
    assert [(table["table"], table["rows"]) for table in move(source=url)["tables"]] == [("a", 1), ("b 100%", 1)]


def test_a_query_with_percent_signs(sql: Sql, move: Move, seen: Any, url: str) -> None:
    sql("CREATE TABLE a (id int, word text)", "INSERT INTO a VALUES (1, '100%'), (2, '100'), (3, '%s')")
    query = (
        "SELECT id AS `id %`, DATE_FORMAT('2026-01-31', '%Y/%m') AS `m %` FROM a WHERE word LIKE '%\\%%' AND id % 2 = 1"
    )
    config = {"source": url, "query": query, "mode": "incremental", "cursor": "id %", "into": "rows"}
    move(**config)
    sql("INSERT INTO a VALUES (5, '5%'), (6, '6%'), (7, '7')")
    moved = move(**config, run="run-2")["rows"]
    assert (moved, seen("rows")["rows"]) == (1, [{"id %": f"int {n}", "m %": "str '2026/01'"} for n in (1, 3, 5)])


CURSORS = """
    i AS whole, CAST(i / 4 AS decimal(30, 12)) AS exact, CAST(i AS double) / 3 AS real8, CAST(i AS float) / 3 AS real4,
    CAST('2026-01-01 00:00:00.999990' AS datetime(6)) + INTERVAL i MICROSECOND AS local,
    TIMESTAMP('2026-03-29 00:59:59.999990') + INTERVAL i MICROSECOND AS moment,
    DATE('2026-01-01') + INTERVAL i DAY AS day, CHAR(90 + i USING utf8mb4) AS word
"""


@pytest.mark.parametrize("cursor", ["whole", "exact", "real8", "real4", "local", "moment", "day", "word"])
def test_a_cursor_of_each_type(sql: Sql, move: Move, seen: Any, url: str, cursor: str) -> None:
    sql(
        "CREATE TABLE a (whole int, exact decimal(30, 12), real8 double, real4 float, local datetime(6),"
        " moment timestamp(6), day date, word varchar(9))",
        f"INSERT INTO a SELECT {CURSORS} FROM (SELECT seq AS i FROM seq_0_to_9) AS i",
    )
    config = {"source": url, "mode": "incremental", "cursor": cursor}
    move(**config)
    again = move(**config, run="run-2")["rows"]
    # Letters of both cases: by the rules of the column they would stand among each other.
    sql(f"INSERT INTO a SELECT {CURSORS} FROM (SELECT seq AS i FROM seq_10_to_14) AS i")
    new = move(**config, run="run-3")["rows"]
    wholes = [row["whole"] for row in seen("a")["rows"]]
    assert (again, new, wholes) == (0, 5, [f"int {i}" for i in range(15)])


def test_rows_that_share_the_last_cursor_are_not_lost(sql: Sql, move: Move, seen: Any, url: str) -> None:
    sql("CREATE TABLE a (id int PRIMARY KEY, at datetime)", "INSERT INTO a VALUES (1, '2026-01-01'), (2, '2026-01-01')")
    config = {"source": url, "mode": "incremental", "cursor": "at", "primary_key": "id"}
    move(**config)
    sql("INSERT INTO a VALUES (3, '2026-01-01')")
    moved = move(**config, run="run-2")["rows"]
    assert (moved, [row["id"] for row in seen("a")["rows"]]) == (1, ["int 1", "int 2", "int 3"])


# --- What stands in the way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"tables": "nope"}, "has no table nope."),
        ({"tables": "a", "cursor": "nope"}, "`a` has no column nope; it has id, day."),
        (
            {"query": "SELECT 1 AS x; DROP TABLE a"},
            "does not let `query` be read: You have an error in your SQL syntax",
        ),
        ({"query": "DELETE FROM a RETURNING id"}, "does not let `query` be read: You have an error in your SQL syntax"),
        ({"query": "SELECT * FROM a UNION SELECT * FROM mysql.secrets"}, "does not let `query` be read: Table"),
        ({"tables": "a"}, "Column day of `a` holds a value that is no date32[day]: use a query that casts it."),
    ],
    ids=["no table", "no column", "two statements", "no SELECT", "no right", "a day that is none"],
)
def test_what_another_try_cannot_help(sql: Sql, move: Move, url: str, config: dict[str, Any], told: str) -> None:
    sql("CREATE TABLE a (id int, day date)", "SET sql_mode = ''", "INSERT INTO a VALUES (1, '0000-00-00')")
    assert told in move(source=url, **config)["refused"]


def test_a_query_that_would_write(sql: Sql, move: Move, url: str) -> None:
    sql("CREATE SEQUENCE s")
    assert "READ ONLY" in str(move(source=url, query="SELECT NEXTVAL(s) AS n"))


def test_a_wrong_password_is_not_told(sql: Sql, move: Move, url: str) -> None:
    failed = move(source=url.replace("word-4711", "wrong-4712"))["failed"]
    assert ("Access denied for user 'loader'" in failed, "471" in failed) == (True, False)


def test_a_source_that_goes_away_while_it_is_read(
    server: tuple[int, Path], database: str, kit: Kit, watcher: Kit, url: str, folder: Path, tmp_path: Path
) -> None:
    slow = "SELECT seq, repeat('x', 1000) AS t, IF(seq > 20000, SLEEP(0.001), 0) AS s FROM seq_1_to_90000"
    config = {"source": url, "target": f"file://{folder}/", "query": slow, "batch_size": 1000}
    kit.begin({"config": config, "folder": str(tmp_path / "etl"), "local_dirs": [str(tmp_path)]})
    asked = {"socket": str(server[1]), "database": database}
    reading = "SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP%' AND time_ms BETWEEN 500 AND 1e8"
    found: Any = []
    while not found:
        found = watcher.ask(mysql=[f"{reading} AND user = 'loader'"], **asked)
    watcher.ask(mysql=[f"KILL CONNECTION {found[0][0]}"], **asked)
    failed = kit.answer()["failed"]
    place = {"folder": str(folder)}
    assert (failed.startswith("Reading `query` of 127.0.0.1"), kit.ask(list=place)) == (True, [])
