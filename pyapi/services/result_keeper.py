"""Keeps what runs have moved, so that a series of them asks nobody but the database; Prometheus hears of each once."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final, Protocol

import structlog

from pyapi.dag_conventions import only_looks
from pyapi.db.run_result_dao import EndedRun, OpenQuestion, RunResultDAO
from pyapi.exceptions import AirflowUnavailable
from pyapi.gateways.airflow import Airflow
from pyapi.gateways.answers import Moved, Run
from pyapi.services.schedule_service import Clock, utc_now

MOST_QUESTIONS_AT_ONCE: Final = 10
"""Airflow is asked for each run by itself."""

COUNTED_FOR: Final = timedelta(days=1)
"""What has ended before is history, such as the runs of a month that are there when Airflow is linked."""

log = structlog.get_logger(__name__)


class RunCounters(Protocol):
    """Who counts runs."""

    def count_run(self, *, state: str) -> None:
        """A run has ended."""
        ...

    def count_moved(self, *, rows: int, size: int) -> None:
        """A run has told what it has moved; the size is in bytes."""
        ...


class ResultKeeper:
    """What the runs that have ended have moved. One of all workers keeps it; `results` opens a transaction of its own.

    What is counted was committed before, so nothing is counted twice; a worker that ends between the two counts it
    never.
    """

    def __init__(
        self,
        airflow: Airflow,
        results: Callable[[], AbstractAsyncContextManager[RunResultDAO]],
        counters: RunCounters,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._airflow = airflow
        self._results = results
        self._counters = counters
        self._clock = clock

    async def note(self, runs: Iterable[Run]) -> None:
        """Write down those that have ended. A run that only looks moves nothing, and is none."""
        ended = {(run.record_id, run.run_id): run for run in runs if run.has_ended and not only_looks(run.conf)}
        rows = [row for run in ended.values() if (row := _ended_run(run)) is not None]
        if not rows:
            return
        async with self._results() as results:
            new = await results.keep(rows)
            await results.trim({row.record_id for row in new})
        for row in new:
            if self._counts(row):
                self._counters.count_run(state=row.state)

    async def ask(self) -> None:
        """Ask Airflow what some of them have moved. Raises DatabaseUnavailable."""
        async with self._results() as results:
            questions = await results.questions(most=MOST_QUESTIONS_AT_ONCE)
        for question in questions:
            await self._ask(question)

    async def forget(self) -> None:
        """Let go what is left of deleted records."""
        async with self._results() as results:
            await results.forget_deleted()

    async def _ask(self, question: OpenQuestion) -> None:
        try:
            found = await self._airflow.result(question.record_id, question.run_id)
        except AirflowUnavailable as error:
            # Of one run only, maybe: the others are asked for all the same, and this one some times again.
            log.info("airflow.result_unknown", record_id=question.record_id, reason=error.detail)
            async with self._results() as results:
                await results.postpone(question)
            return
        moved = found if isinstance(found, Moved) else None
        rows, size = (moved.rows, moved.bytes) if moved is not None else (None, None)
        async with self._results() as results:
            is_new = await results.answer(question, rows=rows, size=size)
        if moved is not None and is_new and self._counts(question):
            self._counters.count_moved(rows=moved.rows, size=moved.bytes)

    def _counts(self, run: EndedRun | OpenQuestion) -> bool:
        return run.ended_at > self._clock() - COUNTED_FOR


def _ended_run(run: Run) -> EndedRun | None:
    if run.record_id is None or run.end_date is None:
        return None
    began_at = run.start_date or run.queued_at or run.run_after
    # What has failed has told nothing.
    asked = 0 if run.state == "success" else None
    return EndedRun(run.record_id, run.run_id, run.run_type, run.state, began_at, run.end_date, asked)
