"""Reads PyAPI's tables: read-only, with short timeouts, and never those of Airflow."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads

from pyapi_airflow.settings import KitSettings

DatabaseError = psycopg.Error
T = TypeVar("T")


class StoredState(NamedTuple):
    """A record as one of its revisions has it.

    `state` is the row as JSON without its config; `rule` is the part of the config that is a rule, or all of it when it
    is no object. SQL may have written anything.
    """

    record_id: int
    revision: int
    change_id: int
    change_kind: str
    changed_at: datetime
    owner: str | None
    state: dict[str, Any]
    rule: Any


_COUNTER = "SELECT pyapi_change_counter()"
_STATES = """
    SELECT DISTINCT ON (s.record_id)
        s.record_id, s.revision, s.change_id, s.change_kind, s.changed_at, r.owner, s.state - 'config',
        pyapi_rule(s.state -> 'config')
    FROM pyapi_data_revisions s LEFT JOIN pyapi_records_v1 r ON r.id = s.record_id
    WHERE s.record_id BETWEEN %(first)s AND %(last)s AND s.change_id <= %(version)s
    ORDER BY s.record_id, s.change_id DESC
"""
_SHARDS = """
    SELECT DISTINCT record_id / %(size)s AS shard FROM pyapi_data_revisions
    WHERE change_id > %(after)s AND change_id <= %(version)s ORDER BY shard
"""
_VIEW = """
    SELECT id, name, description, status, config, owner, revision, created_at, updated_at, next_run_at
    FROM pyapi_records_v1
    WHERE (%(id)s::integer IS NULL OR id = %(id)s) AND (%(status)s::text IS NULL OR status = %(status)s) ORDER BY id
"""
_STATUS = "SELECT status FROM pyapi_records_v1 WHERE id = %(id)s"
_CONFIG = "SELECT state -> 'config' FROM pyapi_data_revisions WHERE record_id = %(id)s AND revision = %(revision)s"


def _loads(text: str | bytes) -> Any:
    """JSON that plain SQL has written may be nested too deeply, or hold numbers of a million digits."""
    try:
        return json.loads(text, parse_int=_bounded)
    except (RecursionError, ValueError):
        return "(cannot be read)"


def _bounded(digits: str) -> int | float:
    return int(digits) if len(digits) < 300 else float("inf")


@contextmanager
def connect(settings: KitSettings) -> Iterator["psycopg.Connection[Any]"]:
    """A connection that can only read, in one snapshot of the database. Raises DatabaseError."""
    options = (
        f"-c statement_timeout={settings.statement_seconds}s -c lock_timeout={settings.statement_seconds}s"
        " -c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
    )
    with psycopg.connect(
        settings.database_url,
        connect_timeout=settings.connect_seconds,
        options=options,
        application_name="pyapi-airflow",
        row_factory=namedtuple_row,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    ) as connection:
        set_json_loads(_loads, connection)
        yield connection


def change_counter(connection: "psycopg.Connection[Any]") -> int:
    """Number of the newest change of any record."""
    row = connection.execute(_COUNTER).fetchone()
    return int(row[0]) if row is not None else 0


def changed_shards(connection: "psycopg.Connection[Any]", *, after: int, version: int, size: int) -> list[int]:
    """Numbers of the shards (record id / size) in which a record changed in after < change_id <= version."""
    return [row[0] for row in connection.execute(_SHARDS, {"after": after, "version": version, "size": size})]


def states(connection: "psycopg.Connection[Any]", first: int, last: int, *, version: int) -> list[StoredState]:
    """The state at `version` of each record with first <= id <= last; deleted ones are included."""
    found = connection.execute(_STATES, {"first": first, "last": last, "version": version})
    return [StoredState._make(row) for row in found]


def current_status(connection: "psycopg.Connection[Any]", record_id: int) -> str | None:
    """The status of a record right now; None when it was deleted."""
    row = connection.execute(_STATUS, {"id": record_id}).fetchone()
    return None if row is None else str(row[0])


def config_of(connection: "psycopg.Connection[Any]", record_id: int, revision: int) -> Any:
    """The config that a revision has, credentials included; None when there is no such revision."""
    row = connection.execute(_CONFIG, {"id": record_id, "revision": revision}).fetchone()
    return None if row is None else row[0]


def view_rows(
    connection: "psycopg.Connection[Any]", *, record_id: int | None = None, status: str | None = None
) -> list[tuple[Any, ...]]:
    """Rows of `pyapi_records_v1`, in the order of `records.Record`."""
    return list(connection.execute(_VIEW, {"id": record_id, "status": status}))


def patiently(settings: KitSettings, ask: "Callable[[psycopg.Connection[Any]], T]") -> T:
    """What `ask` answers, tried again for `patience_seconds`: a task that can only wait should not fail.

    It waits out a server that is away, a role that may not come in, and a table that is locked. Raises DatabaseError.
    """
    deadline = time.monotonic() + settings.patience_seconds
    while True:
        try:
            with connect(settings) as connection:
                return ask(connection)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)
