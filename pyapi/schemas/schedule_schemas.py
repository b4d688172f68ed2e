"""Schedules on the wire: what follows from the rule of a record, previews, and the calendar of all records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from pyapi.schemas.fields import RequestBody, UtcTime

MOST_RUNS = 100
_ISO_TIME = {"type": "string", "format": "date-time"}


@dataclass(slots=True)
class RunTime:
    """A moment at which Airflow starts a run."""

    utc: Annotated[datetime, Field(examples=["2027-03-01T01:00:00Z"])]
    local: Annotated[
        datetime,
        Field(description="The same on the clock of the record's time zone.", examples=["2027-03-01T09:00:00+08:00"]),
    ]


class ScheduleFields(BaseModel):
    """What follows from `config` and `status`. Airflow schedules active records only."""

    schedule_description: str | None = Field(
        description="The schedule in words, in the language of `Accept-Language`; null when it is wrong.",
        examples=["每天 09:00"],
    )
    schedule_error: str | None = Field(
        description="Why Airflow does not get this record: its `config` was written past the API and is wrong.",
        examples=[None],
    )
    next_run_at: datetime | None = Field(
        description="The next run; null when none is to come.", examples=["2027-03-01T01:00:00Z"]
    )
    paused_until: datetime | None = Field(
        description="Until when the record is not scheduled; null when it is not paused.", examples=[None]
    )


ScheduleValue = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}],
            "description": "As in `config.schedule`: five cron fields, a preset, seconds (at least 60), or null.",
        }
    ),
]
TimeText = Annotated[
    Any, WithJsonSchema({"anyOf": [_ISO_TIME, {"type": "null"}], "description": "ISO 8601, as in `config`."})
]


class SchedulePreview(RequestBody):
    """A rule to look at, with the keys it has in `config`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"schedule": "30 2 * * *", "timezone": "Europe/Paris", "from": "2027-03-27T12:00:00Z", "count": 3},
                {"schedule": "0 9 * * 1-5", "timezone": "Asia/Taipei"},
                {"schedule": 900, "start_date": "2027-01-01T00:00:00+08:00"},
            ]
        }
    )

    schedule: ScheduleValue
    timezone: Annotated[
        Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "IANA name."})
    ] = "UTC"
    start_date: TimeText = None
    end_date: TimeText = None
    catchup: Annotated[Any, WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "null"}]})] = None
    paused_until: TimeText = None
    from_: UtcTime | None = Field(None, alias="from", description="Runs strictly after this; now when missing.")
    count: int = Field(5, ge=1, le=MOST_RUNS, description="How many runs to answer at most.")

    def config(self) -> dict[str, Any]:
        """The same as part of a record's config."""
        return self.model_dump(exclude={"from_", "count"})


class SchedulePreviewed(BaseModel):
    """What Airflow does with the rule."""

    description: str = Field(examples=["At 02:30"])
    next_runs: Sequence[RunTime]
    notes: Sequence[str] = Field(
        description="What changes of the clock do to these runs.",
        examples=[["02:30 does not exist on 2027-03-28 in Europe/Paris: runs at 03:30"]],
    )
    min_gap_seconds: float | None = Field(description="Between two of these runs; null for fewer than two.")
    max_gap_seconds: float | None


class Bucket(StrEnum):
    """How long a part of the calendar is."""

    HOUR = "hour"
    DAY = "day"


class CalendarParams(BaseModel):
    """Which part of the calendar, and how finely."""

    model_config = ConfigDict(extra="forbid")

    from_: UtcTime | None = Field(
        None, alias="from", description="Start of the first bucket; when missing, of this hour or (UTC) this day."
    )
    to: UtcTime | None = Field(
        None, description="7 days after `from` when missing; at most 31 days by hour, 62 by day."
    )
    bucket: Bucket = Bucket.HOUR
    window_minutes: int = Field(60, ge=1, le=10_080, description="Length of the maintenance window to look for.")


class CalendarBucket(BaseModel):
    """One part of the calendar."""

    start: datetime
    runs: int
    record_ids: list[int] = Field(description="The records that run in it, each once.")


class CalendarPeak(BaseModel):
    """The part with the most runs; the first of equals."""

    start: datetime
    runs: int


class CalendarWindow(BaseModel):
    """The time of the wanted length in which the fewest runs start; the earliest of equals."""

    start: datetime
    end: datetime
    runs: int


class CalendarRecord(BaseModel):
    """A record that runs in the calendar."""

    id: int
    name: str


class Calendar(BaseModel):
    """The future runs of all active records."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": "2027-03-01T00:00:00Z",
                    "to": "2027-03-01T02:00:00Z",
                    "bucket": "hour",
                    "runs": 5,
                    "buckets": [
                        {"start": "2027-03-01T00:00:00Z", "runs": 4, "record_ids": [7]},
                        {"start": "2027-03-01T01:00:00Z", "runs": 1, "record_ids": [8]},
                    ],
                    "busiest": {"start": "2027-03-01T00:00:00Z", "runs": 4},
                    "quietest": {"start": "2027-03-01T01:01:00Z", "end": "2027-03-01T01:31:00Z", "runs": 0},
                    "records": [{"id": 7, "name": "每 15 分鐘同步"}, {"id": 8, "name": "每日同步"}],
                    "not_foretold": [],
                    "wrong": [],
                }
            ]
        }
    )

    from_: datetime = Field(serialization_alias="from")
    to: datetime
    bucket: Bucket
    runs: int = Field(description="In all.")
    buckets: list[CalendarBucket]
    busiest: CalendarPeak | None
    quietest: CalendarWindow | None = Field(description="null when `window_minutes` is longer than the calendar.")
    records: list[CalendarRecord] = Field(description="All records that are named in `buckets`.")
    not_foretold: list[int] = Field(description="Records with `@continuous`: each run follows the one before.")
    wrong: list[int] = Field(description="Records whose `config` was written past the API and is wrong.")
