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
LATE_SECONDS: Final = 5.0
"""After so long a request that PyAPI has given up has been answered by Airflow, too."""

_LONGEST_PAUSE: Final = 60.0

log = structlog.get_logger(__name__)


class AirflowCourier:
    """Delivers the outbox. Each step can be repeated: whatever is cut off is done again, with the same effect.

    A record that is not active any more is paused at once, which holds even if the DAG processor is dead. When Airflow
    has taken its schedule away, the pause has done its work and is lifted: what is queued can end, and the DAG can go.
    A record that is active again is looked at once more: a pause that was given up may have arrived late.
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
                # It must not end for good: Airflow would hear of nothing any more.
                log.exception("airflow.courier_failed")
                pause = IDLE_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await woken.wait()
            except TimeoutError:
                pass
            woken.clear()

    async def deliver(self) -> bool:
        """Deliver what is due; answers whether that was all.

        Raises AirflowUnavailable when nothing could be delivered. What fails beside others that do not waits a little:
        one DAG that Airflow cannot handle must not be in the way of all.
        """
        async with self._outbox() as outbox:
            rows = await outbox.due(most=BATCH)
        places = asyncio.Semaphore(AT_ONCE)

        async def in_place(row: OutboxRow) -> ServiceUnavailable | Refused | None:
            async with places:
                return await self._try_deliver(row)

        failures = await asyncio.gather(*map(in_place, rows))
        away = [failure for failure in failures if isinstance(failure, ServiceUnavailable)]
        if away and len(away) == len(rows):
            raise away[0]
        for row, failure in zip(rows, failures, strict=True):
            if failure is not None:
                log.warning("airflow.status_refused", record_id=row.record_id, reason=str(failure))
                async with self._outbox() as outbox:
                    await outbox.postpone(row, seconds=_pause_after(row.attempts), is_told=False)
        return len(rows) < BATCH

    async def _try_deliver(self, row: OutboxRow) -> ServiceUnavailable | Refused | None:
        """Answers why that was not possible."""
        try:
            is_done = await (self._resume(row) if row.is_active else self._stop(row))
            async with self._outbox() as outbox:
                if is_done:
                    await outbox.delete(row)
                    log.info("airflow.status_delivered", record_id=row.record_id, is_active=row.is_active)
                else:
                    await outbox.postpone(row, seconds=_look_after(row), is_told=True)
        except (ServiceUnavailable, Refused) as error:
            return error
        return None

    async def _resume(self, row: OutboxRow) -> bool:
        """Answers whether Airflow was seen to start runs again. A DAG that comes later is not paused then."""
        if row.told_at is not None:
            dag = await self._airflow.dag(row.record_id)
            if dag is None or not dag.is_paused:
                return True
        return not await self._airflow.pause(row.record_id, is_paused=False)

    async def _stop(self, row: OutboxRow) -> bool:
        """Answers whether Airflow has taken the schedule away, and the pause is lifted."""
        if row.told_at is None:
            return not await self._airflow.pause(row.record_id, is_paused=True)
        dag = await self._airflow.dag(row.record_id)
        if dag is None:
            return True
        if dag.is_paused != dag.is_scheduled:
            await self._airflow.pause(row.record_id, is_paused=dag.is_scheduled)
        return not dag.is_scheduled


def _pause_after(attempts: int) -> float:
    return min(2.0 ** min(attempts, 10), _LONGEST_PAUSE)


def _look_after(row: OutboxRow) -> float:
    """Airflow takes a schedule away after a second or two; when its DAG processor is dead, nobody knows when."""
    if row.is_active:
        return LATE_SECONDS
    return SETTLING_SECONDS if row.attempts < 30 else _LONGEST_PAUSE
