"""Statements about personal access tokens."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, CursorResult, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.auth_models import AccessToken


class TokenRow(NamedTuple):
    """A personal access token, without its digest."""

    id: int
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


_COLUMNS = tuple(getattr(AccessToken, field) for field in TokenRow._fields)


class AccessTokenDAO:
    """Rows of `pyapi_access_tokens`. Digests are SHA-256 in hexadecimal, never tokens; what is revoked is gone."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, *, user_id: int, name: str, digest: str, scopes: list[str], expires_at: datetime) -> TokenRow:
        """Store a token."""
        values = {"user_id": user_id, "name": name, "digest": digest, "scopes": scopes, "expires_at": expires_at}
        result = await self._session.execute(insert(AccessToken).values(**values).returning(*_COLUMNS))
        return TokenRow._make(result.one())

    async def of_user(self, user_id: int) -> list[TokenRow]:
        """The tokens of a user, the newest first."""
        statement = select(*_COLUMNS).where(AccessToken.user_id == user_id).order_by(AccessToken.id.desc())
        return [TokenRow._make(row) for row in await self._session.execute(statement)]

    async def delete_expired(self, user_id: int) -> None:
        """Forget the tokens of a user that no longer hold."""
        await self._session.execute(
            delete(AccessToken).where(AccessToken.user_id == user_id, AccessToken.expires_at <= func.now())
        )

    async def count(self, user_id: int) -> int:
        """How many tokens a user has."""
        statement = select(func.count()).select_from(AccessToken).where(AccessToken.user_id == user_id)
        return (await self._session.scalar(statement)) or 0

    async def delete_own(self, token_id: int, *, user_id: int) -> int:
        """Revoke one token of a user; how many that were: 0 when it is somebody else's, or is gone."""
        return await self._delete(AccessToken.id == token_id, AccessToken.user_id == user_id)

    async def delete_all(self, user_id: int) -> int:
        """Revoke all tokens of a user; how many that were."""
        return await self._delete(AccessToken.user_id == user_id)

    async def _delete(self, *conditions: ColumnElement[bool]) -> int:
        deleted = await self._session.execute(delete(AccessToken).where(*conditions))
        assert isinstance(deleted, CursorResult)
        return deleted.rowcount
