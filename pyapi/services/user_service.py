"""What superusers, and operators at a terminal, do with other people's accounts."""

from typing import Any

from pyapi.db.auth_dao import UserDAO, UserLookup
from pyapi.db.auth_models import User
from pyapi.db.session_dao import SessionDAO
from pyapi.db.token_dao import AccessTokenDAO
from pyapi.enums import Role
from pyapi.exceptions import Conflict, NotFound
from pyapi.schemas.auth_schemas import (
    RegisterRequest,
    TokensRevoked,
    UpdateUserRequest,
    UserList,
    UserListParams,
    UserRead,
)
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.password_service import PasswordService
from pyapi.utils.changes import find_changes


class UserService:
    """Accounts, seen from above. Whether the caller is a superuser is asked before this class is made."""

    def __init__(
        self, lookup: UserLookup, users: UserDAO, sessions: SessionDAO, tokens: AccessTokenDAO, audit: AuditTrail
    ) -> None:
        self._lookup = lookup
        self._users = users
        self._sessions = sessions
        self._tokens = tokens
        self._audit = audit

    async def page(self, params: UserListParams) -> UserList:
        """A page of accounts in the order of their ids."""
        return UserList(
            data=[
                UserRead.model_validate(user)
                for user in await self._users.page(q=params.q, skip=params.skip, limit=params.limit)
            ],
            total=await self._users.count(q=params.q),
            skip=params.skip,
            limit=params.limit,
        )

    async def get(self, user_id: int) -> UserRead:
        """One account. Raises NotFound."""
        return UserRead.model_validate(_found(await self._users.get(user_id)))

    async def update(self, user_id: int, request: UpdateUserRequest) -> UserRead:
        """Change an account; closing it ends its sessions and its tokens. Raises NotFound, Conflict.

        The last superuser who can sign in stays one: nobody could undo that over the API.
        """
        changes = _columns(request)
        demotes = changes.get("is_superuser") is False or changes.get("is_active") is False
        if demotes and await self._users.lock_superusers() == [user_id]:
            raise Conflict("This is the last active superuser. Make another one first.")
        user = _found(await self._users.lock(user_id))
        if changes:
            before = {field: getattr(user, field) for field in changes}
            user = await self._users.update(user_id, **changes)
            after = {field: getattr(user, field) for field in changes}
            found = find_changes(before, after, shown_before=before, shown_after=after)
            await self._audit.record("user.updated", Target("user", user_id), changes=found)
        if changes.get("is_active") is False:
            await self._end_all(user_id, reason="deactivated")
        return UserRead.model_validate(user)

    async def set_role(self, username: str, role: Role) -> UserRead:
        """Let an account do more or less. Raises NotFound, Conflict."""
        user = _found(await self._lookup.by_username(username))
        return await self.update(user.id, UpdateUserRequest(role=role))

    async def revoke_tokens(self, user_id: int) -> TokensRevoked:
        """End every session and every personal access token of an account. Raises NotFound."""
        user = _found(await self._users.get(user_id))
        sessions, tokens = await self._end_all(user_id, reason="revoked")
        await self._audit.record("tokens.revoked", Target("user", user_id), sessions=sessions, tokens=tokens)
        message = f"Ended {sessions} sessions and {tokens} personal access tokens of {user.username}."
        return TokensRevoked(message=message, ended_sessions=sessions, revoked_tokens=tokens)

    async def _end_all(self, user_id: int, *, reason: str) -> tuple[int, int]:
        """How many sessions and personal access tokens ended."""
        return await self._sessions.end_all(user_id, reason=reason), await self._tokens.delete_all(user_id)

    async def create(self, request: RegisterRequest, passwords: PasswordService, *, role: Role) -> UserRead:
        """Open an account for somebody. Raises ValidationFailed, Conflict."""
        await passwords.require_strong(
            request.password, pointer="/password", user_inputs=[request.username, request.email]
        )
        user = await self._users.add(
            username=request.username,
            email=request.email,
            full_name=request.full_name,
            hashed_password=await passwords.hash(request.password),
            **_role_columns(role),
        )
        await self._audit.record("user.created", Target("user", user.id), role=role.value)
        return UserRead.model_validate(user)

    async def reset_password(self, username: str, password: str, passwords: PasswordService) -> UserRead:
        """Set a password without knowing the old one, and end every session and every personal access token.

        Raises NotFound, ValidationFailed.
        """
        user = _found(await self._lookup.by_username(username))
        await passwords.require_strong(password, pointer="/password", user_inputs=[user.username, user.email])
        user = await self._users.update(user.id, hashed_password=await passwords.hash(password))
        await self._end_all(user.id, reason="password-reset")
        await self._audit.record("password.reset", Target("user", user.id))
        return UserRead.model_validate(user)


def _columns(request: UpdateUserRequest) -> dict[str, Any]:
    """The columns that change. A role that is given says whether somebody is a superuser, too."""
    changes = request.changes()
    role = changes.pop("role", None)
    return changes if role is None else changes | _role_columns(role)


def _role_columns(role: Role) -> dict[str, Any]:
    """What is stored for a role; who ceases to be a superuser is an editor or a viewer again."""
    if role is Role.ADMIN:
        return {"is_superuser": True}
    return {"is_superuser": False, "role_below_superuser": role.value}


def _found(user: User | None) -> User:
    if user is None:
        raise NotFound("There is no such user.")
    return user
