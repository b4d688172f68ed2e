"""Statements about what follows from the schedules of data records: their next runs, and all of them at once."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import case, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.models import SORTED_NEXT_RUN, DataRecord
from pyapi.enums import RecordStatus


class DueRow(NamedTuple):
    """A record whose next run has passed, or that nobody has read since it was written by SQL."""

    id: int
    config: Any
    status: str
    scheduled_since: datetime


class ActiveRow(NamedTuple):
    """An active record; `config` has the wanted keys only, null where they are missing, unless it is no object."""

    id: int
    name: str
    config: Any
    scheduled_since: datetime


class Derived(NamedTuple):
    """What follows from the schedule of one record; see the columns of `pyapi_data_records`."""

    id: int
    next_run_at: datetime | None
    schedule_summary: dict[str, Any]


_COMPUTED = text("SELECT set_config('pyapi.schedules_computed', 'true', true)")
"""Without this a trigger puts the derived columns back."""
_DERIVE = text("""
    UPDATE pyapi_data_records r
    SET next_run_at = d.next_run_at, schedule_summary = d.schedule_summary::jsonb
    FROM unnest(CAST(:ids AS integer[]), CAST(:runs AS timestamptz[]), CAST(:summaries AS text[]))
         AS d (id, next_run_at, schedule_summary)
    WHERE r.id = d.id
    """)
_FORGET = text("""
    UPDATE pyapi_data_records SET schedule_summary = NULL
    WHERE id IN (
        SELECT id FROM pyapi_data_records
        WHERE schedule_summary ->> 'reader' IS DISTINCT FROM :reader AND schedule_summary IS NOT NULL
        ORDER BY id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED)
    """)


class ScheduleDAO:
    """The derived columns of `pyapi_data_records`. Nothing here makes a revision: time that passes is no change."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock_due(self, now: datetime, *, most: int) -> list[DueRow]:
        """Records whose next run is not after `now`, and unread ones; without those that somebody else has locked."""
        statement = (
            select(DataRecord.id, DataRecord.config, DataRecord.status, DataRecord.scheduled_since)
            .where(or_(SORTED_NEXT_RUN.op("<=", is_comparison=True)(now), DataRecord.schedule_summary.is_(None)))
            .limit(most)
            .with_for_update(skip_locked=True, key_share=True)
        )
        return [DueRow._make(row) for row in await self._session.execute(statement)]

    async def derive(self, found: Sequence[Derived]) -> None:
        """Keep what follows from the schedules of locked records."""
        await self._session.execute(_COMPUTED)
        await self._session.execute(
            _DERIVE,
            {
                "ids": [row.id for row in found],
                "runs": [row.next_run_at for row in found],
                "summaries": [json.dumps(row.schedule_summary, ensure_ascii=False) for row in found],
            },
        )

    async def forget_other_readers(self, reader: str, *, most: int) -> int:
        """Make unread what another version of the code has read; answers how many that were."""
        await self._session.execute(_COMPUTED)
        result = await self._session.execute(_FORGET, {"reader": reader, "most": most})
        return int(getattr(result, "rowcount", 0))

    async def next_due(self) -> datetime | None:
        """When the first of all next runs is due."""
        statement = select(DataRecord.next_run_at).order_by(SORTED_NEXT_RUN, DataRecord.id).limit(1)
        due: datetime | None = await self._session.scalar(statement)
        return due

    async def active(self, keys: Sequence[str]) -> list[ActiveRow]:
        """All active records that have a config, with these keys of it."""
        wanted = case(
            (
                func.jsonb_typeof(DataRecord.config) == "object",
                func.jsonb_build_object(*(part for key in keys for part in (key, DataRecord.config[key]))),
            ),
            else_=DataRecord.config,
        )
        statement = (
            select(DataRecord.id, DataRecord.name, wanted, DataRecord.scheduled_since)
            .where(DataRecord.status == RecordStatus.ACTIVE.value, DataRecord.config.is_not(None))
            .order_by(DataRecord.id)
        )
        return [ActiveRow._make(row) for row in await self._session.execute(statement)]
