"""Hides the credentials inside a record's `config` on its way out; `unmasking` puts them back on the way in."""

import math
from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import unquote

from pyapi.utils.credentials import MASK, find_secrets, is_sensitive_key, mask_text

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"

CUT = "…"
MAX_DEPTH = 64
_SHORTEST_SECRET = 4


def mask_secrets(value: JSON) -> JSON:
    """A copy of `value` without credentials; `value` stays as it is.

    Under a sensitive key a number, a text, a list or an object becomes `***`; a boolean, null and the empty text
    hide nothing and stay. An object or list below level 64 becomes "…": the API takes no deeper ones, but plain SQL
    can store some that neither Python's recursion nor the JSON writer would survive. A number that JSON does not
    have (1e400 reads as infinity) becomes null.
    """
    return _mask(value, 1)


def secret_values(value: JSON) -> set[str]:
    """The credentials inside a config that `mask_secrets` would hide, as they are and as URLs write them.

    Texts of fewer than four characters are left out: hiding them everywhere would hide half of any other text.
    """
    found = {secret for text, is_whole in _texts(value, 1) for secret in _secrets_in(text, is_whole=is_whole)}
    found |= {unquote(secret) for secret in found}
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}


def _texts(value: JSON, depth: int, *, is_whole: bool = False) -> Iterator[tuple[str, bool]]:
    """All texts, and whether each stands under a sensitive key."""
    if isinstance(value, str):
        yield value, is_whole
    elif isinstance(value, dict) and depth <= MAX_DEPTH:
        for key, below in value.items():
            yield from _texts(below, depth + 1, is_whole=is_whole or is_sensitive_key(key))
    elif isinstance(value, list) and depth <= MAX_DEPTH:
        for below in value:
            yield from _texts(below, depth + 1, is_whole=is_whole)


def _secrets_in(text: str, *, is_whole: bool) -> Iterator[str]:
    if is_whole:
        yield text
    yield from (text[secret.begin : secret.end] for secret in find_secrets(text))


def _mask(value: JSON, depth: int) -> JSON:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict | list):
        return _mask_below(value, depth) if depth <= MAX_DEPTH else CUT
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mask_below(value: dict[str, JSON] | list[JSON], depth: int) -> JSON:
    if isinstance(value, list):
        return [_mask(below, depth + 1) for below in value]
    return {
        key: _mask_whole(below) if is_sensitive_key(key) else _mask(below, depth + 1) for key, below in value.items()
    }


def _mask_whole(value: JSON) -> JSON:
    if value is None or isinstance(value, bool) or value == "":
        return value
    return None if isinstance(value, float) and not math.isfinite(value) else MASK
