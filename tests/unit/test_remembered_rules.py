"""Rules are remembered and next runs kept, and nobody can tell."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from pydantic_core import to_json

from pyapi.db.dao import RecordRow
from pyapi.schedules import outlook, rules, runs
from pyapi.schedules.rules import RULE_KEYS, parse_rule
from pyapi.schemas.schedule_schemas import RunTime
from pyapi.services.schedule_service import derive, next_run_times, outlook_of, run_times

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"schedule": True}, {"schedule": 1}, id="true is no number"),
        pytest.param({"retries": 1}, {"retries": True}, id="a number is not true"),
        pytest.param({"retries": 1}, {"retries": 1.0}, id="1.0 is not 1"),
        pytest.param({"tags": ["a"]}, {"tags": "a"}, id="a text is no list"),
        pytest.param({"tags": [True]}, {"tags": [1]}, id="in lists too"),
    ],
)
def test_what_is_equal_to_python_is_not_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    fresh = [repr(rules._read(tuple(config.get(key) for key in RULE_KEYS))) for config in (one, other)]
    for first, second in ((one, other), (other, one)):
        assert [repr(parse_rule(config)) for config in (first, second, first)] == [
            fresh[0 if config is one else 1] for config in (first, second, first)
        ]


def test_who_is_given_errors_may_change_them() -> None:
    config = {"schedule": "no schedule"}
    _, errors = parse_rule(config)
    errors.clear()
    assert len(parse_rule(config)[1]) == 1


@pytest.mark.parametrize("key", RULE_KEYS)
def test_a_value_of_any_kind_is_answered(key: str) -> None:
    values: list[Any] = ["x" * 1000, [["deep"]], {"a": 1}, [None], ["a"] * 51, 10**400, float("nan"), float("inf")]
    for value in values:
        rule, errors = parse_rule({key: value})
        assert (rule is None) == bool(errors)


CONFIGS: list[dict[str, Any]] = [
    {"schedule": "0 13 * * *"},
    {"schedule": "0 13 * * *", "timezone": "Asia/Taipei"},
    {"schedule": "*/5 * * * *", "start_date": "2026-03-01T12:07:00Z"},
    {"schedule": "*/5 * * * *", "end_date": "2026-03-01T12:12:00Z"},
    {"schedule": "*/5 * * * *", "paused_until": "2026-03-01T12:20:00Z"},
    {"schedule": "0 0 30 2 *"},
    {"schedule": 3600},
    {"schedule": "@once", "start_date": "2026-03-01T12:05:00Z"},
    {},
]


def row_of(
    config: dict[str, Any], status: str, *, kept_at: datetime | None = None, since: datetime = NOON
) -> RecordRow:
    """A record whose next runs were looked up at a time, or never."""
    fields: dict[str, Any] = dict.fromkeys(RecordRow._fields)
    fields |= {"config": config, "status": status, "scheduled_since": since}
    if kept_at is not None:
        next_run_at, summary = derive(status, config, since=since, now=kept_at)
        fields |= {"next_run_at": next_run_at, "schedule_summary": summary}
    return RecordRow(**fields)


def told(runs: list[RunTime]) -> list[str]:
    return [to_json(run).decode() for run in runs]


@pytest.mark.parametrize("kept_after", [None, 0, 2, 70])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_next_runs_are_those_that_follow_now(config: dict[str, Any], kept_after: int | None) -> None:
    """Whether what is kept beside the record holds still, is of yesterday, or is not there at all."""
    kept_at = NOON + timedelta(minutes=kept_after) if kept_after is not None else None
    for minute, status in product([0, 1, 4, 5, 6, 59, 60, 61, 24 * 60], ("active", "inactive")):
        if kept_after is not None and minute < kept_after:
            continue
        now, row = NOON + timedelta(minutes=minute), row_of(config, status, kept_at=kept_at)
        found = outlook_of(status, config, NOON)
        following = found.next_runs(after=now, count=5)
        assert told(next_run_times(row, now=now)) == told(run_times(found.rule, following))
        assert derive(status, config, since=NOON, now=now)[0] == next(iter(following), None)


@pytest.mark.parametrize(
    ("since", "first"),
    [
        pytest.param(
            datetime(2026, 10, 1, tzinfo=UTC), "2026-11-30T04:00:00+00:00", id="before the last change of the clock"
        ),
        pytest.param(datetime(2026, 11, 25, tzinfo=UTC), "2026-11-30T05:00:00+00:00", id="after it"),
    ],
)
def test_where_a_rule_began_is_part_of_it(since: datetime, first: str) -> None:
    """Airflow goes on from run to run, and from where it once was it comes to another one."""
    config = {"schedule": "0 * L * *", "timezone": "America/New_York"}
    now = datetime(2026, 11, 25, 1, tzinfo=UTC)
    row = row_of(config, "active", kept_at=now, since=since)
    found = outlook_of("active", config, since)
    assert next_run_times(row, now=now)[0].utc.isoformat() == first
    assert found.next_run(after=now) == next_run_times(row, now=now)[0].utc


def test_what_is_kept_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[datetime] = []
    compute = runs.next_runs

    def counted(rule: Any, *, after: datetime, count: int) -> list[datetime]:
        computed.append(after)
        return compute(rule, after=after, count=count)

    row = row_of({"schedule": "17 */2 * * *"}, "active", kept_at=NOON)
    monkeypatch.setattr(outlook, "next_runs", counted)
    for minute in (0, 16, 17, 18):
        next_run_times(row, now=NOON + timedelta(minutes=minute))
    assert [time - NOON for time in computed] == [timedelta(minutes=17), timedelta(minutes=18)]


def test_a_summary_without_runs_is_one_of_an_earlier_version() -> None:
    row = row_of({"schedule": "17 */2 * * *"}, "active", kept_at=NOON)
    assert row.schedule_summary is not None
    earlier = row._replace(
        schedule_summary={name: text for name, text in row.schedule_summary.items() if name != "runs"}
    )
    assert told(next_run_times(earlier, now=NOON)) == told(next_run_times(row, now=NOON))
