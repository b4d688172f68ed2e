"""Accounts, logins and tokens on the wire."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import MISSING, BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from pyapi.enums import Role
from pyapi.schemas.fields import Email, Limit, Name, RequestBody, SearchWords, Skip, Text

_USERNAME = re.compile(r"[A-Za-z0-9_-]{3,64}")
Username = Annotated[
    str,
    StringConstraints(pattern=f"^{_USERNAME.pattern}$"),
    Field(description="3 to 64 letters, digits, `_` or `-`; upper and lower case are the same name."),
]
NewPassword = Annotated[
    str,
    StringConstraints(min_length=8, max_length=128),
    Field(
        description="8 to 128 characters of any script; common and easily guessed ones are refused.",
        json_schema_extra={"format": "password"},
    ),
]
GivenPassword = Annotated[
    str, StringConstraints(min_length=1, max_length=4096), Field(json_schema_extra={"format": "password"})
]
GivenRefreshToken = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class RegisterRequest(RequestBody):
    """A new account."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "username": "wang_xiaoming",
                    "email": "xiaoming@example.com",
                    "password": "SecurePass123",
                    "full_name": "王小明",
                }
            ]
        }
    )

    username: Username
    email: Email
    password: NewPassword
    full_name: Name | None = None


class LoginRequest(RequestBody):
    """Name and password."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"username": "johndoe", "password": "SecurePass123"}]})

    username: Annotated[Text, StringConstraints(min_length=1, max_length=255)]
    password: GivenPassword

    @property
    def can_be_an_account(self) -> bool:
        """Whether a name like this can be registered at all."""
        return _USERNAME.fullmatch(self.username) is not None


class LoginForm(LoginRequest):
    """The password grant of OAuth 2 (RFC 6749, 4.3.2) as Swagger UI and OAuth libraries send it."""

    # A name may not occur twice (RFC 6749, 3.2), so other fields are texts as well, not lists of them.
    model_config = ConfigDict(
        extra="ignore",
        title="LoginForm",
        json_schema_extra={"additionalProperties": {"type": "string"}, "maxProperties": 20},
    )

    grant_type: Literal["password"] = "password"


class RefreshRequest(RequestBody):
    """A refresh token, to be exchanged."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"refresh_token": "mZ0m7pXkzXx1Yw2G9mBvJq3c5t8R0aLdE4uHsN6fKiQ"}]}
    )

    refresh_token: GivenRefreshToken


class LogoutRequest(RequestBody):
    """Which session to end; without a refresh token the one of the access token."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})

    refresh_token: GivenRefreshToken | None = None


class UpdateMeRequest(RequestBody):
    """What people may change about themselves; fields that are not sent stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"full_name": "王小明"}]})

    full_name: Name | None | MISSING = MISSING
    email: Email | MISSING = MISSING
    current_password: GivenPassword | None = Field(None, description="Needed to change the e-mail address.")


class ChangePasswordRequest(RequestBody):
    """The old password and the new one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"current_password": "SecurePass123", "new_password": "另一組更長的密碼 2026"}]}
    )

    current_password: GivenPassword
    new_password: NewPassword


class UpdateUserRequest(RequestBody):
    """What a superuser may change about an account; fields that are not sent stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"full_name": "王小明", "role": "viewer"}]})

    is_active: StrictBool | MISSING = MISSING
    is_superuser: StrictBool | MISSING = MISSING
    role: Role | MISSING = Field(MISSING, description="`admin` is the same as `is_superuser`.")
    full_name: Name | None | MISSING = MISSING
    email: Email | MISSING = MISSING

    @model_validator(mode="after")
    def _of_one_mind(self) -> "UpdateUserRequest":
        sent = self.model_fields_set
        if {"role", "is_superuser"} <= sent and self.is_superuser is not (self.role is Role.ADMIN):
            raise ValueError("send `role` or `is_superuser`: together they contradict each other")
        return self

    def changes(self) -> dict[str, Any]:
        """Only what was sent."""
        return self.model_dump()


class UserListParams(BaseModel):
    """How to list accounts."""

    model_config = ConfigDict(extra="forbid")

    skip: Skip = 0
    limit: Limit = 10
    q: SearchWords | None = Field(None, description="Part of the username, the e-mail address or the full name.")


class UserRead(BaseModel):
    """An account."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    email: str
    full_name: str | None
    is_active: bool
    is_superuser: bool
    role: Role = Field(description="viewer: reads; editor: creates, and changes its own; admin: a superuser.")
    created_at: datetime
    last_login_at: datetime | None


class UserList(BaseModel):
    """A page of accounts."""

    data: list[UserRead]
    total: int
    skip: int
    limit: int


class TokenPair(BaseModel):
    """An access token for the `Authorization` header, and the refresh token that gets the next pair (RFC 6749, 5.1)."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds until the access token expires.")


class SessionsEnded(BaseModel):
    """How many sessions ended just now."""

    message: str
    ended_sessions: int


class TokensRevoked(SessionsEnded):
    """How many sessions and personal access tokens ended just now."""

    revoked_tokens: int


class SessionRead(BaseModel):
    """A login that still holds, on one device."""

    id: UUID
    created_at: datetime = Field(description="When somebody signed in.")
    last_used_at: datetime = Field(description="When its tokens were last renewed.")
    expires_at: datetime
    user_agent: str | None = Field(description="The program, as it calls itself.", examples=["Mozilla/5.0"])
    address: str | None = Field(description="Where it was last renewed from.", examples=["192.0.2.1"])
    is_current: bool = Field(description="Whether this request belongs to it.")


class SessionList(BaseModel):
    """Where somebody is signed in."""

    data: list[SessionRead]
