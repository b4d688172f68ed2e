"""Checks: small runs in Airflow that look whether a record could move what it says, and move nothing."""

import asyncio
import secrets
import time
from datetime import timedelta
from typing import Final

from pyapi.dag_conventions import CHECK_CONF
from pyapi.exceptions import AirflowNotReady, Conflict
from pyapi.gateways.airflow import Airflow, Refused
from pyapi.gateways.answers import Run
from pyapi.schemas.etl_schemas import CheckProblem, CheckResult, DataChecked
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.run_results import RunResults
from pyapi.services.runnable_records import RunnableRecords
from pyapi.services.schedule_service import Clock, utc_now

WAITS_FOR: Final = timedelta(seconds=20)
"""A check takes some seconds, most of them until Airflow has started a process; behind another run it takes longer."""

FAILED: Final = "The run failed before it could look; its log says why."
SILENT: Final = "The run has told nothing: is the reader kit in Airflow's environment of this release?"

_LOOK_SECONDS: Final = 0.5


class CheckService:
    """Checks of records, as one caller may start them. All of it raises AirflowUnavailable."""

    def __init__(
        self,
        airflow: Airflow,
        records: RunnableRecords,
        results: RunResults,
        audit: AuditTrail,
        *,
        clock: Clock = utc_now,
    ) -> None:
        """`audit` opens sessions of its own."""
        self._airflow = airflow
        self._records = records
        self._results = results
        self._audit = audit
        self._clock = clock

    async def check(self, record_id: int) -> DataChecked:
        """Start a check and, for some seconds, wait for its end.

        Raises NotFound, PermissionDenied, RecordNotActive, AirflowNotReady, Conflict.
        """
        await self._records.ready(record_id)
        run_id = f"pyapi__check_{self._clock():%Y%m%dT%H%M%S}_{secrets.token_hex(8)}"
        async with self._audit.order("run.checked", Target("record", record_id), run_id=run_id):
            run = await self._start(record_id, run_id)
        return await self._checked(record_id, await self._ended(record_id, run))

    async def _start(self, record_id: int, run_id: str) -> Run:
        try:
            run = await self._airflow.start_run(record_id, run_id, conf=CHECK_CONF, note=None)
        except Refused:
            raise Conflict("Airflow refuses to start a run of this record; its page there says why.") from None
        if run is None:
            raise AirflowNotReady
        return run

    async def _ended(self, record_id: int, run: Run) -> Run:
        """The run, when it has ended or as it is when the patience has."""
        give_up_at = time.monotonic() + WAITS_FOR.total_seconds()
        while not run.has_ended and time.monotonic() < give_up_at:
            await asyncio.sleep(_LOOK_SECONDS)
            run = await self._airflow.run(record_id, run.run_id) or run
        return run

    async def _checked(self, record_id: int, run: Run) -> DataChecked:
        if not run.has_ended:
            return DataChecked(run_id=run.run_id, state=run.state, ok=None, problems=[], tables=[])
        tasks = await self._airflow.tasks(record_id, run.run_id)
        found = await self._results.of(record_id, run, tasks)
        if not isinstance(found, CheckResult):
            detail = SILENT if run.state == "success" else FAILED
            found = CheckResult(ok=False, problems=[CheckProblem(place="run", detail=detail)], tables=[])
        return DataChecked(run_id=run.run_id, state=run.state, **dict(found))
