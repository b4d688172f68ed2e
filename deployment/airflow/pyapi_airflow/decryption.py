"""Decrypts the secrets of a config: where one stands, PyAPI has stored `fernet:` and a Fernet token of it."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

# Every token begins with its version and the upper half of a time. What people write ("fernet: my drink") does not.
_ENCRYPTED = re.compile(r"fernet:(gAAAA[A-Za-z0-9_-]+={0,2})")
_CURE = "set PYAPI_FERNET_KEYS in Airflow's environment to the keys of PyAPI"


class SecretUnreadable(RuntimeError):
    """A secret of a record cannot be decrypted; the text holds nothing of it, and no key."""


class Decrypted(NamedTuple):
    """A value without tokens, and the secrets that stood in them."""

    value: Any
    secrets: list[str]


def decrypt(value: Any, keys: Sequence[str], *, record_id: int) -> Decrypted:
    """A copy of any JSON value with each token decrypted by one of the keys. Raises SecretUnreadable.

    Plain SQL can store what is nested more deeply than Python's recursion survives, so there is none here.
    """
    fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None
    secrets: list[str] = []
    top = [value]
    copies: list[Any] = [top]  # those whose contents are the original ones still
    while copies:
        copy = copies.pop()
        for place, below in copy.items() if isinstance(copy, dict) else enumerate(copy):
            if isinstance(below, dict | list):
                copy[place] = below.copy()
                copies.append(copy[place])
            elif isinstance(below, str) and (encrypted := _ENCRYPTED.fullmatch(below)):
                copy[place] = _plain(encrypted[1], fernet, record_id)
                secrets.append(copy[place])
    return Decrypted(top[0], secrets)


def _plain(token: str, fernet: MultiFernet | None, record_id: int) -> str:
    if fernet is None:
        raise SecretUnreadable(f"A secret of record {record_id} cannot be decrypted: {_CURE}.")
    try:
        plain: bytes = fernet.decrypt(token)
        return plain.decode()
    except (InvalidToken, UnicodeDecodeError):
        raise SecretUnreadable(
            f"A secret of record {record_id} cannot be decrypted: {_CURE}. None of the keys that are there opens it."
        ) from None
