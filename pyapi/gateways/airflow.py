"""What PyAPI asks of Airflow about the DAGs of its records, in the terms of Airflow's REST API (v2)."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import structlog
from pydantic import ValidationError

from pyapi.dag_conventions import TAG, dag_id_of
from pyapi.exceptions import AirflowUnavailable
from pyapi.gateways.answers import (
    Answer,
    Backfill,
    BackfillDate,
    BackfillPage,
    Dag,
    DagPage,
    FileProblem,
    Health,
    Looked,
    Moved,
    ReturnedValue,
    Run,
    RunPage,
    TaskTry,
)
from pyapi.gateways.connection import Connection

PAGE_SIZE: Final = 100
"""More than that Airflow never answers at once."""

ALL_RUNS: Final = "~"
RESULT_TASK: Final = "run"
"""The only task of a record; the reader kit names it."""

_LOG_LINES: Final = "application/x-ndjson"

LONGEST_LINE: Final = 100_000
LEFT_OUT: Final = json.dumps({"event": f"A line of more than {LONGEST_LINE:,} characters is left out here."})

A = TypeVar("A", bound=Answer)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None means no condition. Bounds are those of `run_after`, both inclusive."""

    state: str | None = None
    run_type: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    changed_since: datetime | None = None

    def parameters(self) -> dict[str, Any]:
        """The same as Airflow calls it."""
        found = {
            "state": self.state,
            "run_type": self.run_type,
            "run_after_gte": self.after and self.after.isoformat(),
            "run_after_lte": self.before and self.before.isoformat(),
            "updated_at_gte": self.changed_since and self.changed_since.isoformat(),
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """Which runs of the past to make up for; both ends are inclusive."""

    from_date: datetime
    to_date: datetime
    reprocess: str
    max_active_runs: int
    run_backwards: bool

    def body(self, record_id: int) -> dict[str, Any]:
        """The same as Airflow calls it."""
        return {
            "dag_id": dag_id_of(record_id),
            "from_date": self.from_date.isoformat(),
            "to_date": self.to_date.isoformat(),
            "reprocess_behavior": self.reprocess,
            "max_active_runs": self.max_active_runs,
            "run_backwards": self.run_backwards,
        }


class Refused(Exception):
    """Airflow understood and will not do it; what that means is for the caller to say."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"Airflow answers {status_code}")
        self.status_code = status_code


class Airflow:
    """Airflow, over one connection. Everything raises AirflowUnavailable; None is what is not there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def url(self) -> str | None:
        """Where it is; None when no Airflow is configured."""
        return self._connection.url

    async def close(self) -> None:
        """End the connection."""
        await self._connection.close()

    # --- The whole of it ---

    async def health(self) -> Health:
        """How its parts are."""
        return _read(Health, await self._get("monitor/health"))

    async def file_problems(self) -> list[FileProblem]:
        """The files that could not be read, newest first, 100 at most."""
        found = await self._get("importErrors", {"limit": PAGE_SIZE, "order_by": "-timestamp"})
        return _read_each(FileProblem, found, "import_errors")

    # --- DAGs ---

    async def dag(self, record_id: int) -> Dag | None:
        """The DAG of a record, a stale one included."""
        found = await self._ask_for(f"dags/{dag_id_of(record_id)}")
        return None if found is None else _read(Dag, found)

    async def dags(self, *, offset: int) -> DagPage:
        """DAGs of records that are not stale, 100 at most, by id."""
        query = {"tags": TAG, "limit": PAGE_SIZE, "offset": offset, "order_by": "dag_id"}
        return _read(DagPage, await self._get("dags", query))

    async def pause(self, record_id: int, *, is_paused: bool) -> bool:
        """Let Airflow start no runs by itself, or start them again; False when there is no DAG."""
        try:
            await self._send("PATCH", f"dags/{dag_id_of(record_id)}", json={"is_paused": is_paused})
        except Refused as error:
            if error.status_code == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    async def read_again(self, dag: Dag) -> None:
        """Ask the DAG processor to read the file of a DAG now."""
        try:
            await self._send("PUT", f"parseDagFile/{quote(dag.file_token, safe='')}")
        except Refused as error:
            if error.status_code != httpx.codes.CONFLICT:  # it has been asked for already
                raise

    # --- Runs ---

    async def runs(
        self, record_id: int | None, wanted: RunFilter, *, order_by: str, limit: int, cursor: str
    ) -> RunPage:
        """Runs of a record, or of all; an empty cursor begins. Raises Refused for a cursor that is none."""
        query: dict[str, Any] = wanted.parameters() | {"order_by": order_by, "limit": limit, "cursor": cursor}
        if record_id is None:
            query["dag_id_prefix_pattern"] = TAG
        dag_id = ALL_RUNS if record_id is None else dag_id_of(record_id)
        try:
            found = _object_in(await self._send("GET", f"dags/{dag_id}/dagRuns", params=query))
        except Refused as error:
            if error.status_code == httpx.codes.NOT_FOUND:
                return RunPage(dag_runs=[])
            raise
        return _read(RunPage, found)

    async def run(self, record_id: int, run_id: str) -> Run | None:
        """One run."""
        found = await self._ask_for(_run_path(record_id, run_id))
        return None if found is None else _read(Run, found)

    async def start_run(self, record_id: int, run_id: str, *, conf: Any, note: str | None) -> Run | None:
        """Start a run by hand; None when there is no DAG. Raises Refused, with 409 when this run exists."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}, "note": note}
        found = await self._ask_for(f"dags/{dag_id_of(record_id)}/dagRuns", method="POST", json=body)
        return None if found is None else _read(Run, found)

    async def end_run(self, record_id: int, run_id: str) -> Run | None:
        """Let a run fail, and end the tasks that are at work."""
        found = await self._ask_for(_run_path(record_id, run_id), method="PATCH", json={"state": "failed"})
        return None if found is None else _read(Run, found)

    async def retry_run(self, record_id: int, run_id: str, *, latest: bool) -> Run | None:
        """Let all tasks of a run that has ended run again, as they were or as the newest revision has them."""
        body = {"dry_run": False, "only_failed": False, "run_on_latest_version": latest}
        found = await self._ask_for(f"{_run_path(record_id, run_id)}/clear", method="POST", json=body)
        return None if found is None else _read(Run, found)

    async def tasks(self, record_id: int, run_id: str) -> list[TaskTry]:
        """The tasks of a run, each as its newest try is."""
        path = f"{_run_path(record_id, run_id)}/taskInstances"
        found = await self._ask_for(path, params={"limit": PAGE_SIZE})
        return [] if found is None else _read_each(TaskTry, found, "task_instances")

    async def tries(self, record_id: int, run_id: str, task_id: str) -> list[TaskTry]:
        """All tries of a task, oldest first."""
        path = f"{_run_path(record_id, run_id)}/taskInstances/{quote(task_id, safe='')}/tries"
        found = await self._ask_for(path)
        tries = [] if found is None else _read_each(TaskTry, found, "task_instances")
        return sorted(tries, key=lambda item: item.try_number)

    async def result(self, record_id: int, run_id: str) -> Moved | Looked | None:
        """What a run has told; None for one that has told nothing, or something else than the reader kit does."""
        path = f"{_run_path(record_id, run_id)}/taskInstances/{RESULT_TASK}/xcomEntries/return_value"
        found = await self._ask_for(path)
        return None if found is None else _read(ReturnedValue, found).told()

    @asynccontextmanager
    async def log_lines(
        self, record_id: int, run_id: str, task_id: str, *, try_number: int
    ) -> AsyncIterator[AsyncIterator[str] | None]:
        """The log of a try, a line of JSON each, while it is read; None when there is no such try."""
        path = f"{_run_path(record_id, run_id)}/taskInstances/{quote(task_id, safe='')}/logs/{try_number}"
        async with self._connection.stream(path, params={"full_content": "true"}, accept=_LOG_LINES) as response:
            yield _lines_of(response) if response.is_success else None

    # --- Backfills ---

    async def backfill(self, record_id: int, plan: BackfillPlan) -> Backfill | None:
        """Make up for runs of the past; None when there is no DAG. Raises Refused, with 409 beside another one."""
        found = await self._ask_for("backfills", method="POST", json=plan.body(record_id))
        return None if found is None else _read(Backfill, found)

    async def try_backfill(self, record_id: int, plan: BackfillPlan) -> list[datetime] | None:
        """The logical dates that `backfill` would make up for."""
        found = await self._ask_for("backfills/dry_run", method="POST", json=plan.body(record_id))
        if found is None:
            return None
        dates = [item.logical_date for item in _read_each(BackfillDate, found, "backfills")]
        return [date for date in dates if date is not None]

    async def backfills(self, record_id: int, *, offset: int, limit: int) -> tuple[list[Backfill], int]:
        """Backfills of a record, newest first, and how many there are in all."""
        query = {"dag_id": dag_id_of(record_id), "offset": offset, "limit": limit, "order_by": "-id"}
        page = _read(BackfillPage, await self._get("backfills", query))
        return page.backfills, page.total

    async def one_backfill(self, backfill_id: int) -> Backfill | None:
        """One backfill, of whatever DAG."""
        found = await self._ask_for(f"backfills/{backfill_id}")
        return None if found is None else _read(Backfill, found)

    async def end_backfill(self, backfill_id: int) -> Backfill | None:
        """Start no more runs of a backfill. Raises Refused, with 409 when it has ended."""
        found = await self._ask_for(f"backfills/{backfill_id}/cancel", method="PUT")
        return None if found is None else _read(Backfill, found)

    # --- How all of it is asked ---

    async def _get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What is there in every Airflow: whatever refuses this is none."""
        try:
            return _object_in(await self._send("GET", path, params=params))
        except Refused:
            raise _not_understood(path) from None

    async def _ask_for(
        self, path: str, *, method: str = "GET", json: Any = None, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """None for a 404. Raises Refused for what is more than a question."""
        try:
            return _object_in(await self._send(method, path, json=json, params=params))
        except Refused as error:
            if error.status_code == httpx.codes.NOT_FOUND:
                return None
            if method == "GET":
                raise _not_understood(path) from None
            raise

    async def _send(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        response = await self._connection.ask(method, path, json=json, params=params)
        if response.is_client_error:
            raise Refused(response.status_code)
        return response


def _run_path(record_id: int, run_id: str) -> str:
    return f"dags/{dag_id_of(record_id)}/dagRuns/{quote(run_id, safe='')}"


def _object_in(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _not_understood(response.request.url.path)
    return found


def _read(kind: type[A], found: Any) -> A:
    try:
        return kind.model_validate(found)
    except (ValidationError, TypeError, AttributeError):
        raise _not_understood(kind.__name__) from None


def _read_each(kind: type[A], found: Mapping[str, Any], name: str) -> list[A]:
    items = found.get(name)
    if not isinstance(items, list):
        raise _not_understood(name)
    return [_read(kind, item) for item in items]


async def _lines_of(response: httpx.Response) -> AsyncIterator[str]:
    """The lines of a body; one that is too long is LEFT_OUT, and never held as a whole.

    Whoever reads them is outside of the connection's own `stream`, which cannot catch what fails here.
    """
    rest, is_too_long = "", False
    try:
        async for piece in response.aiter_text():
            *ended, rest = (rest + piece).split("\n")
            for line in ended:
                yield LEFT_OUT if is_too_long or len(line) > LONGEST_LINE else line
                is_too_long = False
            if is_too_long or len(rest) > LONGEST_LINE:
                rest, is_too_long = "", True
    except httpx.RequestError as error:
        raise AirflowUnavailable from error
    if rest or is_too_long:
        yield LEFT_OUT if is_too_long else rest


def _not_understood(what: str) -> AirflowUnavailable:
    log.warning("airflow.not_understood", what=what)
    return AirflowUnavailable("Airflow answers in a way that PyAPI does not know; is it a release 3?")
