"""Moves what a job says: bring all rows in, look at their columns, and let each table appear in the target whole."""

import base64
import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pyapi.etl.jobs import Job, Table
from pyapi.etl.kinds import Contract, Mode
from pyapi_airflow.etl.columns import Progress, changes, check_cursor, described, empty_file, one_file
from pyapi_airflow.etl.failures import MoveFailed, Refused, telling
from pyapi_airflow.etl.openers import open_source, open_target
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.sources.base import Found, Source
from pyapi_airflow.etl.staging import Incoming, Package, Workshop
from pyapi_airflow.etl.states import Done, TableState
from pyapi_airflow.etl.surroundings import StillAlone, Surroundings
from pyapi_airflow.etl.targets.base import Staged, Target

log = logging.getLogger(__name__)

RESULT_VERSION = 1


def move(job: Job, run: Run, around: Surroundings) -> dict[str, Any]:
    """Move it, and answer what was moved: plain values, none of them a credential. Raises MoveFailed."""
    with around.alone(run.record_id) as still_alone:
        target = open_target(job, run, around)
        try:
            # Sources and targets tell of their own places: what is left is the folder of this worker.
            with telling(f"Keeping rows in {around.folder} of the worker", OSError):
                return _Move(job, run, around, target, still_alone).result()
        finally:
            target.close()


@dataclass
class _Reading:
    """A table on its way in."""

    found: Found
    state: TableState
    progress: Progress

    def planned(self) -> dict[str, Any]:
        """What a later try has to know of it."""
        watermark, keys = self.progress.watermark()
        schema = self.found.schema
        return {
            "table": asdict(self.found.table),
            "number": self.state.number,
            "rows": self.progress.rows,
            "watermark": watermark,
            "keys": keys,
            "schema": None if schema is None else base64.b64encode(schema.serialize()).decode(),
        }


