"""The moments at which a rule runs: next to changes of the clock, at the ends of a rule, and for each kind of rule."""

# ruff: noqa: DTZ001  (the clock on a wall knows no zone)

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyapi.schedules import runs
from pyapi.schedules.rules import Kind, Rule, parse_rule
from pyapi.schedules.runs import HORIZON, gaps, next_runs, runs_between
from tests.unit.schedules.test_expressions import EXPRESSIONS

ZONES = st.sampled_from(
    ["UTC", "America/New_York", "Europe/Paris", "Asia/Taipei", "Australia/Lord_Howe", "Africa/Casablanca"]
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


def rule_of(schedule: Any, **config: Any) -> Rule:
    rule, errors = parse_rule({"schedule": schedule, **config})
    assert rule is not None, errors
    return rule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(runs: Iterable[datetime], zone: str) -> list[str]:
    """Local times with their offset: `03-28 03:30+0200`."""
    return [f"{run.astimezone(ZoneInfo(zone)):%m-%d %H:%M%z}" for run in runs]


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        # Skipped: as much later, and what that has passed is left out.
        ("30 2 * * *", "Europe/Paris", "2027-03-27T02:00", ["03-28 03:30+0200", "03-29 02:30+0200"]),
        ("0,30 2 * * *", "Europe/Paris", "2027-03-27T02:00", ["03-28 03:00+0200", "03-29 02:00+0200"]),
        ("30 2,3 * * *", "Europe/Paris", "2027-03-27T12:00", ["03-28 03:30+0200", "03-29 02:30+0200"]),
        # Twice: once, at the later one.
        ("30 2 * * *", "Europe/Paris", "2027-10-30T02:00", ["10-31 02:30+0100", "11-01 02:30+0100"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01 01:30-0500", "11-02 01:30-0500"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00", ["11-04 01:00-0200", "11-05 00:00-0200"]),
        ("30 7 * * *", "Pacific/Apia", "2011-12-29T12:00", ["12-29 07:30-1000", "12-31 07:30+1400"]),
        # Every hour: elapsed time.
        ("30 * * * *", "Europe/Paris", "2027-03-28T00:00", ["03-28 01:30+0100", "03-28 03:30+0200"]),
        ("30 * * * *", "Europe/Paris", "2027-10-31T00:00", ["10-31 02:30+0200", "10-31 02:30+0100"]),
        ("15 * * * *", "Australia/Lord_Howe", "2026-10-03T14:00", ["10-04 01:15+1030", "10-04 02:45+1100"]),
        ("0 * * * 1", "Europe/Paris", "2027-03-22T22:00", ["03-29 01:00+0200", "03-29 02:00+0200"]),
        ("0 * * * 1", "Europe/Paris", "2027-10-25T21:00", ["10-31 23:00+0100", "11-01 00:00+0100"]),
        # Every hour in its meaning, but not for Airflow.
        ("30 *,5 * * *", "Europe/Paris", "2027-10-31T00:00", ["10-31 02:30+0100", "10-31 03:30+0100"]),
    ],
)
def test_changes_of_the_clock(schedule: str, zone: str, after: str, expected: list[str]) -> None:
    assert local(next_runs(rule_of(schedule, timezone=zone), after=at(after), count=2), zone) == expected


def test_a_gap_of_half_an_hour_depends_on_catchup() -> None:
    zone, after = "Australia/Lord_Howe", at("2026-10-03T15:00")
    with_catchup = rule_of("5,25,45 2 * * *", timezone=zone, catchup=True)
    assert local(next_runs(with_catchup, after=after, count=3), zone) == [
        *("10-04 02:35+1100", "10-04 02:45+1100", "10-05 02:05+1100")
    ]
    without = rule_of("5,25,45 2 * * *", timezone=zone)
    assert local(next_runs(without, after=after, count=3), zone) == [
        *("10-04 02:35+1100", "10-04 02:55+1100", "10-05 02:05+1100")
    ]


@pytest.mark.parametrize(
    ("start_date", "expected"),
    [
        ("2027-06-01T09:00:00", "06-01 09:00+0200"),  # a start_date that is due is a run
        ("2027-06-01T09:00:00.5", "06-02 09:00+0200"),
        ("2027-06-01T09:00:01", "06-02 09:00+0200"),
        ("2027-10-31T02:30:00+02:00", "10-31 09:00+0100"),
    ],
)
def test_where_a_rule_begins(start_date: str, expected: str) -> None:
    rule = rule_of("0 9 * * *", timezone="Europe/Paris", start_date=start_date)
    assert local(next_runs(rule, after=at("2027-01-01"), count=1), "Europe/Paris") == [expected]


