"""What a config may say about when it runs, and what is answered when it cannot be used."""

import copy
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyapi.exceptions import FieldError
from pyapi.schedules.rules import Kind, Rule, parse_rule

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)
CRON_LIKE = st.text(alphabet="0123456789*/,-#?LWRHhr@ \tJANMONSUN٣", max_size=40)
TIME_LIKE = st.text(alphabet="0123456789-:T.+Z ", max_size=30) | st.datetimes().map(str)
FIELDS = (
    *("schedule", "timezone", "start_date", "end_date", "catchup", "max_active_runs", "retry_count", "retries"),
    *("retry_delay_seconds", "execution_timeout_seconds", "tags", "paused_until"),
)


def read(**config: Any) -> Rule:
    rule, errors = parse_rule(config)
    assert errors == []
    assert rule is not None
    return rule


def refused(**config: Any) -> list[FieldError]:
    rule, errors = parse_rule(config)
    assert rule is None
    assert errors
    return errors


def refusal(schedule: Any) -> str:
    (error,) = refused(schedule=schedule)
    assert error.pointer == "/schedule"
    return error.detail


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, Rule(kind=Kind.MANUAL)),
        ("0 9 * * *", Rule(kind=Kind.CRON, cron="0 9 * * *")),
        ("  0\t9 *\n* * ", Rule(kind=Kind.CRON, cron="0 9 * * *")),
        ("0 9 L * MON-FRI", Rule(kind=Kind.CRON, cron="0 9 L * MON-FRI")),
        ("0 9 ? * 1#2", Rule(kind=Kind.CRON, cron="0 9 ? * 1#2")),
        ("@hourly", Rule(kind=Kind.CRON, cron="0 * * * *")),
        ("@daily", Rule(kind=Kind.CRON, cron="0 0 * * *")),
        ("@midnight", Rule(kind=Kind.CRON, cron="0 0 * * *")),
        ("@weekly", Rule(kind=Kind.CRON, cron="0 0 * * 0")),
        ("@monthly", Rule(kind=Kind.CRON, cron="0 0 1 * *")),
        ("@quarterly", Rule(kind=Kind.CRON, cron="0 0 1 */3 *")),
        ("@yearly", Rule(kind=Kind.CRON, cron="0 0 1 1 *")),
        ("@annually", Rule(kind=Kind.CRON, cron="0 0 1 1 *")),
        ("@once", Rule(kind=Kind.ONCE)),
        ("@continuous", Rule(kind=Kind.CONTINUOUS, max_active_runs=1)),
        (60, Rule(kind=Kind.INTERVAL, interval_seconds=60)),
        (90.5, Rule(kind=Kind.INTERVAL, interval_seconds=90.5)),
    ],
)
def test_schedules_that_are_taken(schedule: Any, expected: Rule) -> None:
    assert read(schedule=schedule) == expected


@pytest.mark.parametrize(
    ("schedule", "instead"),
    [
        ("0 0 12 * * *", "seconds come last here; did you mean `0 12 * * *`?"),
        ("*/5 * * * * 0", "did you mean `*/5 * * * *`?"),
        ("0 30 9 ? * MON-FRI", "did you mean `30 9 ? * MON-FRI`?"),
        ("0 0 12 * * ? 2026", "did you mean `0 12 * * ?`?"),
        ("0 12 * * * 2026", "set end_date; did you mean `0 12 * * *`?"),
        ("99 99 99 99 99 99", "without seconds: seconds come last here."),
    ],
)
def test_trap_of_six_and_seven_fields(schedule: str, instead: str) -> None:
    assert instead in refusal(schedule)


@pytest.mark.parametrize("schedule", ["R * * * *", "0 r * * *", "R(0-30) 9 * * *", "0 0 R/2 * *"])
def test_trap_of_random(schedule: str) -> None:
    assert "instead of `R`" in refusal(schedule)


@pytest.mark.parametrize(
    ("schedule", "instead"),
    [
        ("0 0 30 2 *", "`0 0 L 2 *`"),
        ("0 0 31 2,4,6,9,11 *", "`0 0 L 2,4,6,9,11 *`"),
        ("15 3 30-31 2 *", "`15 3 L 2 *`"),
        ("0 9 15W * 0", "`*` for the other"),  # the weekday nearest to the 15th is no Sunday
        ("0 9 31 * 1#1", "`*` for the other"),  # the first Monday is no 31st
    ],
)
def test_trap_of_days_that_never_come(schedule: str, instead: str) -> None:
    detail = refusal(schedule)
    assert "never comes" in detail
    assert instead in detail


