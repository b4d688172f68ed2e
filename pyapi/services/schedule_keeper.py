"""Keeps what is stored about the next runs true: as time passes, and for rows that were written past the API."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final

import structlog

from pyapi.db.schedule_dao import Derived, DueRow, ScheduleDAO
from pyapi.exceptions import DatabaseUnavailable
from pyapi.services.schedule_service import READER, Clock, derive, utc_now

BATCH: Final = 200
"""Rows of one transaction."""

LONGEST_SLEEP: Final = 2.0
"""Seconds between two looks for rows that were written by SQL, at most."""

FORGET_SECONDS: Final = 600.0
"""Between two looks for rows that another version has read."""

_LOCKED_SLEEP: Final = 0.5
_MARGIN: Final = 0.01
_LONGEST_TURN: Final = 0.01

log = structlog.get_logger(__name__)


class ScheduleKeeper:
    """Works through the records that are due. Every worker process has one: what one has locked, the others leave."""

    def __init__(
        self, schedules: Callable[[], AbstractAsyncContextManager[ScheduleDAO]], *, clock: Clock = utc_now
    ) -> None:
        """`schedules` opens a transaction of its own."""
        self._schedules = schedules
        self._clock = clock
        self._ticks = time.monotonic
        self._forget_at = self._ticks()
        self._batch = BATCH

    async def run(self) -> None:
        """Go on until cancelled. While the database is away it only waits."""
        away = False
        while True:
            try:
                if self._ticks() >= self._forget_at:
                    await self.forget_other_readers()
                    self._forget_at = self._ticks() + FORGET_SECONDS
                pause = await self.catch_up()
                self._batch, away = BATCH, False
            except DatabaseUnavailable:
                # Maybe it is only too slow for so many rows, some of which may be large.
                self._batch = max(1, self._batch // 4)
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
        """After an upgrade: what another version has read is read again.

        It is repeated, because a worker of that version may still be at work, and rows that are locked are left out.
        """
        while True:
            async with self._schedules() as schedules:
                if await schedules.forget_other_readers(READER, most=BATCH) < BATCH:
                    return

    async def catch_up(self) -> float:
        """Bring all records that are due up to date; answers for how many seconds there is nothing to do."""
        done: set[int] = set()
        while True:
            async with self._schedules() as schedules:
                now = self._clock()
                rows = await schedules.lock_due(now, most=self._batch)
                if not rows:
                    return _pause(await schedules.next_due(), now)
                if done.issuperset(row.id for row in rows):
                    # Due again at once, or not taken: whatever it is, it must not become a busy loop.
                    return LONGEST_SLEEP
                await schedules.derive(await _derive(rows, now))
                done.update(row.id for row in rows)


async def _derive(rows: Sequence[DueRow], now: datetime) -> list[Derived]:
    """What follows from each row; others are served in between."""
    derived = []
    began = time.perf_counter()
    for row in rows:
        derived.append(_derived(row, now))
        if time.perf_counter() - began > _LONGEST_TURN:
            await asyncio.sleep(0)
            began = time.perf_counter()
    return derived


def _derived(row: DueRow, now: datetime) -> Derived:
    return Derived(row.id, *derive(row.status, row.config, since=row.scheduled_since, now=now))


def _pause(due: datetime | None, now: datetime) -> float:
    if due is None:
        return LONGEST_SLEEP
    if due <= now:
        return _LOCKED_SLEEP
    return min((due - now).total_seconds() + _MARGIN, LONGEST_SLEEP)
