"""Tables of data records and of every state they were in."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    DateTime,
    ForeignKey,
    Index,
    String,
    Text,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from pyapi.db.meta import Base
from pyapi.enums import Permission, RecordStatus, Visibility

_STATUSES = ", ".join(f"'{status}'" for status in RecordStatus)
_VISIBILITIES = ", ".join(f"'{visibility}'" for visibility in Visibility)
_PERMISSIONS = ", ".join(f"'{permission}'" for permission in Permission)
_IN_OUR_ERA = "{0} >= '0001-01-01 00:00:00+00' AND {0} < '10000-01-01 00:00:00+00'"


class DataRecord(Base):
    """One ETL job definition.

    `revision` and `updated_at` are kept by triggers (see the migrations), so rows written by plain SQL are right as
    well; nothing here sets them. `next_run_at` and `schedule_summary` follow from the other columns: PyAPI writes them
    with each change of its own, a trigger empties them when somebody else changes a row, and `ScheduleKeeper` fills
    them in and moves them on as time passes. Neither is part of a revision.
    """

    __tablename__ = "pyapi_data_records"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        CheckConstraint(f"visibility IN ({_VISIBILITIES})", name="visibility"),
        # PostgreSQL knows infinity, 4713 BC and the year 20000; the clients of the API do not.
        CheckConstraint(_IN_OUR_ERA.format("created_at"), name="created_at"),
        CheckConstraint(_IN_OUR_ERA.format("updated_at"), name="updated_at"),
        CheckConstraint(_IN_OUR_ERA.format("scheduled_since"), name="scheduled_since"),
        CheckConstraint(_IN_OUR_ERA.format("next_run_at"), name="next_run_at"),
        Index("ix_pyapi_data_records_status_created_at_id", "status", "created_at", "id"),
        Index("ix_pyapi_data_records_status_id", "status", "id"),
        Index("ix_pyapi_data_records_created_at_id", "created_at", "id"),
        Index("ix_pyapi_data_records_updated_at_id", "updated_at", "id"),
        Index("ix_pyapi_data_records_name_id", "name", "id"),
        # Lists of one visibility, of which there may be few records.
        Index("ix_pyapi_data_records_visibility_owner_id_id", "visibility", "owner_id", "id"),
        Index("ix_pyapi_data_records_unread", "id", postgresql_where=text("schedule_summary IS NULL")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    config: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    status: Mapped[str] = mapped_column(String(50), server_default=text("'active'"))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("pyapi_users.id", ondelete="SET NULL"), index=True)
    visibility: Mapped[str] = mapped_column(String(20), server_default=text("'public'"))
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    scheduled_since: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), doc="When its status or its schedule was last changed."
    )
    next_run_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), doc="NULL: no run is known to come.")
    schedule_summary: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), doc="See `pyapi.services.schedule_service.summary_of`; NULL when nobody read the row."
    )


class DataGrant(Base):
    """One record that its owner has shared with one user. It is no part of a revision."""

    __tablename__ = "pyapi_data_grants"
    __table_args__ = (CheckConstraint(f"permission IN ({_PERMISSIONS})", name="permission"),)

    record_id: Mapped[int] = mapped_column(
        ForeignKey("pyapi_data_records.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("pyapi_users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True
    )
    permission: Mapped[str] = mapped_column(String(20))
    granted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    granted_by: Mapped[int | None] = mapped_column(
        ForeignKey("pyapi_users.id", ondelete="SET NULL"), index=True, doc="NULL when that user is gone."
    )


SORTED_NEXT_RUN: ColumnElement[Any] = func.coalesce(
    DataRecord.next_run_at, literal_column("'infinity'::timestamptz", DateTime(timezone=True))
)
"""The next run as lists are sorted by it: none comes after all others."""

Index("ix_pyapi_data_records_next_run_at_id", SORTED_NEXT_RUN, DataRecord.id)


class RecordPieces(Base):
    """What finds the records whose name or description has some words in it; kept by triggers."""

    __tablename__ = "pyapi_record_pieces"
    __table_args__ = (
        Index(
            "ix_pyapi_record_pieces_pieces",
            "pieces",
            postgresql_using="gin",
            postgresql_with={"gin_pending_list_limit": 512},
        ),
    )

    record_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pieces: Mapped[Any] = mapped_column(TSVECTOR, doc="Runs of three characters, see `pyapi_pieces` in the migrations.")


class RecordCount(Base):
    """How many records there are of one kind is the sum of its rows, which the triggers of the records add."""

    __tablename__ = "pyapi_record_counts"

    id: Mapped[UUID] = mapped_column(
        primary_key=True, server_default=func.gen_random_uuid(), doc="No number: `lastval()` is for who adds records."
    )
    owner_id: Mapped[int | None] = mapped_column(index=True, doc="NULL: of all records, whoever owns them.")
    visibility: Mapped[str] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(50))
    records: Mapped[int] = mapped_column(doc="So many more, or fewer.")


class DataRevision(Base):
    """One saved state of a data record; written by triggers only, in the order in which transactions commit.

    `change_id` counts over all records. A reader that has seen `max(change_id) = n` has seen every change up to n.
    """

    __tablename__ = "pyapi_data_revisions"

    record_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    change_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    change_kind: Mapped[str] = mapped_column(String(20))
    changed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    changed_by: Mapped[int | None] = mapped_column(doc="User of PyAPI; NULL when the row was written by SQL.")
    changed_by_name: Mapped[str] = mapped_column(
        String(255), doc="Username; 'role:' and the PostgreSQL role when the row was written by SQL."
    )
    state: Mapped[dict[str, Any]] = mapped_column(JSONB, doc="The whole row, its secrets as they were stored.")
