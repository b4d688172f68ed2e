"""DuckDB as a target: one file of the worker; rows and state in one transaction."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from pyapi.etl.kinds import Mode
from pyapi_airflow.etl.failures import MoveFailed, telling
from pyapi_airflow.etl.places import allowed_path
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.states import Done, TableState
from pyapi_airflow.etl.targets.base import Staged

_STATE = "_pyapi_state"
_NO_NETWORK = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}


class DuckdbTarget:
    """`path` must lie in PYAPI_ETL_LOCAL_DIRS. While a run writes, nobody else can open the file."""

    def __init__(self, options: Mapping[str, Any], run: Run, *, allowed: tuple[Path, ...]) -> None:
        self._path = allowed_path(options["path"], allowed=allowed)
        self._schema = options.get("schema") or "main"
        self._run = run

    def state(self, table: str) -> TableState:
        """What `_pyapi_state` says."""
        if not self._path.exists():
            return TableState()
        with telling(f"Looking at {self._path}", duckdb.Error):
            found = self._connection.execute(
                f"SELECT state FROM {self._name(_STATE)} WHERE owner = ? AND name = ?", [self._run.owner, table]
            ).fetchone()
        return TableState() if found is None else TableState.from_json(found[0])

    def commit(self, staged: Staged, before: TableState, done: Done, changes: Mapping[str, Any]) -> int:
        """Read the Parquet file as DuckDB does."""
        name = staged.table.name
        after = before.then(done, replaces=staged.starts_anew, **changes)
        with telling(f"Writing `{name}` to {self._path}", duckdb.Error):
            connection = self._connection
            connection.execute("BEGIN")
            try:
                self._check(name, before)
                self._write(staged)
                connection.execute(
                    f"INSERT OR REPLACE INTO {self._name(_STATE)} VALUES (?, ?, ?)",
                    [self._run.owner, name, after.to_json()],
                )
                connection.execute("COMMIT")
            except BaseException:
                # A full disk ends the transaction by itself: what it said is the error to tell.
                with suppress(duckdb.Error):
                    connection.execute("ROLLBACK")
                raise
        return staged.path.stat().st_size

    def _check(self, name: str, before: TableState) -> None:
        if self.state(name).number != before.number:
            raise MoveFailed(f"Another run has written `{name}` meanwhile.")

    def check(self) -> None:
        """Open the file as one who writes; one that was not there goes again."""
        was_there = self._path.exists()
        with telling(f"Writing to {self._path}", duckdb.Error, OSError):
            connection = duckdb.connect(str(self._path), config=_NO_NETWORK)
            connection.execute("BEGIN; CREATE TABLE _pyapi_check (id int); ROLLBACK")
            connection.close()
            if not was_there:
                self._path.unlink()

    def close(self) -> None:
        """Let others open the file."""
        if "_connection" in self.__dict__:
            self.__dict__.pop("_connection").close()

    @cached_property
    def _connection(self) -> Any:
        with telling(f"Opening {self._path}", duckdb.Error, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(str(self._path), config=_NO_NETWORK)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)}")
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._name(_STATE)}"
                " (owner text, name text, state text NOT NULL, PRIMARY KEY (owner, name))"
            )
            return connection

    def _write(self, staged: Staged) -> None:
        connection, table = self._connection, self._name(staged.table.name)
        incoming = f"read_parquet('{str(staged.path).replace(chr(39), chr(39) * 2)}')"
        verb = "CREATE OR REPLACE TABLE" if staged.mode is Mode.FULL else "CREATE TABLE IF NOT EXISTS"
        connection.execute(f"{verb} {table} AS SELECT * FROM {incoming} LIMIT 0")
        there = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {table}").fetchall()}
        for name, kind in [row[:2] for row in connection.execute(f"DESCRIBE SELECT * FROM {incoming}").fetchall()]:
            if name not in there:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {_quoted(name)} {kind}")
            elif there[name] != kind:
                connection.execute(f"ALTER TABLE {table} ALTER COLUMN {_quoted(name)} TYPE {kind}")
        rows = f"SELECT * FROM {incoming}"
        if staged.mode in {Mode.MERGE, Mode.INCREMENTAL} and staged.table.primary_key:
            key = ", ".join(map(_quoted, staged.table.primary_key))
            connection.execute(f"DELETE FROM {table} WHERE ({key}) IN (SELECT ({key}) FROM {incoming})")
            order = _quoted(staged.table.cursor or staged.table.primary_key[0])
            rows = f"SELECT DISTINCT ON ({key}) * FROM {incoming} ORDER BY {key}, {order} DESC"
        connection.execute(f"INSERT INTO {table} BY NAME {rows}")

    def _name(self, table: str) -> str:
        return f"{_quoted(self._schema)}.{_quoted(table)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
