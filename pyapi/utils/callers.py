"""Who is calling?"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, OAuth2PasswordBearer

from pyapi.db.audience import STRANGER, Audience, SessionAudience
from pyapi.db.auth_dao import SessionLookup, SignedInUser, UserLookup
from pyapi.db.dependencies import database, patience_of, single_statements, transaction
from pyapi.enums import Role, Scope
from pyapi.exceptions import (
    InsufficientScope,
    InvalidToken,
    PermissionDenied,
    RegistrationClosed,
    Unauthenticated,
)
from pyapi.services.auth_service import Authenticator, Caller, Client, TokenPolicy
from pyapi.services.writer import Writer
from pyapi.utils.auth import PERSONAL_TOKEN_PREFIX

BEFORE_REFUSAL: Final = "before_refusal"
"""In the state of a request: what has to be asked before the request is refused for another reason."""

LOGIN_URL = "auth/login"
"""Relative to /api/openapi.json, so that it also holds behind a proxy that adds a prefix."""


class _ShownPasswordFlow(OAuth2PasswordBearer):
    """It only says in OpenAPI how to sign in, which makes Swagger's "Authorize" work; the header is read below."""

    is_only_shown: Final = True

    async def __call__(self) -> None:  # type: ignore[override]
        """Find nothing out."""


class _ShownBearer(HTTPBearer):
    """The same for tokens of programs."""

    is_only_shown: Final = True

    async def __call__(self) -> None:  # type: ignore[override]
        """Find nothing out."""


oauth2_scheme = _ShownPasswordFlow(tokenUrl=LOGIN_URL, scheme_name="OAuth2PasswordBearer", auto_error=False)
personal_token_scheme = _ShownBearer(
    scheme_name="PersonalAccessToken",
    bearerFormat="pyapi_pat_...",
    description="A token of `POST /api/auth/tokens`; the scope that a route needs stands beside it.",
    auto_error=False,
)
OPTIONAL_SIGN_IN: dict[str, Any] = {"security": [{}]}
"""For `openapi_extra`: signing in is possible and not needed."""


def header_values(request: Request, name: bytes) -> list[str]:
    """The values of a header field; `name` in small letters. Starlette decodes all fields to find one."""
    return [value.decode("latin-1") for field, value in request.scope["headers"] if field == name]


def bearer_token(request: Request) -> str | None:
    """The access token of the request; None when there is no Authorization header at all.

    Raises InvalidToken for anything else than one header of the form `Bearer <token>` (RFC 6750, 2.1).
    """
    headers = header_values(request, b"authorization")
    if not headers:
        return None
    scheme, _, token = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not token:
        raise InvalidToken
    return token.strip(" ")


def lookup_of(request: Request) -> UserLookup:
    """Reads of users in short sessions of their own."""
    return UserLookup(partial(transaction, database(request).reads, patience=patience_of(request)))


async def user_lookup(request: Request) -> UserLookup:
    """The same as a dependency."""
    return lookup_of(request)


Lookup = Annotated[UserLookup, Depends(user_lookup)]


def _authenticator(request: Request) -> Authenticator:
    return Authenticator(lookup_of(request), SessionLookup(single_statements(request)), request.app.state.tokens)


async def bearer(request: Request, _: Annotated[str | None, Depends(oauth2_scheme)]) -> Caller | None:
    """Who sent the token, whatever it may be used for; None without one. It is for the functions below only.

    A token that does not hold is an error, never "nobody". What it needs it calls, because most requests come by here
    and each dependency costs some of their time.
    """
    if (token := bearer_token(request)) is None:
        return None
    request.state.caller = caller = await _authenticator(request).authenticate(token)
    return caller


Bearer = Annotated[Caller | None, Depends(bearer)]


async def signed_in(caller: Bearer) -> Caller:
    """Who is calling, in a session of their own. Raises Unauthenticated, and InsufficientScope for programs."""
    if caller is None:
        raise Unauthenticated
    if caller.token_id is not None:
        raise InsufficientScope
    return caller


SignedIn = Annotated[Caller, Depends(signed_in)]


async def superuser(caller: SignedIn) -> Caller:
    """Who is calling. Raises PermissionDenied for everybody but superusers."""
    if not caller.is_superuser:
        raise PermissionDenied("This needs a superuser.")
    return caller


Superuser = Annotated[Caller, Depends(superuser)]


