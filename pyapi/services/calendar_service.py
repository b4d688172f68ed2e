"""All future runs of all active records: when it is busy, and when it is quiet."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pyapi.db.schedule_dao import ActiveRow, ScheduleDAO
from pyapi.enums import RecordStatus
from pyapi.exceptions import FieldError, ValidationFailed
from pyapi.schedules.load import load_of
from pyapi.schedules.rules import RULE_KEYS, Kind, Rule
from pyapi.schedules.runs import HORIZON
from pyapi.schemas.schedule_schemas import (
    Bucket,
    Calendar,
    CalendarBucket,
    CalendarParams,
    CalendarPeak,
    CalendarRecord,
    CalendarWindow,
)
from pyapi.services.schedule_service import Clock, outlook_of, utc_now
from pyapi.services.worker_threads import WorkerThreads

LONGEST: Final = timedelta(days=62)

_USUAL: Final = timedelta(days=7)
_MINUTE: Final = timedelta(minutes=1)
_BUCKET_MINUTES: Final = {Bucket.HOUR: 60, Bucket.DAY: 1440}


class CalendarService:
    """Counts the runs of all records. That takes a second of a core for 10,000 of them, so a thread does it."""

    def __init__(self, schedules: ScheduleDAO, threads: WorkerThreads, *, clock: Clock = utc_now) -> None:
        self._schedules = schedules
        self._threads = threads
        self._clock = clock

    async def calendar_json(self, params: CalendarParams) -> bytes:
        """A `Calendar` as JSON. Raises ValidationFailed for times that make no calendar, Busy when many ask at once."""
        start = _whole_minute(params.from_) if params.from_ else _begin(params.bucket, self._clock())
        if start >= HORIZON:
            raise ValidationFailed([FieldError(f"Write a time before {HORIZON:%Y-%m-%d}.", "/query/from")])
        end = params.to or start + _USUAL
        if not start < end <= start + LONGEST:
            raise ValidationFailed(
                [FieldError(f"Write a time after `from`, at most {LONGEST.days} days later.", "/query/to")]
            )
        rows = await self._schedules.active(RULE_KEYS)
        return await self._threads.run(_calendar_json, rows, params, start, end)


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
        records=[CalendarRecord.model_construct(id=row.id, name=row.name) for row in rows if row.id in named],
        not_foretold=[key for key, rule in rules.items() if rule.kind is Kind.CONTINUOUS],
        wrong=wrong,
    )
