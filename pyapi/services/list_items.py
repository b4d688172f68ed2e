"""The JSON of records in lists, which stays the same as long as the record does: the same pages are looked at again."""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from pyapi.db.dao import record_of
from pyapi.schemas.deployment_schemas import DeploymentFields
from pyapi.schemas.schedule_schemas import ScheduleFields
from pyapi.services.record_views import RecordViews
from pyapi.services.turns import Turns

MOST_BYTES: Final = 4 * 1024 * 1024
"""Of JSON, for each worker; what it was made of is kept beside it, and about as long."""

LONGEST: Final = 16 * 1024
"""A longer one is made each time: a few of a mebibyte would push out all others."""

_DEPLOYMENT: Final = frozenset(DeploymentFields.model_fields)
_NOT_LINKED: Final = DeploymentFields(last_run=None, airflow=None).model_dump_json()[1:].encode()

Raw = tuple[Any, ...]
"""A row as `record_of` takes it."""


class _Text(NamedTuple):
    """JSON up to the fields of the deployment; it holds until then, None for ever. `error` is that of the schedule."""

    json: bytes
    until: datetime | None
    error: str | None


class ListTexts:
    """Remembers texts by all that they are made of, so none is ever out of date.

    In two generations: what is asked for moves to the young one and, when that is full, the old one is forgotten.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._half = most_bytes // 2
        self._young: dict[Hashable, _Text] = {}
        self._old: dict[Hashable, _Text] = {}
        self._bytes = 0

    def find(self, key: Hashable, now: datetime) -> _Text | None:
        """What was made of this key, if it still holds."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.keep(key, found)
        return None if found is None or (found.until is not None and found.until <= now) else found

    def keep(self, key: Hashable, text: _Text) -> None:
        """Remember a text that is not too long."""
        if len(text.json) > LONGEST:
            return
        if self._bytes + len(text.json) > self._half:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = text
        self._bytes += len(text.json)


class ListItems:
    """Makes the JSON of a list for one request."""

    def __init__(self, views: RecordViews, texts: ListTexts, *, is_stranger: bool) -> None:
        self._views = views
        self._texts = texts
        self._is_stranger = is_stranger

    async def json_of(self, rows: Sequence[Raw]) -> bytes:
        """An array. Each config may be a mebibyte to look through, so others get their turn in between."""
        turns, now = Turns(), self._views.now
        items: list[bytes] = []
        for raw in rows:
            # What Airflow has made of a record stands at its end, and changes all the time.
            key = (self._is_stranger, self._views.language, raw[:-1])
            if (text := self._texts.find(key, now)) is None:
                self._texts.keep(key, text := self._made(raw))
                await turns.give()
            items.append(text.json + (b"" if self._is_stranger else self._deployment(raw, text.error)))
        return b"[" + b",".join(items) + b"]"

    def _made(self, raw: Raw) -> _Text:
        row = record_of(raw)
        if self._is_stranger:
            summary = self._views.summary_item(row)
            return _text(summary, summary.model_dump_json().encode())
        item = self._views.item(row)
        return _text(item, item.model_dump_json(exclude=set(_DEPLOYMENT)).encode()[:-1] + b",")

    def _deployment(self, raw: Raw, error: str | None) -> bytes:
        """The end of an item."""
        if not self._views.is_linked:
            return _NOT_LINKED
        row = record_of((*raw[:3], None, *raw[4:12], None, raw[13]))
        fields = self._views.deployment(row, error=error)
        return DeploymentFields.model_construct(**fields).model_dump_json()[1:].encode()


def _text(item: ScheduleFields, json: bytes) -> _Text:
    ends = [time for time in (item.next_run_at, item.paused_until) if time is not None]
    return _Text(json, min(ends, default=None), item.schedule_error)
