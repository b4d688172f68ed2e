"""Which records a caller may run, and whether Airflow is ready to run them."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final

from pyapi.db.run_dao import RunDAO, RunnableRow
from pyapi.enums import RecordStatus
from pyapi.exceptions import AirflowNotReady, NotFound, PermissionDenied, RecordNotActive
from pyapi.gateways.airflow import Airflow
from pyapi.services.schedule_service import Clock

READY_WITHIN: Final = timedelta(seconds=5)
"""How long the start of a run waits for Airflow to read the newest revision; that takes a second or two."""

_LOOK_SECONDS: Final = 0.2


class RunnableRecords:
    """Records, before something is done with their runs."""

    def __init__(
        self,
        airflow: Airflow,
        runs: Callable[[], AbstractAsyncContextManager[RunDAO]],
        *,
        clock: Clock,
    ) -> None:
        self._airflow = airflow
        self._runs = runs
        self._clock = clock

    async def get(self, record_id: int) -> RunnableRow:
        """A record whose runs the caller may see. Raises NotFound."""
        async with self._runs() as dao:
            record = await dao.record(record_id)
        if record is None:
            raise NotFound("There is no data record with this id.")
        return record

    async def to_change(self, record_id: int) -> RunnableRow:
        """A record whose runs the caller may start and end. Raises NotFound, PermissionDenied."""
        record = await self.get(record_id)
        if not record.is_writable:
            raise PermissionDenied("Only the owner, those with a grant to write, or an admin start and end its runs.")
        return record

    async def ready(self, record_id: int) -> RunnableRow:
        """The same, when a run that starts now has the newest revision.

        Raises RecordNotActive, and AirflowNotReady when Airflow does not have it in time.
        """
        record = await self.to_change(record_id)
        if record.status != RecordStatus.ACTIVE:
            raise RecordNotActive
        # From now on as well: another clock, or SQL, may have written any time.
        give_up_at = time.monotonic() + READY_WITHIN.total_seconds()
        while not (record.is_current or await self._is_current(record)):
            if self._clock() > record.updated_at + READY_WITHIN or time.monotonic() > give_up_at:
                raise AirflowNotReady
            await asyncio.sleep(_LOOK_SECONDS)
        return record

    async def _is_current(self, record: RunnableRow) -> bool:
        dag = await self._airflow.dag(record.id)
        return dag is not None and not dag.is_stale and dag.revision == record.revision
