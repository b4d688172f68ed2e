"""Statements about what runs have moved, for whoever keeps it."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import case, delete, null, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.models import DataRecord
from pyapi.db.run_result_models import MOST_KEPT, RunResult

MOST_QUESTIONS: Final = 3


class EndedRun(NamedTuple):
    """A run that has ended; see RunResult."""

    record_id: int
    run_id: str
    run_type: str
    state: str
    began_at: datetime
    ended_at: datetime
    asked: int | None


class OpenQuestion(NamedTuple):
    """A run of which Airflow has to be asked what it has moved."""

    record_id: int
    run_id: str
    ended_at: datetime


# A run that somebody has started again ends again.
_KEEP = text("""
    INSERT INTO pyapi_run_results AS x (record_id, run_id, run_type, state, began_at, ended_at, asked)
    SELECT q.* FROM unnest(
        CAST(:record_id AS integer[]), CAST(:run_id AS varchar[]), CAST(:run_type AS varchar[]),
        CAST(:state AS varchar[]), CAST(:began_at AS timestamptz[]), CAST(:ended_at AS timestamptz[]),
        CAST(:asked AS smallint[])) AS q (record_id, run_id, run_type, state, began_at, ended_at, asked)
    WHERE EXISTS (SELECT FROM pyapi_data_records r WHERE r.id = q.record_id)
    ON CONFLICT (record_id, run_id) DO UPDATE SET
        state = excluded.state, began_at = excluded.began_at, ended_at = excluded.ended_at,
        noted_at = excluded.noted_at, asked = excluded.asked, rows = NULL, bytes = NULL
    WHERE (x.state, x.ended_at) IS DISTINCT FROM (excluded.state, excluded.ended_at)
    RETURNING x.record_id, x.run_id, x.run_type, x.state, x.began_at, x.ended_at, x.asked
    """)
_TRIM = text("""
    DELETE FROM pyapi_run_results x USING (
        SELECT record_id, run_id,
            row_number() OVER (PARTITION BY record_id ORDER BY began_at DESC, run_id DESC) AS place
        FROM pyapi_run_results WHERE record_id = ANY(CAST(:record_ids AS integer[]))
    ) AS o
    WHERE o.record_id = x.record_id AND o.run_id = x.run_id AND o.place > :most
      AND x.noted_at < clock_timestamp() - interval '1 hour'
    """)


class RunResultDAO:
    """Rows of `pyapi_run_results`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def keep(self, runs: Sequence[EndedRun]) -> list[EndedRun]:
        """Write down runs, each another one; answers those that had not been written down so."""
        if not runs:
            return []
        columns = {field: [row[place] for row in runs] for place, field in enumerate(EndedRun._fields)}
        return [EndedRun._make(row) for row in await self._session.execute(_KEEP, columns)]

    async def trim(self, record_ids: Collection[int]) -> None:
        """Delete what is too much of these records."""
        await self._session.execute(_TRIM, {"record_ids": list(record_ids), "most": MOST_KEPT})

    async def forget_deleted(self) -> None:
        """Delete what is left of records that are gone."""
        there = select(DataRecord.id).where(DataRecord.id == RunResult.record_id).exists()
        await self._session.execute(delete(RunResult).where(~there))

    async def questions(self, *, most: int) -> list[OpenQuestion]:
        """What is to be asked next: what was never asked first, and the newest of it."""
        columns = [getattr(RunResult, field) for field in OpenQuestion._fields]
        statement = select(*columns).where(RunResult.asked.is_not(None))
        order = RunResult.asked, RunResult.ended_at.desc(), RunResult.record_id
        return [OpenQuestion._make(row) for row in await self._session.execute(statement.order_by(*order).limit(most))]

    async def answer(self, question: OpenQuestion, *, rows: int | None, size: int | None) -> bool:
        """Keep what was moved; False when the run has been started again, or somebody else has asked, meanwhile."""
        return await self._settle(question, asked=None, rows=rows, bytes=size)

    async def postpone(self, question: OpenQuestion) -> None:
        """Ask again later, but not for ever."""
        enough = RunResult.asked >= MOST_QUESTIONS - 1
        await self._settle(question, asked=case((enough, null()), else_=RunResult.asked + 1))

    async def _settle(self, question: OpenQuestion, **values: Any) -> bool:
        is_it = [getattr(RunResult, field) == value for field, value in question._asdict().items()]
        statement = update(RunResult).where(*is_it, RunResult.asked.is_not(None)).values(**values)
        return (await self._session.execute(statement.returning(RunResult.run_id))).first() is not None
