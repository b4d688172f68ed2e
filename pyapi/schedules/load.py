"""How many records start when: all runs of many rules in one window, as one bit per minute.

A run is counted in the minute it starts in; no rule runs twice in a minute. Thousands of rules over a week are a matter
of a second since nothing is done per run: a day of an expression is one number of 1,440 bits, shifted to its place.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Final, Generic, TypeVar

from pyapi.schedules.expressions import DAY, Cron, parse_cron
from pyapi.schedules.rules import Kind, Rule
from pyapi.schedules.runs import cron_entry, runs_between, whole_seconds, window
from pyapi.schedules.timetable import Crossing, Entry, Stretch, pieces
from pyapi.schedules.zones import EPOCH

Key = TypeVar("Key")
_MINUTE: Final = timedelta(minutes=1)
_DAY_MINUTES: Final = DAY // 60


@dataclass(frozen=True, slots=True)
class Bucket(Generic[Key]):
    """One part of the window: how many runs start in it, and of which records."""

    start: datetime
    runs: int
    keys: list[Key]


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """The time of the wanted length in which the fewest runs start; the earliest of equals."""

    start: datetime
    end: datetime
    runs: int


@dataclass(frozen=True, slots=True)
class Load(Generic[Key]):
    """All runs of a window. `quietest` is None when no window of the wanted length fits."""

    buckets: list[Bucket[Key]]
    busiest: Bucket[Key] | None
    quietest: QuietWindow | None


def load_of(
    rules: Mapping[Key, Rule], start: datetime, minutes: int, *, bucket_minutes: int, quiet_minutes: int
) -> Load[Key]:
    """Count the runs of `rules` (by record) from `start`, rounded down to its minute, for so many minutes."""
    start = EPOCH + (start - EPOCH) // _MINUTE * _MINUTE
    keys_of: dict[int, list[Key]] = {}
    for key, rule in rules.items():
        keys_of.setdefault(minutes_of(rule, start, minutes), []).append(key)
    per_minute = _sums(keys_of, minutes)
    per_bucket = _keys_by_bucket(keys_of, minutes, bucket_minutes)
    buckets = [
        Bucket(
            start + number * bucket_minutes * _MINUTE,
            sum(per_minute[number * bucket_minutes : (number + 1) * bucket_minutes]),
            keys,
        )
        for number, keys in enumerate(per_bucket)
    ]
    busiest = max(buckets, key=lambda bucket: bucket.runs, default=None)
    return Load(buckets, busiest, _quietest(per_minute, start, quiet_minutes))


def minutes_of(rule: Rule, start: datetime, minutes: int) -> int:
    """The minutes in which the rule runs: bit 0 is the one that begins at `start`, a whole minute."""
    first, stop = window(rule, start, start + minutes * _MINUTE)
    if first >= stop:
        return 0
    if rule.kind is not Kind.CRON:
        return _bits((run - start) // _MINUTE for run in runs_between(rule, first, stop))
    cron = parse_cron(rule.cron or "")
    origin = whole_seconds(start)
    begin = cron_entry(rule, cron, origin)
    bits = _cron_minutes(cron, rule.timezone, origin, minutes, begin, rule.catchup)
    return bits & _ones((whole_seconds(first) - origin) // 60, -((origin - whole_seconds(stop)) // 60))


@lru_cache(2048)
def _cron_minutes(cron: Cron, zone: str, origin: int, minutes: int, begin: Entry, catchup: bool) -> int:
    """The same for one expression, without the ends of a rule: many records share it."""
    bits = 0
    for piece in pieces(cron, zone, origin, origin + minutes * 60, begin, catchup=catchup):
        if isinstance(piece, Crossing):
            bits |= 1 << (piece.at - origin) // 60
        elif piece.offset % 60:
            bits |= _bits((local - piece.offset - origin) // 60 for local in cron.between(piece.first, piece.stop))
        else:
            bits |= _stretch_minutes(cron, piece, (origin + piece.offset) // 60)
    return bits


def _stretch_minutes(cron: Cron, stretch: Stretch, origin: int) -> int:
    """`origin`: the local minute, counted from 1970, that is bit 0."""
    day_bits = _day_minutes(cron.minutes, cron.hours)
    bits = 0
    for day in cron.days_between(stretch.first // DAY, (stretch.stop - 1) // DAY):
        place = day * _DAY_MINUTES - origin
        bits |= day_bits << place if place >= 0 else day_bits >> -place
    return bits & _ones(-(-stretch.first // 60) - origin, -(-stretch.stop // 60) - origin)


@lru_cache(4096)
def _day_minutes(minutes: tuple[int, ...], hours: tuple[int, ...]) -> int:
    hour_bits = _bits(minutes)
    return sum(hour_bits << hour * 60 for hour in hours)


def _bits(places: Iterable[int]) -> int:
    bits = 0
    for place in places:
        bits |= 1 << place
    return bits


def _ones(first: int, stop: int) -> int:
    """The bits with 0 <= first <= place < stop."""
    return (1 << max(stop, 0)) - (1 << max(min(first, stop), 0))


def _sums(keys_of: Mapping[int, Sequence[object]], minutes: int) -> list[int]:
    """How many runs start in each minute. Adds the bits of all minutes at once: `planes[n]` has their digit 2^n."""
    planes: list[int] = []
    for bits, keys in keys_of.items():
        for shift in range(len(keys).bit_length()):
            if len(keys) >> shift & 1:
                _add(planes, bits, shift)
    sums = [0] * minutes
    for digit, plane in enumerate(planes):
        for place in _places(plane):
            sums[place] += 1 << digit
    return sums


def _add(planes: list[int], bits: int, digit: int) -> None:
    """Add 2^digit in every minute of `bits`."""
    while bits:
        planes += [0] * (digit + 1 - len(planes))
        planes[digit], bits = planes[digit] ^ bits, planes[digit] & bits
        digit += 1


def _places(bits: int) -> Iterator[int]:
    text = f"{bits:b}"[::-1]
    place = text.find("1")
    while place >= 0:
        yield place
        place = text.find("1", place + 1)


def _keys_by_bucket(keys_of: Mapping[int, list[Key]], minutes: int, bucket_minutes: int) -> list[list[Key]]:
    """The records that run in each part of the window; each once, and those of one schedule together."""
    buckets: list[list[Key]] = [[] for _ in range(-(-minutes // bucket_minutes))]
    for bits, keys in keys_of.items():
        text = f"{bits:b}"[::-1]
        place = text.find("1")
        while place >= 0:
            number = place // bucket_minutes
            buckets[number] += keys
            place = text.find("1", (number + 1) * bucket_minutes)
    return buckets


def _quietest(per_minute: Sequence[int], start: datetime, length: int) -> QuietWindow | None:
    if not 0 < length <= len(per_minute):
        return None
    until = [0, *accumulate(per_minute)]
    runs = [until[first + length] - until[first] for first in range(len(per_minute) - length + 1)]
    first = runs.index(min(runs))
    return QuietWindow(start + first * _MINUTE, start + (first + length) * _MINUTE, runs[first])
