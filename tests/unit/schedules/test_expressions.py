"""Cron expressions are read as croniter reads them."""

# ruff: noqa: DTZ001  (the clock on a wall knows no zone)

from datetime import UTC, datetime, timedelta

import pytest
from croniter import CroniterBadDateError, croniter
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pyapi.schedules.expressions import CronError, parse_cron
from pyapi.schedules.zones import EPOCH

NAIVE_EPOCH = datetime(1970, 1, 1)
SECOND = timedelta(seconds=1)


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A field of numbers: `*`, `5`, `5-7`, `*/3`, `4/3`, `5-9/2`, and lists of these."""
    number = st.integers(low, high).map(str)
    step = st.integers(1, high).map(str)
    item = st.one_of(
        st.just("*"),
        number,
        st.tuples(number, number).map("-".join),
        st.tuples(st.just("*") | number, step).map("/".join),
        st.tuples(number, number, step).map(lambda parts: f"{parts[0]}-{parts[1]}/{parts[2]}"),
    )
    return st.lists(item, min_size=1, max_size=3).map(",".join)


ANY = st.just("*")
DAYS = ANY | numbers(1, 31) | st.sampled_from(["L", "15,L", "?"]) | st.integers(1, 31).map(lambda day: f"{day}W")
MONTHS = ANY | numbers(1, 12) | st.sampled_from(["JAN", "feb-APR", "NOV-feb"])
WEEKDAYS = (
    ANY
    | numbers(0, 7)
    | st.sampled_from(["?", "mon-fri", "SAT-MON", "L0", "L5", "1#1,1#3", "tue#5,L3"])
    | st.tuples(st.integers(0, 6), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}")
)
EXPRESSIONS = st.tuples(numbers(0, 59), numbers(0, 23), DAYS, MONTHS, WEEKDAYS).map(" ".join)
MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1))


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, MOMENTS)
@example("0 0 29 2 1#5", datetime(2072, 3, 1))
@example("5 5 31W 2 *", datetime(2026, 1, 31))
@example("0 9 1W,* * *", datetime(2026, 8, 1))
@example("0 9 1 * 1#1,3", datetime(2026, 8, 1))
@example("0 0 1-31 * 1", datetime(2026, 8, 1))
@example("0 0 1-31 * */2", datetime(2026, 8, 1))
@example("59/15 23/5 * DEC/3 6/2", datetime(2026, 8, 1))
@example("7-7 2-2 * * *", datetime(2026, 8, 1))
def test_the_next_and_the_last_time_are_those_of_croniter(text: str, moment: datetime) -> None:
    try:
        theirs = croniter(text, moment)
        following = theirs.get_next(datetime)
        preceding = croniter(text, moment).get_prev(datetime)
    except (ValueError, CroniterBadDateError):
        with pytest.raises(CronError):
            parse_cron(text)
        return
    cron = parse_cron(text)
    assert cron.after((moment - NAIVE_EPOCH) // SECOND) == (following - NAIVE_EPOCH) // SECOND
    # The last time before a moment between two seconds is asked for at the second that follows.
    assert cron.before(-((NAIVE_EPOCH - moment) // SECOND)) == (preceding - NAIVE_EPOCH) // SECOND


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, MOMENTS, st.integers(0, 4000))
def test_times_between_are_the_next_ones(text: str, moment: datetime, minutes: int) -> None:
    try:
        cron = parse_cron(text)
    except CronError:
        assume(False)
    first = (moment - NAIVE_EPOCH) // SECOND
    stop = first + minutes * 60
    expected = []
    time = cron.after(first - 1)
    while time is not None and time < stop:
        expected.append(time)
        time = cron.after(time)
    assert list(cron.between(first, stop)) == expected


@pytest.mark.parametrize(
    ("field", "every_hour"),
    [("*", True), ("*/1", True), ("0-23", True), ("2-2", True), ("*,5", False), ("0-22", False), ("*/2", False)],
)
def test_every_hour_is_what_airflow_takes_for_it(field: str, every_hour: bool) -> None:
    """Airflow asks croniter for `expanded[1] == ["*"]`."""
    assert parse_cron(f"0 {field} * * *").every_hour is every_hour
    assert (croniter(f"0 {field} * * *").expanded[1] == ["*"]) is every_hour


def test_there_is_nothing_before_1900_and_after_2199() -> None:
    cron = parse_cron("0 0 1 1 *")
    assert cron.before(int((datetime(1900, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())) is None
    assert cron.after(int((datetime(2199, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())) is None


def test_one_expression_is_read_once() -> None:
    assert parse_cron("1 2 3 4 5") is parse_cron("1 2 3 4 5")
