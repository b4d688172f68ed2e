"""Keeps what is stored about the next runs true: as time passes, and for rows that were written past the API."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final

import structlog

from pyapi.db.schedule_dao import Derived, DueRow, ScheduleDAO
from pyapi.exceptions import DatabaseUnavailable
from pyapi.services.schedule_service import READER, Clock, outlook_of, summary_of, utc_now

BATCH: Final = 200
"""Rows that are read in one go: about 20 ms, in which nobody else is served."""

LONGEST_SLEEP: Final = 2.0
"""Seconds until a row that was written by SQL is seen, at most."""

_LOCKED_SLEEP: Final = 0.5
_MARGIN: Final = 0.01

log = structlog.get_logger(__name__)


class ScheduleKeeper:
    """Works through the records that are due. Every worker process has one: what one has locked, the others leave."""

    def __init__(
        self, schedules: Callable[[], AbstractAsyncContextManager[ScheduleDAO]], *, clock: Clock = utc_now
    ) -> None:
        """`schedules` opens a transaction of its own."""
        self._schedules = schedules
        self._clock = clock

    async def run(self) -> None:
        """Go on until cancelled. While the database is away it only waits."""
        forgotten = away = False
        while True:
            try:
                if not forgotten:
                    await self.forget_other_readers()
                    forgotten = True
                pause = await self.catch_up()
                away = False
            except DatabaseUnavailable:
                pause = LONGEST_SLEEP
                if not away:
                    log.warning("schedules.database_unavailable")
                away = True
            except Exception:
                # It must not end for good: the next runs of all records would stand still, and nobody would see it.
                log.exception("schedules.failed")
                pause = LONGEST_SLEEP
            await asyncio.sleep(pause)

    async def forget_other_readers(self) -> None:
        """After an upgrade: what another version has read is read again."""
        while True:
            async with self._schedules() as schedules:
                if await schedules.forget_other_readers(READER, most=BATCH) < BATCH:
                    return

    async def catch_up(self) -> float:
        """Bring all records that are due up to date; answers for how many seconds there is nothing to do."""
        while True:
            async with self._schedules() as schedules:
                now = self._clock()
                rows = await schedules.lock_due(now, most=BATCH)
                if not rows:
                    return _pause(await schedules.next_due(), now)
                await schedules.derive([_derived(row, now) for row in rows])


def _derived(row: DueRow, now: datetime) -> Derived:
    found = outlook_of(row.status, row.config, row.scheduled_since)
    return Derived(row.id, found.next_run(after=now), summary_of(found))


def _pause(due: datetime | None, now: datetime) -> float:
    if due is None:
        return LONGEST_SLEEP
    if due <= now:
        return _LOCKED_SLEEP
    return min((due - now).total_seconds() + _MARGIN, LONGEST_SLEEP)