@pytest.mark.parametrize(
    ("start_date", "expected"),
    [
        ("2027-03-28T03:10+02:00", "03-29 02:30+0200"),  # 02:30 is over on the clock, although it would run at 03:30
        ("2027-03-28T01:59+01:00", "03-28 03:30+0200"),
        ("2027-10-31T02:30+02:00", "11-01 02:30+0100"),  # the first 02:30: Airflow leaves out the second then
        ("2027-10-31T02:29+02:00", "10-31 02:30+0100"),
        ("2027-10-31T02:30+01:00", "10-31 02:30+0100"),
        ("2027-03-27T02:30+01:00", "03-28 03:30+0200"),  # no run: the one before the next would be the next itself
    ],
)
def test_a_rule_that_begins_next_to_a_change(start_date: str, expected: str) -> None:
    rule = rule_of("30 2 * * *", timezone="Europe/Paris", start_date=start_date)
    assert local(next_runs(rule, after=at("2027-01-01"), count=1), "Europe/Paris") == [expected]


@pytest.mark.parametrize("days", [3, 30])
def test_a_run_at_the_begin_depends_on_the_next_one_however_far_one_looks(days: int) -> None:
    """The next one would be due in the gap of March 28th, so Airflow does not keep the start_date."""
    rule = rule_of("30 2 * * 0", timezone="Europe/Paris", start_date="2027-03-21T02:30+01:00")
    start = at("2027-03-21")
    assert local(runs_between(rule, start, start + timedelta(days=days)), "Europe/Paris") == (
        [] if days == 3 else ["03-28 03:30+0200", "04-04 02:30+0200", "04-11 02:30+0200", "04-18 02:30+0200"]
    )


def test_a_rule_ends_with_its_end_date() -> None:
    rule = rule_of("0 9 * * *", end_date="2026-01-03T09:00:00Z")
    assert next_runs(rule, after=at("2026-01-01T10:00"), count=5) == [at("2026-01-02T09:00"), at("2026-01-03T09:00")]
    rule = rule_of("0 9 * * *", end_date="2026-01-03T08:59:59Z")
    assert next_runs(rule, after=at("2026-01-01T10:00"), count=5) == [at("2026-01-02T09:00")]


def test_next_is_strictly_after() -> None:
    rule = rule_of("0 9 * * *")
    assert next_runs(rule, after=at("2026-01-01T09:00"), count=1) == [at("2026-01-02T09:00")]
    almost = at("2026-01-01T09:00") - timedelta(microseconds=1)
    assert next_runs(rule, after=almost, count=1) == [at("2026-01-01T09:00")]


def test_between_has_its_start_and_not_its_end() -> None:
    rule = rule_of("0 9 * * *")
    assert list(runs_between(rule, at("2026-01-01T09:00"), at("2026-01-02T09:00"))) == [at("2026-01-01T09:00")]
    assert list(runs_between(rule, at("2026-01-02T09:00"), at("2026-01-01T09:00"))) == []


@pytest.mark.parametrize("schedule", ["0 9 * * *", 3600, "@once"])
def test_nothing_runs_before_paused_until(schedule: Any) -> None:
    rule = rule_of(schedule, start_date="2026-01-01", paused_until="2026-02-01T09:00:00Z")
    assert next_runs(rule, after=at("2026-01-10"), count=1) == [at("2026-02-01T09:00")]


@pytest.mark.parametrize("catchup", [True, False])
def test_an_interval_counts_from_its_start(catchup: bool) -> None:
    rule = rule_of(5400, start_date="2026-01-01T00:10:00Z", catchup=catchup)
    assert next_runs(rule, after=at("2026-01-01T03:00"), count=2) == [at("2026-01-01T03:10"), at("2026-01-01T04:40")]
    assert next_runs(rule, after=at("2025-01-01"), count=1) == [at("2026-01-01T00:10")]


def test_an_interval_counts_from_its_last_run() -> None:
    rule = rule_of(3600, start_date="2026-01-01")
    now, last_run = at("2026-01-05T12:00"), at("2026-01-05T11:30:07")
    expected = [at("2026-01-05T12:30:07"), at("2026-01-05T13:30:07")]
    assert next_runs(rule, after=now, count=2, last_run=last_run) == expected


def test_an_overdue_interval_starts_at_once_and_counts_from_then() -> None:
    now, last_run = at("2026-01-05T12:00"), at("2026-01-05T09:30")
    without = rule_of(3600, start_date="2026-01-01")
    assert next_runs(without, after=now, count=1, last_run=last_run) == [at("2026-01-05T13:00")]
    catching_up = rule_of(3600, start_date="2026-01-01", catchup=True)
    assert next_runs(catching_up, after=now, count=1, last_run=last_run) == [at("2026-01-05T12:30")]
    paused = rule_of(3600, paused_until="2026-01-06")
    assert next_runs(paused, after=now, count=1, last_run=last_run) == [at("2026-01-06")]


def test_an_interval_without_a_start_counts_from_now() -> None:
    now = at("2026-01-05T12:00")
    assert next_runs(rule_of(90.5), after=now, count=2) == [now + timedelta(seconds=90.5), now + timedelta(seconds=181)]
    assert list(islice(runs_between(rule_of(60), now, HORIZON), 2)) == [now, now + timedelta(seconds=60)]


