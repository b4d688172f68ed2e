"""Tables of people and their sessions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, String, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from pyapi.db.meta import Base
from pyapi.enums import Role, Scope

_SCOPES = ", ".join(f"'{scope}'" for scope in Scope)


def role_of(*, is_superuser: bool, below: str) -> Role:
    """What an account may do; `below` is its column `role`, which counts for all but superusers."""
    return Role.ADMIN if is_superuser else Role(below)


class User(Base):
    """Someone who may sign in. Names and addresses are unique without regard to case."""

    __tablename__ = "pyapi_users"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'editor')", name="role"),
        Index("uq_pyapi_users_username_lower", func.lower(text("username")), unique=True),
        Index("uq_pyapi_users_email_lower", func.lower(text("email")), unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(255))
    full_name: Mapped[str | None] = mapped_column(String(255))
    hashed_password: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    is_superuser: Mapped[bool] = mapped_column(server_default=text("false"))
    role_below_superuser: Mapped[str] = mapped_column("role", String(20), server_default=text("'editor'"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    last_login_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    @property
    def role(self) -> Role:
        """What the account may do: a superuser is an admin, whatever the column `role` says."""
        return role_of(is_superuser=self.is_superuser, below=self.role_below_superuser)


class LoginSession(Base):
    """One login and all that came of it: the family of its refresh tokens, and the `sid` of its access tokens.

    This row is the truth about whether the login still holds. Ending it is a change of one row, so a refresh that
    commits a moment later cannot bring the session back.
    """

    __tablename__ = "pyapi_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    user_id: Mapped[int] = mapped_column(ForeignKey("pyapi_users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    end_reason: Mapped[str | None] = mapped_column(String(50))


class RefreshToken(Base):
    """One refresh token; each is used once and names the one it replaced."""

    __tablename__ = "pyapi_refresh_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(255), unique=True, doc="SHA-256 of the token, hexadecimal.")
    user_id: Mapped[int] = mapped_column(ForeignKey("pyapi_users.id", ondelete="CASCADE"), index=True)
    family_id: Mapped[UUID] = mapped_column(ForeignKey("pyapi_sessions.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[int | None] = mapped_column(doc="The token this one replaced.")
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    user_agent: Mapped[str | None] = mapped_column(String(512))
    address: Mapped[str | None] = mapped_column(String(45), doc="IP address of the client.")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class AccessToken(Base):
    """One personal access token: a program signs in with it as its owner, within its scopes."""

    __tablename__ = "pyapi_access_tokens"
    __table_args__ = (
        CheckConstraint(f"cardinality(scopes) > 0 AND scopes <@ ARRAY[{_SCOPES}]::varchar[]", name="scopes"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("pyapi_users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    digest: Mapped[str] = mapped_column(String(64), unique=True, doc="SHA-256 of the token, hexadecimal.")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(20)))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), doc="Exact to a minute.")
