"""What people may do with backfills: runs of the past that Airflow makes up for."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from itertools import islice
from typing import Final, NoReturn

import httpx

from pyapi.db.run_dao import RunDAO
from pyapi.exceptions import AirflowNotReady, BackfillConflict, FieldError, NotFound, ValidationFailed
from pyapi.gateways.airflow import Airflow, BackfillPlan, Refused
from pyapi.gateways.answers import Backfill
from pyapi.schedules.rules import parse_rule
from pyapi.schedules.runs import HORIZON, runs_between
from pyapi.schemas.run_schemas import BackfillCreate, BackfillList, BackfillListParams, BackfillRead, BackfillTried
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.runnable_records import RunnableRecords

MOST_RUNS: Final = 1000
"""Of one backfill."""


class BackfillService:
    """Backfills of records. All of it raises AirflowUnavailable."""

    def __init__(
        self,
        airflow: Airflow,
        runs: Callable[[], AbstractAsyncContextManager[RunDAO]],
        records: RunnableRecords,
        audit: AuditTrail,
    ) -> None:
        """`runs`, and `audit`, open sessions of their own."""
        self._airflow = airflow
        self._runs = runs
        self._records = records
        self._audit = audit

    async def create(self, record_id: int, request: BackfillCreate) -> BackfillRead:
        """Begin with a backfill.

        Raises NotFound, PermissionDenied, RecordNotActive, BackfillConflict, ValidationFailed.
        """
        await self._require_possible(record_id, request)
        # Airflow gives a backfill its number, so the times have to name it here.
        times = {"from_date": request.from_.isoformat(), "to_date": request.to.isoformat()}
        async with self._audit.order("backfill.created", Target("record", record_id), **times):
            try:
                backfill = await self._airflow.backfill(record_id, _plan(request))
            except Refused as error:
                _explain(error)
            if backfill is None:
                raise AirflowNotReady
        return _read(backfill)

    async def try_create(self, record_id: int, request: BackfillCreate) -> BackfillTried:
        """The times that `create` would make up for. Raises the same."""
        await self._require_possible(record_id, request)
        try:
            dates = await self._airflow.try_backfill(record_id, _plan(request))
        except Refused as error:
            _explain(error)
        if dates is None:
            raise AirflowNotReady
        return BackfillTried.model_construct(logical_dates=dates)

    async def page(self, record_id: int, params: BackfillListParams) -> BackfillList:
        """Backfills of a record. Raises NotFound."""
        await self._records.get(record_id)
        found, total = await self._airflow.backfills(record_id, offset=params.skip, limit=params.limit)
        data = [_read(backfill) for backfill in found]
        return BackfillList.model_construct(data=data, total=total, skip=params.skip, limit=params.limit)

    async def cancel(self, record_id: int, backfill_id: int) -> BackfillRead:
        """Start no more runs of it; those that run go on. Raises NotFound, PermissionDenied, BackfillConflict."""
        await self._records.to_change(record_id)
        if _found(await self._airflow.one_backfill(backfill_id)).record_id != record_id:
            raise _not_there()
        async with self._audit.order("backfill.cancelled", Target("record", record_id), backfill_id=backfill_id):
            try:
                ended = await self._airflow.end_backfill(backfill_id)
            except Refused:
                raise BackfillConflict("The backfill has ended already.") from None
        return _read(_found(ended))

    async def _require_possible(self, record_id: int, request: BackfillCreate) -> None:
        """Raises also for too many runs: Airflow makes a list of all of them while its API waits."""
        await self._records.ready(record_id)
        async with self._runs() as dao:
            config = next(iter(await dao.configs(record_id, version=None)), None)
        rule, _ = parse_rule(config)
        if rule is None:
            return
        always = replace(rule, start_date=None, end_date=None, paused_until=None)
        end = min(request.to, HORIZON)
        if next(islice(runs_between(always, request.from_, end), MOST_RUNS, None), None) is not None:
            text = f"That would be more than {MOST_RUNS:,} runs: make several backfills, one after the other."
            raise ValidationFailed([FieldError(text, "/body/to")])


def _plan(request: BackfillCreate) -> BackfillPlan:
    return BackfillPlan(
        from_date=request.from_,
        to_date=request.to,
        reprocess=request.reprocess.value,
        max_active_runs=request.max_active_runs,
        run_backwards=request.run_backwards,
    )


def _explain(error: Refused) -> NoReturn:
    if error.status_code == httpx.codes.CONFLICT:
        raise BackfillConflict from None
    text = "Airflow cannot make up for runs of this record: it needs a schedule, and times in the past."
    raise ValidationFailed([FieldError(text, "/body")]) from None


def _found(backfill: Backfill | None) -> Backfill:
    if backfill is None:
        raise _not_there()
    return backfill


def _not_there() -> NotFound:
    return NotFound("This record has no backfill with this id.")


def _read(backfill: Backfill) -> BackfillRead:
    return BackfillRead.model_construct(**backfill.model_dump(exclude={"record_id"}))
