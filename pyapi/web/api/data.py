"""Routes of data records."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.convertors import StringConvertor, register_url_convertor

from pyapi.exceptions import BadRequest, InvalidToken, NotFound, PermissionDenied, PreconditionFailed
from pyapi.schemas.data_schemas import (
    DataCreate,
    DataDeleted,
    DataList,
    DataListParams,
    DataRead,
    DataSummary,
    DataTried,
    DataUpdate,
)
from pyapi.schemas.fields import MAX_ID
from pyapi.schemas.rendered import RenderedPage, RenderedRecord
from pyapi.utils.callers import OPTIONAL_SIGN_IN
from pyapi.utils.dependencies import Data, RecordReader
from pyapi.web.headers import ACCEPT_LANGUAGE, IF_MATCH, entity_tag, expected_revision, page_links
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(prefix="/data", tags=["資料管理 Data"], route_class=StrictRoute)


class IdConvertor(StringConvertor):
    """One step of a path, but not `validate`: that address knows none of the methods of a record."""

    regex = "(?!validate$)[^/]+"


register_url_convertor("data_id", IdConvertor())
ONE = "/{data_id:data_id}"
DataId = Annotated[int, Path(ge=1, le=MAX_ID)]
DryRun = Annotated[
    bool, Query(description="Store nothing: answer what the change would lead to, and which fields differ.")
]
ExpectedRevision = Annotated[int | None, Depends(expected_revision)]
READING = OPTIONAL_SIGN_IN | ACCEPT_LANGUAGE
CHANGING = {"parameters": [*IF_MATCH["parameters"], *ACCEPT_LANGUAGE["parameters"]]}
CHANGE_PROBLEMS = problem_responses([BadRequest, InvalidToken, PermissionDenied, NotFound, PreconditionFailed])


@router.post(
    "/",
    response_model=DataRead,
    status_code=201,
    responses=problem_responses([InvalidToken]),
    openapi_extra=ACCEPT_LANGUAGE,
)
@router.post("", response_model=DataRead, status_code=201, include_in_schema=False)
async def create_data(body: DataCreate, data: Data, request: Request, response: Response) -> RenderedRecord:
    """Create a record; you are its owner."""
    record = await data.create(body)
    response.headers["Location"] = request.scope.get("root_path", "") + f"/api/data/{record.id}"
    _tell_revision(response, record)
    return record


@router.get("/", response_model=DataList, responses=problem_responses([InvalidToken]), openapi_extra=READING)
@router.get("", response_model=DataList, include_in_schema=False)
async def list_data(
    params: Annotated[DataListParams, Query()], data: RecordReader, request: Request, response: Response
) -> RenderedPage:
    """List records. Without signing in, summaries only."""
    page = await data.page(params)
    response.headers["Link"] = page_links(request, page.page)
    return page


@router.get(
    ONE,
    response_model=DataRead | DataSummary,
    responses=problem_responses([InvalidToken, NotFound]),
    openapi_extra=READING,
)
async def get_data(data_id: DataId, data: RecordReader, response: Response) -> RenderedRecord:
    """Read a record. Without signing in, a summary only."""
    record = await data.get(data_id)
    _tell_revision(response, record)
    return record


@router.put(ONE, response_model=DataTried | DataRead, responses=CHANGE_PROBLEMS, openapi_extra=CHANGING)
async def update_data(
    data_id: DataId,
    body: DataUpdate,
    data: Data,
    expected: ExpectedRevision,
    response: Response,
    dry_run: DryRun = False,
) -> DataTried | RenderedRecord:
    """Change the fields that are sent; the others stay. With `dry_run` only show what would change."""
    if dry_run:
        tried, revision = await data.try_update(data_id, body, expected_revision=expected)
        response.headers["ETag"] = entity_tag(revision)
        return tried
    record = await data.update(data_id, body, expected_revision=expected)
    _tell_revision(response, record)
    return record


@router.patch(ONE, response_model=DataTried | DataRead, responses=CHANGE_PROBLEMS, openapi_extra=CHANGING)
async def patch_data(
    data_id: DataId,
    body: DataUpdate,
    data: Data,
    expected: ExpectedRevision,
    response: Response,
    dry_run: DryRun = False,
) -> DataTried | RenderedRecord:
    """Change the fields that are sent; the same as PUT."""
    return await update_data(data_id, body, data, expected, response, dry_run)


@router.delete(ONE, responses=CHANGE_PROBLEMS, openapi_extra=IF_MATCH)
async def delete_data(data_id: DataId, data: Data, expected: ExpectedRevision) -> DataDeleted:
    """Delete a record."""
    return await data.delete(data_id, expected_revision=expected)


def _tell_revision(response: Response, record: RenderedRecord) -> None:
    if record.revision is not None:
        response.headers["ETag"] = entity_tag(record.revision)
