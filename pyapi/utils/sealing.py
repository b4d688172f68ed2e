"""Encrypts the secrets of a config where they stand, and opens them again; PyAPI and the reader kit share it.

In the place of a secret stands `fernet:` and a Fernet token of it, so who reads the table sees the same config with
the same keys, hosts and schedules. What is sealed is masked as what it was made of, so that reading needs no key.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

from cryptography.fernet import Fernet, InvalidToken

from pyapi.utils.credentials import (
    MASK,
    SEALED,
    Secret,
    credentials_in,
    find_secrets,
    hide_secrets,
    is_sensitive_key,
    mask_text,
    secrets_of_pair,
    texts_in,
)

# Before JSON in a token; no text that PostgreSQL stores holds it. Without it the token holds the text itself.
_JSON_FOLLOWS = b"\0"
_MOST_DIGITS = 310
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"(?P<is_key>\s*+:)?', re.DOTALL)
_ESCAPE_OR_SEALED = re.compile(rf"\\.|{SEALED.pattern}", re.DOTALL)


class Opened(NamedTuple):
    """A value whose secrets are readable again; the secrets; and the tokens that no key opens, which stay in it."""

    value: Any
    secrets: list[str]
    unreadable: frozenset[str]


class Renewed(NamedTuple):
    """JSON text whose tokens are of the newest key, and how many are not, because no key opens them."""

    document: str
    unreadable: int


class NotExact(ValueError):
    """JSON that Python would not write as it has read it: too deep, or with numbers that no double holds."""


class Sealer:
    """Seals with the first of its keys, opens with all of them. Without a key it seals nothing."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Raises ValueError for what is no Fernet key."""
        self._fernets = [Fernet(key) for key in keys]

    @property
    def has_keys(self) -> bool:
        """Whether it seals at all."""
        return bool(self._fernets)

    def open(self, value: Any) -> Opened:
        """A copy of a JSON value in which each token is what it was made of; the value itself where there is none.

        What stood in a token is not looked into again. Plain SQL can store what is nested more deeply than Python's
        recursion survives, so there is none here.
        """
        if not _mentions_tokens(value):
            return Opened(value, [], frozenset())
        secrets: list[str] = []
        unreadable: set[str] = set()
        top = [value]
        copies: list[Any] = [top]  # those whose contents are the original ones still
        while copies:
            copy = copies.pop()
            for place, below in _places(copy):
                if isinstance(below, dict | list):
                    copy[place] = below.copy()
                    copies.append(copy[place])
                elif isinstance(below, str) and "fernet:" in below:
                    opened = self._open_text(below)
                    copy[place] = opened.value
                    secrets += opened.secrets
                    unreadable |= opened.unreadable
        return Opened(top[0], secrets, frozenset(unreadable))

    def seal(self, value: Any, *, stored: Any = None, unreadable: Collection[str] = ()) -> Any:
        """A copy of a JSON value without a readable secret; `open` makes the same value of it.

        A secret that stands in `stored` at the same place keeps its token, so that what did not change looks unchanged.
        `unreadable` are tokens in `value` that stay as they are; any other text that looks like one is a text, and is
        sealed itself: nobody gets a token opened by writing it.
        """
        if not self._fernets:
            return value
        hidden_texts = self._hidden_texts(stored)
        top = [value]
        waiting: list[tuple[Any, Any, bool]] = [(top, [stored], False)]
        while waiting:
            copy, old, is_secret = waiting.pop()
            told = secrets_of_pair(copy) if isinstance(copy, dict) else ()
            for place, below in _places(copy):
                there = _at(old, place)
                hidden = is_secret or (isinstance(place, str) and (place in told or is_sensitive_key(place)))
                if isinstance(below, dict | list) and (not hidden or _holds(below, unreadable)):
                    copy[place] = below.copy()
                    waiting.append((copy[place], there, hidden))
                elif hidden:
                    copy[place] = self._seal_whole(below, there, unreadable)
                elif isinstance(below, str):
                    copy[place] = self._seal_text(below, there, unreadable, hidden_texts)
        return top[0]

    def _hidden_texts(self, stored: Any) -> set[str]:
        """Texts that somebody has sealed although nothing in them or their key says that they are secret."""
        found: set[str] = set()
        waiting = [stored]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                told = secrets_of_pair(value)
                waiting += [below for key, below in value.items() if key not in told and not is_sensitive_key(key)]
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, str) and SEALED.fullmatch(value):
                found.update(self._open_text(value).secrets)
        return found

    def seal_document(self, document: str, *, left: Collection[str]) -> str:
        """JSON text of a config, sealed; what stands under the keys `left` at its top stays. Raises NotExact."""
        try:
            config = json.loads(document, parse_float=_exact, parse_int=_bounded)
            opened = self.open(config)
            sealed = self.seal(opened.value, stored=config, unreadable=opened.unreadable)
            if isinstance(sealed, dict):
                sealed |= {key: config[key] for key in left if key in config}
            return document if sealed == config else json.dumps(sealed, ensure_ascii=False)
        except RecursionError:
            raise NotExact from None

    def renew(self, document: str) -> Renewed:
        """JSON text with its tokens made with the newest key; not a character besides changes."""
        unreadable = 0

        def renew_token(found: re.Match[str]) -> str:
            nonlocal unreadable
            if found[1] is None:
                return found[0]
            with suppress(InvalidToken):
                self._fernets[0].decrypt(found[1])
                return found[0]
            if (plain := self._decrypt(found[1])) is None:
                unreadable += 1
                return found[0]
            return self._encrypt(plain)

        def renew_string(found: re.Match[str]) -> str:
            return found[0] if found["is_key"] else _ESCAPE_OR_SEALED.sub(renew_token, found[0])

        return Renewed(_STRING.sub(renew_string, document), unreadable)

    def _seal_whole(self, value: Any, there: Any, unreadable: Collection[str]) -> Any:
        """What stands under a sensitive key; what hides nothing stays."""
        if value is None or isinstance(value, bool) or value == "":
            return value
        if isinstance(value, float) and not math.isfinite(value):
            return value
        if isinstance(value, str) and _holds(value, unreadable):
            return value
        return self._token(value, self._tokens_in(there))

    def _seal_text(self, text: str, there: Any, unreadable: Collection[str], hidden_texts: Collection[str]) -> str:
        if isinstance(there, str) and self._is_seal_of(there, text):
            return there
        known = self._tokens_in(there)
        if text in hidden_texts:
            return self._token(text, known)
        if mask_text(text) == text:
            return text

        def token(secret: Secret) -> str:
            found = text[secret.begin : secret.end]
            return found if found == MASK or _holds(found, unreadable) else self._token(found, known)

        # A token in the place of a secret may change how the rest of the text reads; then all of it is one secret.
        secrets = find_secrets(text)
        masked = hide_secrets(text, secrets)
        if masked == mask_text(text):
            sealed = hide_secrets(text, secrets, token)
            if mask_text(sealed) == masked and self._open_text(sealed).value == text:
                return sealed
        return self._token(text, known)

    def _is_seal_of(self, stored: str, text: str) -> bool:
        return bool(SEALED.search(stored)) and _is_sealed(stored) and self._open_text(stored).value == text

    def _tokens_in(self, there: Any) -> dict[bytes, str]:
        """The tokens of a stored text, by what they were made of."""
        found = SEALED.finditer(there) if isinstance(there, str) else ()
        return {plain: token[0] for token in found if (plain := self._decrypt(token[1])) is not None}

    def _token(self, value: Any, known: dict[bytes, str]) -> str:
        plain = _payload(value)
        return known.get(plain) or self._encrypt(plain)

    def _encrypt(self, plain: bytes) -> str:
        return f"fernet:{self._fernets[0].encrypt(plain).decode()}"

    def _decrypt(self, token: str) -> bytes | None:
        for fernet in self._fernets:
            with suppress(InvalidToken):
                plain: bytes = fernet.decrypt(token)
                return plain
        return None

    def _open_text(self, text: str) -> Opened:
        if whole := SEALED.fullmatch(text):
            try:
                value = self._value(whole[1])
            except ValueError:
                return Opened(text, [], frozenset([text]))
            return Opened(value, [value] if isinstance(value, str) else _texts_in(value), frozenset())
        secrets: list[str] = []
        unreadable: set[str] = set()

        def plain(found: re.Match[str]) -> str:
            with suppress(ValueError):
                if isinstance(value := self._value(found[1]), str):
                    secrets.append(value)
                    return value
            unreadable.add(found[0])
            return found[0]

        return Opened(SEALED.sub(plain, text), secrets, frozenset(unreadable))

    def _value(self, token: str) -> Any:
        """What a token was made of. Raises ValueError when no key opens it, or when it was made of nothing of ours."""
        plain = self._decrypt(token)
        if plain is None:
            raise ValueError("no key opens this token")
        if not plain.startswith(_JSON_FOLLOWS):
            return plain.decode()
        try:
            return json.loads(plain[len(_JSON_FOLLOWS) :])
        except RecursionError:
            raise ValueError("nested too deeply") from None


