"""Configs as a task may use them: with their secrets decrypted, and all their credentials hidden in the task's log."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any
from urllib.parse import unquote

from airflow.sdk import get_current_context
from airflow.sdk.log import mask_secret

from pyapi.utils.credentials import credentials_in
from pyapi_airflow.decryption import Decrypted, SecretUnreadable, decrypt
from pyapi_airflow.settings import KitSettings

log = logging.getLogger(__name__)

# For each text that it is to hide, Airflow compiles the expression of all of them anew, in the task's process and in
# the one above it: this much takes a second at most, ten times as many texts take more than half a minute.
_MOST_TEXTS = 100
_MOST_CHARACTERS = 20_000
# Shorter ones, such as "{", are in every log.
_SHORTEST_LINE = 8


def open_configs(configs: Mapping[int, Any], settings: KitSettings) -> dict[int, Any]:
    """The configs of records, by the ids of these, as they may be used.

    In the place of one that cannot be decrypted stands its SecretUnreadable: it must not be in the way of the others.
    """
    opened = {record_id: _open(config, settings, record_id) for record_id, config in configs.items()}
    if _in_task():
        decrypted = chain.from_iterable(found.secrets for found in opened.values())
        plain = chain.from_iterable(credentials_in(found.value) for found in opened.values())
        _hide_in_log([*settings.fernet_keys, *decrypted, *plain])
    return {record_id: found.value for record_id, found in opened.items()}


def _open(config: Any, settings: KitSettings, record_id: int) -> Decrypted:
    try:
        return decrypt(config, settings.fernet_keys, record_id=record_id)
    except SecretUnreadable as error:
        return Decrypted(error, [])


def _in_task() -> bool:
    """Where DAGs are read, a text would stay hidden until the DAG processor ends: its expression would only grow."""
    try:
        get_current_context()
    except RuntimeError:
        return False
    return True


def _hide_in_log(secrets: Iterable[str]) -> None:
    chosen: dict[str, None] = {}
    length = left_out = 0
    secrets = dict.fromkeys(secrets)
    for text in chain(secrets, chain.from_iterable(map(_other_forms, secrets))):
        if not text or text in chosen:
            continue
        if len(chosen) < _MOST_TEXTS and length + len(text) <= _MOST_CHARACTERS:
            chosen[text] = None
            length += len(text)
        else:
            left_out += 1
    if left_out:
        log.warning("This config holds so many credentials that not all of them are hidden in this log.")
    if chosen:
        mask_secret(list(chosen))


def _other_forms(secret: str) -> Iterator[str]:
    """How a secret looks as a driver takes it from a URL, in a printed dictionary or JSON, and as single lines."""
    yield unquote(secret)
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    if len(lines := secret.splitlines()) > 1:
        yield from (line for line in map(str.strip, lines) if len(line) >= _SHORTEST_LINE)
