"""What Airflow answers, as far as PyAPI needs it: frozen values, read from the JSON of its REST API."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pyapi.dag_conventions import INVALID_TAG, record_id_of, revision_in


def _number_in(version: str | None) -> int | None:
    return int(version) if version is not None and version.isdecimal() else None


def _names(tags: list[Mapping[str, Any]]) -> list[Any]:
    return [tag.get("name") for tag in tags]


Count = Annotated[int, Field(ge=0, lt=2**63)]
RecordId = Annotated[int | None, BeforeValidator(record_id_of)]
Revision = Annotated[int | None, BeforeValidator(revision_in)]
Version = Annotated[int | None, BeforeValidator(_number_in)]


class Answer(BaseModel):
    """Base of all answers: what is not named here is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Dag(Answer):
    """What Airflow has of one record; `record_id` is None for a DAG of somebody else."""

    record_id: RecordId = Field(validation_alias="dag_id")
    revision: Revision = Field(validation_alias="description")
    is_paused: bool
    is_stale: bool
    has_import_errors: bool
    timetable_summary: str | None
    next_run_after: datetime | None = Field(validation_alias="next_dagrun_run_after")
    tags: Annotated[list[str], BeforeValidator(_names)]
    bundle_name: str | None
    relative_fileloc: str | None
    file_token: str

    @property
    def is_scheduled(self) -> bool:
        """Airflow starts runs of it by itself; whether it is paused is another question."""
        return not self.is_stale and (self.timetable_summary is not None or self.next_run_after is not None)

    @property
    def is_invalid(self) -> bool:
        """The reader kit could make no rule of the record."""
        return INVALID_TAG in self.tags


class DagPage(Answer):
    """Some DAGs, and how many there are in all."""

    dags: list[Dag]
    total: int = Field(validation_alias="total_entries")


class Run(Answer):
    """A DAG run; `version` is the number of the newest change of any record when it was created."""

    run_id: str = Field(validation_alias="dag_run_id")
    record_id: RecordId = Field(validation_alias="dag_id")
    state: str
    run_type: str
    logical_date: datetime | None
    run_after: datetime
    queued_at: datetime | None
    start_date: datetime | None
    end_date: datetime | None
    duration_seconds: float | None = Field(validation_alias="duration")
    conf: dict[str, Any] | None
    note: str | None
    version: Version = Field(validation_alias="bundle_version")

    @property
    def has_ended(self) -> bool:
        """It changes no more, unless somebody starts it again."""
        return self.state in {"success", "failed"}


class RunPage(Answer):
    """Some runs; `next_cursor` asks for those behind them."""

    runs: list[Run] = Field(validation_alias="dag_runs")
    next_cursor: str | None = None


class SchemaChange(Answer):
    """How a column differs from the run before: `added`, `dropped`, or another `type`."""

    column: str
    change: str
    before: str | None = Field(None, validation_alias="from")
    after: str | None = Field(None, validation_alias="to")


class MovedTable(Answer):
    """One table of a run; `watermark` is the greatest cursor so far."""

    table: str
    rows: Count
    bytes: Count
    watermark: str | None = None
    schema_changes: list[SchemaChange] = []


class Moved(Answer):
    """What a run has moved."""

    mode: str
    rows: Count
    bytes: Count
    seconds: float
    resumed: bool = False
    tables: list[MovedTable]


class FoundProblem(Answer):
    """What stands in the way of a run; `place` is `source` or `target`."""

    place: str
    detail: str


class FoundTable(Answer):
    """A table that a run would read; `columns` is None when only reading tells."""

    table: str
    columns: int | None


class Looked(Answer):
    """What a run has found that only looked."""

    ok: bool
    problems: list[FoundProblem]
    tables: list[FoundTable]


class ReturnedValue(Answer):
    """What a task has left behind: JSON, or JSON text, depending on who wrote it."""

    value: Any

    def told(self) -> Moved | Looked | None:
        """The result of the reader kit; None for what somebody else has left."""
        found = self.value
        with suppress(ValueError, RecursionError):
            found = json.loads(found) if isinstance(found, str) else found
        for kind in (Moved, Looked):
            with suppress(ValidationError):
                return kind.model_validate(found)
        return None


class TaskTry(Answer):
    """One try of a task; `state` is None before Airflow has scheduled it."""

    task_id: str
    try_number: int
    max_tries: int
    state: str | None
    start_date: datetime | None
    end_date: datetime | None
    duration_seconds: float | None = Field(validation_alias="duration")
    hostname: str | None


class Backfill(Answer):
    """Runs of the past that Airflow makes up for."""

    backfill_id: int = Field(validation_alias="id")
    record_id: RecordId = Field(validation_alias="dag_id")
    from_date: datetime
    to_date: datetime
    reprocess: str = Field(validation_alias="reprocess_behavior")
    max_active_runs: int
    created_at: datetime
    completed_at: datetime | None


class BackfillPage(Answer):
    """Some backfills, and how many there are in all."""

    backfills: list[Backfill]
    total: int = Field(validation_alias="total_entries")


class BackfillDate(Answer):
    """A run that a backfill would make up for."""

    logical_date: datetime | None


class Health(Answer):
    """How the parts of Airflow are; None for one that this Airflow does not run."""

    metadatabase: str | None = Field(None, validation_alias=AliasPath("metadatabase", "status"))
    scheduler: str | None = Field(None, validation_alias=AliasPath("scheduler", "status"))
    dag_processor: str | None = Field(None, validation_alias=AliasPath("dag_processor", "status"))
    triggerer: str | None = Field(None, validation_alias=AliasPath("triggerer", "status"))


class FileProblem(Answer):
    """Why a file of DAGs could not be read; `filename` is relative to its bundle."""

    bundle_name: str | None
    filename: str
    stack_trace: str

    @property
    def reason(self) -> str:
        """Its last line, which says what is wrong."""
        lines = [line.strip() for line in self.stack_trace.splitlines() if line.strip()]
        return lines[-1] if lines else ""
