"""What people see of a record's DAG: whether Airflow does what the record says, and how its last run went."""

from datetime import datetime, timedelta
from typing import Any, Final

from pyapi.db.dao import RecordRow
from pyapi.enums import RecordStatus
from pyapi.schemas.deployment_schemas import Deployment, DeploymentState, LastRun

UPDATING_FOR: Final = timedelta(seconds=30)
"""A change is in force after a second or two; after so long something is wrong."""

SILENT_FOR: Final = timedelta(seconds=30)
"""Nobody has asked Airflow for so long: what is known of it is too old to be told."""

_REASONS: Final = {
    "updating": "The record changed a moment ago; Airflow is about to read it.",
    "paused": "The DAG is paused in Airflow. Unpause it there, or set the status to inactive and to active again.",
    "missing": "Airflow has no DAG of this record: check its DAG processor and the bundle, or reconcile.",
    "outdated": "Airflow has an older revision: check its DAG processor and the bundle, or reconcile.",
    "scheduled": "Airflow still has a schedule for it: check its DAG processor and the bundle, or reconcile.",
    "silent": "Airflow was not asked for a while: no worker of PyAPI keeps the link.",
}


def deployment_fields(row: RecordRow, *, error: str | None, now: datetime, is_linked: bool) -> dict[str, Any]:
    """The fields of `DeploymentFields`; `error` is why no schedule can be made of the record."""
    if not is_linked:
        return {"last_run": None, "airflow": None}
    return {"last_run": last_run(row, now=now), "airflow": deployment(row, error=error, now=now)}


def deployment(row: RecordRow, *, error: str | None, now: datetime) -> Deployment:
    """Whether Airflow does what the record says."""
    link, dag = row.seen_in_airflow["link"], row.seen_in_airflow["dag"]
    if lost := _lost(link, now=now):
        return lost
    if row.status != RecordStatus.ACTIVE:
        return _of_inactive(row, dag, now=now)
    if error is not None:
        return _made(DeploymentState.INVALID, row.updated_at, error)
    return _of_active(row, dag, now=now)


def _lost(link: dict[str, Any] | None, *, now: datetime) -> Deployment | None:
    failing_since = _moment(link, "failing_since")
    if link is not None and failing_since is not None:
        return _made(DeploymentState.UNREACHABLE, failing_since, link["reason"])
    reached_at = _moment(link, "reached_at")
    if reached_at is None or reached_at < now - SILENT_FOR:
        return _made(DeploymentState.UNREACHABLE, reached_at, _REASONS["silent"])
    return None


def _of_active(row: RecordRow, dag: dict[str, Any] | None, *, now: datetime) -> Deployment:
    if dag is None or dag["is_stale"]:
        return _not_there_yet(row, DeploymentState.MISSING, "missing", now=now)
    since = _moment(dag, "since")
    if dag["import_error"] is not None:
        return _made(DeploymentState.IMPORT_ERROR, since, dag["import_error"])
    if dag["revision"] != row.revision:
        return _not_there_yet(row, DeploymentState.UPDATING, "outdated", now=now)
    if dag["is_invalid"]:
        return _made(DeploymentState.INVALID, since, "Airflow cannot make a schedule of it; its page there says why.")
    if dag["is_paused"]:
        return _made(DeploymentState.PAUSED, since, _REASONS["paused"])
    return _made(DeploymentState.LIVE, since, None)


def _of_inactive(row: RecordRow, dag: dict[str, Any] | None, *, now: datetime) -> Deployment:
    if dag is not None and dag["is_scheduled"] and not dag["is_stale"] and not dag["is_paused"]:
        return _not_there_yet(row, DeploymentState.UPDATING, "scheduled", now=now)
    return _made(DeploymentState.OFF, row.updated_at, None)


def _not_there_yet(row: RecordRow, state: DeploymentState, problem: str, *, now: datetime) -> Deployment:
    if row.updated_at > now - UPDATING_FOR:
        return _made(DeploymentState.UPDATING, row.updated_at, _REASONS["updating"])
    return _made(state, row.updated_at, _REASONS[problem])


def _made(state: DeploymentState, since: datetime | None, reason: str | None) -> Deployment:
    return Deployment.model_construct(state=state, since=since, reason=reason)


def last_run(row: RecordRow, *, now: datetime) -> LastRun | None:
    """The run that began last, as it was seen seconds ago."""
    run = row.seen_in_airflow["run"]
    if run is None:
        return None
    start, end = _moment(run, "start_date"), _moment(run, "end_date")
    return LastRun.model_construct(
        run_id=run["run_id"],
        state=run["state"],
        run_type=run["run_type"],
        start_date=start,
        end_date=end,
        duration_seconds=None if start is None else max(0.0, ((end or now) - start).total_seconds()),
    )


def _moment(row: dict[str, Any] | None, column: str) -> datetime | None:
    """A time as `to_jsonb` writes it."""
    text = None if row is None else row[column]
    return None if text is None else datetime.fromisoformat(text)
