"""Statements about attempts that are limited."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import CursorResult, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.attempt_models import Attempts


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` attempts under `key` within any stretch of `window`."""

    key: str
    most: int
    window: timedelta


# One statement: whoever comes second waits for the row and then sees what the first has written, so of any number of
# attempts at once exactly `most` pass. The clock is the server's, read after that wait: workers need not agree on one.
_RESERVE: Final = text("""
    INSERT INTO pyapi_attempts AS known (key, moments, expires_at)
    VALUES (:key, ARRAY[clock_timestamp()], clock_timestamp() + CAST(:window AS interval))
    ON CONFLICT (key) DO UPDATE SET
        moments = ARRAY(
            SELECT moment FROM unnest(known.moments) AS moment
            WHERE moment > clock_timestamp() - CAST(:window AS interval) ORDER BY moment
        ) || clock_timestamp(),
        expires_at = clock_timestamp() + CAST(:window AS interval)
    WHERE :most > (
        SELECT count(*) FROM unnest(known.moments) AS moment
        WHERE moment > clock_timestamp() - CAST(:window AS interval)
    )
    RETURNING moments[cardinality(moments)]
    """)

# When the attempt that is `most` attempts back ceases to count, there is room for one.
_SECONDS_UNTIL_ROOM: Final = text("""
    SELECT CAST(ceil(extract(epoch FROM moment + CAST(:window AS interval) - clock_timestamp())) AS integer)
    FROM pyapi_attempts AS known, unnest(known.moments) AS moment
    WHERE known.key = :key AND moment > clock_timestamp() - CAST(:window AS interval)
    ORDER BY moment DESC OFFSET :most - 1 LIMIT 1
    """)


class AttemptDAO:
    """Rows of `pyapi_attempts`. Whoever writes several keys in one transaction writes them in one order everywhere."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def reserve(self, limit: Limit) -> datetime | None:
        """Count one attempt; its moment, by which it can be taken back. None when there is no room."""
        values = {"key": limit.key, "most": limit.most, "window": limit.window}
        moment: datetime | None = await self._session.scalar(_RESERVE, values)
        return moment

    async def seconds_until_room(self, limit: Limit) -> int | None:
        """How long until `reserve` has room, 1 or more; None when it has. Locks nothing, and waits for nobody."""
        values = {"key": limit.key, "most": limit.most, "window": limit.window}
        seconds: int | None = await self._session.scalar(_SECONDS_UNTIL_ROOM, values)
        return None if seconds is None else max(1, seconds)

    async def take_back(self, key: str, moment: datetime) -> None:
        """Let one attempt not count. The last one goes with its row: what was taken back must not fill the table."""
        emptied = await self._session.execute(delete(Attempts).where(Attempts.key == key, Attempts.moments == [moment]))
        assert isinstance(emptied, CursorResult)
        if emptied.rowcount == 0:
            rest = func.array_remove(Attempts.moments, moment)
            await self._session.execute(update(Attempts).where(Attempts.key == key).values(moments=rest))

    async def delete(self, key: str) -> None:
        """Let no attempt under a key count."""
        await self._session.execute(delete(Attempts).where(Attempts.key == key))

    async def delete_expired(self, *, most: int) -> None:
        """Delete rows that say nothing any more. Last in its transaction: those that others hold are left to them."""
        expired = (
            select(Attempts.key)
            .where(Attempts.expires_at < func.clock_timestamp())
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        await self._session.execute(delete(Attempts).where(Attempts.key.in_(expired)))
