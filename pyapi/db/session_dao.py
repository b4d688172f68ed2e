"""Statements about sessions and their refresh tokens."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, Insert, Select, and_, bindparam, func, insert, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.auth_models import LoginSession, RefreshToken, User
from pyapi.db.meta import table_of
from pyapi.db.statements import Statement, Statements


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A refresh token that was just stored: whose it is and until when its session lives."""

    user_id: int
    session_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TokenFamily:
    """The session and the user of a refresh token, and whether it was never used or revoked."""

    session_id: UUID
    user_id: int
    unused: bool


class LiveSession(NamedTuple):
    """A session that has not ended; the client is the one of its newest refresh token."""

    id: UUID
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime
    user_agent: str | None
    address: str | None


class SessionDAO:
    """Rows of `pyapi_sessions` and `pyapi_refresh_tokens`. Digests are SHA-256 in hexadecimal, never tokens."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def start(
        self,
        *,
        user_id: int,
        verified_hash: str,
        new_hash: str | None,
        expires_at: datetime,
        digest: str,
        user_agent: str | None,
        address: str | None,
    ) -> IssuedToken | None:
        """Open a session with its first refresh token.

        None when the account was closed or its password changed since `verified_hash` was read: the row of the user
        is locked first, so a login and a change of password that meet come one after the other.
        """
        values = {
            "of_user": user_id,
            "verified_hash": verified_hash,
            "new_hash": new_hash or verified_hash,
            "ends_at": expires_at,
            "digest": digest,
            "user_agent": user_agent,
            "address": address,
        }
        row = (await self._session.execute(_opening(), values)).one_or_none()
        return IssuedToken(*row) if row is not None else None

    async def family_of(self, digest: str) -> TokenFamily | None:
        """Where a refresh token belongs; None when it was never issued."""
        row = (
            await self._session.execute(
                select(RefreshToken.family_id, RefreshToken.user_id, RefreshToken.is_active).where(
                    RefreshToken.token == digest
                )
            )
        ).one_or_none()
        return TokenFamily(*row) if row is not None else None

    async def live(self, user_id: int, *, most: int) -> list[LiveSession]:
        """The sessions of a user that have not ended, the one used last first."""
        newest = (
            select(RefreshToken.id, RefreshToken.created_at, RefreshToken.user_agent, RefreshToken.address)
            .where(RefreshToken.family_id == LoginSession.id)
            .order_by(RefreshToken.id.desc())
            .limit(1)
            .lateral("newest")
        )
        statement = (
            select(
                LoginSession.id,
                LoginSession.created_at,
                LoginSession.expires_at,
                newest.c.created_at,
                newest.c.user_agent,
                newest.c.address,
            )
            .join(newest, true())
            .where(
                LoginSession.user_id == user_id,
                LoginSession.ended_at.is_(None),
                LoginSession.expires_at > func.now(),
            )
            .order_by(newest.c.id.desc())
            .limit(most)
        )
        return [LiveSession._make(row) for row in await self._session.execute(statement)]

    async def end_own(self, session_id: UUID, *, user_id: int, reason: str) -> int:
        """End one session of a user; how many ended: 0 when it is somebody else's, or had ended before."""
        of_user = and_(LoginSession.id == session_id, LoginSession.user_id == user_id)
        return await self._end(
            of_user, and_(RefreshToken.family_id == session_id, RefreshToken.user_id == user_id), reason
        )

    async def end(self, session_id: UUID, *, reason: str) -> int:
        """End one session; how many ended (0 when it had ended before)."""
        return await self._end(LoginSession.id == session_id, RefreshToken.family_id == session_id, reason)

    async def end_oldest(self, user_id: int, *, left: int, reason: str) -> int:
        """End the oldest sessions of a user, so that at most `left` live; how many ended."""
        values = {"of_user": user_id, "left": left, "reason": reason}
        return (await self._session.scalar(_ending_of_oldest(), values)) or 0

    async def end_all(self, user_id: int, *, reason: str) -> int:
        """End every session of a user; how many ended."""
        return await self._end(LoginSession.user_id == user_id, RefreshToken.user_id == user_id, reason)

    async def _end(self, sessions: ColumnElement[bool], tokens: ColumnElement[bool], reason: str) -> int:
        ended = await self._session.execute(
            update(LoginSession)
            .where(and_(sessions, LoginSession.ended_at.is_(None)))
            .values(ended_at=func.now(), end_reason=reason)
        )
        # Only for people who read the table: what counts is the session.
        await self._session.execute(
            update(RefreshToken)
            .where(and_(tokens, RefreshToken.is_active))
            .values(is_active=False, revoked_at=func.now())
        )
        assert isinstance(ended, CursorResult)
        return ended.rowcount


