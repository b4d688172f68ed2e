"""Makes DAGs of definitions. One that cannot be made becomes a DAG without schedule that says why; no other notices."""

from collections.abc import Iterable, MutableMapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, CronTriggerTimetable, DeltaTriggerTimetable, get_parsing_context

from pyapi.dag_conventions import INVALID_TAG, TAG, dag_id_of, describe_dag, record_id_of
from pyapi.schedules.rules import Kind
from pyapi_airflow import database
from pyapi_airflow.definitions import DagDefinition, define
from pyapi_airflow.settings import KitSettings
from pyapi_airflow.tasks import RecordOperator

_PARSE_PATIENCE_SECONDS = 15


def wanted_record() -> int | None:
    """The record whose DAG a task's process looks for; None in the DAG processor, which looks for all."""
    return record_id_of(get_parsing_context().dag_id or "")


def make_dags(namespace: MutableMapping[str, Any], lines: Iterable[str]) -> None:
    """Put the DAGs of a file's definitions into its namespace; of a task's process, only the one that it runs."""
    put_dags(namespace, map(DagDefinition.from_json, lines))


def make_dags_of_version(namespace: MutableMapping[str, Any], *, shard: int, size: int, version: int) -> None:
    """The same for records as they were at a change. A task's process reads its one record."""
    first, last = shard * size, shard * size + size - 1
    wanted = wanted_record()
    if wanted is not None:
        first = last = wanted
    # Airflow gives a file 30 seconds.
    settings = replace(KitSettings.load(), patience_seconds=_PARSE_PATIENCE_SECONDS)
    found = database.patiently(settings, partial(database.states, first=first, last=last, version=version))
    put_dags(namespace, (define(stored, web_url=settings.web_url) for stored in found))


def put_dags(namespace: MutableMapping[str, Any], definitions: Iterable[DagDefinition]) -> None:
    """Put the DAGs into a namespace, where Airflow finds them; of a task's process, only the one that it runs."""
    wanted = wanted_record()
    for definition in definitions:
        if wanted in {None, definition.record_id}:
            namespace[dag_id_of(definition.record_id)] = make_dag(definition)


def make_dag(definition: DagDefinition) -> DAG:
    """The DAG of a record. Never raises."""
    try:
        return _make_dag(definition)
    except Exception as error:  # noqa: BLE001  (whatever it is, the other DAGs of this file must not suffer)
        return _make_invalid(definition, f"Airflow cannot make a DAG of it ({type(error).__name__}).")


def _make_dag(definition: DagDefinition) -> DAG:
    if definition.error is not None:
        return _make_invalid(definition, definition.error)
    options: dict[str, Any] = {}
    if definition.max_active_runs is not None:
        options["max_active_runs"] = definition.max_active_runs
    with DAG(
        dag_id_of(definition.record_id),
        schedule=_schedule(definition),
        start_date=_moment(definition.start_date, definition.timezone),
        end_date=_moment(definition.end_date, definition.timezone),
        catchup=definition.catchup,
        default_args=_task_options(definition),
        tags=[TAG, *definition.tags],
        **_looks(definition, None),
        **options,
    ) as dag:
        RecordOperator(task_id="run", record_id=definition.record_id, revision=definition.revision)
    return dag


def _make_invalid(definition: DagDefinition, error: str) -> DAG:
    return DAG(dag_id_of(definition.record_id), schedule=None, tags=[TAG, INVALID_TAG], **_looks(definition, error))


def _looks(definition: DagDefinition, error: str | None) -> dict[str, Any]:
    return {
        "dag_display_name": definition.name or f"Record {definition.record_id}",
        "description": describe_dag(definition.description, revision=definition.revision),
        "doc_md": _doc(definition, error),
        "is_paused_upon_creation": False,
        "auto_register": False,
    }


def _schedule(definition: DagDefinition) -> Any:
    kind = Kind(definition.kind)
    if kind is Kind.CRON:
        return CronTriggerTimetable(definition.cron or "", timezone=definition.timezone)
    if kind is Kind.INTERVAL:
        return DeltaTriggerTimetable(timedelta(seconds=definition.interval_seconds or 0))
    return {Kind.ONCE: "@once", Kind.CONTINUOUS: "@continuous", Kind.MANUAL: None}[kind]


def _task_options(definition: DagDefinition) -> dict[str, Any]:
    options: dict[str, Any] = {"owner": definition.owner or TAG}
    if definition.retries is not None:
        options["retries"] = definition.retries
    if definition.retry_delay_seconds is not None:
        options["retry_delay"] = timedelta(seconds=definition.retry_delay_seconds)
    if definition.execution_timeout_seconds is not None:
        options["execution_timeout"] = timedelta(seconds=definition.execution_timeout_seconds)
    return options


def _doc(definition: DagDefinition, error: str | None) -> str:
    """A page in Markdown. Nothing in it varies from one reading to the next, or each would be a new version."""
    lines = [definition.description, f"Record {definition.record_id}, revision {definition.revision}"]
    if error is not None:
        lines.insert(0, f"**Not scheduled.** {error}")
    if definition.owner:
        lines.append(f"Owner: {definition.owner}")
    if definition.web_url:
        lines.append(f"[Open in PyAPI]({definition.web_url}/api/data/{definition.record_id})")
    return "\n\n".join(line for line in lines if line)


def _moment(text: str | None, zone: str) -> datetime | None:
    """The zone of the DAG follows from it."""
    return None if text is None else datetime.fromisoformat(text).astimezone(ZoneInfo(zone))
