"""Routes of the link to Airflow."""

from fastapi import APIRouter

from pyapi.exceptions import AirflowUnavailable, DatabaseUnavailable, InvalidToken, PermissionDenied, Problem
from pyapi.schemas.airflow_schemas import LinkStatus, Reconciled
from pyapi.utils.dependencies import AirflowLinkAdmin
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(prefix="/airflow", tags=["執行 Runs"], route_class=StrictRoute)

PROBLEMS: list[type[Problem]] = [InvalidToken, PermissionDenied, DatabaseUnavailable]


@router.get("", responses=problem_responses(PROBLEMS))
async def get_airflow(link: AirflowLinkAdmin) -> LinkStatus:
    """Say how the link to Airflow is: its components, what waits to be delivered, and which records differ there."""
    return await link.status()


@router.post("/reconcile", responses=problem_responses([*PROBLEMS, AirflowUnavailable]))
async def reconcile_airflow(link: AirflowLinkAdmin) -> Reconciled:
    """Compare all records with their DAGs now, repair what can be repaired, and say what was done."""
    return await link.reconcile()