def tokens_in(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The places of all texts in a JSON value that hold what looks like a token, as keys and indices."""
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(value, ())] if _mentions_tokens(value) else []
    while waiting:
        found, path = waiting.pop()
        if isinstance(found, dict | list):
            waiting += [(below, (*path, place)) for place, below in _places(found)]
        elif isinstance(found, str) and SEALED.search(found):
            yield path


def _mentions_tokens(value: Any) -> bool:
    return "fernet:" in "\0".join(texts_in(value))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, dict) else iter(enumerate(value))


def _at(value: Any, place: str | int) -> Any:
    """What stands at a key or an index; None when there is no such place."""
    if isinstance(value, dict):
        return value.get(place)
    if isinstance(value, list) and isinstance(place, int) and place < len(value):
        return value[place]
    return None


def _holds(value: Any, tokens: Collection[str]) -> bool:
    """Whether one of the tokens stands anywhere in a JSON value."""
    if not tokens:
        return False
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict | list):
            waiting += found.values() if isinstance(found, dict) else found
        elif isinstance(found, str) and any(token[0] in tokens for token in SEALED.finditer(found)):
            return True
    return False


def _is_sealed(text: str) -> bool:
    """Whether all secrets of a text are tokens."""
    secrets = find_secrets(text)
    parts = [text[secret.begin : secret.end] for secret in secrets]
    return hide_secrets(text, secrets) == mask_text(text) and all(p == MASK or SEALED.search(p) for p in parts)


def _texts_in(value: Any) -> list[str]:
    return list(credentials_in({"secret": value}))


def _payload(value: Any) -> bytes:
    """What is encrypted; equal values have equal bytes."""
    if isinstance(value, str) and not value.startswith(_JSON_FOLLOWS.decode()):
        with suppress(UnicodeEncodeError):  # a lone surrogate; JSON can write it
            return value.encode()
    return _JSON_FOLLOWS + json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _exact(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number) or Decimal(digits) != Decimal(repr(number)):
        raise NotExact
    return number


def _bounded(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise NotExact
    return int(digits)
