"""Routes of runs: start, watch, end and repeat what Airflow runs for a record."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from pyapi.exceptions import (
    AirflowNotReady,
    AirflowUnavailable,
    BackfillConflict,
    BadRequest,
    DatabaseUnavailable,
    InvalidToken,
    NotFound,
    PermissionDenied,
    Problem,
    RecordNotActive,
    RunEnded,
    RunNotEnded,
)
from pyapi.schemas.fields import MAX_ID
from pyapi.schemas.run_schemas import (
    BackfillCreate,
    BackfillList,
    BackfillListParams,
    BackfillRead,
    BackfillTried,
    RecordRunList,
    RunDetail,
    RunList,
    RunListParams,
    RunRead,
    RunRetry,
    RunStart,
)
from pyapi.services.run_log import as_line
from pyapi.utils.dependencies import BackfillReader, Backfills, RunReader, Runs
from pyapi.web.headers import IDEMPOTENCY_KEY, idempotency_key
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(tags=["執行 Runs"], route_class=StrictRoute)

NDJSON = "application/x-ndjson"

DataId = Annotated[int, Path(ge=1, le=MAX_ID)]
# What Airflow lets a run be called; not beginning with a dot, so that it is never a step of a path.
RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.~:+\-]{0,249}$")]
BackfillId = Annotated[int, Path(ge=1, le=MAX_ID)]
Key = Annotated[str | None, Depends(idempotency_key)]
READING: list[type[Problem]] = [InvalidToken, NotFound, DatabaseUnavailable, AirflowUnavailable]
CHANGING: list[type[Problem]] = [*READING, PermissionDenied]


@router.get("/runs", responses=problem_responses([InvalidToken, DatabaseUnavailable, AirflowUnavailable]))
async def list_all_runs(params: Annotated[RunListParams, Query()], runs: RunReader) -> RecordRunList:
    """List the runs of all records, newest first."""
    return await runs.page_of_all(params)


@router.post(
    "/data/{data_id}/runs",
    status_code=201,
    responses=problem_responses([BadRequest, *CHANGING, RecordNotActive, AirflowNotReady])
    | {200: {"model": RunRead, "description": "The run that this Idempotency-Key has started before"}},
    openapi_extra=IDEMPOTENCY_KEY,
)
async def start_run(data_id: DataId, body: RunStart, runs: Runs, key: Key, response: Response) -> RunRead:
    """Start a run with the newest revision. With an `Idempotency-Key` it can be repeated safely."""
    run, is_new = await runs.start(data_id, body, key=key)
    response.status_code = 201 if is_new else 200
    return run


@router.get("/data/{data_id}/runs", responses=problem_responses(READING))
async def list_runs(data_id: DataId, params: Annotated[RunListParams, Query()], runs: RunReader) -> RunList:
    """List the runs of a record, newest first."""
    return await runs.page(data_id, params)


@router.get("/data/{data_id}/runs/{run_id}", responses=problem_responses(READING))
async def get_run(data_id: DataId, run_id: RunId, runs: RunReader) -> RunDetail:
    """Read a run, with its tasks and their tries."""
    return await runs.get(data_id, run_id)


async def run_log(
    data_id: DataId,
    run_id: RunId,
    runs: RunReader,
    task: Annotated[
        str, Query(max_length=250, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$", description="Task of the run.")
    ] = "run",
    try_number: Annotated[int | None, Query(alias="try", ge=1, le=1000, description="The newest by default.")] = None,
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The entries of a log, open until the answer has been sent."""
    async with runs.log(data_id, run_id, task_id=task, try_number=try_number) as entries:
        yield entries


@router.get(
    "/data/{data_id}/runs/{run_id}/logs",
    response_class=StreamingResponse,
    responses=problem_responses(READING)
    | {
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}}, NDJSON: {"schema": {"type": "string"}}},
            "description": "Lines of text or, with `Accept: application/x-ndjson`, a JSON object each.",
        }
    },
)
async def get_run_log(
    request: Request, entries: Annotated[AsyncIterator[dict[str, Any]], Depends(run_log)]
) -> StreamingResponse:
    """Read what a task has said, while it is read from Airflow. Credentials are masked."""
    wants_json = NDJSON in request.headers.get("accept", "")

    async def lines() -> AsyncIterator[str]:
        async for entry in entries:
            yield (json.dumps(entry, ensure_ascii=False) if wants_json else as_line(entry)) + "\n"

    return StreamingResponse(lines(), media_type=NDJSON if wants_json else "text/plain")


@router.post("/data/{data_id}/runs/{run_id}/cancel", responses=problem_responses([*CHANGING, RunEnded]))
async def cancel_run(data_id: DataId, run_id: RunId, runs: Runs) -> RunRead:
    """End a run; it fails."""
    return await runs.cancel(data_id, run_id)


@router.post(
    "/data/{data_id}/runs/{run_id}/retry",
    responses=problem_responses([*CHANGING, RecordNotActive, RunNotEnded, AirflowNotReady]),
)
async def retry_run(data_id: DataId, run_id: RunId, runs: Runs, body: RunRetry | None = None) -> RunRead:
    """Run all tasks of a run again, as they were; with `latest` as the newest revision has them."""
    return await runs.retry(data_id, run_id, body or RunRetry())


@router.post(
    "/data/{data_id}/backfills",
    status_code=201,
    responses=problem_responses([*CHANGING, RecordNotActive, BackfillConflict, AirflowNotReady])
    | {200: {"model": BackfillTried, "description": "With `dry_run`: what it would make up for"}},
)
async def create_backfill(
    data_id: DataId,
    body: BackfillCreate,
    backfills: Backfills,
    response: Response,
    dry_run: Annotated[bool, Query(description="Start nothing: answer which times would run.")] = False,
) -> BackfillRead | BackfillTried:
    """Make up for runs of the past; Airflow makes one backfill of a record at a time."""
    if dry_run:
        response.status_code = 200
        return await backfills.try_create(data_id, body)
    return await backfills.create(data_id, body)


@router.get("/data/{data_id}/backfills", responses=problem_responses(READING))
async def list_backfills(
    data_id: DataId, params: Annotated[BackfillListParams, Query()], backfills: BackfillReader
) -> BackfillList:
    """List the backfills of a record, newest first."""
    return await backfills.page(data_id, params)


@router.post(
    "/data/{data_id}/backfills/{backfill_id}/cancel", responses=problem_responses([*CHANGING, BackfillConflict])
)
async def cancel_backfill(data_id: DataId, backfill_id: BackfillId, backfills: Backfills) -> BackfillRead:
    """Start no more runs of a backfill; those that run go on."""
    return await backfills.cancel(data_id, backfill_id)