@pytest.mark.parametrize("schedule", ["0 0 29 2 *", "0 0 31 * *", "0 0 31 2 1", "0 9 29 2 1#5", "0 9 15W * *"])
def test_days_that_come_now_and_then_are_taken(schedule: str) -> None:
    assert read(schedule=schedule).cron == schedule


@pytest.mark.parametrize(
    ("schedule", "instead"),
    [
        ("60 * * * *", "minute field cannot be read: write 0 to 59"),
        ("-1 * * * *", "minute field"),
        ("*/0 * * * *", "minute field"),
        ("H * * * *", "minute field"),
        ("0 24 * * *", "hour field cannot be read: write 0 to 23"),
        ("0 0 0 * *", "day-of-month field cannot be read: write 1 to 31"),
        ("0 0 32 * *", "day-of-month field"),
        ("0 0 L-3 * *", "day-of-month field"),
        ("0 0 1W,15W * *", "day-of-month field"),
        ("0 0 * 13 *", "month field cannot be read: write 1 to 12"),
        ("0 0 * 0 *", "month field"),
        ("0 0 * MAI *", "month field"),
        ("0 0 * * 8", "day-of-week field cannot be read: write 0 to 6"),
        ("0 0 * * 5L", "day-of-week field"),
        ("0 0 * * 1#6", "day-of-week field"),
        ("0 0 * * 1#1,2", "day-of-week field"),
        ("0 0 12", "Write five fields: minute, hour"),
        ("tomorrow at nine", "Write five fields"),
        ("0 9 * * * * * *", "Write five fields"),
        ("\u30000 9 * * *", "minute field"),
        ("@reboot", "@hourly, @daily"),
        ("@DAILY", "in small letters"),
        ("3600", "number of seconds without quotes"),
        ("", "Write null"),
        ("None", "Write null"),
        (0, "from 60 to 31622400"),
        (59.999, "from 60 to 31622400"),
        (-3600, "from 60 to 31622400"),
        (31_622_401, "from 60 to 31622400"),
        (10**400, "from 60 to 31622400"),
        (float("nan"), "from 60 to 31622400"),
        (float("inf"), "from 60 to 31622400"),
        (True, "a cron text of five fields"),
        ([], "a cron text of five fields"),
        ({"cron": "0 9 * * *"}, "a cron text of five fields"),
        ("0 " * 300, "at most 500 characters"),
    ],
)
def test_schedules_that_are_refused(schedule: Any, instead: str) -> None:
    assert instead in refusal(schedule)


