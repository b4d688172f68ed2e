"""Puts stored credentials back where a masked `config` is written: `***` stands for what is stored at its place."""

import math
import re
from collections.abc import Hashable, Iterator
from itertools import islice
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from pyapi.exceptions import FieldError
from pyapi.utils.credentials import (
    MASK,
    Secret,
    find_secrets,
    hide_secrets,
    is_connection_key,
    is_sensitive_key,
    mask_text,
    names_of_pair,
    secrets_of_pair,
    texts_in,
)
from pyapi.utils.masking import CUT, JSON, MAX_DEPTH, mask_secrets
from pyapi.utils.pointers import escape

NOTHING_STORED = "'***' stands for a stored secret, and there is none here. Write the secret itself."
TARGET_CHANGED = "The address or the user that this secret belongs to has changed. Write the password or token again."
TEXT_CHANGED = "This text has changed around its hidden secret. Write the whole text with its password or token again."
LOOK_ALIKE = "With their secrets hidden, several entries of this list look alike. Write the secret of this one again."
NOT_STORABLE = "What is stored here cannot be written back (nested too deeply, or not a number). Write it again."


def restore_secrets(new: JSON, stored: JSON, *, shown: JSON = None) -> tuple[JSON, list[FieldError]]:
    """`new` with each `***` replaced by the secret that `mask_secrets(stored)` hides there, and what stands against it.

    `shown` is the masked form of `stored` that people have seen, when that is another one.

    A secret only goes back to the place it was taken from, beside the same address and user: otherwise whoever may
    change a record could have its password sent to a server of their choice. The pointers are relative to the config
    (RFC 6901). The value may share parts with `new` and `stored`; with errors it is not to be written.
    """
    if not _mentions_hidden(new):
        return new, []
    restoration = _Restoration()
    value = restoration.value(new, stored, mask_secrets(stored) if shown is None else shown, _Place())
    return value, restoration.errors


_MOST_ERRORS = 32


class _Place(NamedTuple):
    """Where a value stands; `moved`: an address or user beside or above it is not the stored one."""

    above: "_Place | None" = None
    key: str | int = ""
    depth: int = 1
    moved: bool = False

    def below(self, key: str | int, *, moved: bool = False) -> "_Place":
        return _Place(self, key, self.depth + 1, self.moved or moved)

    def pointer(self) -> str:
        """The place as RFC 6901 writes it; built when it is asked for, since keys may be long and errors are few."""
        if self.above is None:
            return ""
        return f"{self.above.pointer()}/{escape(str(self.key))}"


_Partners: TypeAlias = dict[int, int | None]


