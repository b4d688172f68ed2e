"""Routes of schedules: a rule before it is saved, and the runs of all records."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from pyapi.exceptions import DatabaseUnavailable, InvalidToken
from pyapi.schemas.schedule_schemas import Calendar, CalendarParams, SchedulePreview, SchedulePreviewed
from pyapi.utils.callers import OPTIONAL_SIGN_IN
from pyapi.utils.dependencies import Previewer, RunCalendar
from pyapi.web.headers import ACCEPT_LANGUAGE
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(prefix="/schedules", tags=["排程 Schedules"], route_class=StrictRoute)


@router.post("/preview", openapi_extra=ACCEPT_LANGUAGE)
async def preview_schedule(body: SchedulePreview, previewer: Previewer) -> SchedulePreviewed:
    """Show what Airflow would do with a rule: in words, its next runs, and what changes of the clock do to them."""
    return previewer.preview(body)


@router.get(
    "/calendar",
    response_model=Calendar,
    responses=problem_responses([InvalidToken, DatabaseUnavailable]),
    openapi_extra=OPTIONAL_SIGN_IN,
)
async def get_calendar(params: Annotated[CalendarParams, Query()], calendar: RunCalendar) -> Response:
    """Count the future runs of all active records: how many and which, the busiest time, and the quietest."""
    return Response(await calendar.calendar_json(params), media_type="application/json")
