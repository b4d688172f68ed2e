"""The moments at which Airflow runs a record: the next ones, and those between two times."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Final

from pyapi.schedules.expressions import LAST_YEAR, Cron, parse_cron
from pyapi.schedules.rules import Kind, Rule
from pyapi.schedules.timetable import Entry, entry, instants, is_unchanged, pieces
from pyapi.schedules.zones import EPOCH, offset_at

HORIZON: Final = datetime(LAST_YEAR, 12, 1, tzinfo=EPOCH.tzinfo)
"""No run is computed at or after this."""

# Few rules have to be looked up further than this; a rare one looks again, further.
_REACHES: Final = (timedelta(days=100), HORIZON - EPOCH)
_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)


def next_runs(rule: Rule, *, after: datetime, count: int, last_run: datetime | None = None) -> list[datetime]:
    """The first `count` runs strictly after `after`, in UTC; fewer when the rule ends, or the year 2199 does.

    An interval counts from `last_run`, the last run that Airflow started by itself; without one from start_date, and
    without that from `after`, since Airflow starts such a record at once. Times are those of a punctual Airflow.
    @once is due at its start_date; @continuous cannot be foretold.
    """
    runs: list[datetime] = []
    if after >= HORIZON:
        return runs
    counted_from = _counted_from(rule, after, last_run)
    start = max(after + _MICROSECOND, EPOCH)
    for reach in _REACHES:
        end = start + reach if HORIZON - start > reach else HORIZON
        runs = list(islice(runs_between(rule, start, end, counted_from=counted_from), count))
        if len(runs) == count or end == HORIZON:
            break
    return runs


def runs_between(
    rule: Rule, start: datetime, end: datetime, *, counted_from: datetime | None = None
) -> Iterator[datetime]:
    """The runs with start <= run < end, in order, in UTC.

    `counted_from`: a moment on the grid of an interval; start_date when it is missing, `start` without that too.
    """
    first, stop = window(rule, start, end)
    if rule.kind is Kind.CRON and rule.cron is not None:
        yield from _cron_runs(rule, parse_cron(rule.cron), first, stop)
    elif rule.kind is Kind.INTERVAL and rule.interval_seconds is not None:
        interval = timedelta(seconds=rule.interval_seconds)
        yield from _interval_runs(interval, first, stop, counted_from or rule.starts_at or start)
    elif rule.kind is Kind.ONCE and rule.starts_at is not None and first <= rule.starts_at < stop:
        yield rule.starts_at


def gaps(runs: Sequence[datetime]) -> tuple[float, float] | None:
    """The shortest and the longest time between two neighbours, in seconds; None for fewer than two runs."""
    between = [(later - earlier).total_seconds() for earlier, later in pairwise(runs)]
    return (min(between), max(between)) if between else None


def window(rule: Rule, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The part of start <= time < end in which the rule may run; its own end_date is included, as in Airflow."""
    starts = [time for time in (start, rule.starts_at, EPOCH) if time is not None]
    ends = [min(end, HORIZON)]
    if rule.end_date is not None and rule.end_date < HORIZON:
        ends.append(rule.end_date + _MICROSECOND)
    return max(starts), min(ends)


def whole_seconds(moment: datetime) -> int:
    """Seconds since 1970, rounded up: runs at whole seconds are at or after `moment` when they are at or after that."""
    return -((EPOCH - moment) // _SECOND)


def cron_entry(rule: Rule, cron: Cron, start: int) -> Entry:
    """Where the chain of a rule's runs is taken up to read on from `start` (seconds since 1970)."""
    if rule.starts_at is None:
        return entry(cron, rule.timezone, start, since=None)
    seconds, rest = divmod(rule.starts_at - EPOCH, _SECOND)
    return entry(cron, rule.timezone, start, since=seconds, exact=not rest)


def _cron_runs(rule: Rule, cron: Cron, start: datetime, end: datetime) -> Iterator[datetime]:
    first, stop = whole_seconds(start), whole_seconds(end)
    if first >= stop:
        return
    begun_at = rule.starts_at
    if (
        begun_at is not None
        and first > begun_at.timestamp()
        and is_unchanged(rule.timezone, whole_seconds(begun_at), stop)
    ):
        # No change of the clock since the chain began: each run stands where the expression says, but for one at the
        # begin itself, for which Airflow looks at the run that follows.
        offset = offset_at(rule.timezone, first)
        for local in cron.between(first + offset, stop + offset):
            yield EPOCH + timedelta(seconds=local - offset)
        return
    begin = cron_entry(rule, cron, first)
    for instant in instants(pieces(cron, rule.timezone, first, stop, begin, catchup=rule.catchup), cron):
        yield EPOCH + timedelta(seconds=instant)


def _interval_runs(interval: timedelta, start: datetime, end: datetime, counted_from: datetime) -> Iterator[datetime]:
    number = max(0, -((counted_from - start) // interval))
    while (run := counted_from + number * interval) < end:
        yield run
        number += 1


def _counted_from(rule: Rule, now: datetime, last_run: datetime | None) -> datetime:
    """A moment on the grid of an interval. Without catchup an overdue run starts now, and the next counts from it."""
    if last_run is None or rule.interval_seconds is None:
        return rule.starts_at or now
    if rule.catchup:
        return last_run
    return max(last_run + timedelta(seconds=rule.interval_seconds), rule.starts_at or now, now)
