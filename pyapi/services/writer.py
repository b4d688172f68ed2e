"""Who wants to change data records: somebody who is known, or whom an access token names until that was looked at."""

from collections.abc import Awaitable, Callable

from pyapi.db.auth_dao import SignedInUser
from pyapi.services.auth_service import Caller, ClaimedSession


class Writer:
    """The caller of one request.

    Whether a session lives, and what its user may do, the statement of a change finds out itself: nobody asks before.
    """

    def __init__(
        self,
        claimed: ClaimedSession | Caller,
        *,
        look_up: Callable[[], Awaitable[Caller]],
        admit: Callable[[SignedInUser | None], Caller],
    ) -> None:
        """`look_up` asks who it is, `admit` is told; both raise InvalidToken and PermissionDenied."""
        self.user_id = claimed.user_id
        self._claimed = claimed
        self._look_up = look_up
        self._admit = admit
        self._is_refused = False

    @property
    def unseen(self) -> ClaimedSession | None:
        """The session that nobody has looked at yet."""
        return self._claimed if isinstance(self._claimed, ClaimedSession) else None

    @property
    def known(self) -> Caller:
        """Who it is, after somebody has looked."""
        assert isinstance(self._claimed, Caller)
        return self._claimed

    async def caller(self) -> Caller:
        """Who it is; asked once. Raises InvalidToken, PermissionDenied."""
        if isinstance(self._claimed, ClaimedSession):
            self._claimed = await self._look_up()
        return self._claimed

    async def ask(self) -> None:
        """Raise what stands against them, when nobody has asked yet."""
        if not self._is_refused:
            await self.caller()

    def admit(self, user: SignedInUser | None) -> Caller:
        """The same, when a statement has found the user of the session; None where it does not live any more."""
        self._is_refused = True
        self._claimed = caller = self._admit(user)
        self._is_refused = False
        return caller
