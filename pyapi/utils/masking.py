"""Hides the credentials inside a record's `config` on its way out; `unmasking` puts them back on the way in."""

import math
from typing import TypeAlias

from pyapi.utils.credentials import MASK, is_sensitive_key, mask_text, secrets_of_pair

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"

CUT = "…"
MAX_DEPTH = 64


def mask_secrets(value: JSON) -> JSON:
    """A copy of `value` without credentials; `value` stays as it is.

    Under a sensitive key a number, a text, a list or an object becomes `***`; a boolean, null and the empty text
    hide nothing and stay. An object or list below level 64 becomes "…": the API takes no deeper ones, but plain SQL
    can store some that neither Python's recursion nor the JSON writer would survive. A number that JSON does not
    have (1e400 reads as infinity) becomes null.
    """
    return _mask(value, 1)


def _mask(value: JSON, depth: int) -> JSON:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict | list):
        return _mask_below(value, depth) if depth <= MAX_DEPTH else CUT
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mask_below(value: dict[str, JSON] | list[JSON], depth: int) -> JSON:
    if isinstance(value, list):
        return [_mask(below, depth + 1) for below in value]
    told = secrets_of_pair(value)
    return {
        key: _mask_whole(below) if key in told or is_sensitive_key(key) else _mask(below, depth + 1)
        for key, below in value.items()
    }


def _mask_whole(value: JSON) -> JSON:
    if value is None or isinstance(value, bool) or value == "":
        return value
    return None if isinstance(value, float) and not math.isfinite(value) else MASK
