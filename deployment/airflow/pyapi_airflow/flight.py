"""Which records Airflow has not finished with; asked with Airflow's own models, inside its DAG processor."""

from collections.abc import Collection

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import select, union

from pyapi.dag_conventions import dag_id_of

_UNFINISHED = (DagRunState.QUEUED, DagRunState.RUNNING)


def in_flight(record_ids: Collection[int]) -> set[int]:
    """Those of the records whose DAG must not go yet.

    It has a queued or running run, which would never end; or Airflow has not taken the schedule away so far, and would
    go on with it for the minutes until it notices that the DAG is gone.
    """
    names = {dag_id_of(record_id): record_id for record_id in record_ids}
    running = select(DagRun.dag_id).where(DagRun.dag_id.in_(names), DagRun.state.in_(_UNFINISHED))
    scheduled = select(DagModel.dag_id).where(
        DagModel.dag_id.in_(names), DagModel.is_stale.is_(False), DagModel.next_dagrun_create_after.is_not(None)
    )
    with create_session() as session:
        return {names[dag_id] for dag_id in session.scalars(union(running, scheduled))}
