"""Which records have runs that Airflow has not finished; asked with Airflow's own models, inside its DAG processor."""

from collections.abc import Collection

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import select

from pyapi_airflow.dags import dag_id_of

_UNFINISHED = (DagRunState.QUEUED, DagRunState.RUNNING)


def in_flight(record_ids: Collection[int]) -> set[int]:
    """Those of the records whose DAG has a queued or running run: one that turns stale now would never end."""
    names = {dag_id_of(record_id): record_id for record_id in record_ids}
    unfinished = select(DagRun.dag_id).where(DagRun.dag_id.in_(names), DagRun.state.in_(_UNFINISHED)).distinct()
    with create_session() as session:
        return {names[dag_id] for dag_id in session.scalars(unfinished)}
