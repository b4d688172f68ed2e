"""Tells Airflow which records have begun or ceased to be active, however long Airflow is away."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog

from pyapi.db.airflow_dao import AirflowOutboxDAO, OutboxRow
from pyapi.exceptions import ServiceUnavailable
from pyapi.gateways.airflow import Airflow, Refused

BATCH: Final = 100
AT_ONCE: Final = 4
"""Requests to Airflow side by side; those for one record never are, since it has one row."""

IDLE_SECONDS: Final = 2.0
AWAY_SECONDS: Final = 1.0
SETTLING_SECONDS: Final = 1.0
_LONGEST_PAUSE: Final = 60.0

log = structlog.get_logger(__name__)


class AirflowCourier:
    """Delivers the outbox. Each step can be repeated: whatever is cut off is done again, with the same effect.

    A record that is not active any more is paused at once, which holds even if the DAG processor is dead. When Airflow
    has taken its schedule away, the pause has done its work and is lifted: what is queued can end, and the DAG can go.
    """

    def __init__(self, airflow: Airflow, outbox: Callable[[], AbstractAsyncContextManager[AirflowOutboxDAO]]) -> None:
        """`outbox` opens a transaction of its own."""
        self._airflow = airflow
        self._outbox = outbox

    async def run(self, woken: asyncio.Event) -> None:
        """Go on until cancelled; `woken` says that there is something new."""
        while True:
            try:
                pause = IDLE_SECONDS if await self.deliver() else 0.0
            except ServiceUnavailable:
                pause = AWAY_SECONDS
            except Exception:
                log.exception("airflow.courier_failed")
                pause = IDLE_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await woken.wait()
            except TimeoutError:
                pass
            woken.clear()

    async def deliver(self) -> bool:
        """Deliver what is due; answers whether that was all. Raises ServiceUnavailable with the first that fails."""
        async with self._outbox() as outbox:
            rows = await outbox.due(most=BATCH)
        places = asyncio.Semaphore(AT_ONCE)

        async def in_place(row: OutboxRow) -> None:
            async with places:
                await self._deliver(row)

        try:
            async with asyncio.TaskGroup() as group:
                for row in rows:
                    group.create_task(in_place(row))
        except* ServiceUnavailable as errors:
            raise errors.exceptions[0] from None
        return len(rows) < BATCH

    async def _deliver(self, row: OutboxRow) -> None:
        try:
            done = await (self._resume(row) if row.is_active else self._stop(row))
        except Refused as error:
            log.warning("airflow.status_refused", record_id=row.record_id, status_code=error.status_code)
            async with self._outbox() as outbox:
                await outbox.postpone(row, seconds=_pause_after(row.attempts), is_paused=False)
            return
        async with self._outbox() as outbox:
            if done:
                await outbox.delete(row)
                log.info("airflow.status_delivered", record_id=row.record_id, is_active=row.is_active)
            else:
                await outbox.postpone(row, seconds=_settling_pause(row.attempts), is_paused=True)

    async def _resume(self, row: OutboxRow) -> bool:
        """A DAG that is not there yet is not paused when it comes."""
        await self._airflow.pause(row.record_id, is_paused=False)
        return True

    async def _stop(self, row: OutboxRow) -> bool:
        """Answers whether Airflow has taken the schedule away."""
        if row.paused_at is None:
            return not await self._airflow.pause(row.record_id, is_paused=True)
        dag = await self._airflow.dag(row.record_id)
        if dag is not None and dag.is_scheduled:
            return False
        if dag is not None and dag.is_paused:
            await self._airflow.pause(row.record_id, is_paused=False)
        return True


def _pause_after(attempts: int) -> float:
    return min(2.0 ** min(attempts, 10), _LONGEST_PAUSE)


def _settling_pause(attempts: int) -> float:
    """Airflow needs a second or two; when its DAG processor is dead, nobody knows how long."""
    return SETTLING_SECONDS if attempts < 30 else _LONGEST_PAUSE