@pytest.mark.parametrize(
    ("field", "good", "bad", "instead"),
    [
        (
            "timezone",
            ["UTC", "Asia/Taipei", "America/Argentina/Buenos_Aires", None],
            ["Mars", "+08:00", 8],
            "IANA name",
        ),
        ("catchup", [True, False, None], ["true", 1, 0], "true or false"),
        ("max_active_runs", [1, 100, None], [0, 101, 1.0, "1", True], "whole number from 1 to 100"),
        ("retry_count", [0, 100, None], [-1, 101, 3.5, "3", False], "whole number from 0 to 100"),
        ("retries", [0, 100, None], [-1, 101, 3.5, "3", False], "whole number from 0 to 100"),
        ("retry_delay_seconds", [0, 0.5, 604_800], [-1, 604_801, "60", True, float("nan")], "from 0 to 604800"),
        ("execution_timeout_seconds", [1, 2_678_400], [0, 0.9, 2_678_401, "60", False], "from 1 to 2678400"),
        ("tags", [[], ["a", "x" * 100, "資料"], ["t"] * 50, None], ["a", {"a": 1}, ["t"] * 51], "list of at most 50"),
        ("start_date", ["1970-01-02", "2099-12-31T23:59:59Z", None], ["1969-12-31", "2100-01-01"], "1970 and 2099"),
        ("end_date", ["1970-01-02", "9999-12-31T23:59:59Z", None], ["1969-12-31T23:59:59Z"], "1970 and 9999"),
        ("paused_until", ["1970-01-02", "9999-12-31T23:59:59Z", None], ["1969-12-31T23:59:59Z"], "1970 and 9999"),
    ],
)
def test_ranges(field: str, good: list[Any], bad: list[Any], instead: str) -> None:
    for value in good:
        assert parse_rule({field: value})[1] == []
    for value in bad:
        (error,) = refused(**{field: value})
        assert error.pointer == f"/{field}"
        assert instead in error.detail


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("taipei", "Asia/Taipei"),
        ("europe/PARIS", "Europe/Paris"),
        ("New York", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_a_zone_that_was_nearly_right(written: str, meant: str) -> None:
    (error,) = refused(timezone=written)
    assert f"did you mean `{meant}`?" in error.detail


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "America", "../../etc/passwd", "/etc/localtime", "posixrules", "UTC\x00", "\ud800", "Factory?"],
)
def test_a_zone_is_a_name_and_never_a_path(name: str) -> None:
    (error,) = refused(timezone=name)
    assert error.pointer == "/timezone"


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("2026-01-31T09:00:00+08:00", "Europe/Paris", "2026-01-31T01:00:00+00:00"),
        ("2026-01-31T09:00:00Z", "Asia/Taipei", "2026-01-31T09:00:00+00:00"),
        ("2026-01-31 09:00", "Asia/Taipei", "2026-01-31T01:00:00+00:00"),
        ("2026-01-31", "Asia/Taipei", "2026-01-30T16:00:00+00:00"),
        ("2026-01-31T09:00:00.25", "UTC", "2026-01-31T09:00:00.250000+00:00"),
        ("2027-10-31T02:30", "Europe/Paris", "2027-10-31T01:30:00+00:00"),  # twice: the later one
        ("2027-03-28T02:30", "Europe/Paris", "2027-03-28T01:30:00+00:00"),  # never: 03:30
    ],
)
def test_times(written: str, zone: str, expected: str) -> None:
    start = read(start_date=written, timezone=zone).start_date
    assert start == datetime.fromisoformat(expected)
    assert start.tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        *("", "tomorrow", "20260131", "2026-W05-1", "2026-02-30", "2026-01-31T25:00", "2026-01-31T09:00:00+99:00"),
        *(
            "0001-01-01T00:00:00+14:00x",
            "9999-12-31T23:59:59-10:00",
            1_767_225_600,
            True,
            ["2026-01-31"],
            "２０２６-01-31",
        ),
    ],
)
def test_times_that_are_refused(written: Any) -> None:
    (error,) = refused(end_date=written)
    assert error == FieldError("Write an ISO 8601 time such as 2026-01-31T09:00:00+08:00 or 2026-01-31.", "/end_date")


def test_both_names_of_the_retries() -> None:
    assert read(retry_count=3).retries == 3
    assert read(retries=0).retries == 0
    assert read(retries=3, retry_count=3).retries == 3
    (error,) = refused(retries=3, retry_count=4)
    assert error == FieldError("Write only one of retry_count and retries, or the same number twice.", "/retries")


def test_each_bad_tag_is_pointed_at() -> None:
    errors = refused(tags=["good", "", 7, "x" * 101, " ", "nul\x00", "\ud800", "also good"])
    assert [error.pointer for error in errors] == [f"/tags/{index}" for index in range(1, 7)]
    assert read(tags=["b", "a", "b"]).tags == ("b", "a")


def test_the_end_is_not_before_the_start() -> None:
    assert read(start_date="2026-01-01", end_date="2026-01-01").end_date == datetime(2026, 1, 1, tzinfo=UTC)
    (error,) = refused(start_date="2026-01-01", end_date="2025-12-31")
    assert error.pointer == "/end_date"


def test_continuous_runs_one_at_a_time() -> None:
    assert read(schedule="@continuous").max_active_runs == 1
    (error,) = refused(schedule="@continuous", max_active_runs=2)
    assert error.pointer == "/max_active_runs"


def test_all_errors_are_answered_at_once() -> None:
    errors = refused(schedule="nonsense", timezone="Mars", tags="a", catchup=1)
    assert {error.pointer for error in errors} == {"/schedule", "/timezone", "/catchup", "/tags"}


def test_other_keys_are_not_looked_at() -> None:
    config = {"source": "postgresql://u:p@h/d", "batch_size": "many", "schedule": "0 9 * * *", "x": [float("nan")]}
    before = copy.copy(config)
    assert read(**config) == Rule(kind=Kind.CRON, cron="0 9 * * *")
    assert config == before


