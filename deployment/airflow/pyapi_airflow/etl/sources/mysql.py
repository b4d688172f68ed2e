"""MySQL and MariaDB: rows as the server sends them, in one read-only snapshot."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pymysql
from pymysql.constants import FIELD_TYPE, FLAG
from pymysql.converters import conversions
from pymysql.cursors import SSCursor

from pyapi.etl.jobs import Job, Table
from pyapi_airflow.etl.columns import chosen
from pyapi_airflow.etl.failures import Refused, telling
from pyapi_airflow.etl.sources.base import Found
from pyapi_airflow.etl.sources.rows import as_batch, plain_cursor

_TABLES = (
    "SELECT table_name FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' ORDER BY table_name"
)
_TYPES: Mapping[int, pa.DataType] = {
    FIELD_TYPE.TINY: pa.int16(),
    FIELD_TYPE.SHORT: pa.int32(),
    FIELD_TYPE.INT24: pa.int32(),
    FIELD_TYPE.LONG: pa.int64(),
    FIELD_TYPE.YEAR: pa.int16(),
    FIELD_TYPE.FLOAT: pa.float32(),
    FIELD_TYPE.DOUBLE: pa.float64(),
    FIELD_TYPE.DATE: pa.date32(),
    FIELD_TYPE.NEWDATE: pa.date32(),
    FIELD_TYPE.DATETIME: pa.timestamp("us"),
    FIELD_TYPE.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    FIELD_TYPE.BIT: pa.binary(),
    FIELD_TYPE.GEOMETRY: pa.binary(),
}
# A TIME may be negative, or last for weeks: as text it stays what it is.
_CONVERSIONS = {**conversions, FIELD_TYPE.TIME: str}
_BINARY = 63
_TEXTS = frozenset(
    {
        *(FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING, FIELD_TYPE.ENUM, FIELD_TYPE.SET),
        *(FIELD_TYPE.TINY_BLOB, FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB, FIELD_TYPE.BLOB),
    }
)


class MysqlSource:
    """`options` as `connections.options_of` gives them."""

    def __init__(self, job: Job, options: Mapping[str, Any], query: str | None) -> None:
        self._job = job
        self._query = query
        self._options = options
        self._server = f"{options.get('host')}:{options.get('port') or 3306}/{options.get('database')}"

    def tables(self) -> list[Found]:
        """Tables with their columns, as the server describes them."""
        if self._query is not None:
            return [self._found(self._job.defaults, f"(\n{self._query.strip().rstrip(';')}\n) AS query")]
        with self._connection.cursor() as cursor:
            cursor.execute(_TABLES)
            there = [str(row[0]) for row in cursor.fetchall()]
        wanted: tuple[Table, ...] = self._job.tables or tuple(replace(self._job.defaults, name=name) for name in there)
        if missing := sorted({table.name for table in wanted} - set(there)):
            raise Refused(f"{self._server} has no table {', '.join(missing)}.")
        if not wanted:
            raise Refused(f"{self._server} has no table that this account may see.")
        return [self._found(table, _quoted(table.name)) for table in wanted]

    def rows(self, found: Found, *, since: str | None) -> Iterator[pa.RecordBatch]:
        """Batches of `batch_size` rows; the driver keeps no more than that."""
        with (
            telling(f"Reading `{found.table.name}` of {self._server}", pymysql.Error, OSError),
            self._connection.cursor(SSCursor) as cursor,
        ):
            cursor.execute(*_statement(found, since))
            try:
                while rows := cursor.fetchmany(self._job.batch_size):
                    yield as_batch(rows, _schema(found), found.table.name)
            except BaseException:
                # The driver would read to the end what nobody wants any more, from a server that may be gone.
                cursor._result.unbuffered_active = False
                raise

    def close(self) -> None:
        """End the connection."""
        if "_connection" in self.__dict__:
            self.__dict__.pop("_connection").close()

    @cached_property
    def _connection(self) -> "pymysql.Connection[Any]":
        if not self._options.get("host"):
            raise Refused("The source names no host, and its Airflow Connection names none either.")
        with telling(f"Connecting to {self._server}", pymysql.Error, OSError):
            connection = pymysql.connect(
                host=self._options["host"],
                port=int(self._options.get("port") or 3306),
                user=self._options.get("user"),
                password=self._options.get("password") or "",
                database=self._options.get("database"),
                charset="utf8mb4",
                conv=_CONVERSIONS,
                connect_timeout=10,
                read_timeout=3_600,
                local_infile=False,
                init_command="SET time_zone = '+00:00'",
            )
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            return connection

    def _found(self, table: Table, relation: str) -> Found:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {relation} LIMIT 0")  # noqa: S608  (quoted, or the user's own query)
                fields = {item.name: item for item in cursor._result.fields}
                names = [item[0] for item in cursor.description or ()]
        except pymysql.Error as error:
            detail = str(error.args[1] if len(error.args) > 1 else error)[:300]
            raise Refused(f"{self._server} does not let `{table.name}` be read: {detail}.") from None
        schema = pa.schema([pa.field(name, _type(fields[name])) for name in chosen(table, names)])
        return Found(table, schema, relation)


def _type(field: Any) -> pa.DataType:
    is_unsigned = bool(field.flags & FLAG.UNSIGNED)
    if field.type_code == FIELD_TYPE.LONGLONG:
        return pa.uint64() if is_unsigned else pa.int64()
    if field.type_code in {FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL}:
        # The length counts the sign and the point.
        digits = max(1, field.length - (0 if is_unsigned else 1) - (1 if field.scale else 0))
        return pa.decimal128(digits, field.scale) if digits <= 38 else pa.decimal256(min(digits, 76), field.scale)
    if field.type_code in _TEXTS:
        return pa.binary() if field.charsetnr == _BINARY else pa.string()
    return _TYPES.get(field.type_code, pa.string())


def _schema(found: Found) -> pa.Schema:
    assert found.schema is not None, "a server tells its columns"
    return found.schema


def _statement(found: Found, since: str | None) -> tuple[str, list[Any] | None]:
    """The SELECT and its parameters. Without any, pymysql leaves the percent signs of a query alone."""
    schema = _schema(found)
    statement = f"SELECT {', '.join(map(_read, schema))} FROM {found.plan}"  # noqa: S608  (quoted)
    if since is None or found.table.cursor is None:
        return statement, None
    kind = schema.field(found.table.cursor).type
    # Arrow compares texts by their bytes, so MySQL has to.
    column = f"{'BINARY ' if pa.types.is_string(kind) else ''}{_quoted(found.table.cursor)}"
    statement += f" WHERE {column} {'>=' if found.table.primary_key else '>'} "
    return f"{statement.replace('%', '%%')}%s", [plain_cursor(since.removesuffix("Z"), kind)]


def _read(column: pa.Field) -> str:
    """The server writes six digits of a FLOAT, and all of them of a DOUBLE."""
    return f"{_quoted(column.name)} + 0E0" if pa.types.is_float32(column.type) else _quoted(column.name)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
