"""The table of who did what."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, String, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from pyapi.db.meta import Base


class AuditRecord(Base):
    """One thing that somebody did, or was not let do. Triggers refuse to change it, see migration 0008.

    No foreign key: what somebody did stays when the account is gone.
    """

    __tablename__ = "pyapi_audit_log"
    __table_args__ = (
        Index("ix_pyapi_audit_log_at", "at"),
        Index("ix_pyapi_audit_log_event_id", "event", "id"),
        Index("ix_pyapi_audit_log_actor_id_id", "actor_id", "id"),
        Index("ix_pyapi_audit_log_target_kind_target_id_id", "target_kind", "target_id", "id"),
        Index("ix_pyapi_audit_log_request_id", "request_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    event: Mapped[str] = mapped_column(String(50))
    actor_id: Mapped[int | None] = mapped_column(doc="User of PyAPI; NULL for commands and for people not signed in.")
    actor_name: Mapped[str | None] = mapped_column(String(255), doc="As it was then; 'cli:' and a name for commands.")
    target_kind: Mapped[str | None] = mapped_column(String(20))
    target_id: Mapped[str | None] = mapped_column(String(255))
    changes: Mapped[list[dict[str, Any]] | None] = mapped_column(
        JSONB(none_as_null=True), doc="A list of pointer, before and after; credentials are masked."
    )
    is_cut: Mapped[bool] = mapped_column(server_default=text("false"), doc="Not all of the changes are in `changes`.")
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    request_id: Mapped[str | None] = mapped_column(String(128))
    address: Mapped[str | None] = mapped_column(String(45), doc="IP address of the client.")
    user_agent: Mapped[str | None] = mapped_column(String(255))