_SESSIONS, _TOKENS, _USERS = table_of(LoginSession), table_of(RefreshToken), table_of(User)


@cache
def _opening() -> Insert:
    """A session with its first refresh token; no row when the account is not as it was."""
    stamped = (
        update(_USERS)
        .where(
            _USERS.c.id == bindparam("of_user"),
            _USERS.c.hashed_password == bindparam("verified_hash"),
            _USERS.c.is_active,
        )
        .values(last_login_at=func.now(), hashed_password=bindparam("new_hash"))
        .returning(_USERS.c.id)
        .cte("stamped")
    )
    opened = (
        insert(_SESSIONS)
        .from_select(
            ["user_id", "expires_at"], select(stamped.c.id, bindparam("ends_at", type_=_SESSIONS.c.expires_at.type))
        )
        .returning(_SESSIONS.c.id, _SESSIONS.c.user_id, _SESSIONS.c.expires_at)
        .cte("opened")
    )
    first = select(
        bindparam("digest", type_=_TOKENS.c.token.type),
        opened.c.user_id,
        opened.c.id,
        opened.c.expires_at,
        bindparam("user_agent", type_=_TOKENS.c.user_agent.type),
        bindparam("address", type_=_TOKENS.c.address.type),
    )
    return (
        insert(_TOKENS)
        .from_select(["token", "user_id", "family_id", "expires_at", "user_agent", "address"], first)
        .returning(_TOKENS.c.user_id, _TOKENS.c.family_id, _TOKENS.c.expires_at)
    )


@cache
def _ending_of_oldest() -> Select[int]:
    """Ends all sessions of a user but the newest ones; how many those were."""
    is_live = and_(_SESSIONS.c.ended_at.is_(None), _SESSIONS.c.expires_at > func.now())
    beyond = (
        select(_SESSIONS.c.id)
        .where(_SESSIONS.c.user_id == bindparam("of_user"), is_live)
        .order_by(_SESSIONS.c.created_at.desc(), _SESSIONS.c.id.desc())
        .offset(bindparam("left", type_=_USERS.c.id.type))
        .cte("beyond")
    )
    ended = (
        update(_SESSIONS)
        .where(_SESSIONS.c.id.in_(select(beyond.c.id)), _SESSIONS.c.ended_at.is_(None))
        .values(ended_at=func.now(), end_reason=bindparam("reason"))
        .returning(_SESSIONS.c.id)
        .cte("ended")
    )
    # Only for people who read the table: what counts is the session.
    revoked = (
        update(_TOKENS)
        .where(_TOKENS.c.family_id.in_(select(beyond.c.id)), _TOKENS.c.is_active)
        .values(is_active=False, revoked_at=func.now())
        .cte("revoked")
    )
    return select(func.count()).select_from(ended).add_cte(revoked)


class RefreshTokens:
    """Exchanges refresh tokens, each in one statement: programs do it all the time."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def rotate(
        self, digest: str, *, new_digest: str, user_agent: str | None, address: str | None
    ) -> IssuedToken | None:
        """Use up one refresh token and store its successor; None when it was not usable.

        Of any number of calls with the same token exactly one wins: the row lock of the UPDATE orders them, and the
        losers find `is_active` false.
        """
        row = await self._statements.row(
            _rotation(), digest=digest, new_digest=new_digest, user_agent=user_agent, address=address
        )
        return IssuedToken(*row) if row is not None else None


@cache
def _rotation() -> Statement:
    used = (
        update(RefreshToken)
        .where(
            RefreshToken.token == bindparam("digest", type_=RefreshToken.token.type),
            RefreshToken.is_active,
            RefreshToken.expires_at > func.now(),
            RefreshToken.family_id == LoginSession.id,
            LoginSession.ended_at.is_(None),
            RefreshToken.user_id == User.id,
            User.is_active,
        )
        .values(is_active=False, revoked_at=func.now())
        .returning(RefreshToken.id, RefreshToken.user_id, RefreshToken.family_id, RefreshToken.expires_at)
        .cte("used")
    )
    columns = ["token", "user_id", "family_id", "parent_id", "expires_at", "user_agent", "address"]
    successor = select(
        bindparam("new_digest", type_=RefreshToken.token.type),
        used.c.user_id,
        used.c.family_id,
        used.c.id,
        used.c.expires_at,
        bindparam("user_agent", type_=RefreshToken.user_agent.type),
        bindparam("address", type_=RefreshToken.address.type),
    )
    return Statement.of(
        insert(RefreshToken)
        .from_select(columns, successor)
        .returning(RefreshToken.user_id, RefreshToken.family_id, RefreshToken.expires_at)
    )
