"""What a record moves, on the wire: the job of a config before it is saved, and what runs have moved."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from pyapi.schemas.schedule_schemas import RunTime

# --- Before it is saved -----------------------------------------------------------------------------------------------


class EndpointRead(BaseModel):
    """A source or a target, however it was written."""

    type: str = Field(examples=["postgresql"])
    options: Any = Field(description="Credentials are masked.", examples=[{"host": "warehouse", "database": "sales"}])


class TableRead(BaseModel):
    """One thing to move."""

    name: str
    cursor: str | None = Field(description="Column whose values only grow.")
    primary_key: Sequence[str]
    columns: Sequence[str] = Field(description="Empty for all.")
    exclude: Sequence[str]


class JobRead(BaseModel):
    """What is moved, with everything that was left out filled in."""

    source: EndpointRead
    target: EndpointRead
    mode: str = Field(examples=["full"])
    schema_contract: str = Field(examples=["evolve"])
    batch_size: int
    query: str | None
    tables: Sequence[TableRead] | None = Field(description="null for all tables of the source's schema.")


class ConfigWarning(BaseModel):
    """Something that is allowed and may not be meant."""

    pointer: str = Field(examples=["/config/source/password"])
    detail: str


class DataValidated(BaseModel):
    """A record that could be created."""

    job: JobRead | None = Field(description="null when there is nothing to move.")
    schedule_description: str = Field(examples=["每天 09:00"])
    next_runs: Sequence[RunTime] = Field(description="The next five runs.")
    warnings: Sequence[ConfigWarning]


# --- What was moved ---------------------------------------------------------------------------------------------------


class SchemaChange(BaseModel):
    """A column that is not as it was at the run before."""

    column: str
    change: str = Field(description="added, dropped, or type.", examples=["added"])
    before: str | None = Field(description="Its type; null for what was added.")
    after: str | None = Field(description="Its type; null for what was dropped.")


class MovedTable(BaseModel):
    """One table of a run."""

    table: str
    rows: int
    bytes: int
    watermark: str | None = Field(description="The greatest cursor so far; the next incremental run goes on there.")
    schema_changes: Sequence[SchemaChange]


class RunResult(BaseModel):
    """What a run has moved."""

    mode: str = Field(examples=["incremental"])
    rows: int
    bytes: int
    seconds: float
    resumed: bool = Field(description="It went on from what an earlier try had read.")
    tables: Sequence[MovedTable]


class CheckProblem(BaseModel):
    """What stands in the way of a run."""

    place: str = Field(description="source, target or run.", examples=["source"])
    detail: str = Field(examples=["There is no table orders."])


class CheckedTable(BaseModel):
    """A table that was found."""

    table: str
    columns: int | None = Field(description="How many; null when only reading tells.")


class CheckResult(BaseModel):
    """What a run found that only looked."""

    ok: bool
    problems: Sequence[CheckProblem]
    tables: Sequence[CheckedTable]


class DataChecked(BaseModel):
    """A check: its run and, once that has ended, what it found."""

    run_id: str
    state: str = Field(description="queued, running, success or failed.", examples=["success"])
    ok: bool | None = Field(description="null while the run goes on.")
    problems: Sequence[CheckProblem]
    tables: Sequence[CheckedTable]


class RunFigures(BaseModel):
    """A run that has ended, in numbers."""

    run_id: str
    run_type: str = Field(examples=["scheduled"])
    state: str = Field(examples=["success"])
    started: datetime
    seconds: float | None = Field(description="From its start to its end.")
    rows: int | None = Field(description="null when nothing is known of it, as for a `task` of your own.")
    bytes: int | None


class DataStats(BaseModel):
    """The newest runs of a record that have ended, oldest first. Checks are not among them."""

    runs: Sequence[RunFigures]