class _Restoration:
    """One walk over a new value, the stored one and its masked form. What is absent is None, as null hides nothing."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._alike = _Alike()

    def _refuse(self, detail: str, place: _Place) -> None:
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append(FieldError(detail, place.pointer()))

    def value(self, new: JSON, stored: JSON, masked: JSON, place: _Place) -> JSON:
        """`new` with its secrets; `masked` is the masked form of `stored`."""
        if isinstance(new, str):
            return self._text(new, stored, masked, place)
        if place.depth > MAX_DEPTH:
            return new
        if isinstance(new, dict):
            return self._object(new, stored, masked, place)
        if isinstance(new, list):
            return self._list(new, stored, masked, place)
        return new

    def _object(self, new: dict[str, JSON], stored: JSON, masked: JSON, place: _Place) -> JSON:
        if not isinstance(stored, dict) or not isinstance(masked, dict):
            stored, masked = {}, {}
        moved = self._is_moved(new, stored, masked)
        # Also what was a secret: with another name beside it, its "***" must not come back as a text for everybody.
        told = {*secrets_of_pair(new), *secrets_of_pair(stored)}
        restored: dict[str, JSON] = {}
        for key, value in new.items():
            walk = self._secret if key in told or is_sensitive_key(key) else self.value
            restored[key] = walk(value, stored.get(key), masked.get(key), place.below(key, moved=moved))
        return restored

    def _is_moved(self, new: dict[str, JSON], stored: dict[str, JSON], masked: dict[str, JSON]) -> bool:
        names = {key for key in (*new, *stored) if is_connection_key(key)}
        names.update(names_of_pair(new), names_of_pair(stored))
        number = self._alike.number
        return any(number(new.get(name)) not in (number(masked.get(name)), number(stored.get(name))) for name in names)

    def _secret(self, new: JSON, stored: JSON, masked: JSON, place: _Place) -> JSON:
        """The value of a sensitive key: kept as a whole, or new as a whole."""
        if new == MASK:
            if masked != MASK:
                self._refuse(NOTHING_STORED, place)
            elif place.moved:
                self._refuse(TARGET_CHANGED, place)
            elif not _is_storable(stored, place.depth):
                self._refuse(NOT_STORABLE, place)
            else:
                return stored
        elif isinstance(new, dict | list) and place.depth <= MAX_DEPTH:
            # Nothing in here was ever shown, so a "***" in here stands for nothing that is stored.
            for key, value in new.items() if isinstance(new, dict) else enumerate(new):
                self._secret(value, None, None, place.below(key))
        elif isinstance(new, str):
            return self._text(new, None, None, place)
        return new

    def _text(self, new: str, stored: JSON, masked: JSON, place: _Place) -> JSON:
        if new == CUT == masked and stored != CUT:
            self._refuse(NOT_STORABLE, place)
            return new
        if MASK not in new or new == stored:
            return new
        if new == masked and not place.moved and isinstance(stored, str):
            return stored
        return self._changed_text(new, stored, masked, place)

    def _changed_text(self, new: str, stored: JSON, masked: JSON, place: _Place) -> JSON:
        """A text with "***" in it that is not what was shown, or that stands beside another address than before."""
        kept = _kept(new)
        if not isinstance(stored, str) or masked == stored:
            if kept:
                self._refuse(NOTHING_STORED, place)
        elif place.moved and not _names_its_host(new, kept):
            self._refuse(TARGET_CHANGED, place)
        elif (merged := stored if new == masked else _merge_url(new, stored)) is None:
            self._refuse(TEXT_CHANGED, place)
        else:
            return merged
        return new

    def _list(self, new: list[JSON], stored: JSON, masked: JSON, place: _Place) -> JSON:
        if not isinstance(stored, list) or not isinstance(masked, list):
            stored, masked = [], []
        partners, unclear = self._partners(new, stored, masked)
        restored: list[JSON] = []
        for index, value in enumerate(new):
            here = place.below(index)
            if index in unclear:
                self._refuse(LOOK_ALIKE, here)
                restored.append(value)
                continue
            partner = partners.get(index)
            counterpart = (None, None) if partner is None else (stored[partner], masked[partner])
            restored.append(self.value(value, *counterpart, here))
        return restored

    def _partners(self, new: list[JSON], stored: list[JSON], masked: list[JSON]) -> tuple[_Partners, set[int]]:
        """Which stored entry each new one continues (by index), and the new ones for which several could be meant."""
        partners: _Partners = {}
        unclear: set[int] = set()
        new_places = self._alike.places(new)
        for number, old in self._alike.places(masked).items():
            fresh = new_places.get(number, [])
            both = sorted(set(fresh) & set(old))
            only_new, only_old = sorted(set(fresh) - set(old)), sorted(set(old) - set(fresh))
            if len({self._alike.number(stored[index]) for index in old}) == 1:
                partners.update(dict.fromkeys(fresh))  # one more than before is a copy, and continues nothing
                partners.update(zip([*both, *only_new], [*both, *only_old], strict=False))
            elif len(old) == len(fresh):
                partners.update(zip(fresh, old, strict=True))  # they differ in nothing that can be seen: order counts
            elif len(new) == len(stored):
                partners.update(zip(both, both, strict=True))
                unclear.update(only_new)
            else:
                unclear.update(fresh)
        if len(new) == len(stored):
            claimed = {*partners, *partners.values(), *unclear}
            partners.update((index, index) for index in range(len(new)) if index not in claimed)
        return partners, unclear


class _Alike:
    """Gives equal JSON values equal numbers, in one pass over each tree. 1, 1.0 and true are not equal here."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[int, tuple[JSON, int]] = {}  # by id(); it holds the value, so that the id stays its own

    def places(self, values: list[JSON]) -> dict[int, list[int]]:
        """The indices at which each value stands, by its number."""
        places: dict[int, list[int]] = {}
        for index, value in enumerate(values):
            places.setdefault(self.number(value), []).append(index)
        return places

    def number(self, value: JSON, depth: int = 1) -> int:
        """The number of `value`; what is nested too deeply is like nothing else."""
        if not isinstance(value, dict | list):
            return self._numbers.setdefault((type(value), value), len(self._numbers))
        if id(value) in self._known:
            return self._known[id(value)][1]
        shape: Hashable
        if depth > MAX_DEPTH:
            shape = object()
        elif isinstance(value, dict):
            shape = frozenset((key, self.number(below, depth + 1)) for key, below in value.items())
        else:
            shape = tuple(self.number(below, depth + 1) for below in value)
        number = self._numbers.setdefault(shape, len(self._numbers))
        self._known[id(value)] = value, number
        return number


