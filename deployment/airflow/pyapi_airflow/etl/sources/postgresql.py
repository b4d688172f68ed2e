"""PostgreSQL: Arrow batches straight from its binary COPY, through ADBC; one snapshot for all tables of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import adbc_driver_manager
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import StatementOptions, dbapi
from psycopg import sql

from pyapi.etl.jobs import Job, Table
from pyapi_airflow.etl.columns import chosen
from pyapi_airflow.etl.failures import Refused, telling
from pyapi_airflow.etl.sources.base import Found

_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.relname
"""
# What ADBC reads as it is; arrays of these as well. All else comes as text, which is exact.
_PLAIN: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bpchar": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}
_IN_ARRAYS = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar"})
_MOST_DIGITS = 76
# Half of what ADBC takes by itself: a batch lives several times, as it comes, as it is cast and as it is written.
_BATCH_BYTES = 8 * 2**20
_ORDERED_BY_LOCALE = frozenset({"text", "varchar", "bpchar"})
_SESSION = {
    "connect_timeout": "10",
    "application_name": "pyapi-etl",
    "keepalives_idle": "10",
    "keepalives_count": "3",
    "keepalives_interval": "5",
}


@dataclass(frozen=True)
class Column:
    """A column with the SQL that reads it and what it becomes. `type_name` is PostgreSQL's."""

    name: str
    type_name: str
    read: sql.Composable
    arrow: pa.DataType

    def fitted(self, array: pa.Array) -> pa.Array:
        """The values as the target shall have them. Raises ArrowInvalid for one that does not fit."""
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        _check_times(array)
        return array if array.type == self.arrow else array.cast(self.arrow)


class PostgresSource:
    """`options` as `connections.options_of` gives them."""

    def __init__(self, job: Job, options: Mapping[str, Any], query: str | None) -> None:
        self._job = job
        self._query = query
        self._schema = options.get("schema") or "public"
        self._options = connect_options(options)
        self._server = f"{options.get('host')}:{options.get('port') or 5432}/{options.get('database')}"
        self._stream: Any = None

    def tables(self) -> list[Found]:
        """Tables with their columns, as the catalogue has them."""
        if self._query is not None:
            return [self._found(self._job.defaults, sql.SQL("({}) AS query").format(sql.SQL(_bare(self._query))))]
        there = [row[0] for row in self._catalogue.execute(_TABLES, (self._schema,))]
        wanted = self._job.tables or tuple(_named(self._job.defaults, name) for name in there)
        if not wanted:
            raise Refused(f"Schema {self._schema} of {self._server} has no table that this account may see.")
        return [self._found(table, sql.Identifier(self._schema, table.name)) for table in wanted]

    def rows(self, found: Found, *, since: str | None) -> Iterator[pa.RecordBatch]:
        """Batches of some 8 MB each."""
        columns: list[Column] = found.plan[1]
        schema = pa.schema([pa.field(column.name, column.arrow) for column in columns])
        what = f"Reading `{found.table.name}` of {self._server}"
        with telling(what, adbc_driver_manager.Error, pa.ArrowException, OSError), self._snapshot.cursor() as cursor:
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: _BATCH_BYTES})
            cursor.execute(self.statement(found, since=since))
            for batch in cursor.fetch_record_batch():
                yield pa.record_batch(
                    [_fitted(column, array, found.table) for column, array in zip(columns, batch.columns, strict=True)],
                    schema=schema,
                )

    def statement(self, found: Found, *, since: str | None) -> str:
        """The SELECT, its values in it: COPY takes no parameters."""
        relation, columns = found.plan
        statement = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(sql.SQL("{} AS {}").format(item.read, sql.Identifier(item.name)) for item in columns),
            relation,
        )
        if since is not None and found.table.cursor is not None:
            cursor = next(item for item in columns if item.name == found.table.cursor)
            # Arrow compares texts by their bytes, so PostgreSQL has to.
            order = sql.SQL(' COLLATE "C"' if cursor.type_name in _ORDERED_BY_LOCALE else "")
            statement += sql.SQL(" WHERE {}{} {} {}::{}").format(
                sql.Identifier(cursor.name),
                order,
                sql.SQL(">=" if found.table.primary_key else ">"),
                sql.Literal(since),
                sql.SQL(cursor.type_name),
            )
        return str(statement.as_string(self._catalogue))

    def close(self) -> None:
        """End both connections."""
        for name in ("_catalogue", "_snapshot"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    @cached_property
    def _catalogue(self) -> "psycopg.Connection[Any]":
        with telling(f"Connecting to {self._server}", psycopg.Error):
            connection = psycopg.connect(**self._options, options="-c default_transaction_read_only=on")
            connection.autocommit = True
            return connection

    @cached_property
    def _snapshot(self) -> Any:
        with telling(f"Connecting to {self._server}", adbc_driver_manager.Error, OSError):
            connection = dbapi.connect(as_url(self._options))
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return connection

    def _found(self, table: Table, relation: sql.Composable) -> Found:
        try:
            with telling(f"Looking at `{table.name}` of {self._server}", psycopg.OperationalError):
                # Prepared, so that it can only be one statement.
                statement = sql.SQL("SELECT * FROM {} LIMIT 0").format(relation)
                described = self._catalogue.execute(statement, prepare=True).description
        except psycopg.Error as error:
            detail = (error.diag.message_primary or type(error).__name__)[:300]
            raise Refused(f"{self._server} does not let `{table.name}` be read: {detail}.") from None
        by_name = {item.name: item for item in described or ()}
        names = chosen(table, [item.name for item in described or ()])
        columns = [self._column(by_name[name]) for name in names]
        return Found(table, pa.schema([pa.field(item.name, item.arrow) for item in columns]), (relation, columns))

    def _column(self, described: Any) -> Column:
        type_name, is_array = self._type_name(described.type_code)
        name = sql.Identifier(described.name)
        if is_array:
            if type_name in _IN_ARRAYS:
                return Column(described.name, f"{type_name}[]", _flat(name, type_name), pa.list_(_PLAIN[type_name]))
        elif type_name == "numeric" and described.precision and described.precision <= _MOST_DIGITS:
            digits, scale = described.precision, described.scale or 0
            if 0 <= scale <= digits:
                arrow = pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)
                return Column(described.name, type_name, name, arrow)
        elif type_name in _PLAIN:
            return Column(described.name, type_name, name, _PLAIN[type_name])
        return Column(described.name, type_name, sql.SQL("{}::text").format(name), pa.string())

    def _type_name(self, oid: int) -> tuple[str, bool]:
        if oid not in self._types:
            row = self._catalogue.execute(
                "SELECT coalesce(e.typname, t.typname), e.oid IS NOT NULL FROM pg_type t"
                " LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' WHERE t.oid = %s",
                (oid,),
            ).fetchone()
            self._types[oid] = (str(row[0]), bool(row[1])) if row is not None else ("text", False)
        return self._types[oid]

    @cached_property
    def _types(self) -> dict[int, tuple[str, bool]]:
        return {}


