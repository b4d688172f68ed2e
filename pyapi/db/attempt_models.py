"""The table of attempts that are limited."""

from datetime import datetime

from sqlalchemy import DateTime, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from pyapi.db.meta import Base


class Attempts(Base):
    """The attempts under one key that count, oldest first; after `expires_at` none of them does."""

    __tablename__ = "pyapi_attempts"

    key: Mapped[str] = mapped_column(String(64), primary_key=True, doc="HMAC-SHA-256 of what is limited, hexadecimal.")
    moments: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
