"""All routes below /api."""

from fastapi import APIRouter

from pyapi.exceptions import DatabaseUnavailable
from pyapi.web.api import access, airflow, audit, auth, data, etl, monitoring, runs, schedules, tokens
from pyapi.web.problems import problem_responses

router = APIRouter(prefix="/api")
# First, what is asked most: FastAPI tries the routes one after the other, twice at each level.
router.include_router(data.router, responses=problem_responses([DatabaseUnavailable]))
router.include_router(auth.router, responses=problem_responses([DatabaseUnavailable]))
router.include_router(tokens.router, responses=problem_responses([DatabaseUnavailable]))
router.include_router(access.router, responses=problem_responses([DatabaseUnavailable]))
router.include_router(schedules.router)
router.include_router(etl.router)
router.include_router(runs.router)
router.include_router(airflow.router)
router.include_router(audit.router)
router.include_router(monitoring.router)
