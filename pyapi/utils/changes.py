"""What differs between two states of a record, field by field, without showing a credential."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pyapi.utils.pointers import escape

_MISSING: Any = object()
_MOST_DEPTH = 64


class Change(NamedTuple):
    """One difference, at a pointer of RFC 6901. `before` is None for what is added, `after` for what is removed."""

    op: Literal["add", "remove", "replace"]
    pointer: str
    before: Any
    after: Any


def find_changes(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    shown_before: Mapping[str, Any],
    shown_after: Mapping[str, Any],
    pointer: str = "",
) -> Iterator[Change]:
    """The differences of two objects, in the order of their keys; lists are compared as a whole.

    The states themselves are compared, and the values told are those of `shown_*`, the same with their credentials
    hidden: so a changed password is a change from `***` to `***`.
    """
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, _MISSING), after.get(key, _MISSING)
        if old is not _MISSING and new is not _MISSING and is_same(old, new):
            continue
        place = f"{pointer}/{escape(key)}"
        told_old: Any = shown_before.get(key)
        told_new: Any = shown_after.get(key)
        if _are_objects(old, new) and _are_objects(told_old, told_new) and _is_shallow(place):
            yield from find_changes(old, new, shown_before=told_old, shown_after=told_new, pointer=place)
        elif old is _MISSING:
            yield Change("add", place, None, told_new)
        elif new is _MISSING:
            yield Change("remove", place, told_old, None)
        else:
            yield Change("replace", place, told_old, told_new)


def _are_objects(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _is_shallow(pointer: str) -> bool:
    return pointer.count("/") < _MOST_DEPTH


def is_same(old: object, new: object) -> bool:
    """Equal as JSON: Python takes 1 for true."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(is_same(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(is_same, old, new))
    return old == new
