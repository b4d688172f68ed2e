"""Who may sign in, and how long a login holds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from pyapi.db.audience import Audience
from pyapi.db.auth_dao import AccountLookup, SessionLookup, UserDAO, UserLookup
from pyapi.db.auth_models import User
from pyapi.db.session_dao import IssuedToken, RefreshTokens, SessionDAO
from pyapi.enums import Role, Scope
from pyapi.exceptions import FieldError, InvalidCredentials, InvalidToken, NotFound, TokenReused, ValidationFailed
from pyapi.schemas.auth_schemas import (
    ChangePasswordRequest,
    LoginRequest,
    RegisterRequest,
    SessionList,
    SessionRead,
    SessionsEnded,
    TokenPair,
    UpdateMeRequest,
    UserRead,
)
from pyapi.services.attempt_service import AttemptService
from pyapi.services.audit_trail import Actor, AuditTrail, Target
from pyapi.services.current_password import CurrentPassword, wrong_current_password
from pyapi.services.password_service import PasswordService
from pyapi.utils.auth import (
    PERSONAL_TOKEN_PREFIX,
    TokenSigner,
    new_refresh_token,
    personal_token_digest,
    refresh_token_digest,
)
from pyapi.utils.changes import Change, find_changes

MOST_SESSIONS: Final = 100
NOBODY_S_NAME: Final = ""


def utc_now() -> datetime:
    """The clock of the service."""
    return datetime.now(UTC)


class ClaimedSession(NamedTuple):
    """A session as an access token names it."""

    user_id: int
    session_id: UUID


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """How tokens are signed and how long they live. A session does not slide: refreshing never makes it longer."""

    signer: TokenSigner
    access_lifetime: timedelta
    session_lifetime: timedelta
    clock: Callable[[], datetime] = utc_now

    def session_of(self, access_token: str) -> ClaimedSession:
        """What an access token of a session says, signed and in time. Whether the session still lives, it cannot say.

        Raises InvalidToken.
        """
        claims = self.signer.verify(access_token, now=self.clock())
        return ClaimedSession(claims.user_id, claims.session_id)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is making this request, and with what: in a session, or with a personal access token."""

    user_id: int
    username: str
    role: Role
    session_id: UUID | None = None
    token_id: int | None = None
    scopes: frozenset[Scope] = frozenset(Scope)
    """What a token was made for; in a session all of it."""

    @property
    def is_superuser(self) -> bool:
        """Whether the caller may do everything."""
        return self.role is Role.ADMIN

    @property
    def audience(self) -> Audience:
        """Whose records they see and change."""
        return Audience(self.user_id, is_admin=self.is_superuser)

    @property
    def actor(self) -> Actor:
        """As the audit log names them."""
        return Actor(self.user_id, self.username, self.token_id)


@dataclass(frozen=True, slots=True)
class Client:
    """What is known about the program at the other end; kept beside its refresh tokens."""

    user_agent: str | None
    address: str | None


class Authenticator:
    """Turns an access token, of a session or a personal one, into a caller."""

    def __init__(self, lookup: UserLookup, sessions: SessionLookup, policy: TokenPolicy) -> None:
        self._lookup = lookup
        self._sessions = sessions
        self._policy = policy

    async def authenticate(self, access_token: str) -> Caller:
        """Who an access token speaks for. Raises InvalidToken also when its session or its account has ended."""
        if access_token.startswith(PERSONAL_TOKEN_PREFIX):
            return await self._by_personal_token(access_token)
        claimed = self._policy.session_of(access_token)
        user = await self._sessions.user_of(user_id=claimed.user_id, session_id=claimed.session_id)
        if user is None:
            raise InvalidToken
        return Caller(user.id, user.username, user.role, session_id=claimed.session_id)

    async def _by_personal_token(self, token: str) -> Caller:
        found = await self._lookup.by_access_token(personal_token_digest(token))
        if found is None:
            raise InvalidToken
        scopes = frozenset(Scope(scope) for scope in found.scopes)
        user = found.user
        return Caller(user.id, user.username, user.role, token_id=found.token_id, scopes=scopes)


