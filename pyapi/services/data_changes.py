"""What differs between two states of a record, as people are told it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pyapi.utils.changes import Change, find_changes
from pyapi.utils.masking import mask_secrets

TOLD_FIELDS: Final = ("name", "description", "config", "status", "owner_id")
"""What people set; the other columns follow from these, or count."""


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Iterator[Change]:
    """The differences of two states by the names of their columns, credentials masked; None: there was no record.

    A config comes key by key, also when it is new.
    """
    new = {field: after.get(field) for field in TOLD_FIELDS}
    if before is None:
        old: dict[str, Any] = {"config": {}} if isinstance(new["config"], dict) else {}
    else:
        old = {field: before.get(field) for field in TOLD_FIELDS}
    return find_changes(old, new, shown_before=_shown(old), shown_after=_shown(new))


def _shown(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"config": mask_secrets(state.get("config"))}
