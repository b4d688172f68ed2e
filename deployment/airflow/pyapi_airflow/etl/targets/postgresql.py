"""PostgreSQL as a target: rows and state in one transaction, so that a run has happened or has not."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import adbc_driver_manager
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi
from psycopg import sql

from pyapi.etl.kinds import Mode
from pyapi_airflow.etl.columns import fitted
from pyapi_airflow.etl.failures import MoveFailed, Refused, telling
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.sources.postgresql import as_url, connect_options
from pyapi_airflow.etl.states import Done, TableState
from pyapi_airflow.etl.targets.base import Staged

_STATE = "_pyapi_state"
_INCOMING = "_pyapi_incoming"
_TYPES: tuple[tuple[Any, str], ...] = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_int8, "smallint"),
    (pa.types.is_int16, "smallint"),
    (pa.types.is_int32, "integer"),
    (pa.types.is_uint64, "numeric(20)"),
    (pa.types.is_integer, "bigint"),
    (pa.types.is_float32, "real"),
    (pa.types.is_floating, "double precision"),
    (pa.types.is_binary, "bytea"),
    (pa.types.is_large_binary, "bytea"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
)
# From each of these to each that follows, no value is lost.
_WIDER = (("smallint", "integer", "bigint", "numeric"), ("real", "double precision"))


class PostgresTarget:
    """`options` as `connections.options_of` gives them."""

    def __init__(self, options: Mapping[str, Any], run: Run) -> None:
        self._schema = options.get("schema") or "public"
        self._options = connect_options(options)
        self._server = f"{options.get('host')}:{options.get('port') or 5432}/{options.get('database')}"
        self._run = run

    def state(self, table: str) -> TableState:
        """What `_pyapi_state` says; it is never apart from the rows."""
        with telling(f"Looking at {self._server}", psycopg.Error):
            there = self._catalogue.execute("SELECT to_regclass(%s)", (self._name(_STATE).as_string(),)).fetchone()
            if there is None or there[0] is None:
                return TableState()
            found = self._catalogue.execute(
                sql.SQL("SELECT state FROM {} WHERE owner = %s AND name = %s").format(self._name(_STATE)),
                (self._run.owner, table),
            ).fetchone()
        return TableState() if found is None else TableState.from_json(found[0])

    def commit(self, staged: Staged, before: TableState, done: Done, changes: Mapping[str, Any]) -> int:
        """Bring the rows into a table of this transaction, and from there to where they belong."""
        name = staged.table.name
        after = before.then(done, replaces=staged.starts_anew, **changes)
        types = {item.name: _type_of(item.type) for item in staged.schema}
        what = f"Writing `{name}` to {self._server}"
        with telling(what, adbc_driver_manager.Error, psycopg.Error, pa.ArrowException, OSError):
            self._prepare(staged, types)
            with dbapi.connect(as_url(self._options)) as connection, connection.cursor() as cursor:
                self._lock(cursor, name, before)
                self._bring_in(cursor, staged)
                for statement in self._statements(staged, types):
                    cursor.execute(statement.as_string())
                cursor.execute(self._remembering(name, after).as_string())
                connection.commit()
        return staged.path.stat().st_size

    def check(self) -> None:
        """Make a table, and take it back."""
        with telling(f"Writing to {self._server}", psycopg.Error):
            connection = psycopg.connect(**self._options)
            try:
                connection.execute(
                    sql.SQL("CREATE TABLE {} (id int)").format(self._name(f"_pyapi_check_{self._run.record_id}"))
                )
            finally:
                connection.rollback()
                connection.close()

    def close(self) -> None:
        """End the connection."""
        if "_catalogue" in self.__dict__:
            self.__dict__.pop("_catalogue").close()

    @cached_property
    def _catalogue(self) -> "psycopg.Connection[Any]":
        with telling(f"Connecting to {self._server}", psycopg.Error):
            return psycopg.connect(**self._options, autocommit=True)

    def _prepare(self, staged: Staged, types: Mapping[str, str]) -> None:
        """Tables and columns. They may be there without rows: nothing is half moved by that."""
        self._catalogue.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (owner text, name text, state text NOT NULL, PRIMARY KEY (owner, name))"
            ).format(self._name(_STATE))
        )
        table = self._name(staged.table.name)
        columns = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in types.items()]
        if staged.table.primary_key:
            key = sql.SQL(", ").join(map(sql.Identifier, staged.table.primary_key))
            columns.append(sql.SQL("PRIMARY KEY ({})").format(key))
        self._catalogue.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(table, sql.SQL(", ").join(columns))
        )
        there = dict(
            self._catalogue.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                (table.as_string(),),
            ).fetchall()
        )
        for name, kind in types.items():
            column = sql.Identifier(name)
            if name not in there:
                self._catalogue.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(table, column, sql.SQL(kind)))
            elif _is_wider(there[name], kind):
                self._catalogue.execute(
                    sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}").format(table, column, sql.SQL(kind))
                )

    def _lock(self, cursor: Any, name: str, before: TableState) -> None:
        """Whoever else would write this table waits, and then finds that the state is another one."""
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(self._name(_STATE)).as_string())
        if self.state(name).number != before.number:
            raise MoveFailed(f"Another run has written `{name}` meanwhile.")

    def _bring_in(self, cursor: Any, staged: Staged) -> None:
        schema = pa.schema([pa.field(item.name, _sent_as(item.type)) for item in staged.schema])
        with pq.ParquetFile(staged.path) as file:
            batches = (fitted(batch, schema) for batch in file.iter_batches())
            reader = pa.RecordBatchReader.from_batches(schema, batches)
            cursor.adbc_ingest(_INCOMING, reader, mode="create", temporary=True)

    def _statements(self, staged: Staged, types: Mapping[str, str]) -> list[sql.Composable]:
        table, incoming = self._name(staged.table.name), sql.Identifier("pg_temp", _INCOMING)
        names = sql.SQL(", ").join(map(sql.Identifier, types))
        values = sql.SQL(", ").join(
            sql.SQL("{}::{}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in types.items()
        )
        key = sql.SQL(", ").join(map(sql.Identifier, staged.table.primary_key))
        statements: list[sql.Composable] = []
        rows: sql.Composable = sql.SQL("SELECT {} FROM {}").format(values, incoming)
        replaces_rows = staged.mode in {Mode.MERGE, Mode.INCREMENTAL} and bool(staged.table.primary_key)
        if staged.mode is Mode.FULL:
            # Not TRUNCATE: a reader whose snapshot is older would see nothing at all.
            statements.append(sql.SQL("DELETE FROM {}").format(table))
        elif replaces_rows:
            statements.append(
                sql.SQL("DELETE FROM {} WHERE ({}) IN (SELECT {} FROM {})").format(
                    table, key, _casted(staged, types), incoming
                )
            )
            order = sql.Identifier(staged.table.cursor or staged.table.primary_key[0])
            rows = sql.SQL("SELECT DISTINCT ON ({}) {} FROM {} ORDER BY {}, {} DESC").format(
                key, values, incoming, key, order
            )
        statements.append(sql.SQL("INSERT INTO {} ({}) {}").format(table, names, rows))
        statements.append(sql.SQL("DROP TABLE {}").format(incoming))
        return statements

    def _remembering(self, name: str, after: TableState) -> sql.Composable:
        return sql.SQL(
            "INSERT INTO {} VALUES ({}, {}, {}) ON CONFLICT (owner, name) DO UPDATE SET state = excluded.state"
        ).format(self._name(_STATE), sql.Literal(self._run.owner), sql.Literal(name), sql.Literal(after.to_json()))

    def _name(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._schema, table)


def _casted(staged: Staged, types: Mapping[str, str]) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL("{}::{}").format(sql.Identifier(name), sql.SQL(types[name])) for name in staged.table.primary_key
    )


def _type_of(kind: pa.DataType) -> str:
    """The type of PostgreSQL that holds all values of one of Arrow's."""
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamp without time zone" if kind.tz is None else "timestamp with time zone"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{_type_of(kind.value_type)}[]"
    if pa.types.is_nested(kind):
        raise Refused(f"PostgreSQL has no type for {kind}.")
    return next((name for is_kind, name in _TYPES if is_kind(kind)), "text")


def _sent_as(kind: pa.DataType) -> pa.DataType:
    """ADBC has no wide decimals and no unsigned numbers; PostgreSQL makes them of their text."""
    is_text = pa.types.is_decimal(kind) or pa.types.is_uint64(kind) or pa.types.is_time(kind)
    return pa.string() if is_text else kind


def _is_wider(there: str, kind: str) -> bool:
    old, new = there.partition("(")[0], kind.partition("(")[0]
    if old == new == "numeric":
        return there != kind and there != "numeric"
    return any(old in order and new in order and order.index(new) > order.index(old) for order in _WIDER)
