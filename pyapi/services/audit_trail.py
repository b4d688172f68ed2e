"""Writes down who did what: one row of the audit log and one line of the log for each event."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from pydantic_core import to_json

from pyapi.exceptions import Problem
from pyapi.log import log_event
from pyapi.utils.changes import Change
from pyapi.utils.masking import CUT

MOST_OF_A_VALUE: Final = 1000
MOST_OF_ALL_CHANGES: Final = 16_384
"""Characters of JSON: a config of a mebibyte that changes as a whole must not write two of them into a log."""

_MOST_OF_A_NAME: Final = 200
_AT_ONCE: Final = 32
_MOST_OF_AN_AGENT: Final = 255


class Actor(NamedTuple):
    """Who does something; `id` is None for somebody who has no account, such as an operator at a terminal.

    `token_id` is the personal access token that spoke for them.
    """

    id: int | None
    name: str | None
    token_id: int | None = None


NOBODY: Final = Actor(None, None)


class Target(NamedTuple):
    """What it is done to: `record`, `user`, `airflow`, `route`. `id` is None when there is none, or it is not known."""

    kind: str
    id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where it was done from."""

    request_id: str | None = None
    address: str | None = None
    user_agent: str | None = None


class AuditStore(Protocol):
    """Where rows go: into the transaction of the request, or each into one of its own."""

    async def add(self, **values: Any) -> None:
        """Insert a row."""
        ...


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What is written down of one event: columns of `pyapi_audit_log`, but for the id of the target."""

    row: dict[str, Any]
    is_alarm: bool = False

    def say(self, target_id: int | str | None, **details: Any) -> None:
        """Write the line."""
        row = self.row
        line = {"actor_id": row["actor_id"], f"{row['target_kind']}_id": target_id} | (row["details"] or {}) | details
        if row["changes"] is not None:
            line["fields"] = sorted({change["pointer"].split("/")[1] for change in row["changes"]})
        log_event(__name__, row["event"], level="warning" if self.is_alarm else "info", **line)


class AuditTrail:
    """What one caller does."""

    def __init__(self, store: AuditStore, *, actor: Actor = NOBODY, origin: Origin | None = None) -> None:
        """`actor` is NOBODY where nobody is signed in, or not yet."""
        self._store = store
        self._actor = actor
        self._origin = origin or Origin()

    async def record(
        self,
        event: str,
        target: Target,
        *,
        by: Actor | None = None,
        changes: Iterable[Change] | None = None,
        is_alarm: bool = False,
        **details: Any,
    ) -> None:
        """Write a row and a line; `by` is who has just turned out to be the actor.

        Credentials in `changes` are masked already. The line names ids and fields, and neither people nor values.
        """
        entry = self.entry(event, target, by=by, changes=changes, is_alarm=is_alarm, **details)
        target_id = str(target.id) if target.id is not None else None
        await self._store.add(target_id=target_id, **entry.row)
        entry.say(target.id)

    def entry(
        self,
        event: str,
        target: Target,
        *,
        by: Actor | None = None,
        changes: Iterable[Change] | None = None,
        is_alarm: bool = False,
        **details: Any,
    ) -> AuditEntry:
        """The same for a statement that writes the row with what it is about; who has sent it says the line."""
        actor = by or self._actor
        told, is_cut = bounded(changes) if changes is not None else (None, False)
        if actor.token_id is not None:
            details["by_token_id"] = actor.token_id
        row = {
            "event": event,
            "actor_id": actor.id,
            "actor_name": actor.name,
            "target_kind": target.kind,
            "changes": told,
            "is_cut": is_cut,
            "details": details or None,
            "request_id": self._origin.request_id,
            "address": self._origin.address,
            "user_agent": (self._origin.user_agent or "")[:_MOST_OF_AN_AGENT] or None,
        }
        return AuditEntry(row, is_alarm=is_alarm)

    @asynccontextmanager
    async def order(self, event: str, target: Target, **details: Any) -> AsyncIterator[None]:
        """For what happens outside of the database: the row is there before the block asks for it.

        So nothing happens that nobody has written down. When the block fails a second row says so, and why; whether
        the other side has done it all the same, nobody knows.
        """
        await self.record(event, target, **details)
        try:
            yield
        except Exception as error:
            code = error.code if isinstance(error, Problem) else Problem.code
            await self.record("order.failed", target, order=event, code=code, **details)
            raise


def bounded(changes: Iterable[Change]) -> tuple[list[dict[str, Any]], bool]:
    """The changes as JSON, and whether that is not all of them."""
    told: list[dict[str, Any]] = []
    is_cut = False
    room = MOST_OF_ALL_CHANGES
    for some in _by_many(changes):
        whole = [_entry(change) for change in some if change is not None]
        fitting = [entry for entry, _ in whole]
        # A list has a character for each entry besides those of the entries, and one more.
        room -= _length(fitting) - len(fitting) - 1
        while room < 0:
            room += _length(fitting.pop())
        told += fitting
        if len(fitting) < len(some):
            return told, True
        is_cut = is_cut or any(is_short for _, is_short in whole)
    return told, is_cut


def _by_many(changes: Iterable[Change]) -> Iterator[list[Change | None]]:
    """The changes, some at once, and None where what SQL has stored is nested too deeply for Python to compare."""
    some: list[Change | None] = []
    try:
        for change in changes:
            some.append(change)
            if len(some) == _AT_ONCE:
                yield some
                some = []
    except RecursionError:
        some.append(None)
    if some:
        yield some


def _entry(change: Change) -> tuple[dict[str, Any], bool]:
    """A change as JSON, and whether it is shortened."""
    _, pointer, before, after = change
    told, old, new = _shortened(pointer), _short(before), _short(after)
    is_whole = told is pointer and old is before and new is after
    return {"pointer": told, "before": old, "after": new}, not is_whole


def _length(value: Any) -> int:
    """Characters of JSON, written without spaces."""
    return len(to_json(value).decode())


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return _shortened(value)
    if value is None or isinstance(value, int | float):
        return value  # a number has 309 digits at most
    return CUT if _length(value) > MOST_OF_A_VALUE else value


def _shortened(value: str) -> str:
    return value if len(value) <= MOST_OF_A_VALUE else value[:_MOST_OF_A_NAME] + CUT
