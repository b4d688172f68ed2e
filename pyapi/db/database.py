"""The database of the application, as its lifespan opens it."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from pyapi.db.places import Places
from pyapi.db.statements import Connections, PooledConnections


@dataclass(frozen=True, slots=True)
class Database:
    """Where sessions come from: for transactions, and for reads in autocommit (no BEGIN, no COMMIT).

    And where single statements find a connection.

    Who opens a session, or runs a statement, for data records takes one of the `record_places` first.
    """

    transactions: async_sessionmaker[AsyncSession]
    reads: async_sessionmaker[AsyncSession]
    connections: Connections
    record_places: Places | None = None

    @classmethod
    def on(cls, engine: AsyncEngine, *, record_places: int = 1) -> Self:
        """Sessions on the pool of `engine`."""
        return cls(
            transactions=async_sessionmaker(engine, expire_on_commit=False),
            reads=async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False),
            connections=PooledConnections(engine),
            record_places=Places(record_places),
        )
