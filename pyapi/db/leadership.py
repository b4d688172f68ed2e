"""Lets one of all workers do what must be done once, for as long as it lives and reaches the database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.db.engine import create_engine, is_unavailable

TRY_SECONDS: Final = 5.0
"""Between two attempts to become the leader: so long nobody is, after a leader was killed."""

CHECK_SECONDS: Final = 2.0
"""Between two looks whether the connection that holds the lock is still there."""

_LOCK = func.hashtextextended("pyapi_airflow", 0)
_CHANNEL: Final = "pyapi_airflow"

log = structlog.get_logger(__name__)

Work = Callable[[asyncio.Event], Awaitable[None]]


async def lead(database_url: str, work: Work) -> None:
    """Wait to be the leader, and do `work` then; go on until cancelled.

    The leader holds an advisory lock on a connection of its own, which ends with its process. `work` gets an event that
    is set whenever the outbox has something new. When the connection is lost the work is cancelled at once: another
    worker may have begun with it.
    """
    engine = create_engine(database_url, pool_size=1)
    try:
        while True:
            try:
                async with engine.connect() as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    if await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
                        await _work_while_connected(connection, work)
            except Exception as error:
                # It must not end for good: Airflow would hear of nothing any more.
                if not is_unavailable(error):
                    log.exception("airflow.link_failed")
            # Who is not the leader keeps no connection meanwhile.
            await engine.dispose()
            await asyncio.sleep(TRY_SECONDS)
    finally:
        await engine.dispose()


async def _work_while_connected(connection: AsyncConnection, work: Work) -> None:
    woken = asyncio.Event()

    def wake(*_: Any) -> None:
        woken.set()

    raw: Any = (await connection.get_raw_connection()).driver_connection
    await raw.add_listener(_CHANNEL, wake)
    working = asyncio.ensure_future(work(woken))
    log.info("airflow.leading")
    try:
        while not working.done():
            await asyncio.wait([working], timeout=CHECK_SECONDS)
            await connection.execute(text("SELECT 1"))
        await working
    finally:
        working.cancel()
        await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # has been seen, or is of no interest any more
        log.info("airflow.leading_ended")
        await connection.invalidate()
