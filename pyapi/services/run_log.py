"""Logs of tasks, without the credentials of the record."""

import json
from collections.abc import AsyncIterator, Iterable
from itertools import chain, islice
from typing import Any, Final
from urllib.parse import unquote

from pyapi.exceptions import AirflowUnavailable
from pyapi.utils.credentials import MASK, credentials_in
from pyapi.utils.masking import mask_secrets
from pyapi.utils.sealing import Sealer

_SHORTEST: Final = 4
MOST_SECRETS: Final = 200
MOST_CHARACTERS: Final = 50_000
"""Each secret is looked for in each line, while others wait."""

TOO_MUCH: Final = "This record holds too many credentials to hide them all: read the log in Airflow."
UNREADABLE: Final = (
    "PyAPI has no key for a credential of this record, so it cannot hide it: set PYAPI_FERNET_KEYS, or read the log in"
    " Airflow."
)
CUT_OFF: Final = "The log ends here: Airflow does not answer any more."


class LogMasker:
    """Hides values that are known to be secret, wherever they stand, and whatever looks like a credential."""

    def __init__(self, configs: Iterable[Any], *, conf: Any = None, sealer: Sealer) -> None:
        """`configs` hold the credentials, as they are stored, and so may the `conf` that somebody has sent.

        What looks sealed in that one is not opened: whoever sent it would see which of their guesses are hidden.
        Credentials of fewer than four characters would hide half of any other text.
        """
        opened = [sealer.open(config) for config in configs]
        stored = (secret for config in opened for secret in chain(config.secrets, credentials_in(config.value)))
        found = set(islice(chain(stored, credentials_in(conf)), MOST_SECRETS + 1))
        self._refusal: str | None = None
        if len(found) > MOST_SECRETS or sum(map(len, found)) > MOST_CHARACTERS:
            self._refusal = TOO_MUCH
        elif any(config.unreadable for config in opened):
            self._refusal = UNREADABLE
        known = set() if self._refusal else found | {unquote(secret) for secret in found}
        self._known = sorted((secret for secret in known if len(secret) >= _SHORTEST), key=len, reverse=True)

    async def entries(self, lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
        """The entries behind lines of JSON. What ends too early says so: half a log must not look whole."""
        if self._refusal is not None:
            yield {"event": self._refusal}
            return
        try:
            async for line in lines:
                if line:
                    yield self.mask(_entry(line))
        except AirflowUnavailable:
            yield {"event": CUT_OFF}

    def hide(self, text: str) -> str:
        """The same text, masked; what cannot be hidden is not shown."""
        return self._refusal or str(self._hide_known(mask_secrets(text)))

    def mask(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The same entry, masked."""
        found: Any = self._hide_known(mask_secrets(entry))
        return dict(found)

    def _hide_known(self, value: Any) -> Any:
        if isinstance(value, str):
            # Not one pattern of all: that takes a second to compile for many, and stays in a cache with the secrets.
            for secret in self._known:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, dict):
            return {key: self._hide_known(below) for key, below in value.items()}
        return [self._hide_known(below) for below in value] if isinstance(value, list) else value


def _entry(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"event": line}


def as_line(entry: dict[str, Any]) -> str:
    """One line for people: when, how bad, what."""
    words = [entry.get("timestamp"), str(entry.get("level") or "").upper(), entry.get("event")]
    return " ".join(str(word) for word in words if word)
