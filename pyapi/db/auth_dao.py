"""Statements about users."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from pyapi.db.audience import LIVE_SESSION
from pyapi.db.auth_models import AccessToken, User, role_of
from pyapi.db.meta import contains
from pyapi.db.statements import Statement, Statements
from pyapi.enums import Role
from pyapi.exceptions import Conflict

USE_IS_NOTED_EVERY: Final = timedelta(minutes=1)
"""`last_used_at` of a personal access token is written no more often: most reads stay reads."""


class TokenOwner(NamedTuple):
    """A personal access token that holds, and whose it is."""

    user: User
    token_id: int
    scopes: list[str]


class SignedInUser(NamedTuple):
    """What most requests want to know of a user."""

    id: int
    username: str
    role: Role


def user_of(row: Sequence[Any]) -> SignedInUser:
    """The user in a row of `LIVE_SESSION`, which may go on behind it."""
    found, username, is_superuser, role, *_ = row
    return SignedInUser(found, username, role_of(is_superuser=is_superuser, below=role))


def _is_named(username: str | BindParameter[str]) -> ColumnElement[bool]:
    """Without regard to case, as PostgreSQL understands it."""
    return func.lower(User.username) == func.lower(username)


_CREDENTIALS: Final = Statement.of(
    select(User.id, User.username, User.hashed_password, User.is_active).where(
        _is_named(bindparam("username", type_=User.username.type))
    )
)
_BY_SESSION: Final = Statement.of(LIVE_SESSION)


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
        return await self._one(_is_named(username))

    async def by_access_token(self, digest: str) -> TokenOwner | None:
        """The user behind a personal access token, as long as the token holds and the account is open.

        One statement, which notes the use as well. Of many requests at once one does so, and no other waits for it.
        """
        token = aliased(AccessToken)
        holds = (token.digest == digest, token.expires_at > func.now(), token.user_id == User.id, User.is_active)
        is_old = or_(token.last_used_at.is_(None), token.last_used_at < func.now() - USE_IS_NOTED_EVERY)
        to_note = select(token.id).where(*holds, is_old).with_for_update(skip_locked=True, of=token)
        noted = update(AccessToken).where(AccessToken.id.in_(to_note)).values(last_used_at=func.now()).cte("noted")
        statement = select(User, token.id, token.scopes).where(*holds).add_cte(noted)
        async with self._open_session() as session:
            row = (await session.execute(statement)).one_or_none()
        return TokenOwner._make(row) if row is not None else None

    async def _one(self, *conditions: ColumnElement[bool]) -> User | None:
        async with self._open_session() as session:
            user: User | None = await session.scalar(select(User).where(*conditions))
            return user


class Credentials(NamedTuple):
    """What a login is checked against."""

    id: int
    username: str
    hashed_password: str
    is_active: bool


class AccountLookup:
    """Looks for accounts that somebody names, in one statement each."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def credentials(self, username: str) -> Credentials | None:
        """The account of this name, without regard to case."""
        row = await self._statements.row(_CREDENTIALS, username=username)
        return Credentials._make(row) if row is not None else None


class SessionLookup:
    """Looks at login sessions, in one statement each: almost every request does."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def user_of(self, *, user_id: int, session_id: UUID) -> SignedInUser | None:
        """The user behind an access token, as long as the session lives and the account is open."""
        row = await self._statements.row(_BY_SESSION, user_id=user_id, session_id=session_id)
        return user_of(row) if row is not None else None


def _matching(statement: Select[Any], q: str | None) -> Select[Any]:
    if q is None:
        return statement
    return statement.where(or_(*(contains(column, q) for column in (User.username, User.email, User.full_name))))


def _constraint(error: IntegrityError) -> str | None:
    """Name of the violated constraint; the message itself holds the value, so it is not looked at."""
    return getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)