class _Move:
    """One try of one run."""

    def __init__(self, job: Job, run: Run, around: Surroundings, target: Target, still_alone: StillAlone) -> None:
        self._job = job
        self._run = run
        self._around = around
        self._target = target
        self._still_alone = still_alone
        self._workshop = Workshop(around.folder, run.owner, run.key)
        self._identity = _digest(repr(job), _address(job), job.query)

    def result(self) -> dict[str, Any]:
        """Do it, and tell."""
        started = time.monotonic()
        package = self._workshop.found(self._identity)
        resumed = package is not None and self._fits(package)
        if package is None or not resumed:
            self._workshop.clear()
            package = self._bring_in()
        brought_in = time.monotonic()
        staged = self._staged(package)
        tables = [self._commit(item, plan) for item, plan in zip(staged, package.plan, strict=True)]
        self._workshop.clear()
        result = {
            "version": RESULT_VERSION,
            "mode": self._job.mode.value,
            "rows": sum(table["rows"] for table in tables),
            "bytes": sum(table["bytes"] for table in tables),
            "seconds": round(time.monotonic() - started, 3),
            "seconds_reading": round(brought_in - started, 3),
            "resumed": resumed,
            "tables": tables,
        }
        log.info("Moved %s rows, %s bytes in %s s.", result["rows"], result["bytes"], result["seconds"])
        return result

    # --- In -----------------------------------------------------------------------------------------------------------

    def _fits(self, package: Package) -> bool:
        """Whether a package that an earlier try has left follows what the target holds now."""
        for plan in package.plan:
            state = self._target.state(plan["table"]["name"])
            if state.number != plan["number"] and state.was_done(self._run.key) is None:
                return False
        log.info("An earlier try has read all tables: going on from there.")
        return True

    def _bring_in(self) -> Package:
        source = open_source(self._job, self._run, self._around)
        try:
            readings = [self._reading(found) for found in source.tables()]
            rows = [Incoming(_rows(source, reading), reading.found.schema) for reading in readings]
            return self._workshop.bring_in(rows, (reading.planned() for reading in readings), self._identity)
        finally:
            source.close()

    def _reading(self, found: Found) -> _Reading:
        state = self._target.state(found.table.name)
        if found.schema is not None:
            check_cursor(found.table, found.schema)
            self._check_contract(found.table.name, state, found.schema)
        since = self._since(found.table, state)
        keys = frozenset(map(tuple, state.keys)) if since is not None else frozenset()
        return _Reading(found, state, Progress(found.table, since=since, skip=keys))

    def _since(self, table: Table, state: TableState) -> str | None:
        """Where the rows begin that the target does not have; None: with the first."""
        if self._job.mode not in {Mode.INCREMENTAL, Mode.MERGE} or table.cursor is None or not state.done:
            return None
        rows = sum(done.rows for done in state.done)
        if state.identity == self._identity_of(table) and (state.watermark is not None or not rows):
            return state.watermark
        if self._job.mode is Mode.MERGE:
            return None
        raise Refused(
            f"Since the last run of `{table.name}` its source, query or cursor has changed, or it had none: rows would"
            " be there twice, or missing. Run it once with mode full, or choose another target."
        )

    def _check_contract(self, name: str, state: TableState, schema: pa.Schema) -> None:
        changed = changes(state.schema, described(schema)) if state.schema else []
        if changed and self._job.schema_contract is Contract.FREEZE:
            words = ", ".join(f"{item['column']} ({item['change']})" for item in changed)
            raise Refused(f"The columns of `{name}` are frozen and have changed: {words}. Nothing was moved.")

    # --- Out ----------------------------------------------------------------------------------------------------------

    def _staged(self, package: Package) -> list[Staged]:
        """All tables, before the first of them appears: what stands against one is said while nothing is there."""
        found = []
        for at, (plan, files) in enumerate(zip(package.plan, package.files, strict=True)):
            table = _table(plan["table"])
            state = self._target.state(table.name)
            path = self._workshop.folder / f"t{at}.parquet"
            if files:
                path = one_file(files, path, is_made_by_dlt=plan["schema"] is None)
            elif (schema := _schema_of(plan)) is not None:
                path = empty_file(path, schema)
            else:
                # Nothing but rows tells the columns, and there is none.
                path = empty_file(path, pa.schema([(name, pa.string()) for name, _ in state.schema]))
            with pq.ParquetFile(path) as file:
                rows, schema = file.metadata.num_rows, file.schema_arrow.remove_metadata()
            if rows != plan["rows"]:
                raise MoveFailed(f"`{table.name}` has {rows} rows where {plan['rows']} were read.")
            if (read := _schema_of(plan)) is not None and described(read) != described(schema):
                raise Refused(
                    f"`{table.name}` would not keep its types: {changes(described(read), described(schema))}."
                )
            self._check_contract(table.name, state, schema)
            anew = self._job.mode is Mode.FULL or not state.done
            found.append(Staged(table, path, schema, rows, self._job.mode, starts_anew=anew))
        return found

    def _commit(self, staged: Staged, plan: dict[str, Any]) -> dict[str, Any]:
        name = staged.table.name
        state = self._target.state(name)
        told = {"table": name, "rows": staged.rows, "bytes": 0, "watermark": plan["watermark"], "schema_changes": []}
        done = state.was_done(self._run.key)
        if done is not None and not self._may_repeat(staged.table):
            log.info("`%s`: an earlier try of this run has moved its %s rows.", name, done.rows)
            return told | {"rows": done.rows, "watermark": state.watermark}
        changed = changes(state.schema, described(staged.schema)) if state.schema else []
        self._still_alone()
        after = {
            "identity": self._identity_of(staged.table),
            "watermark": plan["watermark"],
            "keys": plan["keys"],
            "schema": described(staged.schema),
        }
        size = self._target.commit(staged, state, Done(self._run.key, staged.rows), after)
        log.info("`%s`: %s rows, %s bytes.", name, staged.rows, size)
        return told | {"bytes": size, "schema_changes": changed}

    def _may_repeat(self, table: Table) -> bool:
        return self._job.mode is Mode.FULL or (self._job.mode is Mode.MERGE and table.cursor is None)

    def _identity_of(self, table: Table) -> str:
        return _digest(self._job.source.type, _address(self._job), self._job.query, table.name, table.cursor)


def _rows(source: Source, reading: _Reading) -> Iterable[Any]:
    """A generator, so that nothing is read before its turn."""

    def read() -> Iterator[Any]:
        rows = source.rows(reading.found, since=reading.progress.since)
        admit = reading.progress.admit_objects if reading.found.schema is None else reading.progress.admit
        yield from admit(rows)
        log.info("`%s`: %s rows read.", reading.found.table.name, reading.progress.rows)

    return read()


def _schema_of(plan: dict[str, Any]) -> pa.Schema | None:
    text = plan["schema"]
    return None if text is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _table(values: dict[str, Any]) -> Table:
    """What `asdict` and JSON have made lists of."""
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list | tuple) else value for name, value in values.items()
    }
    return Table(**kept)


def _address(job: Job) -> list[Any]:
    """Where the rows come from, without who asks for them."""
    names = ("conn_id", "host", "port", "database", "schema", "path", "bucket", "prefix", "container", "account", "url")
    return [job.source.options.get(name) for name in names]


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
