"""The table of what runs have moved."""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, DateTime, Index, SmallInteger, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from pyapi.db.meta import Base

MOST_KEPT: Final = 30
"""Of each record; those of the last hour stay in any case, so that no run is taken for a new one."""


class RunResult(Base):
    """A run of a record that has ended; the newest of each record are kept.

    `asked`: how often Airflow was asked in vain what it has moved; null when there is nothing to ask any more.
    """

    __tablename__ = "pyapi_run_results"
    __table_args__ = (Index("ix_pyapi_run_results_ended_at", "ended_at", postgresql_where=text("asked IS NOT NULL")),)

    record_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    run_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    run_type: Mapped[str] = mapped_column(String(50))
    state: Mapped[str] = mapped_column(String(50))
    began_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    noted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    asked: Mapped[int | None] = mapped_column(SmallInteger)
    rows: Mapped[int | None] = mapped_column(BigInteger)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
