"""Personal access tokens: with them a program signs in as the person who made them."""

from datetime import timedelta
from typing import Final

from pyapi.db.auth_dao import UserDAO, UserLookup
from pyapi.db.token_dao import AccessTokenDAO
from pyapi.exceptions import Conflict, InvalidToken, NotFound
from pyapi.schemas.token_schemas import TokenCreate, TokenCreated, TokenList, TokenRead
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.auth_service import Caller
from pyapi.services.current_password import CurrentPassword, wrong_current_password
from pyapi.services.schedule_service import Clock, utc_now
from pyapi.utils.auth import new_personal_token, personal_token_digest

MOST_TOKENS: Final = 50


class TokenService:
    """The tokens of one caller, who is in a session: no token makes another one."""

    def __init__(
        self,
        lookup: UserLookup,
        users: UserDAO,
        tokens: AccessTokenDAO,
        caller: Caller,
        current: CurrentPassword,
        audit: AuditTrail,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._lookup = lookup
        self._users = users
        self._tokens = tokens
        self._caller = caller
        self._current = current
        self._audit = audit
        self._clock = clock

    async def create(self, request: TokenCreate) -> TokenCreated:
        """Make a token, and forget those that have expired. Raises Conflict when there are too many.

        It outlives the session, so it needs the password: a stolen access token would become one for a year otherwise.
        Raises ValidationFailed for a wrong one, TooManyRequests.
        """
        user_id = self._caller.user_id
        user = await self._lookup.by_id(user_id)
        if user is None:  # deleted since the request began
            raise InvalidToken
        await self._current.require(user, request.current_password)
        locked = await self._users.lock(user_id)
        if locked is None or locked.hashed_password != user.hashed_password:
            raise wrong_current_password()
        await self._tokens.delete_expired(user_id)
        if await self._tokens.count(user_id) >= MOST_TOKENS:
            raise Conflict(f"You have {MOST_TOKENS} personal access tokens. Revoke one that is not needed.")
        token = new_personal_token()
        row = await self._tokens.add(
            user_id=user_id,
            name=request.name,
            digest=personal_token_digest(token),
            scopes=[scope.value for scope in request.scopes],
            expires_at=self._clock() + timedelta(days=request.expires_in_days),
        )
        await self._audit.record("token.created", Target("token", row.id), scopes=row.scopes)
        return TokenCreated(**row._asdict(), token=token)

    async def all(self) -> TokenList:
        """The caller's tokens. Expired ones stay in the list until the next one is made."""
        rows = await self._tokens.of_user(self._caller.user_id)
        return TokenList(data=[TokenRead(**row._asdict()) for row in rows])

    async def revoke(self, token_id: int) -> None:
        """End one of the caller's tokens. Raises NotFound, also for a token of somebody else."""
        if not await self._tokens.delete_own(token_id, user_id=self._caller.user_id):
            raise NotFound("You have no personal access token with this id.")
        await self._audit.record("token.revoked", Target("token", token_id))