def _permit(caller: Caller, scope: Scope) -> Caller:
    """Raises InsufficientScope for a token without the scope, PermissionDenied for viewers who write."""
    if scope not in caller.scopes:
        raise InsufficientScope(scope)
    if scope is not Scope.DATA_READ and caller.role is Role.VIEWER:
        raise PermissionDenied("Your account may only read; an admin can make you an editor.")
    return caller


def permitted(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Let people in whose role allows what the scope names, and programs that have the scope.

    What asks for `SignedIn` instead is for people in a session only.
    """

    async def caller(
        caller: Bearer, _: Annotated[object, Security(personal_token_scheme, scopes=[scope.value])]
    ) -> Caller:
        if caller is None:
            raise Unauthenticated
        return _permit(caller, scope)

    return caller


DataWriter = Annotated[Caller, Depends(permitted(Scope.DATA_WRITE))]


async def data_writer(
    request: Request,
    _: Annotated[None, Depends(oauth2_scheme)],
    __: Annotated[object, Security(personal_token_scheme, scopes=[Scope.DATA_WRITE.value])],
) -> Writer:
    """Who wants to change records: the same as `DataWriter`, for services that can do without a look at the session."""

    async def look_up() -> Caller:
        caller = await bearer(request, None)
        if caller is None:
            raise Unauthenticated
        return _permit(caller, Scope.DATA_WRITE)

    def admit(user: SignedInUser | None) -> Caller:
        if user is None:
            raise InvalidToken
        request.state.caller = caller = Caller(user.id, user.username, user.role, session_id=claimed.session_id)
        return _permit(caller, Scope.DATA_WRITE)

    token = bearer_token(request)
    if token is None or token.startswith(PERSONAL_TOKEN_PREFIX):
        return Writer(await look_up(), look_up=look_up, admit=admit)
    policy: TokenPolicy = request.app.state.tokens
    claimed = policy.session_of(token)
    writer = Writer(claimed, look_up=look_up, admit=admit)
    request.scope["state"][BEFORE_REFUSAL] = writer.ask
    return writer


DataInsider = Annotated[Caller, Depends(permitted(Scope.DATA_READ))]
RunWriter = Annotated[Caller, Depends(permitted(Scope.RUNS_WRITE))]


async def reader(
    request: Request,
    caller: Bearer,
    _: Annotated[object, Security(personal_token_scheme, scopes=[Scope.DATA_READ.value])],
) -> Caller | None:
    """Who is reading records; None for somebody who is not signed in, where the settings let such people read."""
    if caller is not None:
        return _permit(caller, Scope.DATA_READ)
    if not request.app.state.anonymous_read:
        raise Unauthenticated
    return None


Reader = Annotated[Caller | None, Depends(reader)]


async def reading_audience(
    request: Request,
    _: Annotated[None, Depends(oauth2_scheme)],
    __: Annotated[object, Security(personal_token_scheme, scopes=[Scope.DATA_READ.value])],
) -> Audience | SessionAudience:
    """Who is reading records, for statements that look at the session of the caller themselves.

    Everybody in a session may read, so nothing else has to be known of them before.
    """
    token = bearer_token(request)
    if token is not None and not token.startswith(PERSONAL_TOKEN_PREFIX):
        policy: TokenPolicy = request.app.state.tokens
        return SessionAudience(*policy.session_of(token))
    return audience_of(await reader(request, await bearer(request, token), None))


RecordAudience = Annotated[Audience | SessionAudience, Depends(reading_audience)]


async def open_registration(request: Request) -> None:
    """Raises RegistrationClosed where administrators open accounts."""
    if not request.app.state.registration_open:
        raise RegistrationClosed


OpenRegistration = Depends(open_registration)


def audience_of(caller: Caller | None) -> Audience:
    """Whose records a statement is about."""
    return STRANGER if caller is None else caller.audience


def client_of(request: Request) -> Client:
    """The program at the other end, as far as the database can keep it."""
    agent = request.headers.get("user-agent")
    return Client(
        user_agent=agent.replace("\x00", "")[:512] if agent else None,
        address=request.client.host[:45] if request.client else None,
    )


async def client(request: Request) -> Client:
    """The same, for routes that say more of it than the audit log does."""
    return client_of(request)


CallingClient = Annotated[Client, Depends(client)]
