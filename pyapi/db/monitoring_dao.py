"""The statement that shows whether the database answers."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from sqlalchemy import select, true
from sqlalchemy.ext.asyncio import AsyncSession


class MonitoringDAO:
    """Opens its own session each time: that a connection can be had is part of the question."""

    def __init__(self, open_session: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> None:
        self._open_session = open_session

    async def ping(self) -> None:
        """Make the database answer. Raises DatabaseUnavailable."""
        async with self._open_session() as session:
            await session.execute(select(true()))
