"""The JSON of records in lists, which stays the same as long as the record does: the same pages are looked at again."""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from pyapi.db.dao import RecordRow, record_of
from pyapi.db.engine import read_stored_json
from pyapi.db.record_lists import PAGE_HEAD
from pyapi.schemas.deployment_schemas import DeploymentFields
from pyapi.schemas.schedule_schemas import ScheduleFields
from pyapi.services.record_views import RecordViews
from pyapi.services.turns import Turns

MOST_BYTES: Final = 4 * 1024 * 1024
"""Of JSON, for each worker."""

LONGEST: Final = 16 * 1024
"""A longer one is made each time: a few of a mebibyte would push out all others."""

MOST_PAGES: Final = 64
"""Pages of which it is remembered what stood on them."""

_DEPLOYMENT: Final = frozenset(DeploymentFields.model_fields)
_NOT_LINKED: Final = DeploymentFields(last_run=None, airflow=None).model_dump_json()[1:].encode()
_VERSION: Final = PAGE_HEAD.index("version")
_SEEN: Final = PAGE_HEAD.index("seen_in_airflow")
_CONTENT: Final = len(PAGE_HEAD)

Row = Sequence[Any]
"""A row of a page, as `page_of` says."""


class Item(NamedTuple):
    """A record of a list: JSON up to the fields of the deployment, which holds until then; None is for ever.

    `error` is that of the schedule. `row` is without JSON: for what is sorted by, and for the deployment.
    """

    json: bytes
    until: datetime | None
    error: str | None
    row: RecordRow


class ListTexts:
    """Remembers items by the version of their row, so none is ever out of date; and which ones stood on a page.

    In two generations: what is asked for moves to the young one and, when that is full, the old one is forgotten.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._half = most_bytes // 2
        self._young: dict[Hashable, Item] = {}
        self._old: dict[Hashable, Item] = {}
        self._bytes = 0
        self._pages: dict[Hashable, Sequence[bytes]] = {}

    def find(self, key: Hashable, now: datetime) -> Item | None:
        """What was made of this key, if it still holds."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.keep(key, found)
        return None if found is None or (found.until is not None and found.until <= now) else found

    def keep(self, key: Hashable, item: Item) -> None:
        """Remember an item that is not too long."""
        if len(item.json) > LONGEST:
            return
        if self._bytes + len(item.json) > self._half:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = item
        self._bytes += len(item.json)

    def page(self, question: Hashable) -> Sequence[bytes]:
        """The versions that were the answer the last time."""
        return self._pages.get(question, ())

    def keep_page(self, question: Hashable, versions: Sequence[bytes]) -> None:
        """Remember the answer."""
        self._pages.pop(question, None)
        self._pages[question] = versions
        if len(self._pages) > MOST_PAGES:
            del self._pages[next(iter(self._pages))]


class ListItems:
    """Makes the JSON of a page for one request."""

    def __init__(self, views: RecordViews, texts: ListTexts, *, is_stranger: bool, question: Hashable) -> None:
        """`question` is what the page is the answer to, apart from who asks."""
        self._views = views
        self._texts = texts
        self._is_stranger = is_stranger
        self._kind = (is_stranger, views.language)
        self._question = (self._kind, question)
        self._known = self._find(texts.page(self._question))

    @property
    def known(self) -> Sequence[bytes]:
        """Versions of rows whose content is not needed."""
        return list(self._known)

    async def read(self, rows: Sequence[Row]) -> list[Item]:
        """The items of a page. Each config may be a mebibyte to look through, so others get their turn in between."""
        turns = Turns()
        items = []
        for row in rows:
            if (item := self._known.get(row[_VERSION])) is None and (item := self._again(row)) is None:
                item = self._made((*row[_CONTENT:], row[_SEEN]))
                self._texts.keep((self._kind, row[_VERSION]), item)
                await turns.give()
            items.append(item)
        self._texts.keep_page(self._question, [row[_VERSION] for row in rows])
        return items

    def json_of(self, rows: Sequence[Row], items: Sequence[Item]) -> bytes:
        """An array."""
        if self._is_stranger:
            return b"[" + b",".join([item.json for item in items]) + b"]"
        if not self._views.is_linked:
            # Each of them ends in the same way.
            ends = _NOT_LINKED + b","
            return b"[" + ends.join([item.json for item in items]) + (_NOT_LINKED if items else b"") + b"]"
        pairs = zip(rows, items, strict=True)
        return b"[" + b",".join([item.json + self._deployment(row, item) for row, item in pairs]) + b"]"

    def _find(self, versions: Sequence[bytes]) -> dict[bytes, Item]:
        now, kind, find = self._views.now, self._kind, self._texts.find
        return {version: item for version in versions if (item := find((kind, version), now)) is not None}

    def _again(self, row: Row) -> Item | None:
        """What stood on another page."""
        return self._texts.find((self._kind, row[_VERSION]), self._views.now)

    def _made(self, raw: Row) -> Item:
        row = record_of(raw)
        bare = row._replace(config=None, schedule_summary=None, seen_in_airflow={})
        if self._is_stranger:
            summary = self._views.summary_item(row)
            return _item(summary, summary.model_dump_json().encode(), bare)
        item = self._views.item(row)
        return _item(item, item.model_dump_json(exclude=set(_DEPLOYMENT)).encode()[:-1] + b",", bare)

    def _deployment(self, row: Row, item: Item) -> bytes:
        """The end of an item: what Airflow has made of a record changes all the time."""
        seen = item.row._replace(seen_in_airflow=read_stored_json(row[_SEEN]))
        fields = self._views.deployment(seen, error=item.error)
        return DeploymentFields.model_construct(**fields).model_dump_json()[1:].encode()


def _item(shown: ScheduleFields, json: bytes, row: RecordRow) -> Item:
    ends = [time for time in (shown.next_run_at, shown.paused_until) if time is not None]
    return Item(json, min(ends, default=None), shown.schedule_error, row)
