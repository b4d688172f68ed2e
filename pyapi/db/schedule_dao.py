"""Statements about what follows from the schedules of data records: their next runs, and all of them at once."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, bindparam, func, or_, select, text, union
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.models import SORTED_NEXT_RUN, DataGrant, DataRecord
from pyapi.enums import RecordStatus, Visibility


class DueRow(NamedTuple):
    """A record whose next run has passed, or that nobody has read since it was written by SQL; see `_RULE`."""

    id: int
    config: Any
    status: str
    scheduled_since: datetime


class ActiveRow(NamedTuple):
    """An active record; for `config` see `_RULE`."""

    id: int
    name: str
    config: Any
    scheduled_since: datetime


class View(NamedTuple):
    """What somebody sees when the change counter stands at a number. Equal views show the same records."""

    changes: int
    visibilities: tuple[Visibility, ...]
    own_ids: tuple[int, ...]
    """Beside these: private records that are theirs, and all that were shared with them."""


class Derived(NamedTuple):
    """What follows from the schedule of one record; see the columns of `pyapi_data_records`."""

    id: int
    next_run_at: datetime | None
    schedule_summary: dict[str, Any]


# The part of a config that is a rule: the rest may have megabytes, and stays in the database.
_RULE: ColumnElement[Any] = func.pyapi_rule(DataRecord.config, type_=JSONB)
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
            select(DataRecord.id, _RULE, DataRecord.status, DataRecord.scheduled_since)
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

    async def change_counter(self) -> int:
        """Number of the newest change of any record."""
        return (await self._session.scalar(select(func.pyapi_change_counter()))) or 0

    async def next_due(self) -> datetime | None:
        """When the first of all next runs is due."""
        statement = select(DataRecord.next_run_at).order_by(SORTED_NEXT_RUN, DataRecord.id).limit(1)
        due: datetime | None = await self._session.scalar(statement)
        return due

    async def view(self, audience: Audience) -> View:
        """What an audience sees now."""
        owned = select(DataRecord.id).where(
            DataRecord.owner_id == audience.user_id, DataRecord.visibility == Visibility.PRIVATE.value
        )
        granted = select(DataGrant.record_id).where(DataGrant.user_id == audience.user_id)
        own = union(owned, granted).subquery()
        own_ids = select(func.array_agg(own.c.id)).scalar_subquery()
        needs_ids = audience.user_id is not None and not audience.is_admin
        columns = [func.pyapi_change_counter(), *([own_ids] if needs_ids else [])]
        row = (await self._session.execute(select(*columns))).one()
        found = (row[1] if needs_ids else None) or ()
        return View(row[0], audience.visibilities, tuple(sorted(found)))

    async def active(self, view: View) -> list[ActiveRow]:
        """All active records of a view that have a config.

        Who sees what is not asked again: whatever is shared meanwhile, equal views get the same, and can share it.
        """
        own_ids = bindparam("own_ids", list(view.own_ids), ARRAY(Integer))
        statement = (
            select(DataRecord.id, DataRecord.name, _RULE, DataRecord.scheduled_since)
            .where(
                DataRecord.status == RecordStatus.ACTIVE.value,
                DataRecord.config.is_not(None),
                or_(DataRecord.visibility.in_(view.visibilities), DataRecord.id == func.any(own_ids)),
            )
            .order_by(DataRecord.id)
        )
        return [ActiveRow._make(row) for row in await self._session.execute(statement)]
