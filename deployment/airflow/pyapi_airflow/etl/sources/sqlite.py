"""SQLite: a file of the worker, opened read-only and locked to itself."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from pyapi.etl.jobs import Job, Table
from pyapi_airflow.etl.columns import chosen
from pyapi_airflow.etl.failures import Refused, telling
from pyapi_airflow.etl.places import allowed_path
from pyapi_airflow.etl.sources.base import Found
from pyapi_airflow.etl.sources.rows import as_batch, inferred, plain_cursor

# https://www.sqlite.org/datatype3.html#determination_of_column_affinity; what is none of these is looked at.
_AFFINITIES = (
    (("INT",), pa.int64()),
    (("CHAR", "CLOB", "TEXT"), pa.string()),
    (("BLOB",), pa.binary()),
    (("REAL", "FLOA", "DOUB"), pa.float64()),
)
_LOOKED_AT = 1_000


class SqliteSource:
    """`path` must lie in PYAPI_ETL_LOCAL_DIRS."""

    def __init__(self, job: Job, path: str, query: str | None, *, allowed: tuple[Path, ...]) -> None:
        self._job = job
        self._query = query
        self._path = allowed_path(path, allowed=allowed)

    def tables(self) -> list[Found]:
        """Tables with their declared types."""
        if self._query is not None:
            return [self._found(self._job.defaults, f"(\n{self._query.strip().rstrip(';')}\n) AS query", {})]
        with telling(f"Looking at {self._path}", sqlite3.Error):
            listed = self._connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
                " ORDER BY name"
            ).fetchall()
        there = [str(name) for (name,) in listed]
        wanted: tuple[Table, ...] = self._job.tables or tuple(replace(self._job.defaults, name=name) for name in there)
        if missing := sorted({table.name for table in wanted} - set(there)):
            raise Refused(f"{self._path} has no table {', '.join(missing)}; it has {', '.join(there)}.")
        if not wanted:
            raise Refused(f"{self._path} has no table.")
        return [self._found(table, _quoted(table.name), self._declared(table.name)) for table in wanted]

    def rows(self, found: Found, *, since: str | None) -> Iterator[pa.RecordBatch]:
        """Batches of `batch_size` rows."""
        assert found.schema is not None
        statement = f"SELECT {', '.join(map(_quoted, found.schema.names))} FROM {found.plan}"  # noqa: S608  (quoted)
        parameters: list[Any] = []
        if since is not None and found.table.cursor is not None:
            statement += f" WHERE {_quoted(found.table.cursor)} {'>=' if found.table.primary_key else '>'} ?"
            parameters.append(plain_cursor(since, found.schema.field(found.table.cursor).type))
        with (
            telling(f"Reading `{found.table.name}` of {self._path}", sqlite3.Error),
            closing(self._connection.execute(statement, parameters)) as cursor,
        ):
            while rows := cursor.fetchmany(self._job.batch_size):
                yield as_batch(rows, found.schema, found.table.name)

    def close(self) -> None:
        """Close the file."""
        if "_connection" in self.__dict__:
            self.__dict__.pop("_connection").close()

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        if not self._path.is_file():
            raise Refused(f"There is no file {self._path}.")
        with telling(f"Opening {self._path}", sqlite3.Error):
            connection = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, isolation_level=None)
            # A query could open every other file of the worker.
            connection.set_authorizer(_allow)
            connection.execute("BEGIN")
            return connection

    def _declared(self, table: str) -> dict[str, str]:
        found = self._connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
        return {str(name): str(kind).upper() for name, kind in found}

    def _found(self, table: Table, relation: str, declared: dict[str, str]) -> Found:
        try:
            cursor = self._connection.execute(f"SELECT * FROM {relation} LIMIT {_LOOKED_AT}")  # noqa: S608  (quoted)
            names, rows = [item[0] for item in cursor.description], cursor.fetchall()
        except sqlite3.Error as error:
            raise Refused(f"{self._path} does not let `{table.name}` be read: {error}.") from None
        columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
        schema = pa.schema(
            [pa.field(name, _type(declared.get(name, ""), columns.get(name, ()))) for name in chosen(table, names)]
        )
        return Found(table, schema, relation)


def _type(declared: str, values: tuple[Any, ...]) -> pa.DataType:
    for words, kind in _AFFINITIES:
        if any(word in declared for word in words):
            return kind
    return inferred(values)


def _allow(action: int, *_: Any) -> int:
    return sqlite3.SQLITE_DENY if action in {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH} else sqlite3.SQLITE_OK


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
