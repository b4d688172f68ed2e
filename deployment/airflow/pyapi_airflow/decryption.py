"""Decrypts the secrets of a config: where one stands, PyAPI has stored `fernet:` and a Fernet token of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyapi.utils.sealing import Sealer

_CURE = "set PYAPI_FERNET_KEYS in Airflow's environment to the keys of PyAPI"


class SecretUnreadable(RuntimeError):
    """A secret of a record cannot be decrypted; the text holds nothing of it, and no key."""


class Decrypted(NamedTuple):
    """A value without tokens, and the secrets that stood in them."""

    value: Any
    secrets: list[str]


def decrypt(value: Any, keys: Sequence[str], *, record_id: int) -> Decrypted:
    """A copy of any JSON value with each token decrypted by one of the keys. Raises SecretUnreadable."""
    opened = Sealer(keys).open(value)
    if opened.unreadable:
        reason = "None of the keys that are there opens it." if keys else ""
        raise SecretUnreadable(f"A secret of record {record_id} cannot be decrypted: {_CURE}. {reason}".rstrip())
    return Decrypted(opened.value, opened.secrets)
