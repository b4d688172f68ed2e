"""Field types that several schemas share: text PostgreSQL can hold, times in UTC, pages, JSON of bounded depth."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from pyapi.utils.credentials import mask_text

MAX_ID = 2**31 - 1
MAX_DEPTH = 64
MAX_VALUES = 10_000
"""How many values a config may hold: each is looked at for secrets, while other requests wait."""

MAX_NUMBER = 10**308
"""Numbers stay below what a double can hold: other readers of the JSON have nothing wider. A float as well, since
PostgreSQL writes a large one with all its digits."""

_DATE_FIRST = re.compile(r"\d{4}-\d{2}-\d{2}([T ]|$)")
_NO_NUL = r"^[^\x00]*$"
_NO_NUL_NOT_BLANK = r"^[^\x00]*[^\x00\s][^\x00]*$"


class RequestBody(BaseModel):
    """Base of everything a client sends: a field that is not known is an error, never silently dropped."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


def _to_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("write a time between the years 1 and 9999 in UTC") from None


def _only_iso(value: object) -> object:
    """Pydantic also takes bare numbers for times; nobody means them, and no schema here says so."""
    if isinstance(value, int | float) or (isinstance(value, str) and not _DATE_FIRST.match(value)):
        raise ValueError("write an ISO 8601 time such as 2026-01-31T09:00:00+08:00")
    return value


def _valid_email(text: str) -> str:
    try:
        # No look-up in the DNS: registering must not depend on it, and internal domains are addresses too; so is .test.
        return validate_email(
            text, check_deliverability=False, globally_deliverable=False, test_environment=True
        ).normalized
    except EmailNotValidError:
        raise ValueError("write an e-mail address such as name@example.com") from None


def _storable(config: dict[str, Any]) -> dict[str, Any]:
    """Refuse JSON that PostgreSQL cannot store or that other readers could not take back. Walks without recursion."""
    level: list[dict[str, Any] | list[Any]] = [config]
    depth = found = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nest objects and lists at most {MAX_DEPTH} deep")
        below = [value for container in level for value in _values(container)]
        found += len(below)
        if found > MAX_VALUES:
            raise ValueError(f"keep to {MAX_VALUES:,} values in all")
        level = [value for value in below if isinstance(value, dict | list)]
    return config


def _values(container: dict[str, Any] | list[Any]) -> list[Any]:
    """What an object or a list holds. Raises ValueError for a name or a scalar that cannot be stored."""
    names, values = (list(container), list(container.values())) if isinstance(container, dict) else ([], container)
    for part in (*names, *values):
        _storable_scalar(part)
    return values


def _storable_scalar(value: object) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("remove the NUL character (\\u0000): PostgreSQL cannot store it")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("remove the lone surrogate (\\ud800 to \\udfff): it is not a character") from None
    elif isinstance(value, int | float) and not abs(value) < MAX_NUMBER:  # NaN is not below anything
        raise ValueError("write a number below 1e308")


def _without_secret(text: str) -> str:
    if mask_text(text) != text:
        raise ValueError("this is shown to everybody: leave credentials out of it")
    return text


SHOWN_TO_ALL = AfterValidator(_without_secret)
"""For texts that are no place for a credential; they are shown masked as well, since SQL can write them."""

Text = Annotated[str, StringConstraints(pattern=_NO_NUL)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_NO_NUL_NOT_BLANK)]
SearchWords = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_NO_NUL)]
Email = Annotated[
    str, StringConstraints(max_length=254), AfterValidator(_valid_email), Field(json_schema_extra={"format": "email"})
]
UtcTime = Annotated[datetime, BeforeValidator(_only_iso), AfterValidator(_to_utc)]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Skip = Annotated[int, Field(ge=0, le=MAX_ID, description="How many to leave out at the start.")]
Limit = Annotated[int, Field(ge=1, le=1000, description="How many to answer at most.")]
Config = Annotated[
    dict[str, Any],
    AfterValidator(_storable),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": True,
            "description": f"Any JSON, at most {MAX_DEPTH} deep, of {MAX_VALUES:,} values, with numbers below 1e308.",
        }
    ),
]


class Message(BaseModel):
    """What was done, in words."""

    message: str
