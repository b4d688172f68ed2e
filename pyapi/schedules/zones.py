"""Time zones as offsets from UTC: which names there are, and when the offset of one changes.

Instants are whole seconds since 1970-01-01 00:00 UTC; local times are the same on the clock of the zone.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = EPOCH.replace(tzinfo=None)  # a clock on a wall
_SECOND: Final = timedelta(seconds=1)
# Two changes of one zone are weeks apart: Morocco's pause for Ramadan is the shortest.
_STEP: Final = 2 * 86_400


class Change(NamedTuple):
    """The instant from which the offset is `after` instead of `before` (seconds, positive east of Greenwich)."""

    at: int
    before: int
    after: int


@lru_cache(1)
def zone_names() -> frozenset[str]:
    """The IANA names of the `tzdata` package: the same in every environment, whatever the machine has installed."""
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split())


@lru_cache(1024)
def zone_info(zone: str) -> ZoneInfo:
    """The zone of that name; zoneinfo itself keeps only eight."""
    return ZoneInfo(zone)


def offset_at(zone: str, instant: int) -> int:
    """Seconds that the zone's clock is ahead of UTC."""
    offset = datetime.fromtimestamp(instant, zone_info(zone)).utcoffset()
    assert offset is not None
    return offset // _SECOND


def instant_of(zone: str, local: int) -> int:
    """When the zone's clock shows `local`: the later of two; for a time that is skipped, as much after the gap.

    This is what Airflow's `make_aware` answers.
    """
    naive = (_NAIVE_EPOCH + timedelta(seconds=local)).replace(tzinfo=zone_info(zone))
    before, after = naive.utcoffset(), naive.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    return local - min(before, after) // _SECOND


def changes_between(zone: str, start: int, stop: int) -> Iterator[Change]:
    """The changes with start < at <= stop, in order."""
    for year in range(_year(start), _year(stop) + 1):
        for change in _changes_in(zone, year):
            if start < change.at <= stop:
                yield change


@lru_cache(16_384)
def _changes_in(zone: str, year: int) -> tuple[Change, ...]:
    """All changes of one year, which begins and ends in UTC."""
    start, end = (int(datetime(year + more, 1, 1, tzinfo=UTC).timestamp()) for more in (0, 1))
    changes = []
    before = offset_at(zone, start - 1)
    for low in range(start - 1, end - 1, _STEP):
        high = min(low + _STEP, end - 1)
        after = offset_at(zone, high)
        if after != before:
            changes.append(Change(_first_with_new_offset(zone, low, high), before, after))
        before = after
    return tuple(changes)


def _first_with_new_offset(zone: str, low: int, high: int) -> int:
    """Bisect between `low`, which has the old offset, and `high`, which has the new one."""
    before = offset_at(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _year(instant: int) -> int:
    return (EPOCH + timedelta(seconds=instant)).year
