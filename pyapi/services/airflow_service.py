"""How the link to Airflow is, and what repairs it; for superusers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pyapi.db.airflow_dao import AirflowOutboxDAO, AirflowSeenDAO, DriftRow, LinkRow
from pyapi.gateways.airflow import Airflow, Refused
from pyapi.schemas.airflow_schemas import (
    Components,
    Drift,
    LinkState,
    LinkStatus,
    Reconciled,
    Repair,
    RepairAction,
    Waiting,
)
from pyapi.services.airflow_courier import AirflowCourier
from pyapi.services.airflow_observer import AirflowObserver
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.deployment_service import SILENT_FOR, UPDATING_FOR
from pyapi.services.schedule_service import Clock, utc_now
from pyapi.utils.credentials import mask_text

MOST_DRIFT: Final = 100
_NEEDED: Final = ("metadatabase", "scheduler", "dag_processor")
_BY_STATUS: Final = {"paused": RepairAction.UNPAUSED, "scheduled": RepairAction.PAUSED}
_MISSING: Final = "Only Airflow can make a DAG: check its DAG processor and that the bundle is configured."
_TRIED_AGAIN: Final = "Airflow does not take it; it is tried again."
_GONE: Final = "Airflow has no DAG of it any more."

log = structlog.get_logger(__name__)

Stores = tuple[AirflowOutboxDAO, AirflowSeenDAO]


@dataclass(frozen=True, slots=True)
class AirflowService:
    """The link to Airflow. `stores`, and `audit`, open transactions of their own."""

    airflow: Airflow
    stores: Callable[[], AbstractAsyncContextManager[Stores]]
    audit: AuditTrail
    clock: Clock = utc_now

    async def status(self) -> LinkStatus:
        """How the link is, as one of the workers has seen it seconds ago."""
        async with self.stores() as (outbox, seen):
            link = await seen.link()
            backlog = await outbox.backlog()
            drift = await seen.drift(grace_seconds=UPDATING_FOR.total_seconds(), most=MOST_DRIFT)
        state, reason = self._judge(link)
        return LinkStatus.model_construct(
            state=state,
            url=self.airflow.url,
            reason=reason,
            reached_at=link.reached_at,
            failing_since=link.failing_since,
            components=Components.model_construct(**link.health) if link.health is not None else None,
            backlog=Waiting.model_construct(count=backlog.waiting, since=backlog.oldest),
            drift=[Drift.model_construct(**_shown(row)) for row in drift] if self.airflow.url is not None else [],
        )

    def _judge(self, link: LinkRow) -> tuple[LinkState, str | None]:
        if self.airflow.url is None:
            return LinkState.NOT_CONFIGURED, "Set PYAPI_AIRFLOW_URL."
        if link.failing_since is not None:
            return LinkState.UNREACHABLE, link.reason
        if link.reached_at is None or link.reached_at < self.clock() - SILENT_FOR:
            return LinkState.UNREACHABLE, "Airflow was not asked for a while: no worker keeps the link."
        sick = [name for name in _NEEDED if (link.health or {}).get(name) != "healthy"]
        if sick:
            return LinkState.DEGRADED, f"Not healthy: {', '.join(sick)}."
        return LinkState.OK, None

    async def reconcile(self) -> Reconciled:
        """Look at all DAGs now, and repair what can be repaired from here. Raises AirflowUnavailable."""
        async with self.audit.order("airflow.reconciled", Target("airflow")):
            return await self._reconcile()

    async def _reconcile(self) -> Reconciled:
        checked = await AirflowObserver(self.airflow, self._seen).look_at_all(forget=False)
        async with self.stores() as (outbox, seen):
            drift = await seen.drift(grace_seconds=0, most=MOST_DRIFT)
            for row in drift:
                if row.problem in _BY_STATUS:
                    await outbox.put(row.record_id)
        # What holds of a record may have changed by now: the outbox says it, and the courier delivers that.
        await AirflowCourier(self.airflow, self._outbox).deliver()
        repairs = [await self._repair(row) for row in drift]
        return Reconciled.model_construct(checked=checked, repairs=repairs)

    @asynccontextmanager
    async def _seen(self) -> AsyncIterator[AirflowSeenDAO]:
        async with self.stores() as (_, seen):
            yield seen

    @asynccontextmanager
    async def _outbox(self) -> AsyncIterator[AirflowOutboxDAO]:
        async with self.stores() as (outbox, _):
            yield outbox

    async def _repair(self, row: DriftRow) -> Repair:
        try:
            action, reason = await self._try_repair(row)
        except Refused as error:
            action, reason = RepairAction.NONE, f"Airflow refuses it ({error.status_code})."
        log.info("airflow.repaired", record_id=row.record_id, problem=row.problem, action=action)
        return Repair.model_construct(**_shown(row), action=action, reason=reason)

    async def _try_repair(self, row: DriftRow) -> tuple[RepairAction, str | None]:
        if row.problem == "missing":
            return RepairAction.NONE, _MISSING
        dag = await self.airflow.dag(row.record_id)
        if dag is None:
            return RepairAction.NONE, _GONE
        if (action := _BY_STATUS.get(row.problem)) is not None:
            is_done = dag.is_paused == (action is RepairAction.PAUSED)
            return (action, None) if is_done else (RepairAction.NONE, _TRIED_AGAIN)
        await self.airflow.read_again(dag)
        return RepairAction.READ_AGAIN, None


def _shown(row: DriftRow) -> dict[str, Any]:
    return row._asdict() | {"name": row.name and mask_text(row.name)}
