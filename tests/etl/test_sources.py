"""Sources that are no PostgreSQL."""

import gzip
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.etl.asking import Kit
from tests.etl.conftest import Move

pytestmark = pytest.mark.airflow

Seen = Any


@pytest.fixture
def seen(kit: Kit, folder: Path) -> Seen:
    """The rows of a table in the target."""
    return lambda table: kit.ask(table=table, place={"folder": str(folder)})["rows"]


# --- SQLite -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "in.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, word TEXT, part REAL, raw BLOB, at DATETIME)")
        connection.execute("INSERT INTO a VALUES (1, '客', 0.5, x'00ff', '2026-01-01'), (2, NULL, NULL, NULL, NULL)")
        yield connection


ROWS = [
    {"id": "int 1", "word": "str '客'", "part": "float 0.5", "raw": "bytes b'\\x00\\xff'", "at": "str '2026-01-01'"},
    dict.fromkeys(("word", "part", "raw", "at"), "NoneType None") | {"id": "int 2"},
]


def test_sqlite(sqlite: sqlite3.Connection, move: Move, seen: Seen, tmp_path: Path) -> None:
    move(source=f"sqlite://{tmp_path}/in.db")
    assert seen("a") == ROWS


def test_sqlite_incremental(sqlite: sqlite3.Connection, move: Move, seen: Seen, tmp_path: Path) -> None:
    config = {"source": f"sqlite://{tmp_path}/in.db", "mode": "incremental", "cursor": "id"}
    move(**config)
    sqlite.execute("INSERT INTO a (id) VALUES (30)")
    assert (move(**config, run="run-2")["rows"], len(seen("a"))) == (1, 3)


def test_sqlite_query(sqlite: sqlite3.Connection, move: Move, seen: Seen, tmp_path: Path) -> None:
    move(source=f"sqlite://{tmp_path}/in.db", query="SELECT count(*) AS n, max(word) AS w FROM a")
    assert seen("query") == [{"n": "int 2", "w": "str '客'"}]


def test_sqlite_with_a_text_among_numbers(sqlite: sqlite3.Connection, move: Move, tmp_path: Path) -> None:
    sqlite.execute("CREATE TABLE b (n INT)")
    sqlite.execute("INSERT INTO b VALUES (1), ('many')")
    assert move(source=f"sqlite://{tmp_path}/in.db", tables="b")["refused"] == (
        "Column n of `b` holds a value that is no int64: use a query that casts it."
    )


# --- Files ------------------------------------------------------------------------------------------------------------


def test_csv(move: Move, seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text('id,word\n007,"客,\n""x"""\n')
    (tmp_path / "in" / "b.csv.gz").write_bytes(gzip.compress(b'id,word\n8,\n9,""\n'))
    move(source=f"file://{tmp_path}/in/*.csv*", into="words")
    assert seen("words") == [
        {"id": "str '007'", "word": "str '客,\\n\"x\"'"},
        {"id": "str '8'", "word": "NoneType None"},
        {"id": "str '9'", "word": "str ''"},
    ]


def test_json_lines(move: Move, seen: Seen, tmp_path: Path) -> None:
    rows = [{"id": 1, "tags": {"a": ["客"]}}, {"id": 2, "more": "x"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    move(source=f"file://{tmp_path}/in.jsonl", into="lines")
    assert seen("lines") == [
        {"id": "int 1", "tags": 'str \'{"a":["客"]}\'', "more": "NoneType None"},
        {"id": "int 2", "tags": "NoneType None", "more": "str 'x'"},
    ]


def test_a_line_that_is_no_object(move: Move, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1}\n[2]\n')
    assert "Line 2 of" in move(source=f"file://{tmp_path}/in.jsonl")["refused"]


def test_no_file(move: Move, tmp_path: Path) -> None:
    assert "has no file that fits *.csv" in move(source=f"file://{tmp_path}/in/*.csv")["refused"]


# --- REST -------------------------------------------------------------------------------------------------------------

ITEMS = [{"id": number, "word": f"客 {number}", "at": f"2026-01-{number:02}"} for number in range(1, 8)]


class Api(BaseHTTPRequestHandler):
    """Pages of three."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        begin = int(asked.get("offset") or asked.get("cursor") or (int(asked.get("page", 1)) - 1) * 3)
        page, more = ITEMS[begin : begin + 3], begin + 3 < len(ITEMS)
        host = f"http://{self.headers['Host']}"
        body: Any = {"data": page, "meta": {"next": str(begin + 3) if more else None}}
        links, status = [], 200
        match parts.path:
            case "/next_url":
                body["next"] = f"{host}/next_url?offset={begin + 3}" if more else None
            case "/elsewhere":
                body["next"] = "http://127.0.0.2:1/elsewhere"
            case "/link_header":
                links = [f'<{host}/link_header?offset={begin + 3}>; rel="next"'] if more else []
            case "/private":
                status = 200 if self.headers["Authorization"] == "Bearer token-4711" else 401
            case "/moved":
                status = 302
                links = []
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 302:
            self.send_header("Location", f"{host}/page")
        for link in links:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "paging"),
    [
        ("/page", {"type": "page"}),
        ("/offset", {"type": "offset", "size": 3}),
        ("/cursor", {"type": "cursor", "path": "meta.next"}),
        ("/next_url", {"type": "next_url"}),
        ("/link_header", {"type": "link_header"}),
    ],
)
def test_rest_pages(move: Move, seen: Seen, api: str, path: str, paging: dict[str, Any]) -> None:
    move(source={"type": "rest", "url": f"{api}{path}", "data_path": "data", "paging": paging})
    assert [row["id"] for row in seen("items")] == [f"int {item['id']}" for item in ITEMS]


def test_rest_incremental(move: Move, seen: Seen, api: str) -> None:
    source = {"type": "rest", "url": f"{api}/page", "data_path": "data", "paging": {"type": "page"}}
    config = {"source": source, "mode": "incremental", "cursor": "at"}
    moved = [move(**config)["rows"], move(**config, run="run-2")["rows"]]
    assert (moved, len(seen("items"))) == ([7, 0], 7)


def test_rest_with_a_token_of_a_connection(move: Move, api: str) -> None:
    source = {"type": "rest", "url": f"{api}/private", "data_path": "data", "conn_id": "api"}
    assert move(source=source, connections={"api": {"password": "token-4711"}})["rows"] == 3


@pytest.mark.parametrize(
    ("url", "paging", "told"),
    [
        ("{api}/elsewhere", {"type": "next_url"}, "another host than the record names"),
        ("{api}/moved", None, "sends on to elsewhere"),
        ("{api}/private", None, "answers 401"),
        ("http://169.254.169.254/latest/meta-data", None, "this machine's own network"),
    ],
)
def test_rest_that_is_not_followed(move: Move, api: str, url: str, paging: Any, told: str) -> None:
    moved = move(source={"type": "rest", "url": url.format(api=api), "data_path": "data", "paging": paging})
    assert told in moved.get("refused", moved.get("failed"))
