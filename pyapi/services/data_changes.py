"""What differs between two states of a record, as people are told it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pyapi.utils.changes import Change, find_changes
from pyapi.utils.credentials import mask_text
from pyapi.utils.masking import mask_secrets
from pyapi.utils.sealing import Sealer

TOLD_FIELDS: Final = ("name", "description", "config", "status", "visibility", "owner_id")
"""What people set; the other columns follow from these, or count."""


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any], *, sealer: Sealer) -> Iterator[Change]:
    """The differences of two states by the names of their columns, credentials masked; None: there was no record.

    A config comes key by key, also when it is new. Secrets are compared as they were written: another key makes
    another token of the same one.
    """
    new = {field: after.get(field) for field in TOLD_FIELDS}
    if before is None:
        old: dict[str, Any] = {"config": {}} if isinstance(new["config"], dict) else {}
    else:
        old = {field: before.get(field) for field in TOLD_FIELDS}
    return find_changes(_opened(old, sealer), _opened(new, sealer), shown_before=_shown(old), shown_after=_shown(new))


def _opened(state: dict[str, Any], sealer: Sealer) -> dict[str, Any]:
    return state | {"config": sealer.open(state["config"]).value} if "config" in state else state


def _shown(state: dict[str, Any]) -> dict[str, Any]:
    return state | shown_texts(state) | {"config": mask_secrets(state.get("config"))}


def shown_texts(state: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a record that are shown to everybody; no credential is taken for them, but SQL can write some."""
    texts = ((field, state.get(field)) for field in ("name", "description"))
    return {field: mask_text(text) for field, text in texts if isinstance(text, str)}
