"""What a config means for a record that has it since a certain moment."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyapi.schedules.outlook import Outlook, outlook

SINCE = datetime(2027, 1, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = SINCE + DAY / 2


def look(config: object, *, is_active: bool = True) -> Outlook:
    return outlook(config, is_active=is_active, since=SINCE)


def test_the_next_runs() -> None:
    runs = look({"schedule": "@daily"}).next_runs(after=SINCE, count=3)
    assert runs == [MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY]


def test_the_next_run_comes_strictly_after() -> None:
    assert look({"schedule": "@daily"}).next_run(after=MIDNIGHT) == MIDNIGHT + DAY


def test_nothing_is_due_before_it_is_scheduled() -> None:
    config = {"schedule": "@daily", "start_date": "2020-01-01"}
    assert look(config).next_run(after=SINCE - 30 * DAY) == MIDNIGHT


def test_with_catchup_everything_is_due() -> None:
    config = {"schedule": "@daily", "start_date": "2020-01-01", "catchup": True}
    assert look(config).next_run(after=MIDNIGHT - 30 * DAY) == MIDNIGHT - 29 * DAY


def test_an_interval_has_its_grid_whoever_asks_when() -> None:
    found = look({"schedule": 3600})
    assert found.next_run(after=SINCE + DAY + timedelta(seconds=1)) == SINCE + DAY + timedelta(hours=1)


@pytest.mark.parametrize("config", [None, {}, {"schedule": None}, {"schedule": "@continuous"}])
def test_no_run_is_known_to_come(config: object) -> None:
    assert look(config).next_run(after=SINCE) is None


def test_a_record_that_is_not_active_does_not_run() -> None:
    assert look({"schedule": "@daily"}, is_active=False).next_runs(after=SINCE, count=5) == []


def test_a_wrong_config_does_not_run() -> None:
    assert look({"schedule": "x"}).next_runs(after=SINCE, count=5) == []


def test_all_errors_in_one_text() -> None:
    found = look({"schedule": True, "catchup": 1})
    assert found.error == (
        "/schedule: Write a cron text of five fields, a preset such as @daily, a number of seconds (at least 60),"
        " or null. /catchup: Write true or false, without quotes."
    )


def test_no_error() -> None:
    assert look({"schedule": "@daily"}).error is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"paused_until": "2027-02-01"}, datetime(2027, 2, 1, tzinfo=UTC)),
        ({"paused_until": "2027-01-15T12:00:00Z"}, None),
        ({"paused_until": "2020-01-01"}, None),
        ({}, None),
        ({"schedule": "x", "paused_until": "2027-02-01"}, None),
    ],
)
def test_until_when_it_is_paused(config: dict[str, Any], expected: datetime | None) -> None:
    assert look(config).paused_until(now=SINCE) == expected
