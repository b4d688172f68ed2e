"""Statements that give stored secrets another form: in records, and in all that records once were."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Place(StrEnum):
    """A table that holds configs."""

    RECORDS = "pyapi_data_records"
    REVISIONS = "pyapi_data_revisions"


class StoredDocument(NamedTuple):
    """A config as PostgreSQL writes it, so that nothing in it is lost; `key` is the id, or the number of the change."""

    key: int
    document: str


class _Columns(NamedTuple):
    key: str
    config: str
    assignment: str


_COLUMNS = {
    Place.RECORDS: _Columns("id", "r.config", "config = n.new::jsonb"),
    Place.REVISIONS: _Columns(
        "change_id", "(r.state -> 'config')", "state = jsonb_set(r.state, '{config}', n.new::jsonb)"
    ),
}
_TOKENS_ONLY = "AND position('fernet:gAAAA' in {config}::text) > 0"
_COUNT = "SELECT count(*) FROM {place} r WHERE {config} IS NOT NULL {tokens}"
_PAGE = """
    SELECT r.{key}, {config}::text FROM {place} r
    WHERE r.{key} > :after AND {config} IS NOT NULL {tokens} ORDER BY r.{key} LIMIT :most
    """
_SOME = "SELECT r.{key}, {config}::text FROM {place} r WHERE r.{key} = ANY (CAST(:keys AS bigint[])) ORDER BY r.{key}"
# Whoever has locked a row is not waited for, so nobody can wait for us in turn; and what has changed since it was read
# stays. Both are read anew.
_REPLACE = """
    WITH n AS (
        SELECT * FROM unnest(CAST(:keys AS bigint[]), CAST(:olds AS text[]), CAST(:news AS text[])) AS x (key, old, new)
    ),
    locked AS (
        SELECT r.{key} AS key FROM {place} r JOIN n ON r.{key} = n.key
        WHERE {config} = n.old::jsonb FOR NO KEY UPDATE OF r SKIP LOCKED)
    UPDATE {place} r SET {assignment} FROM n JOIN locked USING (key) WHERE r.{key} = n.key RETURNING r.{key}
    """
_REENCRYPTING = text("SELECT set_config('pyapi.reencrypting', 'true', true)")
"""Without this a trigger makes a revision of each row."""


class SecretDAO:
    """Configs of one table, by their keys."""

    def __init__(self, session: AsyncSession, place: Place) -> None:
        self._session = session
        self._place = place

    async def count(self, *, sealed_only: bool) -> int:
        """How many rows have a config; of these only those with a token."""
        return int(await self._session.scalar(text(self._statement(_COUNT, sealed_only))) or 0)

    async def page(self, *, after: int, most: int, sealed_only: bool) -> list[StoredDocument]:
        """Those behind a key, in the order of keys."""
        statement = text(self._statement(_PAGE, sealed_only))
        rows = await self._session.execute(statement, {"after": after, "most": most})
        return [StoredDocument._make(row) for row in rows]

    async def some(self, keys: Sequence[int]) -> list[StoredDocument]:
        """Those with these keys; they may have no config any more."""
        rows = await self._session.execute(text(self._statement(_SOME)), {"keys": list(keys)})
        return [StoredDocument._make(row) for row in rows if row[1] is not None]

    async def replace(self, changes: Sequence[tuple[StoredDocument, str]]) -> set[int]:
        """Write another form of each config that is not locked and still what it was; answers the keys of those."""
        await self._session.execute(_REENCRYPTING)
        rows = await self._session.execute(
            text(self._statement(_REPLACE)),
            {
                "keys": [stored.key for stored, _ in changes],
                "olds": [stored.document for stored, _ in changes],
                "news": [document for _, document in changes],
            },
        )
        return {row[0] for row in rows}

    def _statement(self, template: str, sealed_only: bool = False) -> str:
        columns = _COLUMNS[self._place]
        tokens = _TOKENS_ONLY.format(config=columns.config) if sealed_only else ""
        return template.format(place=self._place, tokens=tokens, **columns._asdict())
