"""Statements about the records that runs belong to."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Float, cast, false, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.airflow_models import AirflowDag
from pyapi.db.audience import Audience
from pyapi.db.models import DataRecord, DataRevision
from pyapi.db.run_result_models import MOST_KEPT, RunResult


class RunnableRow(NamedTuple):
    """What has to be known of a record before it is run."""

    id: int
    name: str
    status: str
    owner_id: int | None
    revision: int
    updated_at: datetime
    is_current: bool
    """Airflow was seen to have this revision; false says nothing."""
    is_writable: bool
    """The audience may start and end its runs."""


class ResultRow(NamedTuple):
    """A run that has ended, in numbers; those that nobody knows are None."""

    run_id: str
    run_type: str
    state: str
    started: datetime
    seconds: float | None
    rows: int | None
    bytes: int | None


_REVISIONS_AT = text("""
    SELECT q.record_id, q.version,
        (SELECT s.revision FROM pyapi_data_revisions s
         WHERE s.record_id = q.record_id AND s.change_id <= q.version ORDER BY s.revision DESC LIMIT 1)
    FROM unnest(CAST(:record_ids AS integer[]), CAST(:versions AS bigint[])) AS q (record_id, version)
    """)


class RunDAO:
    """Records that `audience` may see, and their revisions, to be read."""

    def __init__(self, session: AsyncSession, audience: Audience) -> None:
        self._session = session
        self._audience = audience

    async def record(self, record_id: int) -> RunnableRow | None:
        """A record by id."""
        columns = [getattr(DataRecord, field) for field in RunnableRow._fields[:-2]]
        is_current = func.coalesce((AirflowDag.revision == DataRecord.revision) & ~AirflowDag.is_stale, false())
        statement = (
            select(*columns, is_current, func.coalesce(self._audience.writes(), false()))
            .join_from(DataRecord, AirflowDag, AirflowDag.record_id == DataRecord.id, isouter=True)
            .where(DataRecord.id == record_id, self._audience.sees())
        )
        row = (await self._session.execute(statement)).one_or_none()
        return RunnableRow._make(row) if row is not None else None

    async def names(self, record_ids: Collection[int]) -> dict[int, str]:
        """The names of records; those that are gone, or that may not be seen, have none."""
        statement = select(DataRecord.id, DataRecord.name).where(DataRecord.id.in_(record_ids), self._audience.sees())
        return {row.id: row.name for row in await self._session.execute(statement)}

    async def revisions_at(self, wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], int | None]:
        """Which revision a record had when the change counter stood at a number, for pairs of the two."""
        pairs = list(wanted)
        rows = await self._session.execute(
            _REVISIONS_AT, {"record_ids": [pair[0] for pair in pairs], "versions": [pair[1] for pair in pairs]}
        )
        return {(row[0], row[1]): row[2] for row in rows}

    async def configs(self, record_id: int, *, version: int | None) -> list[Any]:
        """The config that a record has, and the one it had when the change counter stood at `version`."""
        current = select(DataRecord.config).where(DataRecord.id == record_id, self._audience.sees())
        found = list(await self._session.scalars(current))
        if version is not None:
            statement = (
                select(DataRevision.state["config"])
                .where(DataRevision.record_id == record_id, DataRevision.change_id <= version)
                .order_by(DataRevision.revision.desc())
                .limit(1)
            )
            found += await self._session.scalars(statement)
        return found

    async def results(self, record_id: int) -> list[ResultRow]:
        """The newest runs of a record that have ended, newest first."""
        seconds = func.extract("epoch", RunResult.ended_at - RunResult.began_at)
        columns = [
            RunResult.run_id,
            RunResult.run_type,
            RunResult.state,
            RunResult.began_at,
            cast(seconds, Float),
            RunResult.rows,
            RunResult.bytes,
        ]
        statement = (
            select(*columns)
            .join_from(RunResult, DataRecord, DataRecord.id == RunResult.record_id)
            .where(RunResult.record_id == record_id, self._audience.sees())
            .order_by(RunResult.began_at.desc(), RunResult.run_id.desc())
            .limit(MOST_KEPT)
        )
        return [ResultRow._make(row) for row in await self._session.execute(statement)]
