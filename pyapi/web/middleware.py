"""What happens to every request: an id, one log line, numbers, and a problem document for what nobody foresaw."""

import re
import secrets
import time
from collections.abc import Awaitable, Iterable
from typing import Final

import structlog
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyapi.edge import ANSWER_HEADERS
from pyapi.exceptions import ConfigurationError, PayloadTooLarge, Problem
from pyapi.log import current_request, log_request
from pyapi.web.metrics import count_request
from pyapi.web.problems import problem_response
from pyapi.web.requests import MAX_BODY_BYTES

API_PREFIX = "/api"
REQUEST_ID: Final = b"x-request-id"
UNMATCHED = "unmatched"
_ANSWER_FIELDS: Final = [(name.lower().encode(), value.encode()) for name, value in ANSWER_HEADERS.items()]
_ID = re.compile(r"\d{1,10}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger("pyapi.access")

Field = tuple[bytes, bytes]


class StartReport:
    """Says in one line why the service cannot start, where Starlette would send a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the start and the end of the service."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except BaseException as error:
            if failed is not None:
                await send({**failed, "message": str(error)} if isinstance(error, ConfigurationError) else failed)
            raise


class RequestRecorder:
    """Gives each request its id (the client's own, when that is harmless), logs it and counts it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        current_request.set(request_id)
        status, started = 499, time.perf_counter()  # 499 stays when the client left before an answer

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _complete(message.get("headers", ()), request_id)
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _record(scope, status, time.perf_counter() - started)


def _request_id(scope: Scope) -> str:
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == REQUEST_ID), "")
    return given if _SAFE_ID.fullmatch(given) else secrets.token_hex(16)


def _complete(fields: Iterable[Field], request_id: str) -> list[Field]:
    """The header of an answer with the id, and with what it does not say itself."""
    complete = [field for field in fields if field[0] != REQUEST_ID]
    said = {name for name, _ in complete}
    complete.append((REQUEST_ID, request_id.encode("ascii")))
    complete += [field for field in _ANSWER_FIELDS if field[0] not in said]
    return complete


def _record(scope: Scope, status: int, seconds: float) -> None:
    """One line and one count. The query stays out of the log: people put secrets there."""
    client, route = scope.get("client"), route_template(scope)
    log_request(
        method=scope["method"],
        path=_shown_path(scope, route),
        status=status,
        seconds=seconds,
        client=client[0] if client else None,
    )
    method = scope["method"] if scope["method"] in _METHODS else "other"
    count_request(method=method, route=route, status=status, seconds=seconds)


def _shown_path(scope: Scope, route: str) -> str:
    """The path, with the names of those parameters that are no ids: people put secrets there, too."""
    if route == UNMATCHED:
        return str(scope["path"])
    shown = route
    for name, value in scope.get("path_params", {}).items():
        if name == "run_id" or _ID.fullmatch(str(value)):
            shown = shown.replace(f"{{{name}}}", str(value))
    return shown


def route_template(scope: Scope) -> str:
    """The route as OpenAPI writes it. A route knows its path without the prefix its router was included with."""
    path = getattr(scope.get("route"), "path_format", None)
    if path is None:
        return UNMATCHED
    return f"{API_PREFIX}{path}" if scope["path"].startswith(f"{API_PREFIX}/") else path


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class LastResort:
    """Turns what nobody foresaw into a 500 problem document, and refuses bodies that announce to be too large.

    It stands inside the CORS middleware, so that a browser may read the answer; Starlette's own handler of the last
    resort stands outside of everything.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def remember(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            _refuse_large(scope)
            await self._app(scope, receive, remember)
        except PayloadTooLarge as problem:
            await problem_response(Request(scope), problem)(scope, receive, send)
        except ClientDisconnect:
            return  # nobody is left to be answered; the line of the request says 499
        except Exception:
            log.exception("request.failed", method=scope["method"], path=scope["path"])
            if started:
                raise
            await problem_response(Request(scope), Problem())(scope, receive, send)


def _refuse_large(scope: Scope) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > MAX_BODY_BYTES:
            raise PayloadTooLarge(f"Send at most {MAX_BODY_BYTES} bytes.")