def connect_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What libpq is told. It would look for passwords in files of the worker by itself."""
    names = {"host": "host", "port": "port", "database": "dbname", "user": "user", "password": "password"}
    given = {libpq: str(options[name]) for name, libpq in names.items() if options.get(name)}
    if "host" not in given or given["host"].startswith("/"):
        raise Refused("The source or target names no host, and its Airflow Connection names none either.")
    sslmode = {"sslmode": options["sslmode"]} if options.get("sslmode") else {}
    return {**_SESSION, "passfile": "/dev/null", **sslmode, **given}


def as_url(options: Mapping[str, str]) -> str:
    """The same as a URL, which is all that ADBC takes."""
    rest = dict(options)
    host, account = rest.pop("host"), ""
    if user := rest.pop("user", ""):
        account = f"{quote(user, safe='')}:{quote(rest.pop('password', ''), safe='')}@"
    host = f"[{host}]" if ":" in host else host
    port, database = rest.pop("port", "5432"), quote(rest.pop("dbname", ""), safe="")
    return f"postgresql://{account}{host}:{port}/{database}?{urlencode(rest, quote_via=quote)}"


def _flat(name: sql.Identifier, type_name: str) -> sql.Composable:
    """An array of one dimension: ADBC would make one of several, and say nothing. The error shows this text."""
    detail = sql.Literal("an array of several dimensions, use a query with to_json: ")
    return sql.SQL("CASE WHEN array_ndims({0}) > 1 THEN ({1} || {0}::text)::{2} ELSE {0} END").format(
        name, detail, sql.SQL(f"{type_name}[]")
    )


def _check_times(array: pa.Array) -> None:
    """ADBC makes some other time of infinity, which Arrow does not know; PostgreSQL has none before 4714 BC."""
    if pa.types.is_timestamp(array.type):
        least: Any = pc.min(array.cast(pa.int64())).as_py()
        earliest = -210_866_803_200_000_000
    elif pa.types.is_date32(array.type):
        least = pc.min(array.cast(pa.int32())).as_py()
        earliest = -2_440_588
    else:
        return
    if least is not None and least < earliest:
        raise pa.ArrowInvalid("infinity")


def _bare(query: str) -> str:
    """The query without its last semicolon; a line of its own, for it may end in a comment."""
    return f"{query.strip().rstrip(';')}\n"


def _named(defaults: Table, name: str) -> Table:
    return Table(name, defaults.cursor, defaults.primary_key, defaults.columns, defaults.exclude)


def _fitted(column: Column, array: pa.Array, table: Table) -> pa.Array:
    try:
        return column.fitted(array)
    except pa.ArrowException:
        raise Refused(
            f"Column {column.name} of `{table.name}` holds a value, such as NaN or infinity, that {column.arrow} cannot"
            " hold: use a query that casts it."
        ) from None
