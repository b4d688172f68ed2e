"""Gives the secrets of stored records another form: encrypted for the first time, or with the newest key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, TypeAlias

from pyapi.db.secret_dao import Place, SecretDAO, StoredDocument
from pyapi.schedules.rules import RULE_KEYS
from pyapi.utils.sealing import NotExact, Sealer

BATCH: Final = 200
"""Rows of one transaction; it is as short as its one statement."""

_LOCKED_SLEEP: Final = 0.2


_Transform: TypeAlias = Callable[[str], tuple[str, bool]]
"""Makes another document of one, and says whether all of it was readable."""


class Progress(NamedTuple):
    """How far the work on one table is; `unreadable` rows stay as they are, since no key opens a token in them."""

    place: Place
    done: int
    total: int
    changed: int
    unreadable: int


class SecretKeeper:
    """Works through records and then their revisions, beside whoever reads and writes them.

    Each row is written once, and only if it is still what was read, so it can be stopped and started at any time. New
    revisions are of records that are done, and are found at the end of the second pass.
    """

    def __init__(
        self,
        stores: Callable[[Place], AbstractAsyncContextManager[SecretDAO]],
        sealer: Sealer,
        *,
        batch: int = BATCH,
    ) -> None:
        """`stores` opens a transaction of its own."""
        self._stores = stores
        self._sealer = sealer
        self._batch = batch

    async def rotate(self) -> AsyncIterator[Progress]:
        """Make every token one of the newest key."""
        async for progress in self._work(self._renewed, sealed_only=True):
            yield progress

    async def encrypt(self) -> AsyncIterator[Progress]:
        """Seal what is stored readable."""
        async for progress in self._work(self._sealed, sealed_only=False):
            yield progress

    def _renewed(self, document: str) -> tuple[str, bool]:
        renewed = self._sealer.renew(document)
        return renewed.document, renewed.unreadable == 0

    def _sealed(self, document: str) -> tuple[str, bool]:
        # What a rule says is shown by Airflow, and compared with what Airflow has.
        try:
            sealed = self._sealer.seal_document(document, left=RULE_KEYS)
        except NotExact:
            return document, False
        return sealed, True

    async def _work(self, transform: _Transform, *, sealed_only: bool) -> AsyncIterator[Progress]:
        for place in Place:
            async with self._stores(place) as store:
                total = await store.count(sealed_only=sealed_only)
            done = changed = unreadable = after = 0
            while True:
                async with self._stores(place) as store:
                    rows = await store.page(after=after, most=self._batch, sealed_only=sealed_only)
                if not rows:
                    break
                after = rows[-1].key
                done += len(rows)
                is_readable, written = await self._finish(place, rows, transform)
                changed += written
                unreadable += sum(1 for readable in is_readable.values() if not readable)
                yield Progress(place, done, max(total, done), changed, unreadable)
            yield Progress(place, done, done, changed, unreadable)

    async def _finish(
        self, place: Place, rows: Sequence[StoredDocument], transform: _Transform
    ) -> tuple[dict[int, bool], int]:
        """Write these rows; answers for each key whether it is readable, and how many have changed.

        One that somebody else has locked or changed is read again until it is done.
        """
        is_readable: dict[int, bool] = {}
        changed = 0
        while rows:
            changes = []
            for row in rows:
                document, is_readable[row.key] = transform(row.document)
                if document != row.document:
                    changes.append((row, document))
            if not changes:
                break
            async with self._stores(place) as store:
                written = await store.replace(changes)
            changed += len(written)
            left = [row.key for row, _ in changes if row.key not in written]
            if not left:
                break
            await asyncio.sleep(_LOCKED_SLEEP)
            async with self._stores(place) as store:
                rows = await store.some(left)
        return is_readable, changed
