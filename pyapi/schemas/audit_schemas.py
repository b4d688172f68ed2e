"""The audit log, and the history of a record, on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pyapi.schemas.fields import Id, Limit, UtcTime

_NO_NUL = r"^[^\x00]*$"

Cursor = Annotated[str, Field(max_length=4096, description="`next_cursor` of the page before.")]
EventName = Annotated[str, StringConstraints(max_length=50, pattern=r"^[a-z]+([._][a-z]+)*$")]
CHANGES: Any = Field(description="null for events that change no fields.")


class AuditListParams(BaseModel):
    """Which events to list, newest first."""

    model_config = ConfigDict(extra="forbid")

    event: EventName | None = Field(None, examples=["login.failed"])
    actor_id: Id | None = Field(None, description="Who did it.")
    target_kind: EventName | None = Field(None, description="`record`, `user`, `airflow`, `route` or `audit`.")
    target_id: Annotated[str, StringConstraints(max_length=255, pattern=_NO_NUL)] | None = Field(
        None, description="What it was done to."
    )
    request_id: Annotated[str, StringConstraints(max_length=128, pattern=_NO_NUL)] | None = Field(
        None, description="`X-Request-ID` of the request."
    )
    from_: UtcTime | None = Field(None, alias="from", description="At this time or later.")
    to: UtcTime | None = Field(None, description="Before this time.")
    limit: Limit = 10
    cursor: Cursor | None = None


class AuditChange(BaseModel):
    """One field that was changed; credentials are shown as `***`, long values as `…`."""

    pointer: str = Field(description="Where, as RFC 6901 writes it.", examples=["/config/schedule"])
    before: Any = Field(description="null for what was added.", examples=["0 9 * * *"])
    after: Any = Field(description="null for what was removed.", examples=["0 6 * * *"])


class AuditRead(BaseModel):
    """One thing that somebody did, or was not let do."""

    id: int
    at: datetime
    event: str = Field(examples=["data.updated"])
    actor_id: int | None = Field(description="null for commands, and for people who were not signed in.")
    actor_name: str | None = Field(description="As it was then; `cli:` and a name for commands.", examples=["王小明"])
    target_kind: str | None = Field(examples=["record"])
    target_id: str | None = Field(examples=["7"])
    changes: Sequence[AuditChange] | None = CHANGES
    is_cut: bool = Field(description="The changes were too long to be kept as a whole.")
    details: dict[str, Any] | None = Field(description="What else belongs to the event.", examples=[{"revision": 2}])
    request_id: str | None
    address: str | None = Field(description="IP address of the client.", examples=["192.0.2.1"])
    user_agent: str | None


class AuditList(BaseModel):
    """A page of the audit log."""

    data: Sequence[AuditRead]
    next_cursor: str | None = Field(description="For the page behind this one; null on the last page.")


class HistoryParams(BaseModel):
    """Which saved states to list, newest first."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many to answer at most.")] = 10
    cursor: Cursor | None = None


class HistoryEntry(BaseModel):
    """One saved state of a record: who made it, and what differs from the one before."""

    revision: int
    kind: str = Field(description="created, updated or deleted.", examples=["updated"])
    changed_at: datetime
    changed_by: int | None = Field(description="null when the row was written by SQL.")
    changed_by_name: str = Field(description="`role:` and the PostgreSQL role when the row was written by SQL.")
    changes: Sequence[AuditChange] = Field(description="Empty for what was deleted: everything went.")
    is_cut: bool = Field(description="The changes are too long to be shown as a whole.")


class History(BaseModel):
    """A page of the history of a record."""

    data: Sequence[HistoryEntry]
    next_cursor: str | None = Field(description="For the page behind this one; null on the last page.")
