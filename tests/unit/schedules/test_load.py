"""The runs of many rules at once are those that each rule has alone."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.records import schedules
from pyapi.schedules.load import Load, QuietWindow, load_of, minutes_of
from pyapi.schedules.rules import Rule, parse_rule
from pyapi.schedules.runs import runs_between
from tests.unit.schedules.test_expressions import EXPRESSIONS
from tests.unit.schedules.test_runs import MOMENTS, ZONES, rule_of

MINUTE = timedelta(minutes=1)
START = datetime(2027, 3, 25, tzinfo=UTC)
WEEK = 7 * 1440


def places(bits: int) -> list[int]:
    return [place for place in range(bits.bit_length()) if bits >> place & 1]


def counted(rule: Rule, start: datetime, minutes: int) -> list[int]:
    return [(run - start) // MINUTE for run in runs_between(rule, start, start + minutes * MINUTE)]


@pytest.mark.parametrize(
    ("schedule", "config"),
    [
        ("*/7 2,3 * * *", {"timezone": "Europe/Paris"}),
        ("*/20 * * * *", {"timezone": "Europe/Paris"}),
        ("15 * * * *", {"timezone": "Asia/Kathmandu"}),
        ("0 9 * * *", {"start_date": "2027-03-27", "end_date": "2027-03-29T09:00:00Z"}),
        ("* * * * *", {"start_date": "2027-03-27T00:00:30Z", "end_date": "2027-03-29T09:00:30Z"}),
        ("0 9 * * *", {"paused_until": "2027-03-30"}),
        ("0 9 * * *", {"end_date": "2027-03-01"}),
        ("0 * 1 * *", {"timezone": "Europe/Paris", "start_date": "2026-07-15"}),
        (90.5, {"start_date": "2027-03-24T12:34:56.7Z"}),
        (60, {"start_date": "2027-03-24T12:34:56.7Z"}),
        ("@once", {"start_date": "2027-03-26"}),
        ("@continuous", {"start_date": "2027-03-26"}),
        (None, {}),
    ],
)
def test_minutes_of_a_rule(schedule: Any, config: dict[str, Any]) -> None:
    rule = rule_of(schedule, **config)
    assert places(minutes_of(rule, START, 9 * 1440)) == counted(rule, START, 9 * 1440)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS, st.integers(0, 10_000), st.booleans())
def test_minutes_of_any_expression(text: str, zone: str, start: datetime, minutes: int, catchup: bool) -> None:
    start = start.replace(second=0, microsecond=0)
    config = {
        "schedule": text,
        "timezone": zone,
        "catchup": catchup,
        "start_date": (start + minutes // 3 * MINUTE).isoformat(),
    }
    rule, _ = parse_rule(config)
    assume(rule is not None)
    assert rule is not None
    assert places(minutes_of(rule, start, minutes)) == counted(rule, start, minutes)


def test_old_times_of_a_zone_with_odd_seconds() -> None:
    start = datetime(1971, 12, 30, tzinfo=UTC)
    rule = rule_of("*/30 * * * *", timezone="Africa/Monrovia")  # 44 minutes and 30 seconds behind
    assert places(minutes_of(rule, start, 1440)) == counted(rule, start, 1440)


def test_load() -> None:
    rules = {
        1: rule_of("0 0 * * *"),
        2: rule_of("30 0 * * *"),
        3: rule_of("0 0 * * *"),
        4: rule_of("*/20 5 * * *"),
        5: rule_of(None),
    }
    load = load_of(rules, START, 360, bucket_minutes=60, quiet_minutes=120)
    assert [(bucket.start.hour, bucket.runs, bucket.keys) for bucket in load.buckets] == [
        *((0, 3, [1, 3, 2]), (1, 0, []), (2, 0, []), (3, 0, []), (4, 0, []), (5, 3, [4]))
    ]
    assert load.busiest == load.buckets[0]
    assert load.quietest == QuietWindow(START + 31 * MINUTE, START + 151 * MINUTE, 0)


def test_the_quietest_window_may_have_runs() -> None:
    rules = {number: rule_of(f"{number} * * * *") for number in range(60)}
    rules |= {60 + number: rule_of("0 0-3 * * *") for number in range(5)}
    load = load_of(rules, START, 240, bucket_minutes=60, quiet_minutes=59)
    assert load.quietest == QuietWindow(START + MINUTE, START + 60 * MINUTE, 59)
    assert [bucket.runs for bucket in load.buckets] == [65] * 4


def test_a_last_bucket_may_be_short_and_a_window_too_long() -> None:
    load = load_of({1: rule_of("* * * * *")}, START + timedelta(seconds=59), 100, bucket_minutes=60, quiet_minutes=101)
    assert [(bucket.start, bucket.runs) for bucket in load.buckets] == [(START, 60), (START + 60 * MINUTE, 40)]
    assert load.quietest is None
    empty: Load[int] = load_of({}, START, 0, bucket_minutes=60, quiet_minutes=60)
    assert (empty.buckets, empty.busiest, empty.quietest) == ([], None, None)


def test_load_of_many_is_the_sum_of_each() -> None:
    rules = dict(enumerate(many_rules(300)))
    counts = Counter(minute for rule in rules.values() for minute in counted(rule, START, WEEK))
    load = load_of(rules, START, WEEK, bucket_minutes=1, quiet_minutes=60)
    assert [bucket.runs for bucket in load.buckets] == [counts[minute] for minute in range(WEEK)]
    runs = [sum(counts[minute] for minute in range(first, first + 60)) for first in range(WEEK - 59)]
    assert load.quietest is not None
    assert load.quietest.runs == min(runs)
    assert load.quietest.start == START + runs.index(min(runs)) * MINUTE


def many_rules(number: int) -> list[Rule]:
    """Daily ones for the most part, and some that run every few minutes; most are written by nobody else."""
    return [rule_of(**config, start_date="2026-01-01") for config in schedules(number)]
