"""Changes of the clock are found, all of them and at the right second."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pyapi.schedules.zones import Change, changes_between, instant_of, offset_at, zone_names


def seconds(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp())


def test_names_are_those_of_the_tz_database() -> None:
    names = zone_names()
    assert {"UTC", "Asia/Taipei", "America/Argentina/Buenos_Aires", "US/Pacific"} <= names
    assert not names & {"", "posixrules", "localtime", "America"}
    for name in names:
        ZoneInfo(name)


@pytest.mark.parametrize(
    ("zone", "start", "stop", "expected"),
    [
        ("Asia/Taipei", (2026, 1, 1), (2029, 1, 1), []),
        ("Europe/Paris", (2027, 3, 1), (2027, 4, 1), [Change(seconds(2027, 3, 28, 1), 3600, 7200)]),
        ("Australia/Lord_Howe", (2026, 10, 1), (2026, 11, 1), [Change(seconds(2026, 10, 3, 15, 30), 37_800, 39_600)]),
        ("Pacific/Apia", (2011, 12, 1), (2012, 1, 1), [Change(seconds(2011, 12, 30, 10), -36_000, 50_400)]),
        ("Europe/Paris", (2027, 3, 28, 1), (2027, 4, 1), []),  # start is left out
        ("Europe/Paris", (2027, 1, 1), (2027, 3, 28, 1), [Change(seconds(2027, 3, 28, 1), 3600, 7200)]),  # stop is not
    ],
)
def test_changes(zone: str, start: tuple[int, ...], stop: tuple[int, ...], expected: list[Change]) -> None:
    assert list(changes_between(zone, seconds(*start), seconds(*stop))) == expected


@pytest.mark.parametrize("zone", ["Africa/Casablanca", "Africa/Cairo", "Asia/Gaza", "America/Argentina/San_Luis"])
def test_no_change_is_overlooked(zone: str) -> None:
    """Read every hour, as if nothing was known about how seldom clocks change."""
    start, stop = seconds(2004, 1, 1), seconds(2032, 1, 1)
    tz = ZoneInfo(zone)
    hour = timedelta(hours=1)
    moment = datetime.fromtimestamp(start, UTC)
    found = 0
    while moment < datetime.fromtimestamp(stop, UTC):
        found += moment.astimezone(tz).utcoffset() != (moment + hour).astimezone(tz).utcoffset()
        moment += hour
    changes = list(changes_between(zone, start, stop))
    assert len(changes) == found
    for change in changes:
        assert (offset_at(zone, change.at - 1), offset_at(zone, change.at)) == (change.before, change.after)


def test_a_time_that_comes_twice_or_never() -> None:
    assert instant_of("Europe/Paris", seconds(2027, 10, 31, 2, 30)) == seconds(2027, 10, 31, 1, 30)
    assert instant_of("Europe/Paris", seconds(2027, 3, 28, 2, 30)) == seconds(2027, 3, 28, 1, 30)
    assert instant_of("Europe/Dublin", seconds(2027, 10, 31, 1, 30)) == seconds(2027, 10, 31, 1, 30)
    assert instant_of("Asia/Taipei", seconds(2027, 3, 28, 2, 30)) == seconds(2027, 3, 27, 18, 30)
