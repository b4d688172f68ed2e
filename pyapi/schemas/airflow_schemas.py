"""The link to Airflow on the wire."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field


class LinkState(StrEnum):
    """How Airflow is as a whole."""

    OK = "ok"  # all that is needed is at work
    DEGRADED = "degraded"  # it answers, and a part of it is not healthy
    UNREACHABLE = "unreachable"  # it does not answer
    NOT_CONFIGURED = "not_configured"  # PYAPI_AIRFLOW_URL is not set


class Components(BaseModel):
    """The parts of Airflow as it tells: `healthy`, `unhealthy`; null for one that it does not run."""

    metadatabase: str | None
    scheduler: str | None
    dag_processor: str | None
    triggerer: str | None


class Waiting(BaseModel):
    """Changes of status that Airflow does not know of yet."""

    count: int
    since: datetime | None = Field(description="When the oldest of them was made.")


class Drift(BaseModel):
    """A record of which Airflow does not have what it should."""

    record_id: int
    name: str | None = Field(description="null when the record was deleted.")
    problem: Literal["scheduled", "missing", "import_error", "outdated", "paused"] = Field(
        description="`scheduled`: Airflow would start runs and must not."
    )
    since: datetime


class LinkStatus(BaseModel):
    """How the link to Airflow is."""

    state: LinkState
    url: str | None
    reason: str | None = Field(description="Why it is not `ok`.", examples=[None])
    reached_at: datetime | None = Field(description="When Airflow answered last.")
    failing_since: datetime | None
    components: Components | None = Field(description="As they were then.")
    backlog: Waiting
    drift: Sequence[Drift] = Field(description="100 at most, by id; changes of the last 30 seconds are none.")


class RepairAction(StrEnum):
    """What was done."""

    UNPAUSED = "unpaused"
    PAUSED = "paused"
    READ_AGAIN = "read_again"  # Airflow was asked to read the file of the DAG now
    NONE = "none"


class Repair(Drift):
    """What was done about one of them."""

    action: RepairAction
    reason: str | None = Field(description="Why nothing was done.", examples=[None])


class Reconciled(BaseModel):
    """What was compared, and repaired."""

    checked: int = Field(description="DAGs of records that Airflow has.")
    repairs: Sequence[Repair]
