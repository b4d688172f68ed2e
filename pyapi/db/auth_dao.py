"""Statements about users, their sessions and their refresh tokens."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, Select, and_, exists, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.auth_models import LoginSession, RefreshToken, User
from pyapi.db.meta import contains
from pyapi.exceptions import Conflict


class UserDAO:
    """Rows of `pyapi_users`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, **values: Any) -> User:
        """Insert a user. Raises Conflict when the name or the address is taken."""
        return await self._write(insert(User).values(**values).returning(User))

    async def update(self, user_id: int, **values: Any) -> User:
        """Change columns of a user. Raises Conflict when the address is taken."""
        return await self._write(update(User).where(User.id == user_id).values(**values).returning(User))

    async def _write(self, statement: Any) -> User:
        try:
            result = await self._session.scalars(statement, execution_options={"populate_existing": True})
        except IntegrityError as error:
            taken = "e-mail address" if "email" in (_constraint(error) or "") else "username"
            raise Conflict(f"This {taken} is already in use.") from None
        user: User = result.one()
        return user

    async def get(self, user_id: int) -> User | None:
        """A user by id."""
        return await self._session.get(User, user_id)

    async def lock(self, user_id: int) -> User | None:
        """A user by id; nobody else can change the row until the transaction ends."""
        return await self._session.get(User, user_id, with_for_update=True)

    async def lock_superusers(self) -> list[int]:
        """Ids of the superusers who can sign in; none of them can change until the transaction ends."""
        rows = await self._session.scalars(
            select(User.id).where(User.is_superuser, User.is_active).order_by(User.id).with_for_update()
        )
        return list(rows)

    async def page(self, *, q: str | None, skip: int, limit: int) -> list[User]:
        """Users in the order of their ids; `q` is looked for in name, address and full name."""
        rows = await self._session.scalars(_matching(select(User), q).order_by(User.id).offset(skip).limit(limit))
        return list(rows)

    async def count(self, *, q: str | None) -> int:
        """How many users `page` would list in all."""
        return (await self._session.scalar(_matching(select(func.count(User.id)), q))) or 0


class UserLookup:
    """Reads users, each time in a session of its own that is closed before the answer is used.

    Whoever goes on to hash a password, which takes long, holds no connection meanwhile.
    """

    def __init__(self, open_session: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> None:
        self._open_session = open_session

    async def by_id(self, user_id: int) -> User | None:
        """A user by id."""
        return await self._one(User.id == user_id)

    async def by_username(self, username: str) -> User | None:
        """A user by name, without regard to case."""
        return await self._one(func.lower(User.username) == func.lower(username))

    async def by_session(self, *, user_id: int, session_id: UUID) -> User | None:
        """The user behind an access token, as long as the session lives and the account is open."""
        alive = exists().where(
            LoginSession.id == session_id,
            LoginSession.user_id == User.id,
            LoginSession.ended_at.is_(None),
            LoginSession.expires_at > func.now(),
        )
        return await self._one(User.id == user_id, User.is_active.is_(True), alive)

    async def _one(self, *conditions: ColumnElement[bool]) -> User | None:
        async with self._open_session() as session:
            user: User | None = await session.scalar(select(User).where(*conditions))
            return user


def _matching(statement: Select[Any], q: str | None) -> Select[Any]:
    if q is None:
        return statement
    return statement.where(or_(*(contains(column, q) for column in (User.username, User.email, User.full_name))))


def _constraint(error: IntegrityError) -> str | None:
    """Name of the violated constraint; the message itself holds the value, so it is not looked at."""
    return getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)


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
        stamped = await self._session.scalar(
            update(User)
            .where(User.id == user_id, User.hashed_password == verified_hash, User.is_active)
            .values(last_login_at=func.now(), hashed_password=new_hash or verified_hash)
            .returning(User.id)
        )
        if stamped is None:
            return None
        session_id = await self._session.scalar(
            insert(LoginSession).values(user_id=user_id, expires_at=expires_at).returning(LoginSession.id)
        )
        assert session_id is not None
        await self._session.execute(
            insert(RefreshToken).values(
                token=digest,
                user_id=user_id,
                family_id=session_id,
                expires_at=expires_at,
                user_agent=user_agent,
                address=address,
            )
        )
        return IssuedToken(user_id, session_id, expires_at)

    async def rotate(
        self, digest: str, *, new_digest: str, user_agent: str | None, address: str | None
    ) -> IssuedToken | None:
        """Use up one refresh token and store its successor, in one statement; None when it was not usable.

        Of any number of calls with the same token exactly one wins: the row lock of the UPDATE orders them, and the
        losers find `is_active` false.
        """
        used = (
            update(RefreshToken)
            .where(
                RefreshToken.token == digest,
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
            literal(new_digest, RefreshToken.token.type),
            used.c.user_id,
            used.c.family_id,
            used.c.id,
            used.c.expires_at,
            literal(user_agent, RefreshToken.user_agent.type),
            literal(address, RefreshToken.address.type),
        )
        row = (
            await self._session.execute(
                insert(RefreshToken)
                .from_select(columns, successor)
                .returning(RefreshToken.user_id, RefreshToken.family_id, RefreshToken.expires_at)
            )
        ).one_or_none()
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

    async def end(self, session_id: UUID, *, reason: str) -> int:
        """End one session; how many ended (0 when it had ended before)."""
        return await self._end(LoginSession.id == session_id, RefreshToken.family_id == session_id, reason)

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
