"""Personal access tokens on the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from pyapi.enums import Scope
from pyapi.schemas.auth_schemas import GivenPassword
from pyapi.schemas.fields import RequestBody

MOST_DAYS = 365
SCOPES = (
    "data:read: records, runs, logs, calendar; data:write: create, change, share, delete, and the answer is the record;"
    " runs:write: start, end."
)


def _different(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) < len(scopes):
        raise ValueError("name each scope once")
    return scopes


def _no_text(value: object) -> object:
    """Pydantic also takes "7" and true for numbers; in its strict mode it refuses 7.0, which is an integer in JSON."""
    if isinstance(value, str | bool):
        raise ValueError("write a whole number")  # noqa: TRY004 - pydantic takes ValueErrors only
    return value


TokenName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Scopes = Annotated[
    list[Scope],
    Field(min_length=1, max_length=len(Scope), description=SCOPES, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_different),
]


class TokenCreate(RequestBody):
    """A personal access token to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "夜間 CI",
                    "scopes": ["data:read", "runs:write"],
                    "expires_in_days": 90,
                    "current_password": "SecurePass123",
                }
            ]
        }
    )

    name: TokenName = Field(description="What it is for.")
    scopes: Scopes
    expires_in_days: Annotated[int, Field(ge=1, le=MOST_DAYS), BeforeValidator(_no_text)] = 90
    current_password: GivenPassword


class TokenRead(BaseModel):
    """A personal access token, as it can be shown again."""

    id: int
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="Exact to a minute; null when it was never used.")


class TokenCreated(TokenRead):
    """A personal access token, just made. This is the only time it is shown."""

    token: str = Field(examples=["pyapi_pat_mZ0m7pXkzXx1Yw2G9mBvJq3c5t8R0aLdE4uHsN6fKiQ"])


class TokenList(BaseModel):
    """The personal access tokens of somebody, the newest first."""

    data: list[TokenRead]
