"""Tables of what has to reach Airflow, and of what Airflow was last seen to have."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, String, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from pyapi.db.meta import Base


class AirflowOutbox(Base):
    """A record that has begun or ceased to be active, of which Airflow is to know; written by triggers.

    One row for each record: only what holds now is worth telling. `revision` is the one that this began with: a row
    that changed while it was delivered has another one, and stays. `told_at`: Airflow was told, and the row waits to be
    looked at once more. For a record that is not active any more that is when Airflow has taken the schedule away: the
    pause is lifted then, so that what is queued can end.
    """

    __tablename__ = "pyapi_airflow_outbox"

    record_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int]
    is_active: Mapped[bool]
    queued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp(), index=True
    )
    told_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class AirflowDag(Base):
    """The DAG of a record as Airflow was last seen to have it; `since` when it has been like this."""

    __tablename__ = "pyapi_airflow_dags"

    record_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int | None]
    is_paused: Mapped[bool]
    is_stale: Mapped[bool]
    is_scheduled: Mapped[bool]
    is_invalid: Mapped[bool]
    import_error: Mapped[str | None] = mapped_column(String(500), doc="Why Airflow cannot read its file.")
    since: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AirflowRun(Base):
    """The run of a record that began last; `began_at` is when it started or, before that, was queued."""

    __tablename__ = "pyapi_airflow_runs"

    record_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    run_id: Mapped[str] = mapped_column(String(250))
    state: Mapped[str] = mapped_column(String(50))
    run_type: Mapped[str] = mapped_column(String(50))
    began_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    start_date: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    end_date: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class AirflowLink(Base):
    """One row: when Airflow was last reached, and what it said of itself then."""

    __tablename__ = "pyapi_airflow_link"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reached_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    failing_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    reason: Mapped[str | None] = mapped_column(String(500))
    health: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    runs_seen_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
