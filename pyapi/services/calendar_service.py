"""All future runs of all active records: when it is busy, and when it is quiet."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pyapi.db.audience import Audience
from pyapi.db.schedule_dao import ActiveRow, ScheduleDAO
from pyapi.enums import RecordStatus
from pyapi.exceptions import Busy, FieldError, ValidationFailed
from pyapi.schedules.load import load_of
from pyapi.schedules.rules import Kind, Rule
from pyapi.schemas.schedule_schemas import (
    Bucket,
    Calendar,
    CalendarBucket,
    CalendarParams,
    CalendarPeak,
    CalendarRecord,
    CalendarWindow,
)
from pyapi.services.schedule_service import Clock, outlook_of, require_foreseeable, utc_now
from pyapi.services.worker_threads import WorkerThreads
from pyapi.utils.credentials import mask_text

LONGEST: Final = {Bucket.HOUR: timedelta(days=31), Bucket.DAY: timedelta(days=62)}
KEPT_CALENDARS: Final = 4

_USUAL: Final = timedelta(days=7)
_MINUTE: Final = timedelta(minutes=1)
_BUCKET_MINUTES: Final = {Bucket.HOUR: 60, Bucket.DAY: 1440}


class CalendarDesk:
    """Makes calendars in a thread: for 10,000 records one takes a second of a core. The same is made once.

    One is made after the other, its reading of the records included; at most `waiting` more may wait. The newest few
    stay, each until a record changes.
    """

    def __init__(self, threads: WorkerThreads, *, waiting: int) -> None:
        self._threads = threads
        self._room = 1 + waiting
        self._turn = asyncio.Lock()
        self._made: OrderedDict[Hashable, asyncio.Future[bytes]] = OrderedDict()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Callable[[], bytes]]]) -> bytes:
        """The calendar of this key; `make` reads what it needs and answers the work for the thread. Raises Busy."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = asyncio.ensure_future(self._make(make))
            made.add_done_callback(partial(self._forget_failed, key))
        self._made.move_to_end(key)
        while len(self._made) > KEPT_CALENDARS:
            self._made.popitem(last=False)
        # Whoever goes away does not end it for the others.
        return await asyncio.shield(made)

    async def _make(self, make: Callable[[], Awaitable[Callable[[], bytes]]]) -> bytes:
        if self._room == 0:
            raise Busy
        self._room -= 1
        try:
            async with self._turn:
                return await self._threads.run(await make())
        finally:
            self._room += 1

    def _forget_failed(self, key: Hashable, made: "asyncio.Future[bytes]") -> None:
        if (made.cancelled() or made.exception() is not None) and self._made.get(key) is made:
            del self._made[key]


class CalendarService:
    """Counts the runs of all records of an audience; `schedules` opens a short session for each question."""

    def __init__(
        self,
        schedules: Callable[[], AbstractAsyncContextManager[ScheduleDAO]],
        desk: CalendarDesk,
        audience: Audience,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._schedules = schedules
        self._desk = desk
        self._audience = audience
        self._clock = clock

    async def calendar_json(self, params: CalendarParams) -> bytes:
        """A `Calendar` as JSON. Raises ValidationFailed for times that make no calendar, Busy when many ask at once."""
        start, end = _span(params, self._clock())
        async with self._schedules() as schedules:
            view = await schedules.view(self._audience)

        async def read() -> Callable[[], bytes]:
            async with self._schedules() as schedules:
                rows = await schedules.active(view)
            return partial(_calendar_json, rows, params, start, end)

        return await self._desk.get((view, start, end, params.bucket, params.window_minutes), read)


def _span(params: CalendarParams, now: datetime) -> tuple[datetime, datetime]:
    """From a whole minute to the end. Raises ValidationFailed."""
    start = _whole_minute(params.from_) if params.from_ else _begin(params.bucket, now)
    require_foreseeable(start, "/query/from")
    end = params.to or start + _USUAL
    longest = LONGEST[params.bucket]
    if not start < end <= start + longest:
        text = f"Write a time after `from`, at most {longest.days} days later for parts of one {params.bucket}."
        raise ValidationFailed([FieldError(text, "/query/to")])
    return start, end


def _whole_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _begin(bucket: Bucket, now: datetime) -> datetime:
    hour = _whole_minute(now).replace(minute=0)
    return hour if bucket is Bucket.HOUR else hour.replace(hour=0)


def _calendar_json(rows: Sequence[ActiveRow], params: CalendarParams, start: datetime, end: datetime) -> bytes:
    return make_calendar(rows, params, start, end).model_dump_json(by_alias=True).encode()


def make_calendar(rows: Sequence[ActiveRow], params: CalendarParams, start: datetime, end: datetime) -> Calendar:
    """The calendar from `start`, a whole minute, to `end`."""
    rules: dict[int, Rule] = {}
    wrong = []
    for row in rows:
        found = outlook_of(RecordStatus.ACTIVE, row.config, row.scheduled_since)
        if found.rule is None:
            wrong.append(row.id)
        else:
            rules[row.id] = found.rule
    load = load_of(
        rules,
        start,
        -((start - end) // _MINUTE),
        bucket_minutes=_BUCKET_MINUTES[params.bucket],
        quiet_minutes=params.window_minutes,
    )
    named = {key for bucket in load.buckets for key in bucket.keys}
    busiest, quietest = load.busiest, load.quietest
    # Nothing here comes from outside: checking a million numbers again would take longer than counting them.
    return Calendar.model_construct(
        from_=start,
        to=end,
        bucket=params.bucket,
        runs=sum(bucket.runs for bucket in load.buckets),
        buckets=[
            CalendarBucket.model_construct(start=bucket.start, runs=bucket.runs, record_ids=bucket.keys)
            for bucket in load.buckets
        ],
        busiest=CalendarPeak(start=busiest.start, runs=busiest.runs) if busiest and busiest.runs else None,
        quietest=CalendarWindow(start=quietest.start, end=quietest.end, runs=quietest.runs) if quietest else None,
        records=[
            CalendarRecord.model_construct(id=row.id, name=mask_text(row.name)) for row in rows if row.id in named
        ],
        not_foretold=[key for key, rule in rules.items() if rule.kind is Kind.CONTINUOUS],
        wrong=wrong,
    )
