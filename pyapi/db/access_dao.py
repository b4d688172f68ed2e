"""Statements about whom records are shared with."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from pyapi.db.auth_models import User
from pyapi.db.models import DataGrant


class GrantRow(NamedTuple):
    """A record that was shared with somebody."""

    user_id: int
    username: str
    permission: str
    granted_at: datetime
    granted_by: str | None


class AccessDAO:
    """Rows of `pyapi_data_grants`. Whether the caller may see or change them is asked before."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def username(self, user_id: int) -> str | None:
        """The name of a user."""
        name: str | None = await self._session.scalar(select(User.username).where(User.id == user_id))
        return name

    async def grants(self, record_id: int) -> list[GrantRow]:
        """Whom a record is shared with, by name."""
        giver = aliased(User)
        statement = (
            select(DataGrant.user_id, User.username, DataGrant.permission, DataGrant.granted_at, giver.username)
            .join(User, User.id == DataGrant.user_id)
            .join(giver, giver.id == DataGrant.granted_by, isouter=True)
            .where(DataGrant.record_id == record_id)
            .order_by(func.lower(User.username), User.id)
        )
        return [GrantRow._make(row) for row in await self._session.execute(statement)]

    async def user_ids(self, usernames: Collection[str]) -> dict[str, int]:
        """The ids of users, by name in small letters; unknown names are left out.

        The users cannot be deleted until the transaction ends.
        """
        statement = (
            select(func.lower(User.username), User.id)
            .where(func.lower(User.username).in_([name.lower() for name in usernames]))
            .order_by(User.id)
            .with_for_update(key_share=True, read=True)
        )
        return {row[0]: row[1] for row in await self._session.execute(statement)}

    async def replace(self, record_id: int, permissions: Mapping[int, str], *, granted_by: int) -> None:
        """Share a locked record with these users and no others. What stays as it is keeps its time and its giver."""
        gone = delete(DataGrant).where(DataGrant.record_id == record_id, DataGrant.user_id.not_in(permissions))
        await self._session.execute(gone)
        if not permissions:
            return
        statement = insert(DataGrant).values(
            [
                {"record_id": record_id, "user_id": user_id, "permission": permission, "granted_by": granted_by}
                for user_id, permission in permissions.items()
            ]
        )
        new = statement.excluded
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=[DataGrant.record_id, DataGrant.user_id],
                set_={"permission": new.permission, "granted_at": func.now(), "granted_by": new.granted_by},
                where=DataGrant.permission != new.permission,
            )
        )
