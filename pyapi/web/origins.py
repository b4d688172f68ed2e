"""Which pages of other origins may read what this service answers to a browser (the CORS protocol of Fetch)."""

from collections.abc import Sequence

from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pyapi.exceptions import BadRequest
from pyapi.web.problems import problem_response

READABLE = ["Content-Language", "ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID"]
SENDABLE = ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-ID"]


class Origins(CORSMiddleware):
    """Names the allowed origins only. Nothing here is signed in by a cookie, so credentials are never allowed."""

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=tuple(allowed),
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=SENDABLE,
            expose_headers=READABLE,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. A preflight that is refused is a problem document, as any other refusal."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                await self._preflight(headers, scope)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, headers: Headers, scope: Scope) -> Response:
        answer = self.preflight_response(headers)
        if answer.status_code == 200:
            return answer
        refusal = problem_response(
            Request(scope), BadRequest("That origin may not ask this, or not by this method or with these headers.")
        )
        for name, value in answer.headers.items():
            if name not in {"content-type", "content-length"}:
                refusal.headers[name] = value
        return refusal
