"""Single statements in autocommit: text that SQLAlchemy has compiled once, run by asyncpg on a connection of the pool.

For what is asked all the time: compiling, a session and the rows of SQLAlchemy take longer than PostgreSQL and asyncpg.
What holds for sessions holds here: places, patience, and whose fault a failure is.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import asyncpg
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import greenlet_spawn

from pyapi.db.engine import is_unavailable
from pyapi.db.patience import Patience
from pyapi.db.places import FairPool, Places
from pyapi.exceptions import DatabaseUnavailable

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL as PostgreSQL takes it, and the names of its parameters in the order of `$1`, `$2`, ...

    `values` are those that the statement brings itself.
    """

    text: str
    names: tuple[str, ...]
    values: Mapping[str, Any]

    @classmethod
    def of(cls, statement: ClauseElement) -> Self:
        """Compile a statement. Values go to asyncpg as they are: JSON has to be text already, and comes as text."""
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)  # others are for what makes tables
        names = tuple(compiled.positiontup or ())
        return cls(str(compiled), names, {name: compiled.params[name] for name in names})

    def arguments(self, given: Mapping[str, Any]) -> list[Any]:
        """The values in their order."""
        own = self.values
        return [given[name] if name in given else own[name] for name in self.names]


class Connections(Protocol):
    """Where a statement finds a connection."""

    async def fetch(self, text: str, arguments: Sequence[Any], *, patience: Patience) -> list[asyncpg.Record]:
        """The rows of one statement, which is a transaction of its own. Raises TimeoutError."""
        ...


class PooledConnections:
    """The connections of an engine's pool, each for one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        assert isinstance(engine.sync_engine.pool, FairPool)
        self._pool = engine.sync_engine.pool

    async def fetch(self, text: str, arguments: Sequence[Any], *, patience: Patience) -> list[asyncpg.Record]:
        """The rows of one statement."""
        entry = self._pool.take_at_once()
        held = entry or await self._waited_for(patience)
        try:
            connection: Any = held.driver_connection
            rows: list[asyncpg.Record] = await patience.spend(partial(connection.fetch, text, *arguments))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) or is_unavailable(error):
                # Thrown away, as `transaction` does: it may still be busy with what nobody waits for.
                await greenlet_spawn(held.invalidate)
            raise
        finally:
            if entry is not None:
                self._pool.give_back(entry)
            else:
                held.close()
        return rows

    async def _waited_for(self, patience: Patience) -> Any:
        # A greenlet costs as much as a statement; SQLAlchemy needs one only where it waits.
        async with patience.limit() as start:
            start()
            return await greenlet_spawn(self._pool.connect)


class Statements:
    """Runs statements for one request, within its patience; each of them takes one of the `places` meanwhile."""

    def __init__(self, connections: Connections, *, patience: Patience, places: Places | None = None) -> None:
        self._connections = connections
        self._patience = patience
        self._places = places

    async def rows(self, statement: Statement, **given: Any) -> list[asyncpg.Record]:
        """All rows; JSON in them is text. Raises DatabaseUnavailable for whatever passes by itself."""
        arguments, places = statement.arguments(given), self._places
        is_done = has_place = False
        try:
            if places is not None:
                if not places.enter_at_once():
                    await self._wait_for(places)
                has_place = True
            rows = await self._connections.fetch(statement.text, arguments, patience=self._patience)
            is_done = True
        except Exception as error:
            if is_unavailable(error):
                raise DatabaseUnavailable from error
            raise
        finally:
            if places is not None and has_place:
                places.leave(in_order=is_done)
        return rows

    async def row(self, statement: Statement, **given: Any) -> asyncpg.Record | None:
        """The first row. Raises the same."""
        return next(iter(await self.rows(statement, **given)), None)

    async def _wait_for(self, places: Places) -> None:
        async with self._patience.limit() as start:
            start()
            await places.enter()