def test_an_interval_ends() -> None:
    rule = rule_of(60, start_date="2026-01-01", end_date="2026-01-01T00:02:00Z")
    assert next_runs(rule, after=at("2025-12-31"), count=9) == [at(f"2026-01-01T00:0{minute}") for minute in range(3)]


def test_once_is_due_at_its_start() -> None:
    rule = rule_of("@once", start_date="2026-01-01")
    assert next_runs(rule, after=at("2025-12-31"), count=5) == [at("2026-01-01")]
    assert next_runs(rule, after=at("2026-01-01"), count=5) == []
    assert next_runs(rule_of("@once"), after=at("2026-01-01"), count=5) == []


@pytest.mark.parametrize("schedule", [None, "@continuous"])
def test_what_cannot_be_foretold(schedule: Any) -> None:
    assert next_runs(rule_of(schedule, start_date="2026-01-01"), after=at("2025-12-31"), count=5) == []


@pytest.mark.parametrize("kind", list(Kind))
def test_a_rule_without_its_schedule_never_runs(kind: Kind) -> None:
    assert next_runs(Rule(kind=kind), after=at("2026-01-01"), count=5) == []


def test_rare_days_are_found() -> None:
    leap_days = next_runs(rule_of("0 0 29 2 *", timezone="Europe/Paris"), after=at("2090-01-01"), count=3)
    assert [run.astimezone(ZoneInfo("Europe/Paris")).date() for run in leap_days] == [
        *(date(2092, 2, 29), date(2096, 2, 29), date(2104, 2, 29))
    ]
    assert len(next_runs(rule_of("0 0 29 2 *"), after=at("2026-01-01"), count=100)) == 42


@pytest.mark.parametrize(
    ("schedule", "moment", "number"),
    [
        ("0 9 * * *", "0001-01-01T00:00", 2),
        (3600, "0001-01-01T00:00", 2),
        ("@once", "0001-01-01T00:00", 0),
        ("0 9 * * *", "9999-12-31T23:59:59.999999", 0),
        (3600, "9999-12-31T23:59:59.999999", 0),
        ("@once", "9999-12-31T23:59:59.999999", 0),
    ],
)
def test_moments_at_the_end_of_time(schedule: Any, moment: str, number: int) -> None:
    assert len(next_runs(rule_of(schedule, timezone="Asia/Taipei"), after=at(moment), count=2)) == number


def test_gaps() -> None:
    runs = next_runs(rule_of("0 9,12 * * *"), after=at("2026-01-01"), count=4)
    assert gaps(runs) == (3 * 3600, 21 * 3600)
    assert gaps(runs[:1]) is None
    assert gaps([]) is None


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS, st.booleans())
def test_runs_of_any_expression(text: str, zone: str, start: datetime, catchup: bool) -> None:
    """Strictly increasing, within their window, at times the expression names, and the same however they are asked."""
    rule, _ = parse_rule({"schedule": text, "timezone": zone, "catchup": catchup})
    assume(rule is not None)
    assert rule is not None
    end = start + timedelta(days=9)
    runs = list(islice(runs_between(rule, start, end), 500))
    assert all(earlier < later for earlier, later in pairwise(runs))
    assert all(start <= run < end for run in runs)
    assert runs[:20] == [run for run in next_runs(rule, after=start - timedelta(microseconds=1), count=20) if run < end]
    for earlier, run in pairwise(run.astimezone(ZoneInfo(zone)) for run in runs[:50]):
        assert _is_named(text, earlier, run)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=400)), st.booleans())
def test_where_no_clock_changes_it_is_read_faster_and_the_same(
    text: str, zone: str, begin: datetime, passed: timedelta, catchup: bool
) -> None:
    rule, _ = parse_rule({"schedule": text, "timezone": zone, "start_date": begin.isoformat(), "catchup": catchup})
    assume(rule is not None)
    assert rule is not None
    start = begin + passed
    found = [list(islice(runs_between(rule, start, start + timedelta(days=9)), 300))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "is_unchanged", lambda *_: False)
        found.append(list(islice(runs_between(rule, start, start + timedelta(days=9)), 300)))
    assert found[0] == found[1]


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)), st.booleans())
def test_a_window_may_be_cut_anywhere(text: str, zone: str, start: datetime, length: timedelta, begins: bool) -> None:
    config = {"schedule": text, "timezone": zone} | ({"start_date": start.isoformat()} if begins else {})
    rule, _ = parse_rule(config)
    assume(rule is not None)
    assert rule is not None
    middle, end = start + length, start + length + timedelta(days=2)
    whole = list(runs_between(rule, start, end))
    assume(len(whole) < 5000)
    assert whole == [*runs_between(rule, start, middle), *runs_between(rule, middle, end)]


def _is_named(text: str, earlier: datetime, run: datetime) -> bool:
    """Whether the expression names this local time, or the clock has changed since the run before or just now."""
    if croniter.match(text, run.replace(tzinfo=None)):
        return True
    shortly_before = (run.astimezone(UTC) - timedelta(hours=3)).astimezone(run.tzinfo)
    return run.utcoffset() != earlier.utcoffset() or run.utcoffset() != shortly_before.utcoffset()