def _mentions_hidden(value: JSON) -> bool:
    """Whether there is a `***` or a "…" anywhere in the texts of `value`."""
    texts = texts_in(value)
    return CUT in texts or MASK in "\0".join(texts)


def _is_storable(value: JSON, depth: int) -> bool:
    """Whether JSON can hold `value`, at this depth of a config, within the limits of the API."""
    for below, level in _walk(value, depth):
        if isinstance(below, dict | list) and level > MAX_DEPTH:
            return False
        if isinstance(below, float) and not math.isfinite(below):
            return False
    return True


def _walk(value: JSON, depth: int = 1) -> Iterator[tuple[JSON, int]]:
    """Every value in `value` with its depth, without recursion: what plain SQL has stored may be thousands deep."""
    waiting = [(value, depth)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        if isinstance(value, dict | list):
            waiting.extend((below, depth + 1) for below in (value.values() if isinstance(value, dict) else value))


# --- A text that changed around its secret ----------------------------------------------------------------------------

_HEAD = re.compile(r"[^\s/?#;]*://[^\s/?#;]*+")
_HOST = re.compile(r"://[^\s/?#;]")
_MOST_CONNECTION_PARAMETERS = 16
_ANY_NAME = re.compile(r"(?<![\w.\-%])([\w.\-%]++)[ \t]*+=")


def _kept(text: str) -> list[Secret]:
    """The secrets of `text` that are "***"."""
    return [secret for secret in find_secrets(text) if text[secret.begin : secret.end] == MASK]


def _names_its_host(text: str, kept: list[Secret]) -> bool:
    """Whether a URL says where the secrets of `text` go, so that the fields beside it do not."""
    host = _HOST.search(text)
    return host is not None and bool(kept) and host.start() < kept[0].begin


def _merge_url(new: str, stored: str) -> str | None:
    """`new` with the secrets of `stored` where it has `***`; None unless only path, query or database changed.

    Scheme, user, host and port are compared as the masked texts show them, and the parameters that can stand for
    them (`?host=`, `;serverName=`) too. With a second URL or a second "@" nobody can say what the host is.
    """
    if new.count("://") != 1:
        return None
    heads = []
    tails = []
    for text in (new, stored):
        masked = hide_secrets(text, find_secrets(text))
        head = _HEAD.match(masked)
        if not head or masked != mask_text(text):
            return None
        heads.append(head[0])
        tails.append(masked[head.end() :])
    if heads[0] != heads[1] or any("@" in tail or "://" in tail for tail in tails):
        return None
    parameters = [_connection_parameters(tail) for tail in tails]
    if None in parameters or parameters[0] != parameters[1]:
        return None
    merged = _fill_in(new, stored)
    # What goes back must be hidden again where it now stands.
    return merged if merged is not None and mask_text(merged) == mask_text(new) else None


def _connection_parameters(tail: str) -> list[str] | None:
    """Every parameter that names an address or a user, with its value; None when there are more than anybody needs."""
    names = (found for found in _ANY_NAME.finditer(tail) if is_connection_key(unquote(found[1])))
    found = list(islice(names, _MOST_CONNECTION_PARAMETERS + 1))
    if len(found) > _MOST_CONNECTION_PARAMETERS:
        return None
    return sorted(re.split(r"[&;]", tail[name.start() :], maxsplit=1)[0] for name in found)


def _fill_in(new: str, stored: str) -> str | None:
    """`new` with each `***` replaced by the secret of `stored` under the same label, if each label has just one."""
    known = find_secrets(stored)
    values = {secret.label: stored[secret.begin : secret.end] for secret in known}
    kept = _kept(new)
    labels = {secret.label for secret in kept}
    if not kept or len(values) < len(known) or len(labels) < len(kept) or not labels <= values.keys():
        return None
    return hide_secrets(new, kept, lambda secret: values[secret.label])
