"""Cursors: where a page ended, as text that a client hands back."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pyapi.exceptions import FieldError, ValidationFailed


class BigInt(int):
    """Says that a number is of PostgreSQL's type bigint; plain `int` is integer."""


def encode_cursor(order_by: str, values: Sequence[Any]) -> str:
    """Text for the sort values of the last row of a page; valid for the same `order_by` only."""
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    packed = json.dumps([order_by, *plain], ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(cursor: str, *, order_by: str, types: Sequence[type]) -> list[Any]:
    """The values behind a cursor, each of its type in `types`. Raises ValidationFailed for any other text."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        made_for, *plain = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if made_for != order_by or len(plain) != len(types):
            raise _invalid("This cursor belongs to another order_by; start again without a cursor.")
        return [_READERS[wanted](value) for wanted, value in zip(types, plain, strict=True)]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        raise _invalid("This is not a cursor of this list; use next_cursor of the page before.") from None


def _invalid(detail: str) -> ValidationFailed:
    return ValidationFailed([FieldError(detail, "/query/cursor")])


def _read_int(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError
    return value


def _read_big(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError
    return value


def _read_text(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError
    value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return value


def _read_time(value: object) -> datetime:
    moment = datetime.fromisoformat(_read_text(value))
    if moment.utcoffset() != timedelta(0):
        raise ValueError
    return moment


_READERS: Mapping[type, Any] = {int: _read_int, BigInt: _read_big, str: _read_text, datetime: _read_time}
