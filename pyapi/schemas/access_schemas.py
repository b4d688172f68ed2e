"""Who may see and change a record, on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import MISSING, BaseModel, ConfigDict, Field

from pyapi.enums import Permission, Visibility
from pyapi.schemas.auth_schemas import Username
from pyapi.schemas.fields import RequestBody

MOST_GRANTS = 100
VISIBILITY = "Who may see it: public (without signing in, a summary), internal (signed in), private (owner, granted)."


class GrantWrite(BaseModel):
    """Whom to share a record with."""

    model_config = ConfigDict(extra="forbid")

    username: Username
    permission: Permission = Field(description="read: see it and its runs; write: change and run it as well.")


class AccessWrite(RequestBody):
    """Who may see and change a record: the grants are replaced as a whole."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"visibility": "private", "grants": [{"username": "johndoe", "permission": "write"}]}]
        }
    )

    visibility: Visibility | MISSING = Field(MISSING, description=f"{VISIBILITY} Stays when it is not sent.")
    grants: Annotated[list[GrantWrite], Field(max_length=MOST_GRANTS)]


class GrantRead(BaseModel):
    """Somebody a record is shared with."""

    user_id: int
    username: str
    permission: Permission
    granted_at: datetime
    granted_by: str | None = Field(description="null when that account is gone.")


class AccessRead(BaseModel):
    """Who may see and change a record. Admins may, always."""

    visibility: Visibility = Field(description=VISIBILITY)
    owner: str | None = Field(description="null when that account is gone: then only admins change it.")
    revision: int = Field(description="Of the record: another visibility is a change of it, a grant is none.")
    grants: Sequence[GrantRead]
