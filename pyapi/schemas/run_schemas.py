"""Runs and backfills on the wire."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pyapi.schemas.etl_schemas import CheckResult, RunResult
from pyapi.schemas.fields import SHOWN_TO_ALL, Config, RequestBody, Skip, UtcTime

MOST_RUNS_OF_PAGE = 100
MOST_BACKFILL_RUNS = 100

Note = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$"), SHOWN_TO_ALL]
RunLimit = Annotated[int, Field(ge=1, le=MOST_RUNS_OF_PAGE, description="How many to answer at most.")]


class RunState(StrEnum):
    """How a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class RunType(StrEnum):
    """Why a run began."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    BACKFILL = "backfill"


class RunStart(RequestBody):
    """A run to start by hand."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"conf": {"day": "2027-03-01"}, "note": "補跑"}]})

    conf: Config | None = Field(None, description="For the task: `dag_run.conf` in Airflow, stored there as it is.")
    note: Note | None = Field(None, description="Shown beside the run, here and in Airflow.")


class RunRetry(RequestBody):
    """How to run again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"latest": True}]})

    latest: bool = Field(
        False, strict=True, description="With the newest revision instead of the one that the run had."
    )


class RunListParams(BaseModel):
    """Which runs to list, newest first."""

    model_config = ConfigDict(extra="forbid")

    state: RunState | None = None
    type: RunType | None = Field(None, description="Why the runs began.")
    from_: UtcTime | None = Field(None, alias="from", description="Runs that were due at this time or later.")
    to: UtcTime | None = Field(None, description="Runs that were due at this time or before.")
    limit: RunLimit = 10
    cursor: str | None = Field(None, max_length=4096, description="`next_cursor` of the page before.")


class RunRead(BaseModel):
    """A run of a record."""

    run_id: str = Field(examples=["scheduled__2027-03-01T01:00:00+00:00"])
    state: str = Field(description="queued, running, success or failed.", examples=["success"])
    run_type: str = Field(examples=["scheduled"])
    logical_date: datetime | None = Field(description="The time of the schedule; null for runs started by hand.")
    run_after: datetime = Field(description="When it was due.")
    start_date: datetime | None
    end_date: datetime | None
    duration_seconds: float | None
    conf: Any = Field(description="What it was started with; credentials are masked.", examples=[{}])
    note: str | None
    revision: int | None = Field(description="Of the record, when the run was created; null when nobody knows.")


class RunList(BaseModel):
    """A page of the runs of a record."""

    data: Sequence[RunRead]
    next_cursor: str | None = Field(description="For the page behind this one; null on the last page.")


class RecordRun(RunRead):
    """A run of some record."""

    record_id: int
    record_name: str | None = Field(description="null when the record was deleted.")


class RecordRunList(BaseModel):
    """A page of the runs of all records."""

    data: Sequence[RecordRun]
    next_cursor: str | None = Field(description="For the page behind this one; null on the last page.")


class TryRead(BaseModel):
    """One try of a task."""

    try_number: int
    state: str | None = Field(description="null before it was scheduled.", examples=["failed"])
    start_date: datetime | None
    end_date: datetime | None
    duration_seconds: float | None
    hostname: str | None = Field(description="The machine it ran on.")


class TaskRead(BaseModel):
    """A task of a run; a record has one, `run`."""

    task_id: str
    state: str | None
    max_tries: int
    tries: Sequence[TryRead] = Field(description="Oldest first.")


class RunDetail(RunRead):
    """A run with its tasks, and what it has told."""

    tasks: Sequence[TaskRead]
    result: RunResult | CheckResult | None = Field(
        description="What it has moved; of a check, what it has found; null for a run that has told nothing."
    )


class ReprocessBehavior(StrEnum):
    """What becomes of runs that are there already."""

    NONE = "none"  # they stay
    FAILED = "failed"  # those that failed run again
    COMPLETED = "completed"  # all run again


class BackfillCreate(RequestBody):
    """Runs of the past to make up for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"from": "2026-01-01T00:00:00Z", "to": "2026-01-31T23:59:59Z"}]}
    )

    from_: UtcTime = Field(alias="from", description="First time of the schedule.")
    to: UtcTime = Field(description="Last time of the schedule, inclusive.")
    reprocess: ReprocessBehavior = Field(ReprocessBehavior.NONE, description="Runs that are there already.")
    max_active_runs: int = Field(1, ge=1, le=MOST_BACKFILL_RUNS, strict=True, description="Runs side by side.")
    run_backwards: bool = Field(False, strict=True, description="Newest first.")

    @model_validator(mode="after")
    def _in_order(self) -> "BackfillCreate":
        if self.to < self.from_:
            raise ValueError("`to` must not be before `from`")
        return self


class BackfillListParams(BaseModel):
    """Which backfills to list, newest first."""

    model_config = ConfigDict(extra="forbid")

    skip: Skip = 0
    limit: RunLimit = 10


class BackfillRead(BaseModel):
    """A backfill of a record."""

    backfill_id: int
    from_date: datetime
    to_date: datetime
    reprocess: str
    max_active_runs: int
    created_at: datetime
    completed_at: datetime | None = Field(description="null while it is at work; the time of its end or of the cancel.")


class BackfillTried(BaseModel):
    """What a backfill would make up for. Nothing was started."""

    logical_dates: Sequence[datetime] = Field(description="The times of the schedule that would run.")


class BackfillList(BaseModel):
    """A page of backfills."""

    data: Sequence[BackfillRead]
    total: int
    skip: int
    limit: int