@pytest.mark.parametrize("config", [None, {}, {"schedule": None}])
def test_a_config_without_a_schedule_is_started_by_hand(config: Any) -> None:
    assert parse_rule(config) == (Rule(), [])


@pytest.mark.parametrize("config", [[], "0 9 * * *", 7, True, float("nan")])
def test_a_config_that_is_no_object(config: Any) -> None:
    rule, (error,) = parse_rule(config)
    assert rule is None
    assert error.pointer == ""


def test_a_record_runs_from_the_later_of_start_and_pause() -> None:
    start, pause = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    assert read().starts_at is None
    assert read(start_date="2026-01-01").starts_at == start
    assert read(start_date="2026-01-01", paused_until="2026-02-01").starts_at == pause
    assert read(start_date="2026-02-01", paused_until="2026-01-01").starts_at == pause


def test_nothing_is_due_before_a_record_exists() -> None:
    created = datetime(2026, 1, 15, tzinfo=UTC)
    assert read().known_since(created).start_date == created
    assert read(start_date="2026-01-01").known_since(created).start_date == created
    assert read(start_date="2026-01-01", catchup=True).known_since(created).start_date == datetime(
        2026, 1, 1, tzinfo=UTC
    )
    assert read(catchup=True).known_since(created).start_date == created
    assert read(start_date="2026-02-01").known_since(created).start_date == datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"schedule": 3600}, "2026-01-15T01:00:00Z"),
        ({"schedule": 90.5}, "2026-01-15T00:01:30.5Z"),
        ({"schedule": 3600, "catchup": True}, "2026-01-15T01:00:00Z"),
        ({"schedule": 3600, "start_date": "2026-01-01T00:20:00Z"}, "2026-01-15T00:20:00Z"),
        ({"schedule": 3600, "start_date": "2026-01-14T00:01:00Z"}, "2026-01-15T00:01:00Z"),
        ({"schedule": 3600, "start_date": "2026-01-14T00:00:59Z"}, "2026-01-15T01:00:59Z"),
        ({"schedule": 3600, "start_date": "2026-01-14T23:59:59Z"}, "2026-01-15T00:59:59Z"),
        ({"schedule": 3600, "start_date": "2026-01-01T00:20:00Z", "catchup": True}, "2026-01-01T00:20:00Z"),
        ({"schedule": 3600, "start_date": "2026-02-01T00:20:00Z"}, "2026-02-01T00:20:00Z"),
    ],
)
def test_an_interval_begins_ahead_on_its_grid(config: dict[str, Any], expected: str) -> None:
    """Airflow has seen the record a minute after the moment, at the latest."""
    created = datetime(2026, 1, 15, tzinfo=UTC)
    assert read(**config).known_since(created).start_date == datetime.fromisoformat(expected)


@pytest.mark.parametrize("start_date", [None, "1970-01-01"])
def test_an_interval_at_the_end_of_time(start_date: str | None) -> None:
    created = datetime.max.replace(tzinfo=UTC)
    assert read(schedule=3600, start_date=start_date).known_since(created).start_date == created


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES | CRON_LIKE | TIME_LIKE))
def test_any_json_is_answered(config: dict[str, Any]) -> None:
    rule, errors = parse_rule(config)
    assert (rule is None) == bool(errors)
    assert all(error.pointer.split("/")[1] in FIELDS for error in errors)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES)
def test_any_config_is_answered(config: Any) -> None:
    rule, errors = parse_rule(config)
    assert (rule is None) == bool(errors)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        *("1" * 1_000_000, "*," * 500_000, " " * 1_000_000, "@" * 1_000_000, "2026-01-01" * 100_000, "\x00", "\ud800"),
        *(10**4000, -(10**4000), 1e308, float("-inf"), [[[]]] * 10_000, {"a": {"b": []}}, ["x" * 1_000_000] * 50),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_written_past_the_api_is_answered_at_once(field: str, value: Any) -> None:
    started = time.process_time()
    rule, errors = parse_rule({field: value})
    assert (rule is None) == bool(errors)
    assert rule is None
    assert all(len(error.detail) < 250 for error in errors)
    assert time.process_time() - started < 0.1
