"""Cron expressions as sets of minutes and days, read exactly as croniter, and so Airflow, reads them.

Local times are whole seconds since 1970-01-01 00:00 on the clock of the rule's zone, without an offset: sums of them
are cheap, and a time that the clock skips can be written down.
"""

import re
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from croniter import croniter

LONGEST_CRON: Final = 500
"""Characters of the longest expression: every minute, hour and day as lists take fewer."""
DAY: Final = 86_400
FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 2199
"""No run is looked for outside of these years."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_MONTH = FIRST_YEAR * 12
_LAST_MONTH = LAST_YEAR * 12 + 11
# croniter splits at ASCII white space only.
_FIELD = re.compile(r"\S+", re.ASCII)
_RANDOM = re.compile(r"r(\(\d+-\d+\))?(/\d+)?", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"\d+", re.ASCII)
_YEAR = re.compile(r"(19|20)\d\d", re.ASCII)
_ANY = "*"
_LAST = "l"

_NAMES = ("minute", "hour", "day-of-month", "month", "day-of-week")
_FORMS = (
    "0 to 59, as in `30`, `0,30`, `10-20` or `*/15`",
    "0 to 23, as in `9`, `9-17` or `*/2`",
    "1 to 31, `L` for the last day or `15W` for the weekday nearest to the 15th",
    "1 to 12 or JAN to DEC",
    "0 to 6 or SUN to SAT (7 is Sunday too), `1#2` for the second Monday or `L5` for the last Friday",
)
_ORDER = "minute, hour, day of month, month, day of week"


class CronError(ValueError):
    """The text is no cron expression that may be stored; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Days:
    """Which days an expression means, as croniter's `expand` answers them. None: every month, day or weekday.

    `weekdays` count from Sunday = 0. `nth_weekdays` are pairs (weekday, 1 to 5; 0 for the last of the month).
    `near` are days of the month that stand for the weekday nearest to them (`15W`).
    """

    months: frozenset[int] | None = None
    days: frozenset[int] | None = None
    last_day: bool = False
    near: frozenset[int] = frozenset()
    weekdays: frozenset[int] | None = None
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()

    @property
    def either(self) -> bool:
        """Day of month and day of week are both restricted: one of them is enough (POSIX crontab)."""
        return self.days is not None and self.weekdays is not None

    def of(self, year: int, month: int) -> list[int]:
        """The days of that month, in order."""
        if self.months is not None and month not in self.months:
            return []
        days = range(1, monthrange(year, month)[1] + 1)
        by_date, by_weekday = self._by_date(year, month), self._by_weekday(year, month)
        # `#`, `L5` and `W` are filters of both sides in croniter: what is left of the OR is the filter alone.
        either = self.either and not self.near and not self.nth_weekdays
        if self.either and not either:
            by_date = by_date if self.near else set(days)
            by_weekday = by_weekday if self.nth_weekdays else set(days)
        return sorted(by_date | by_weekday if either else by_date & by_weekday)

    def _by_date(self, year: int, month: int) -> set[int]:
        last = monthrange(year, month)[1]
        if self.near:
            return {_nearest_weekday(year, month, min(day, last)) for day in self.near}
        if self.days is None:
            return set(range(1, last + 1))
        return {day for day in self.days if day <= last} | ({last} if self.last_day else set())

    def _by_weekday(self, year: int, month: int) -> set[int]:
        first_weekday, last = monthrange(year, month)
        # monthrange counts from Monday = 0.
        by_weekday = {(first_weekday + day) % 7: list(range(day, last + 1, 7)) for day in range(1, 8)}
        if self.nth_weekdays:
            chosen = ((by_weekday[weekday], nth) for weekday, nth in self.nth_weekdays)
            return {days[nth - 1] for days, nth in chosen if nth <= len(days)}
        if self.weekdays is None:
            return set(range(1, last + 1))
        return {day for weekday in self.weekdays for day in by_weekday[weekday]}


def _nearest_weekday(year: int, month: int, day: int) -> int:
    """Monday to Friday within the month, as croniter's `W` has it."""
    weekday = date(year, month, day).weekday()
    if weekday == 5:
        return day - 1 if day > 1 else day + 2
    if weekday == 6:
        return day + 1 if day < monthrange(year, month)[1] else day - 2
    return day


@lru_cache(8192)
def _epoch_days(days: Days, month_number: int) -> tuple[int, ...]:
    """Days since 1970-01-01; `month_number` is year * 12 + month - 1."""
    year, month = divmod(month_number, 12)
    before = date(year, month + 1, 1).toordinal() - 1 - _EPOCH_DAY
    return tuple(before + day for day in days.of(year, month + 1))


