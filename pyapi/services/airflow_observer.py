"""Keeps what Airflow has: its health, the DAG of each record, and the newest run of each."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final

import structlog

from pyapi.db.airflow_dao import LONGEST_REASON, AirflowSeenDAO, SeenDag, SeenRun
from pyapi.exceptions import AirflowUnavailable, DatabaseUnavailable, ServiceUnavailable
from pyapi.gateways.airflow import PAGE_SIZE, Airflow, RunFilter
from pyapi.gateways.answers import Dag, FileProblem, Run
from pyapi.services.result_keeper import ResultKeeper
from pyapi.services.schedule_service import Clock, utc_now
from pyapi.utils.credentials import mask_text

TURN_SECONDS: Final = 1.0
HEALTH_SECONDS: Final = 5.0
RUNS_SECONDS: Final = 2.0

CHANGING_WITHIN_SECONDS: Final = 60.0
MOST_ASKED_ONE_BY_ONE: Final = 8
"""Records that changed a moment ago are asked for one by one; when there are more, all DAGs are, 100 at a time."""

QUICKEST_SWEEP_SECONDS: Final = 5.0
SLOWEST_SWEEP_SECONDS: Final = 300.0
SWEEP_SHARE: Final = 20.0
"""All DAGs are asked for again after 20 times the time that took: at most a twentieth of one core of Airflow."""

FIRST_LOOK_BACK: Final = timedelta(days=30)
OVERLAP: Final = timedelta(seconds=60)
"""Clocks of two machines differ, and a change is visible a little after the time that it bears."""

_RUN_PAGES_AT_ONCE: Final = 5

log = structlog.get_logger(__name__)


class AirflowObserver:
    """Asks Airflow again and again, so that no reader has to: a list of records asks nobody but the database."""

    def __init__(
        self,
        airflow: Airflow,
        seen: Callable[[], AbstractAsyncContextManager[AirflowSeenDAO]],
        results: ResultKeeper | None = None,
        *,
        clock: Clock = utc_now,
    ) -> None:
        """`seen` opens a transaction of its own. Without `results` nobody wants to know what runs have moved."""
        self._airflow = airflow
        self._seen = seen
        self._results = results
        self._clock = clock
        self._health_at = self._runs_at = self._sweep_at = 0.0
        self._runs_cursor = ""
        self._runs_pass: datetime | None = None
        self._found_before: set[int] = set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            try:
                await self.look()
            except AirflowUnavailable as error:
                await self._keep_failing(error.detail)
            except ServiceUnavailable:
                pass  # the database is away, or others have taken all places at Airflow
            except Exception:
                # It must not end for good: what is known of Airflow would grow old, and nobody would see it.
                self._runs_cursor = ""  # maybe it is this one that Airflow does not take
                log.exception("airflow.observer_failed")
            await asyncio.sleep(TURN_SECONDS)

    async def _keep_failing(self, reason: str) -> None:
        self._health_at = self._runs_at = 0.0
        try:
            async with self._seen() as seen:
                await seen.keep_failing(reason)
        except DatabaseUnavailable:
            pass

    async def look(self) -> None:
        """Look at what is due. Raises AirflowUnavailable, DatabaseUnavailable."""
        now = time.monotonic()
        await self._look_at_changing()
        if now >= self._runs_at:
            await self.look_at_runs()
            if self._results is not None:
                await self._results.ask()
            self._runs_at = now + RUNS_SECONDS
        if time.monotonic() >= self._sweep_at:
            await self._sweep()
        # Not before these: everybody may ask for the health, and it is no sign that the account is any good.
        if now >= self._health_at:
            await self.look_at_health()
            self._health_at = now + HEALTH_SECONDS

    async def look_at_health(self) -> None:
        """Ask how Airflow is, and write down that it answers."""
        health = await self._airflow.health()
        async with self._seen() as seen:
            await seen.keep_reached(health.model_dump())

    async def _look_at_changing(self) -> None:
        async with self._seen() as seen:
            changing = await seen.changing(within_seconds=CHANGING_WITHIN_SECONDS, most=MOST_ASKED_ONE_BY_ONE + 1)
        if len(changing) > MOST_ASKED_ONE_BY_ONE:
            # Not before a sweep has paid off: a thousand changes must not make Airflow busy with our questions.
            self._sweep_at = min(self._sweep_at, time.monotonic() + QUICKEST_SWEEP_SECONDS)
            return
        dags = [await self._one(record_id) for record_id in changing]
        await self._keep([dag for dag in dags if dag is not None])

    async def _one(self, record_id: int) -> Dag | None:
        """None also for a DAG that Airflow cannot answer: the others, and the runs, are looked at all the same."""
        try:
            return await self._airflow.dag(record_id)
        except AirflowUnavailable:
            return None

    async def _keep(self, dags: Sequence[Dag]) -> set[int]:
        """Write down DAGs; answers the records of which they are."""
        problems = await self._airflow.file_problems() if any(dag.has_import_errors for dag in dags) else []
        found = {dag.record_id: dag for dag in dags if dag.record_id is not None}
        async with self._seen() as seen:
            await seen.keep_dags([_seen_dag(record_id, dag, problems) for record_id, dag in found.items()])
        return set(found)

    async def _sweep(self) -> None:
        """Look at all DAGs, and say when again. One that cannot be answered does not make Airflow unreachable."""
        began = time.monotonic()
        try:
            await self.look_at_all()
        except AirflowUnavailable as error:
            log.warning("airflow.sweep_failed", reason=error.detail)
        took = time.monotonic() - began
        pause = min(max(took * SWEEP_SHARE, QUICKEST_SWEEP_SECONDS), SLOWEST_SWEEP_SECONDS)
        self._sweep_at = time.monotonic() + pause

    async def look_at_all(self, *, forget: bool = True) -> int:
        """Ask for the DAGs of all records; answers how many there are. With `forget`, those not found are gone."""
        found: set[int] = set()
        offset = 0
        while True:
            page = await self._airflow.dags(offset=offset)
            found |= await self._keep(page.dags)
            offset += PAGE_SIZE
            if offset >= page.total or not page.dags:
                break
        if forget:
            async with self._seen() as seen:
                # Twice not found is gone: while pages were read one after the other, a DAG may have moved between two.
                await seen.keep_only(found | self._found_before)
            if self._results is not None:
                await self._results.forget()
        self._found_before = found
        return len(found)

    async def look_at_runs(self) -> None:
        """Ask for the runs that changed since the last time, some pages of them at most; the next time goes on."""
        async with self._seen() as seen:
            since = (await seen.link()).runs_seen_until or self._clock() - FIRST_LOOK_BACK
        if not self._runs_cursor:
            self._runs_pass = self._clock()
        for _ in range(_RUN_PAGES_AT_ONCE):
            page = await self._airflow.runs(
                None,
                RunFilter(changed_since=since - OVERLAP),
                order_by="updated_at",
                limit=PAGE_SIZE,
                cursor=self._runs_cursor,
            )
            async with self._seen() as seen:
                await seen.keep_runs(newest_of_each(page.runs))
            if self._results is not None:
                await self._results.note(page.runs)
            self._runs_cursor = page.next_cursor or ""
            if not self._runs_cursor:
                assert self._runs_pass is not None
                async with self._seen() as seen:
                    await seen.keep_runs_seen_until(self._runs_pass)
                return


def _seen_dag(record_id: int, dag: Dag, problems: Iterable[FileProblem]) -> SeenDag:
    return SeenDag(
        record_id,
        dag.revision,
        dag.is_paused,
        dag.is_stale,
        dag.is_scheduled,
        dag.is_invalid,
        _import_error(dag, problems) if dag.has_import_errors else None,
    )


def _import_error(dag: Dag, problems: Iterable[FileProblem]) -> str:
    place = (dag.bundle_name, dag.relative_fileloc)
    reasons = [problem.reason for problem in problems if (problem.bundle_name, problem.filename) == place]
    reason = mask_text(reasons[0]) if reasons else "Airflow's import errors say why."
    return f"Airflow cannot read the file of this DAG. {reason}"[:LONGEST_REASON]


def newest_of_each(runs: Iterable[Run]) -> list[SeenRun]:
    """The run of each record that began last."""
    found: dict[int, SeenRun] = {}
    for run in runs:
        if run.record_id is None:
            continue
        began_at = run.start_date or run.queued_at or run.run_after
        known = found.get(run.record_id)
        if known is None or began_at >= known.began_at:
            found[run.record_id] = SeenRun(
                run.record_id, run.run_id, run.state, run.run_type, began_at, run.start_date, run.end_date
            )
    return list(found.values())
