"""What is said about changes of the clock."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pyapi.schedules.languages import Language
from pyapi.schedules.notes import MOST_NOTES, notes
from tests.unit.schedules.test_runs import rule_of

YEAR = (datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))

CHANGED = "the clock has changed since the run before"


@pytest.mark.parametrize(
    ("schedule", "zone", "expected"),
    [
        (
            "30 2 * * *",
            "Europe/Paris",
            [
                "02:30 does not exist on 2027-03-28 in Europe/Paris: runs at 03:30",
                "02:30 occurs twice on 2027-10-31 in Europe/Paris: runs once, at the later 02:30",
            ],
        ),
        (
            "0,30 2 * 3 *",
            "Europe/Paris",
            [
                "02:00 does not exist on 2027-03-28 in Europe/Paris: runs at 03:00",
                "02:30 does not exist on 2027-03-28 in Europe/Paris: does not run",
            ],
        ),
        (
            "*/5 2 * * *",
            "Europe/Paris",
            [
                "02:00 does not exist on 2027-03-28 in Europe/Paris: runs at 03:00",
                "02:05 to 02:55 (11 times) do not exist on 2027-03-28 in Europe/Paris: they do not run",
                "02:00 to 02:55 (12 times) occur twice on 2027-10-31 in Europe/Paris: each runs once, at the later one",
            ],
        ),
        (
            "*/5 2,3 * 3 *",
            "Europe/Paris",
            ["02:00 to 02:55 (12 times) do not exist on 2027-03-28 in Europe/Paris: they run from 03:00 on"],
        ),
        (
            "*/15 * * * *",
            "Europe/Paris",
            [
                "02:00 to 03:00 does not exist on 2027-03-28 in Europe/Paris: the time between two runs stays the same",
                "02:00 to 03:00 occurs twice on 2027-10-31 in Europe/Paris: runs both times",
            ],
        ),
        (
            "15 * * * *",
            "Australia/Lord_Howe",
            [
                f"02:15 on 2027-04-04 in Australia/Lord_Howe runs at 01:45: {CHANGED}",
                f"02:15 on 2027-10-03 in Australia/Lord_Howe runs at 02:45: {CHANGED}",
            ],
        ),
        (
            "0 * 1 * *",
            "Europe/Paris",
            [
                f"00:00 on 2027-04-01 in Europe/Paris runs at 01:00: {CHANGED}",
                f"00:00 on 2027-11-01 in Europe/Paris runs at 2027-10-31 23:00: {CHANGED}",
            ],
        ),
        ("0 * 1 4 *", "Europe/Paris", []),  # the run before was a year ago, with the same offset
        ("0 9 * * *", "Europe/Paris", []),
        ("30 2 * * 1", "Europe/Paris", []),
        ("30 2 * * *", "Asia/Taipei", []),
        (3600, "Europe/Paris", []),
        ("@once", "Europe/Paris", []),
        (None, "Europe/Paris", []),
    ],
)
def test_notes(schedule: Any, zone: str, expected: list[str]) -> None:
    assert notes(rule_of(schedule, timezone=zone), *YEAR) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "zh_TW",
            [
                "Europe/Paris 在 2027-03-28 沒有 02:30：改在 03:30 執行",
                "Europe/Paris 在 2027-10-31 有兩次 02:30：只執行一次，在較晚的 02:30",
            ],
        ),
        (
            "zh_CN",
            [
                "Europe/Paris 在 2027-03-28 没有 02:30：改在 03:30 执行",
                "Europe/Paris 在 2027-10-31 有两次 02:30：只执行一次，在较晚的 02:30",
            ],
        ),
    ],
)
def test_notes_in_chinese(language: Language, expected: list[str]) -> None:
    assert notes(rule_of("30 2 * * *", timezone="Europe/Paris"), *YEAR, language) == expected


@pytest.mark.parametrize("language", ["en", "zh_TW", "zh_CN"])
@pytest.mark.parametrize("schedule", ["0,30 2 * * *", "*/5 2 * * *", "*/5 2,3 * * *", "*/5 * * * *", "0 * 1 * *"])
def test_every_text_is_filled_in(schedule: str, language: Language) -> None:
    lines = notes(rule_of(schedule, timezone="Europe/Paris"), *YEAR, language)
    assert lines
    assert all("Europe/Paris" in line and "2027-" in line and "{" not in line for line in lines)


def test_only_what_runs_in_the_window_is_noted() -> None:
    first = "02:30 does not exist on 2027-03-28 in Europe/Paris: runs at 03:30"
    rule = rule_of("30 2 * * *", timezone="Europe/Paris")
    at_the_run = datetime(2027, 3, 28, 1, 30, tzinfo=UTC)
    assert notes(rule, YEAR[0], at_the_run) == []
    assert notes(rule, YEAR[0], at_the_run.replace(minute=31)) == [first]
    assert notes(rule, at_the_run, at_the_run.replace(minute=31)) == [first]
    assert notes(rule, at_the_run.replace(minute=31), at_the_run.replace(hour=5)) == []
    assert notes(rule, YEAR[1], YEAR[0]) == []
    ended = rule_of("30 2 * * *", timezone="Europe/Paris", end_date="2027-03-01")
    assert notes(ended, *YEAR) == []
    begun = rule_of("30 2 * * *", timezone="Europe/Paris", start_date="2027-04-01")
    assert len(notes(begun, *YEAR)) == 1


def test_a_day_that_was_left_out() -> None:
    rule = rule_of("30 7 * * *", timezone="Pacific/Apia")
    assert notes(rule, datetime(2011, 12, 1, tzinfo=UTC), datetime(2012, 1, 20, tzinfo=UTC)) == [
        "07:30 does not exist on 2011-12-30 in Pacific/Apia: runs at 2011-12-31 07:30"
    ]


def test_there_are_never_too_many() -> None:
    rule = rule_of("30 2 * * *", timezone="Europe/Paris")
    assert len(notes(rule, YEAR[0], datetime(2199, 1, 1, tzinfo=UTC))) == MOST_NOTES