def _month_number(epoch_day: int) -> int:
    day = date.fromordinal(epoch_day + _EPOCH_DAY)
    return day.year * 12 + day.month - 1


@dataclass(frozen=True, slots=True, eq=False)
class Cron:
    """One expression; `parse_cron` keeps them, so that one is equal to itself only. All values are sorted.

    `every_hour`: the hour field means all hours and says so (`*`, `*/1`, `0-23`); Airflow then keeps the elapsed time
    between two runs when the clock changes.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    every_hour: bool
    days: Days

    def days_between(self, first: int, last: int) -> Iterator[int]:
        """The days that are meant, as days since 1970-01-01; both ends included."""
        for month_number in range(_month_number(first), _month_number(last) + 1):
            days = _epoch_days(self.days, month_number)
            yield from days[bisect_left(days, first) : bisect_right(days, last)]

    def between(self, first: int, stop: int) -> Iterator[int]:
        """Local times with first <= time < stop."""
        if first >= stop:
            return
        for day in self.days_between(first // DAY, (stop - 1) // DAY):
            for hour in self.hours:
                start = day * DAY + hour * 3600
                if start + 3600 <= first or start >= stop:
                    continue
                for minute in self.minutes:
                    if first <= (time := start + minute * 60) < stop:
                        yield time

    def after(self, time: int) -> int | None:
        """The first local time after `time`; None when there is none until the end of `LAST_YEAR`."""
        day, second = divmod(time, DAY)
        today = self._minute_after(second // 60)
        for month_number in range(_month_number(day), _LAST_MONTH + 1):
            for candidate in _epoch_days(self.days, month_number):
                if candidate > day:
                    return candidate * DAY + self.hours[0] * 3600 + self.minutes[0] * 60
                if candidate == day and today is not None:
                    return candidate * DAY + today * 60
        return None

    def before(self, time: int) -> int | None:
        """The last local time before `time`; None when there is none since `FIRST_YEAR`."""
        day, second = divmod(time, DAY)
        today = self._minute_before(-(-second // 60))
        for month_number in range(_month_number(day), _FIRST_MONTH - 1, -1):
            for candidate in reversed(_epoch_days(self.days, month_number)):
                if candidate < day:
                    return candidate * DAY + self.hours[-1] * 3600 + self.minutes[-1] * 60
                if candidate == day and today is not None:
                    return candidate * DAY + today * 60
        return None

    def _minute_after(self, minute_of_day: int) -> int | None:
        """The first minute of a day after this one."""
        hour, minute = divmod(minute_of_day, 60)
        place = bisect_left(self.hours, hour)
        if place < len(self.hours) and self.hours[place] == hour:
            later = bisect_right(self.minutes, minute)
            if later < len(self.minutes):
                return hour * 60 + self.minutes[later]
            place += 1
        return self.hours[place] * 60 + self.minutes[0] if place < len(self.hours) else None

    def _minute_before(self, minute_of_day: int) -> int | None:
        """The last minute of a day before this one."""
        hour, minute = divmod(minute_of_day, 60)
        place = bisect_left(self.hours, hour)
        if place < len(self.hours) and self.hours[place] == hour:
            earlier = bisect_left(self.minutes, minute)
            if earlier:
                return hour * 60 + self.minutes[earlier - 1]
        return self.hours[place - 1] * 60 + self.minutes[-1] if place else None


def normalized(text: str) -> str:
    """The fields with one space between them."""
    return " ".join(_FIELD.findall(text))


@lru_cache(8192)
def parse_cron(text: str) -> Cron:
    """Read five fields. Raises CronError for what Airflow refuses, and for three traps that it accepts."""
    if len(text) > LONGEST_CRON:
        raise CronError(f"Write a cron text of at most {LONGEST_CRON} characters.")
    fields = _FIELD.findall(text)
    if len(fields) != len(_NAMES):
        raise CronError(_count_hint(fields))
    for field, name in zip(fields, _NAMES, strict=True):
        if _RANDOM.fullmatch(field):
            raise CronError(
                f"Write a fixed {name} instead of `R`: it is drawn again at every look, so nobody can say when it runs."
            )
    return _read(fields)


def _read(fields: list[str]) -> Cron:
    minute, hour, day, month, weekday = fields
    minutes, _ = _time_values(0, minute)
    hours, every_hour = _time_values(1, hour)
    cron = Cron(minutes, hours, every_hour, _days(day, month, weekday))
    if not _comes(cron.days):
        raise CronError(_never_hint(fields, cron.days))
    return cron


# --- What croniter makes of the fields: each is kept, since thousands of expressions share them -----------------------


def _read_by_croniter(fields: list[str]) -> croniter | None:
    """What croniter reads in five fields; None when it refuses them."""
    try:
        return croniter(" ".join(fields), start_time=0.0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


@lru_cache(4096)
def _time_values(index: int, field: str) -> tuple[tuple[int, ...], bool]:
    """The values of a minute (0) or hour (1) field, and whether it means all of them *and* croniter says `*` for it."""
    fields = [_ANY] * len(_NAMES)
    fields[index] = field
    if (cron := _read_by_croniter(fields)) is None:
        raise _field_error(index)
    values = cron.expanded[index]
    if _ANY in values:
        return tuple(range(croniter.RANGES[index][1] + 1)), values == [_ANY]
    return tuple(sorted(values)), False


@lru_cache(4096)
def _days(day: str, month: str, weekday: str) -> Days:
    if (cron := _read_by_croniter(["0", "0", day, month, weekday])) is None:
        raise _first_wrong(day, month, weekday)
    _, _, days, months, weekdays = (None if _ANY in values else values for values in cron.expanded)
    return Days(
        months=None if months is None else frozenset(months),
        days=None if days is None else frozenset(value for value in days if value != _LAST),
        last_day=days is not None and _LAST in days,
        near=frozenset(cron.nearest_weekday),
        weekdays=None if weekdays is None else frozenset(weekdays),
        nth_weekdays=frozenset(
            (weekday, 0 if nth == _LAST else nth)
            for weekday, chosen in cron.nth_weekday_of_month.items()
            for nth in chosen
        ),
    )


@lru_cache(4096)
def _comes(days: Days) -> bool:
    """Whether croniter finds a day: it looks 50 years ahead, and with `#` or `W` on both sides of an OR."""
    sides = [days]
    if days.either and days.near and not days.nth_weekdays:
        # 15W or a Sunday: croniter looks for the 15W that is a Sunday as well, and fails for good.
        sides.append(Days(months=days.months, near=days.near, weekdays=days.weekdays))
    if days.either and days.nth_weekdays and not days.near:
        sides.append(Days(months=days.months, days=days.days, last_day=days.last_day, nth_weekdays=days.nth_weekdays))
    # The calendar repeats every 28 years, but for 2100.
    years = range(2001, 2051)
    return all(any(side.of(year, month) for year in years for month in range(1, 13)) for side in sides)


# --- What to write instead --------------------------------------------------------------------------------------------


def _field_error(index: int) -> CronError:
    return CronError(f"The {_NAMES[index]} field cannot be read: write {_FORMS[index]}.")


def _first_wrong(*day_fields: str) -> CronError:
    for index, field in enumerate(day_fields, start=2):
        fields = ["0", "0", _ANY, _ANY, _ANY]
        fields[index] = field
        if _read_by_croniter(fields) is None:
            return _field_error(index)
    return _field_error(4)


def _count_hint(fields: list[str]) -> str:
    if len(fields) not in {6, 7}:
        return (
            f"Write five fields: {_ORDER}, as in `0 9 * * *`. Or a preset such as @daily, a number of seconds, or null."
        )
    meant = _meant(fields)
    question = f"; did you mean `{' '.join(meant)}`?" if meant else "."
    if len(fields) == 6 and _YEAR.fullmatch(fields[-1]):
        return f"Write five fields ({_ORDER}); there is no field for the year, set end_date{question}"
    return f"Write five fields ({_ORDER}), without seconds: seconds come last here{question}"


def _meant(fields: list[str]) -> list[str] | None:
    """The five fields that somebody with six or seven had in mind; None when that is not clear."""
    if len(fields) == 7:
        choices = [fields[1:6]]  # Quartz: seconds first, the year last
    elif _YEAR.fullmatch(fields[5]) or (fields[5] == "0" and not _NUMBER.fullmatch(fields[0])):
        choices = [fields[:5], fields[1:]]
    else:
        choices = [fields[1:], fields[:5]]  # Quartz and Spring put the seconds first
    for choice in choices:
        try:
            parse_cron(" ".join(choice))
        except CronError:
            continue
        return choice
    return None


def _never_hint(fields: list[str], days: Days) -> str:
    if days.near or days.nth_weekdays:
        return "This day never comes: write either a day of the month or a day of the week, and `*` for the other."
    suggestion = " ".join([*fields[:2], "L", *fields[3:]])
    return f"This day never comes in these months; for the last day of a month write `L`: `{suggestion}`."
