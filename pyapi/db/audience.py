"""Which records somebody may see and change, as conditions of statements: what nobody may see is never loaded."""

from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, exists, false, func, literal_column, or_, select, true
from sqlalchemy import bindparam as parameter

from pyapi.db.auth_models import LoginSession, User
from pyapi.db.models import DataGrant, DataRecord
from pyapi.enums import Permission, Role, Visibility

VIEWER: Final = "viewer_id"
"""The parameter that stands for the one who is looking, in every statement with these conditions."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is looking; `user_id` is None for somebody who is not signed in. Admins see and change everything."""

    user_id: int | None
    is_admin: bool = False

    @property
    def visibilities(self) -> tuple[Visibility, ...]:
        """The records that need neither an owner nor a grant to be seen."""
        if self.is_admin:
            return tuple(Visibility)
        return (Visibility.PUBLIC,) if self.user_id is None else (Visibility.PUBLIC, Visibility.INTERNAL)

    def sees(self) -> ColumnElement[bool]:
        """Records that may be seen."""
        if self.is_admin:
            return true()
        # Written out, not sent: a list of parameters would be unfolded again for each statement.
        by_all = DataRecord.visibility.in_(
            [literal_column(f"'{visibility.value}'") for visibility in self.visibilities]
        )
        if self.user_id is None:
            return by_all
        # A list of ids, not EXISTS: PostgreSQL reads the grants once for a whole page, and only if a row needs them.
        granted = select(DataGrant.record_id).where(DataGrant.user_id == self._viewer)
        return or_(by_all, DataRecord.owner_id == self._viewer, DataRecord.id.in_(granted))

    def writes(self) -> ColumnElement[bool]:
        """Records that may be changed and run."""
        if self.is_admin:
            return true()
        if self.user_id is None:
            return false()
        granted = select(DataGrant.record_id).where(
            DataGrant.user_id == self._viewer, DataGrant.permission == Permission.WRITE.value
        )
        return or_(DataRecord.owner_id == self._viewer, DataRecord.id.in_(granted))

    @property
    def alike(self) -> Self:
        """Somebody of the same kind: a statement made for them is right for all, when `parameters` say who looks.

        Without those it is nobody's, because no user has the id 0.
        """
        return type(self)(None if self.user_id is None else 0, self.is_admin)

    @property
    def parameters(self) -> dict[str, Any]:
        """Who looks, for a statement that was made for somebody alike."""
        return {} if self.user_id is None or self.is_admin else {VIEWER: self.user_id}

    @property
    def _viewer(self) -> BindParameter[int | None]:
        return parameter(VIEWER, self.user_id, DataRecord.id.type)


STRANGER: Final = Audience(None)
"""Somebody who is not signed in."""

LIVE_SESSION: Final = select(User.id, User.username, User.is_superuser, User.role_below_superuser.label("role")).where(
    User.id == parameter("user_id", type_=User.id.type),
    User.is_active,
    exists().where(
        LoginSession.id == parameter("session_id", type_=LoginSession.id.type),
        LoginSession.user_id == User.id,
        LoginSession.ended_at.is_(None),
        LoginSession.expires_at > func.now(),
    ),
)
"""The user behind an access token, as long as the session lives and the account is open; otherwise no row."""

CALLER: Final = LIVE_SESSION.cte("caller")
"""One row when the session lives, and none otherwise; a statement that begins with it needs no other look at it."""


CALLER_WRITES: Final = or_(CALLER.c.is_superuser, CALLER.c.role != Role.VIEWER.value)
"""Whether the one in CALLER may change records at all."""


@dataclass(frozen=True, slots=True)
class SessionAudience:
    """Who is looking, as an access token says: whether that session lives, the statement itself finds out in CALLER."""

    user_id: int
    session_id: UUID

    def sees(self) -> ColumnElement[bool]:
        """Records that may be seen, the same as for the `Audience` that the caller will turn out to be."""
        return or_(CALLER.c.is_superuser, Audience(0).sees())

    @property
    def alike(self) -> "SessionAudience":
        """Any session: all have the same statements."""
        return _ANY_SESSION

    @property
    def parameters(self) -> dict[str, Any]:
        """Who looks."""
        return {VIEWER: self.user_id, "user_id": self.user_id, "session_id": self.session_id}


_ANY_SESSION: Final = SessionAudience(0, UUID(int=0))
