"""Data records on the wire."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from pyapi.enums import RecordStatus, Visibility
from pyapi.schemas.access_schemas import VISIBILITY
from pyapi.schemas.deployment_schemas import DeploymentFields
from pyapi.schemas.fields import (
    SHOWN_TO_ALL,
    Config,
    Id,
    Limit,
    Name,
    RequestBody,
    SearchWords,
    Skip,
    Text,
    UtcTime,
)
from pyapi.schemas.schedule_schemas import RunTime, ScheduleFields

SORTABLE = ("id", "name", "status", "created_at", "updated_at", "next_run_at")
DEFAULT_ORDER = "-created_at"
_ORDER_PATTERN = "^-?({names})(,-?({names})){{0,4}}$".format(names="|".join(SORTABLE))

_EXAMPLE_CONFIG: JsonDict = {
    "source": "postgresql://etl@warehouse:5432/sales",
    "target": "s3://data-lake/sales/",
    "schedule": "0 9 * * *",
    "batch_size": 1000,
    "retry_count": 3,
}


NEXT_RUNS: Any = Field(description="The next five runs.")


def _known_order(text: str) -> str:
    if not re.fullmatch(_ORDER_PATTERN, text):
        raise ValueError(
            f"write one to five of {', '.join(SORTABLE)}, separated by commas, '-' before one for descending"
        )
    return text


OrderBy = Annotated[
    str,
    AfterValidator(_known_order),
    Field(
        description=f"Fields to sort by, `-` before one for descending: {', '.join(SORTABLE)}.",
        examples=["-created_at,name"],
        json_schema_extra={"pattern": _ORDER_PATTERN},
    ),
]

ShownName = Annotated[Name, SHOWN_TO_ALL]
ShownText = Annotated[Text, SHOWN_TO_ALL]


class DataCreate(RequestBody):
    """A new data record."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "ETL 資料處理任務",
                    "description": "每日資料同步處理",
                    "config": _EXAMPLE_CONFIG,
                    "status": "active",
                }
            ]
        }
    )

    name: ShownName
    description: ShownText | None = None
    config: Config | None = None
    status: RecordStatus = RecordStatus.ACTIVE
    visibility: Visibility | MISSING = Field(MISSING, description=f"{VISIBILITY} PYAPI_DEFAULT_VISIBILITY by default.")


class DataUpdate(RequestBody):
    """Changes to a data record; fields that are not sent stay. `config` is replaced as a whole."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"description": "更新後的描述", "status": "inactive"}]})

    name: ShownName | MISSING = MISSING
    description: ShownText | None | MISSING = MISSING
    config: Config | None | MISSING = MISSING
    status: RecordStatus | MISSING = MISSING
    visibility: Visibility | MISSING = Field(MISSING, description=f"{VISIBILITY} Only its owner changes it.")

    def changes(self) -> dict[str, Any]:
        """Only what was sent."""
        return {field: getattr(self, field) for field in self.model_fields_set}


class DataListParams(BaseModel):
    """Which records to list, and how."""

    model_config = ConfigDict(extra="forbid")

    skip: Skip = 0
    limit: Limit = 10
    status: RecordStatus | None = None
    visibility: Visibility | None = None
    q: SearchWords | None = Field(None, description="Part of the name or of the description.")
    owner_id: Id | None = Field(None, description="Creator of the record; for signed-in callers.")
    created_after: UtcTime | None = None
    created_before: UtcTime | None = None
    updated_after: UtcTime | None = None
    updated_before: UtcTime | None = None
    next_run_after: UtcTime | None = Field(None, description="Records that run next after this time.")
    next_run_before: UtcTime | None = Field(None, description="Records that run next before this time.")
    order_by: OrderBy = DEFAULT_ORDER
    cursor: str | None = Field(
        None, max_length=4096, description="`next_cursor` of the page before; cheap however deep the list."
    )
    include_total: bool = Field(True, description="false leaves out the total.")


class SummaryFields(BaseModel):
    """What a summary has of a record."""

    id: int
    name: str
    description: str | None
    status: str
    schedule: str | int | float | None = Field(description="`config.schedule`, when it is a text or a number.")
    created_at: datetime
    updated_at: datetime


class DataSummaryItem(ScheduleFields, SummaryFields):
    """What callers see in lists who are not signed in."""


class DataSummary(DataSummaryItem):
    """What callers see who are not signed in."""

    next_runs: Sequence[RunTime] = NEXT_RUNS


class RecordFields(BaseModel):
    """A record as it is stored."""

    id: int
    name: str
    description: str | None
    config: Any = Field(description="The job; credentials are masked.", examples=[_EXAMPLE_CONFIG])
    status: str
    owner_id: int | None
    visibility: str = Field(description=VISIBILITY)
    revision: int = Field(description="Counts the saved states of this record, from 1.")
    created_at: datetime
    updated_at: datetime


class DataItem(DeploymentFields, ScheduleFields, RecordFields):
    """What signed-in callers see in lists. Credentials inside `config` are shown as `***`."""


class DataRead(DataItem):
    """What signed-in callers see. Credentials inside `config` are shown as `***`."""

    next_runs: Sequence[RunTime] = NEXT_RUNS


class FieldChange(BaseModel):
    """One difference between what is stored and what would be; credentials are shown as `***`."""

    op: Literal["add", "remove", "replace"]
    pointer: str = Field(description="Where, as RFC 6901 writes it.", examples=["/config/schedule"])
    before: Any = Field(description="null for what is added.", examples=["0 9 * * *"])
    after: Any = Field(description="null for what is removed.", examples=["0 6 * * *"])


class DataTried(DataRead):
    """The record as a change would leave it. Nothing was stored: `revision` and `updated_at` are not taken yet."""

    changes: Sequence[FieldChange]
    next_runs_before: Sequence[RunTime] = Field(description="The next five runs as the record is stored.")
    next_runs_after: Sequence[RunTime] = Field(description="The next five runs after the change.")


class DataList(BaseModel):
    """A page of records."""

    data: Sequence[DataItem] | Sequence[DataSummaryItem]
    total: int | None = Field(description="How many match in all; null when `include_total` is false.")
    total_is_exact: bool | None = Field(
        description="false: at least `total` match. Exact unless `q` or times are filters and more than 1000 match."
    )
    skip: int
    limit: int
    next_cursor: str | None = Field(description="For the page behind this one; null on the last page.")


class DataDeleted(BaseModel):
    """What was deleted."""

    message: str
    deleted_id: int
