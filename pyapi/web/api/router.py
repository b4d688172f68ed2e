"""All routes below /api."""

from typing import Final

from fastapi import APIRouter

from pyapi.exceptions import DatabaseUnavailable
from pyapi.web.api import access, airflow, audit, auth, data, etl, monitoring, runs, schedules, tokens
from pyapi.web.problems import problem_responses

_WITH_DATABASE: Final = (data.router, auth.router, tokens.router, access.router)
ROUTERS: Final = (
    *_WITH_DATABASE,
    *(schedules.router, etl.router, runs.router, airflow.router, audit.router, monitoring.router),
)
"""In the order in which they are tried: first, what is asked most."""

router = APIRouter(prefix="/api")
for each in ROUTERS:
    router.include_router(each, responses=problem_responses([DatabaseUnavailable]) if each in _WITH_DATABASE else None)
