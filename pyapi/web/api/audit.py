"""Routes of what people did: the audit log, and the history of a record."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from pyapi.exceptions import DatabaseUnavailable, InvalidToken, NotFound, PermissionDenied
from pyapi.schemas.audit_schemas import AuditList, AuditListParams, History, HistoryParams
from pyapi.schemas.fields import MAX_ID
from pyapi.utils.dependencies import Audit, Histories
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(tags=["稽核 Audit"], route_class=StrictRoute)

DataId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("/audit", responses=problem_responses([InvalidToken, PermissionDenied, DatabaseUnavailable]))
async def list_audit(params: Annotated[AuditListParams, Query()], audit: Audit) -> AuditList:
    """List who did what, newest first (superusers only)."""
    return await audit.page(params)


@router.get("/data/{data_id}/history", responses=problem_responses([InvalidToken, NotFound, DatabaseUnavailable]))
async def get_data_history(data_id: DataId, params: Annotated[HistoryParams, Query()], histories: Histories) -> History:
    """Read who changed a record, when and what, newest first; also what was changed by SQL."""
    return await histories.page(data_id, params)
