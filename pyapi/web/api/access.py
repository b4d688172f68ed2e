"""Routes that say who may see and change a record."""

from typing import Annotated

from fastapi import APIRouter, Path

from pyapi.exceptions import InvalidToken, NotFound, PermissionDenied
from pyapi.schemas.access_schemas import AccessRead, AccessWrite
from pyapi.schemas.fields import MAX_ID
from pyapi.utils.dependencies import Access, AccessReader
from pyapi.web.problems import problem_responses
from pyapi.web.requests import StrictRoute

router = APIRouter(prefix="/data/{data_id}/access", tags=["資料管理 Data"], route_class=StrictRoute)

DataId = Annotated[int, Path(ge=1, le=MAX_ID)]
PROBLEMS = problem_responses([InvalidToken, PermissionDenied, NotFound])


@router.get("", responses=PROBLEMS)
async def get_access(data_id: DataId, access: AccessReader) -> AccessRead:
    """Read who may see and change a record (its owner, and admins)."""
    return await access.get(data_id)


@router.put("", responses=PROBLEMS)
async def set_access(data_id: DataId, body: AccessWrite, access: Access) -> AccessRead:
    """Say who may see and change a record: its visibility, and all it is shared with (its owner, and admins)."""
    return await access.replace(data_id, body)
