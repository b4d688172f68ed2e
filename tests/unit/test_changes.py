"""What differs between two states, and that no credential is told."""

from typing import Any

import pytest

from pyapi.utils.changes import Change, find_changes


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    return list(find_changes(before, after, shown_before=before, shown_after=after))


def nested(depth: int, value: object) -> dict[str, Any]:
    found: Any = value
    for _ in range(depth):
        found = {"x": found}
    return dict(found)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"a": 1}, Change("add", "/a", None, 1)),
        ({"a": 1}, {}, Change("remove", "/a", 1, None)),
        ({"a": 1}, {"a": 2}, Change("replace", "/a", 1, 2)),
        ({}, {"a": None}, Change("add", "/a", None, None)),
        ({"a": None}, {}, Change("remove", "/a", None, None)),
        ({"a": None}, {"a": {}}, Change("replace", "/a", None, {})),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, Change("replace", "/a/b", 1, 2)),
        ({"a": {"b": 1}}, {"a": {}}, Change("remove", "/a/b", 1, None)),
        ({"a": {"b": 1}}, {"a": [1]}, Change("replace", "/a", {"b": 1}, [1])),
        ({"a": [1, 2]}, {"a": [2, 1]}, Change("replace", "/a", [1, 2], [2, 1])),
        ({"a": [1]}, {"a": [1, 1]}, Change("replace", "/a", [1], [1, 1])),
        ({"a": [{"b": 1}]}, {"a": [{"b": True}]}, Change("replace", "/a", [{"b": 1}], [{"b": True}])),
        ({"a": 1}, {"a": True}, Change("replace", "/a", 1, True)),
        ({"a": False}, {"a": 0}, Change("replace", "/a", False, 0)),
        ({"a": "1"}, {"a": 1}, Change("replace", "/a", "1", 1)),
        ({"": 1}, {"": 2}, Change("replace", "/", 1, 2)),
        ({"a/b": 1}, {"a/b": 2}, Change("replace", "/a~1b", 1, 2)),
        ({"a~b": 1}, {"a~b": 2}, Change("replace", "/a~0b", 1, 2)),
        ({"~1": {"/": 1}}, {"~1": {"/": 2}}, Change("replace", "/~01/~1", 1, 2)),
    ],
)
def test_one_change(before: dict[str, Any], after: dict[str, Any], expected: Change) -> None:
    assert changes(before, after) == [expected]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": {"b": [None, {"c": True}]}}, {"a": {"b": [None, {"c": True}]}}),
    ],
)
def test_no_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert changes(before, after) == []


def test_changes_come_in_the_order_of_the_keys() -> None:
    found = changes({"z": 1, "gone": 1, "a": 1}, {"a": 2, "new": 1, "z": 2})
    assert [change.pointer for change in found] == ["/z", "/gone", "/a", "/new"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"p": "one"}, {"p": "two"}, [Change("replace", "/p", "***", "***")]),
        ({"p": "one"}, {}, [Change("remove", "/p", "***", None)]),
        ({}, {"p": "two"}, [Change("add", "/p", None, "***")]),
        ({"p": {"in": "one"}}, {"p": {"in": "two"}}, [Change("replace", "/p", "***", "***")]),
        ({"p": "one"}, {"p": "one"}, []),
    ],
)
def test_a_hidden_value_is_told_as_it_is_shown(
    before: dict[str, Any], after: dict[str, Any], expected: list[Change]
) -> None:
    shown_before, shown_after = (dict.fromkeys(state, "***") for state in (before, after))
    assert list(find_changes(before, after, shown_before=shown_before, shown_after=shown_after)) == expected


def test_a_key_that_is_shown_otherwise_is_not_told() -> None:
    found = find_changes({"k": {"a": 1}}, {"k": {"a": 2}}, shown_before={"k": {}}, shown_after={"k": {}})
    assert list(found) == [Change("replace", "/k/a", None, None)]


def test_what_lies_too_deep_is_told_as_a_whole() -> None:
    (change,) = changes(nested(200, 1), nested(200, 2))
    assert change == Change("replace", "/x" * 64, nested(136, 1), nested(136, 2))