class AuthService:
    """Accounts and sessions of people acting for themselves.

    What is only read comes through `lookup` and `accounts`; `users` and `sessions` write, in the transaction of the
    request, which takes its connection from the pool no earlier than at its first statement; `tokens` are exchanged on
    their own.
    """

    def __init__(
        self,
        lookup: UserLookup,
        accounts: AccountLookup,
        users: UserDAO,
        sessions: SessionDAO,
        tokens: RefreshTokens,
        passwords: PasswordService,
        policy: TokenPolicy,
        attempts: AttemptService,
        audit: AuditTrail,
    ) -> None:
        self._lookup = lookup
        self._accounts = accounts
        self._users = users
        self._sessions = sessions
        self._tokens = tokens
        self._passwords = passwords
        self._policy = policy
        self._attempts = attempts
        self._current = CurrentPassword(passwords, attempts)
        self._audit = audit

    async def register(self, request: RegisterRequest) -> UserRead:
        """Open an account. Raises TooManyRequests, ValidationFailed for a weak password, Conflict for a taken name."""
        inputs = [request.username, request.email, request.full_name or ""]
        self._passwords.require_room()
        async with self._attempts.registration():
            await self._passwords.require_strong(request.password, pointer="/body/password", user_inputs=inputs)
            hashed_password = await self._passwords.hash(request.password)
        user = await self._users.add(
            username=request.username,
            email=request.email,
            full_name=request.full_name,
            hashed_password=hashed_password,
        )
        await self._audit.record("user.registered", Target("user", user.id), by=Actor(user.id, user.username))
        return UserRead.model_validate(user)

    async def login(self, request: LoginRequest, client: Client) -> TokenPair:
        """Open a session. Raises InvalidCredentials, always the same one, after exactly one hash; TooManyRequests."""
        self._passwords.require_room()
        # The database has its own idea of which letters are the same in small: to it, `İ` may be an `i`. Whoever could
        # name an account in two ways would see at the limit that there is one.
        user = await self._accounts.credentials(request.username if request.can_be_an_account else NOBODY_S_NAME)
        async with self._attempts.password(user.username if user else request.username):
            fits = await self._passwords.verify(request.password, user.hashed_password if user else None)
            if user is None or not fits or not user.is_active:
                # Never the name: where there is no such account, people have typed their password.
                await self._audit.record("login.failed", Target("user", user.id if user else None))
                raise InvalidCredentials
        rehash = self._passwords.needs_rehash(user.hashed_password)
        refresh_token = new_refresh_token()
        issued = await self._sessions.start(
            user_id=user.id,
            verified_hash=user.hashed_password,
            new_hash=await self._passwords.hash(request.password) if rehash else None,
            expires_at=self._policy.clock() + self._policy.session_lifetime,
            digest=refresh_token_digest(refresh_token),
            user_agent=client.user_agent,
            address=client.address,
        )
        if issued is None:  # closed, or another password, since the row was read
            await self._audit.record("login.failed", Target("user", user.id))
            raise InvalidCredentials
        # The row of the user is locked by now, so of many logins at once each counts those before it.
        ended = await self._sessions.end_oldest(user.id, left=MOST_SESSIONS, reason="too-many")
        details: dict[str, Any] = {"session_id": str(issued.session_id)} | ({"ended_sessions": ended} if ended else {})
        await self._audit.record(
            "login.succeeded", Target("user", user.id), by=Actor(user.id, user.username), **details
        )
        return self._pair(issued, refresh_token)

    async def refresh(self, refresh_token: str, client: Client) -> TokenPair:
        """Exchange a refresh token. Raises InvalidToken; TokenReused ends the whole session (RFC 9700, 4.14.2)."""
        digest = refresh_token_digest(refresh_token)
        successor = new_refresh_token()
        issued = await self._tokens.rotate(
            digest,
            new_digest=refresh_token_digest(successor),
            user_agent=client.user_agent,
            address=client.address,
        )
        if issued is not None:
            return self._pair(issued, successor)
        family = await self._sessions.family_of(digest)
        if family is None or family.unused:
            raise InvalidToken
        if await self._sessions.end(family.session_id, reason="reuse"):
            await self._audit.record(
                "token.reused", Target("user", family.user_id), is_alarm=True, session_id=str(family.session_id)
            )
        raise TokenReused

    def _pair(self, issued: IssuedToken, refresh_token: str) -> TokenPair:
        now = self._policy.clock()
        expires_at = min(now + self._policy.access_lifetime, issued.expires_at)
        access_token = self._policy.signer.sign(
            user_id=issued.user_id, session_id=issued.session_id, issued_at=now, expires_at=expires_at
        )
        return TokenPair(
            access_token=access_token,
            refresh_token=refresh_token,
            expires_in=max(0, int((expires_at - now).total_seconds())),
        )

    async def logout(self, caller: Caller, refresh_token: str | None) -> None:
        """End the session of `refresh_token`, or the caller's own. Raises ValidationFailed for a token of others."""
        session_id = caller.session_id
        if refresh_token is not None:
            family = await self._sessions.family_of(refresh_token_digest(refresh_token))
            if family is None or family.user_id != caller.user_id:
                raise ValidationFailed([FieldError("Send one of your own refresh tokens.", "/body/refresh_token")])
            session_id = family.session_id
        assert session_id is not None  # this is for callers in a session
        await self._sessions.end(session_id, reason="logout")
        await self._record("logout", caller, session_id=str(session_id))

    async def logout_all(self, caller: Caller) -> SessionsEnded:
        """End every session of the caller, this one included."""
        ended = await self._sessions.end_all(caller.user_id, reason="logout-all")
        await self._record("logout.all", caller, sessions=ended)
        return SessionsEnded(message=f"Logged out of {ended} sessions.", ended_sessions=ended)

    async def own_sessions(self, caller: Caller) -> SessionList:
        """Where the caller is signed in, the session used last first; 100 at most."""
        found = await self._sessions.live(caller.user_id, most=MOST_SESSIONS)
        return SessionList(data=[SessionRead(**row._asdict(), is_current=row.id == caller.session_id) for row in found])

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        """Sign the caller out somewhere. Raises NotFound, also for a session of somebody else."""
        if not await self._sessions.end_own(session_id, user_id=caller.user_id, reason="ended-by-owner"):
            raise NotFound("You have no session with this id.")
        await self._record("session.ended", caller, session_id=str(session_id))

    async def me(self, caller: Caller) -> UserRead:
        """The caller's own account."""
        return UserRead.model_validate(await self._own(caller))

    async def update_me(self, caller: Caller, request: UpdateMeRequest) -> UserRead:
        """Change the caller's own account; a new e-mail address needs the password (ASVS 5.0, 7.5.1)."""
        changes = request.model_dump(exclude={"current_password"})
        user = await self._own(caller)
        if changes.get("email", user.email) != user.email:
            await self._current.require(user, request.current_password)
        if changes:
            before = {field: getattr(user, field) for field in changes}
            user = await self._users.update(user.id, **changes)
            found = find_changes(before, changes, shown_before=before, shown_after=changes)
            await self._record("user.updated", caller, changes=found)
        return UserRead.model_validate(user)

    async def change_password(self, caller: Caller, request: ChangePasswordRequest) -> SessionsEnded:
        """Set a new password and end every session, this one included."""
        user = await self._own(caller)
        await self._current.require(user, request.current_password)
        inputs = [user.username, user.email, user.full_name or "", request.current_password]
        await self._passwords.require_strong(request.new_password, pointer="/body/new_password", user_inputs=inputs)
        new_hash = await self._passwords.hash(request.new_password)
        # Locked first, so that a login with the old password comes before this or fails, see SessionDAO.start.
        locked = await self._users.lock(user.id)
        if locked is None or locked.hashed_password != user.hashed_password:
            raise wrong_current_password()
        await self._users.update(user.id, hashed_password=new_hash)
        ended = await self._sessions.end_all(user.id, reason="password-changed")
        await self._record("password.changed", caller, sessions=ended)
        return SessionsEnded(message="Password changed. Sign in again with the new one.", ended_sessions=ended)

    async def _record(
        self, event: str, caller: Caller, *, changes: Iterable[Change] | None = None, **details: Any
    ) -> None:
        """What callers do to their own accounts."""
        await self._audit.record(event, Target("user", caller.user_id), by=caller.actor, changes=changes, **details)

    async def _own(self, caller: Caller) -> User:
        user = await self._lookup.by_id(caller.user_id)
        if user is None:  # deleted since the request began
            raise InvalidToken
        return user
