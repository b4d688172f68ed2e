"""What Airflow has of a record, on the wire."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field


class DeploymentState(StrEnum):
    """Whether Airflow does what the record says."""

    LIVE = "live"  # Airflow has this revision
    OFF = "off"  # the record is not active, and Airflow starts no run of it
    UPDATING = "updating"  # Airflow has an older revision
    PAUSED = "paused"  # somebody has paused the DAG in Airflow
    INVALID = "invalid"  # no schedule can be made of it
    IMPORT_ERROR = "import_error"  # Airflow cannot read the file of its DAG
    MISSING = "missing"  # Airflow has no DAG of it
    UNREACHABLE = "unreachable"  # Airflow does not answer


class Deployment(BaseModel):
    """Whether Airflow does what the record says."""

    state: DeploymentState
    since: datetime | None = Field(description="When that began; null when nobody knows.")
    reason: str | None = Field(description="Why it is not `live` or `off`.", examples=[None])


class LastRun(BaseModel):
    """The run that began last."""

    run_id: str = Field(examples=["scheduled__2027-03-01T01:00:00+00:00"])
    state: str = Field(description="queued, running, success or failed.", examples=["success"])
    run_type: str = Field(examples=["scheduled"])
    start_date: datetime | None
    end_date: datetime | None
    duration_seconds: float | None = Field(description="Until now while it runs.", examples=[12.5])


class DeploymentFields(BaseModel):
    """What Airflow has of a record; both are null when no Airflow is configured."""

    last_run: LastRun | None = Field(description="null when there was none so far.")
    airflow: Deployment | None
