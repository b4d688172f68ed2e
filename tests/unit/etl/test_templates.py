"""Templates of a run in paths and queries."""

from datetime import datetime, timedelta, timezone

import pytest

from pyapi.etl.templates import NAMES, fill, literal_part, run_values, unknown_names

TAIPEI = timezone(timedelta(hours=8))
VALUES = run_values(record_id=7, run_id="a' OR/1", logical_date=datetime(2026, 2, 1, 6, 30, tzinfo=TAIPEI))


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("in/${run.year}/${run.month}/${run.day}/${run.hour}", "in/2026/01/31/22"),
        ("${run.date}", "2026-01-31"),
        ("at < '${run.logical_date}'", "at < '2026-01-31T22:30:00+00:00'"),
        ("${record.id}-${run.id}", "7-a--OR-1"),
        ("$5 and {a}", "$5 and {a}"),
    ],
)
def test_a_text_is_filled_in(text: str, filled: str) -> None:
    assert fill(text, VALUES) == filled


def test_every_name_has_a_value() -> None:
    assert set(VALUES) == set(NAMES)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [("${run.date} ${run.secret}", ["run.secret"]), ("${run.date", ["run.date"]), ("${}", [""]), ("$run.date", [])],
)
def test_unknown_names(text: str, unknown: list[str]) -> None:
    assert unknown_names(text) == unknown


@pytest.mark.parametrize(
    ("path", "literal"),
    [("a/b/", "a/b/"), ("a/dt=${run.date}/x", "a/"), ("${run.date}", ""), ("a/b/${run.date}", "a/b/")],
)
def test_the_part_that_all_runs_share(path: str, literal: str) -> None:
    assert literal_part(path) == literal
