"""Routes of accounts and sessions."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from pyapi.exceptions import (
    Busy,
    Conflict,
    DatabaseUnavailable,
    InvalidCredentials,
    InvalidToken,
    NotFound,
    PermissionDenied,
    RegistrationClosed,
    TooManyRequests,
)
from pyapi.schemas.auth_schemas import (
    ChangePasswordRequest,
    LoginRequest,
    LogoutRequest,
    RefreshRequest,
    RegisterRequest,
    SessionList,
    SessionsEnded,
    TokenPair,
    TokensRevoked,
    UpdateMeRequest,
    UpdateUserRequest,
    UserList,
    UserListParams,
    UserRead,
)
from pyapi.schemas.fields import MAX_ID, Message
from pyapi.utils.callers import CallingClient, OpenRegistration, SignedIn
from pyapi.utils.dependencies import Auth, Users
from pyapi.web.problems import problem_responses
from pyapi.web.requests import LOGIN_BODY, StrictRoute, login_request

router = APIRouter(prefix="/auth", tags=["認證 Authentication"], route_class=StrictRoute)

UserId = Annotated[int, Path(ge=1, le=MAX_ID)]
NO_STORE = {"Cache-Control": "no-store"}


@router.post(
    "/register",
    status_code=201,
    dependencies=[OpenRegistration],
    responses=problem_responses([RegistrationClosed, Conflict, TooManyRequests, Busy, DatabaseUnavailable]),
)
async def register(request: RegisterRequest, auth: Auth) -> UserRead:
    """Open an account."""
    return await auth.register(request)


@router.post(
    "/login",
    responses=problem_responses([InvalidCredentials, TooManyRequests, Busy, DatabaseUnavailable]),
    openapi_extra=LOGIN_BODY,
)
async def login(
    request: Annotated[LoginRequest, Depends(login_request)], auth: Auth, client: CallingClient, response: Response
) -> TokenPair:
    """Sign in with JSON, or with the password form of OAuth 2, and get a pair of tokens."""
    response.headers.update(NO_STORE)
    return await auth.login(request, client)


@router.post("/refresh", responses=problem_responses([InvalidToken]))
async def refresh(request: RefreshRequest, auth: Auth, client: CallingClient, response: Response) -> TokenPair:
    """Exchange a refresh token for a new pair. Each works once; a second use ends the session."""
    response.headers.update(NO_STORE)
    return await auth.refresh(request.refresh_token, client)


@router.post("/logout", responses=problem_responses([InvalidToken]))
async def logout(caller: SignedIn, auth: Auth, request: LogoutRequest | None = None) -> Message:
    """End the session of the given refresh token or, without one, the session of the access token."""
    await auth.logout(caller, request.refresh_token if request else None)
    return Message(message="Logged out.")


@router.post("/logout-all", responses=problem_responses([InvalidToken]))
async def logout_all(caller: SignedIn, auth: Auth) -> SessionsEnded:
    """End every session of your account, this one included."""
    return await auth.logout_all(caller)


@router.get("/sessions", responses=problem_responses([InvalidToken]))
async def list_sessions(caller: SignedIn, auth: Auth) -> SessionList:
    """List where you are signed in, the session used last first."""
    return await auth.own_sessions(caller)


@router.delete("/sessions/{session_id}", responses=problem_responses([InvalidToken, NotFound]))
async def end_session(session_id: UUID, caller: SignedIn, auth: Auth) -> Message:
    """End one of your sessions; its tokens are refused from now on."""
    await auth.end_session(caller, session_id)
    return Message(message="The session has ended.")


@router.get("/me", responses=problem_responses([InvalidToken]))
async def get_me(caller: SignedIn, auth: Auth) -> UserRead:
    """Read your account."""
    return await auth.me(caller)


@router.put("/me", responses=problem_responses([InvalidToken, Conflict, TooManyRequests, Busy, DatabaseUnavailable]))
async def update_me(request: UpdateMeRequest, caller: SignedIn, auth: Auth) -> UserRead:
    """Change your account. A new e-mail address needs `current_password`."""
    return await auth.update_me(caller, request)


@router.post(
    "/change-password", responses=problem_responses([InvalidToken, TooManyRequests, Busy, DatabaseUnavailable])
)
async def change_password(request: ChangePasswordRequest, caller: SignedIn, auth: Auth) -> SessionsEnded:
    """Set a new password. Every session ends, this one included."""
    return await auth.change_password(caller, request)


@router.get("/users", responses=problem_responses([InvalidToken, PermissionDenied]))
async def list_users(params: Annotated[UserListParams, Query()], users: Users) -> UserList:
    """List accounts (superusers only)."""
    return await users.page(params)


@router.get("/users/{user_id}", responses=problem_responses([InvalidToken, PermissionDenied, NotFound]))
async def get_user(user_id: UserId, users: Users) -> UserRead:
    """Read an account (superusers only)."""
    return await users.get(user_id)


@router.put("/users/{user_id}", responses=problem_responses([InvalidToken, PermissionDenied, NotFound, Conflict]))
async def update_user(user_id: UserId, request: UpdateUserRequest, users: Users) -> UserRead:
    """Change an account (superusers only). Closing it ends its sessions and tokens at once."""
    return await users.update(user_id, request)


@router.post("/users/{user_id}/revoke-tokens", responses=problem_responses([InvalidToken, PermissionDenied, NotFound]))
async def revoke_user_tokens(user_id: UserId, users: Users) -> TokensRevoked:
    """End every session and every personal access token of an account (superusers only)."""
    return await users.revoke_tokens(user_id)
