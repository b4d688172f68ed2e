"""Routes of what a record moves: how to write it, and a record before it is saved."""

import hashlib
import json
from functools import cache
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from pyapi.etl.job_schema import job_schema
from pyapi.exceptions import (
    AirflowNotReady,
    AirflowUnavailable,
    Conflict,
    DatabaseUnavailable,
    InvalidToken,
    NotFound,
    PermissionDenied,
    Problem,
    RecordNotActive,
)
from pyapi.schemas.data_schemas import DataCreate
from pyapi.schemas.etl_schemas import DataChecked, DataStats, DataValidated
from pyapi.schemas.fields import MAX_ID
from pyapi.utils.dependencies import Checks, RunReader, Validator
from pyapi.web.headers import ACCEPT_LANGUAGE, IF_NONE_MATCH, is_unchanged
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(tags=["搬移 ETL"], route_class=StrictRoute)

DataId = Annotated[int, Path(ge=1, le=MAX_ID)]
CHECK_PROBLEMS: Final[list[type[Problem]]] = [
    InvalidToken,
    PermissionDenied,
    NotFound,
    Conflict,
    RecordNotActive,
    DatabaseUnavailable,
    AirflowUnavailable,
    AirflowNotReady,
]
JSON_SCHEMA: Final = "application/schema+json"
SCHEMA_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {JSON_SCHEMA: {"schema": {"type": "object"}}}, "description": "JSON Schema, draft 2020-12"},
    304: {"description": "It is what `If-None-Match` names."},
}


@router.get("/etl/schema", response_class=Response, responses=SCHEMA_ANSWERS, openapi_extra=IF_NONE_MATCH)
async def get_etl_schema(request: Request) -> Response:
    """Read the JSON Schema of a `config` that moves data: for editors, and for checks before anything is sent."""
    body, tag = _schema()
    headers = {"ETag": tag, "Cache-Control": "public, max-age=3600"}
    if is_unchanged(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=JSON_SCHEMA, headers=headers)


@router.post(
    "/data/validate",
    responses=problem_responses([InvalidToken, DatabaseUnavailable]),
    openapi_extra=ACCEPT_LANGUAGE,
)
async def validate_data(body: DataCreate, validator: Validator) -> DataValidated:
    """Check a record as if it were created, and show what would be moved and when. Nothing is stored."""
    return validator.validate(body)


@router.post(
    "/data/{data_id}/check",
    responses=problem_responses(CHECK_PROBLEMS)
    | {202: {"model": DataChecked, "description": "It takes longer; `Location` is its run."}},
)
async def check_data(data_id: DataId, checks: Checks, request: Request, response: Response) -> DataChecked:
    """Look, in Airflow, whether source and target can be reached and are as the record says. Nothing is moved."""
    checked = await checks.check(data_id)
    if checked.ok is None:
        response.status_code = 202
        root = request.scope.get("root_path", "")
        response.headers["Location"] = f"{root}/api/data/{data_id}/runs/{checked.run_id}"
    return checked


@router.get("/data/{data_id}/stats", responses=problem_responses([InvalidToken, NotFound, DatabaseUnavailable]))
async def get_data_stats(data_id: DataId, runs: RunReader) -> DataStats:
    """Read the newest 30 runs that have ended, in numbers: how long they took and how much they moved."""
    return await runs.stats(data_id)


@cache
def _schema() -> tuple[bytes, str]:
    """It only changes with the program."""
    body = json.dumps(job_schema(), ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
