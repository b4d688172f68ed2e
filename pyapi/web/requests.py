"""Reads request bodies: strict JSON, of bounded size, in bounded time, of the right type."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from collections.abc import Set as AbstractSet
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from pyapi.exceptions import FieldError, PayloadTooLarge, RequestTimeout, UnsupportedMediaType, ValidationFailed
from pyapi.schemas.auth_schemas import LoginForm, LoginRequest

MAX_BODY_BYTES = 1024 * 1024
BODY_SECONDS = 30.0
"""For a whole body, from the moment when somebody wants to read it; 1 MiB in 30 s is 280 kbit/s."""

MAX_DIGITS = 308
MAX_NAMES = 12_000
"""In all objects of a body; the largest config has 10,000 values. Each unknown name costs an error of its own."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class StrictRequest(Request):
    """A request whose body is at most 1 MiB and whose JSON means the same to every reader (RFC 8259, 4 and 6)."""

    async def body(self) -> bytes:
        """The body. Raises RequestTimeout, and PayloadTooLarge, also when no Content-Length announced it."""
        if not hasattr(self, "_body"):
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    self._body = await self._read()
            except TimeoutError:
                raise RequestTimeout("The body did not arrive in time.") from None
        return self._body

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The same in one piece, for whoever else reads it."""
        yield await self.body()

    async def _read(self) -> bytes:
        pieces: list[bytes] = []
        received, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            received += len(pieces[-1])
            more = message.get("more_body", False)
            if received > MAX_BODY_BYTES:
                raise PayloadTooLarge(f"Send at most {MAX_BODY_BYTES} bytes.")
        return b"".join(pieces)

    async def json(self) -> Any:
        """The body as JSON. Raises JSONDecodeError for NaN, numbers beyond a double, and names that occur twice."""
        body = await self.body()
        try:
            return parse_json(body.decode())
        except UnicodeDecodeError:
            _refuse("it is not UTF-8")


def parse_json(text: str) -> Any:
    """Parse JSON without Python's additions to it, and with no more names than a request can need."""
    names = 0

    def counted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal names
        names += len(pairs)
        return _unique(pairs) if names <= MAX_NAMES else _refuse("it has too many names in its objects")

    try:
        return json.loads(
            text,
            parse_constant=lambda _: _refuse("NaN and Infinity are not numbers"),
            parse_float=_finite,
            parse_int=_bounded,
            object_pairs_hook=counted,
        )
    except RecursionError:
        _refuse("it is nested too deeply")


def _refuse(reason: str) -> NoReturn:
    raise json.JSONDecodeError(reason, "", 0) from None


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse("a number is too large")


def _bounded(digits: str) -> int:
    return int(digits) if len(digits.lstrip("-")) <= MAX_DIGITS else _refuse("a number is too large")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse("a name occurs twice in one object")
    return found


class StrictRoute(APIRoute):
    """A route that reads its body as StrictRequest does, and refuses bodies that are not JSON.

    Parameters that it does not know are refused as well: `?dryrun=true` must not make the change that it means to try.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()
        known = known_parameters(self)

        async def handle_strictly(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive)
            refuse_unknown(strict, known)
            # Read before FastAPI does: it turns any failure of reading into a 400.
            if self.body_field is not None and await strict.body():
                require_json(strict)
            return await handle(strict)

        return handle_strictly


def known_parameters(route: APIRoute) -> frozenset[str]:
    """Names of all parameters of a route."""
    return frozenset(parameter.alias for parameter in get_flat_params(route.dependant))


def refuse_unknown(request: Request, known: AbstractSet[str]) -> None:
    """Raise RequestValidationError for parameters of the query that are not among `known`."""
    if request.scope["query_string"] and (unknown := sorted(request.query_params.keys() - known)):
        reason = {"type": "extra_forbidden", "msg": ""}
        raise RequestValidationError([{**reason, "loc": ("query", name)} for name in unknown])


def require_json(request: Request) -> None:
    """Raise UnsupportedMediaType for a body of another type."""
    if media_type(request) != JSON:
        raise UnsupportedMediaType


def media_type(request: Request) -> str:
    """The media type of the body, without parameters; any `+json` type counts as JSON."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return JSON if found.startswith("application/") and found.endswith("+json") else found


async def login_request(request: Request) -> LoginRequest:
    """The name and password of a login, from JSON or from the password form of OAuth 2 on the same URL.

    Raises UnsupportedMediaType, RequestValidationError, ValidationFailed.
    """
    body = await request.body()
    kind = media_type(request)
    model: type[LoginRequest] = LoginForm if kind == FORM else LoginRequest
    if body and kind not in {JSON, FORM}:
        raise UnsupportedMediaType(f"Send the body as {JSON} or {FORM}.")
    try:
        values = _form(body) if kind == FORM else await request.json() if body else None
        return model.model_validate(values)
    except json.JSONDecodeError as error:
        reason = {"type": "json_invalid", "loc": ("body",), "msg": "", "ctx": {"error": error.msg}}
        raise RequestValidationError([reason]) from None
    except ValidationError as error:
        reasons = error.errors(include_input=False, include_url=False)
        raise RequestValidationError([{**reason, "loc": ("body", *reason["loc"])} for reason in reasons]) from None


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form. Raises ValidationFailed, also for a name that occurs twice (RFC 6749, 3.2)."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise ValidationFailed([FieldError("The body is not a form of at most 20 fields in UTF-8.", "/body")]) from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValidationFailed([FieldError("A name occurs twice in the form.", "/body")])
    return fields


LOGIN_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/LoginRequest"}},
            FORM: {"schema": {"$ref": "#/components/schemas/LoginForm"}},
        },
    }
}
"""For the `openapi_extra` of the login: FastAPI knows one media type for a body."""
