"""Refuses requests for another host (RFC 9112, 3.2), packed for the way (6.1), or with too large a head."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pyapi.edge import MAX_HEAD_BYTES, field_bytes
from pyapi.exceptions import BadRequest, HeadersTooLarge, Problem, TransferCodingUnknown, UriTooLong
from pyapi.web.problems import problem_response

# A name, an IPv4 address, or an IPv6 address in brackets; with or without a port.
_HOST: Final = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_OWN_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Always trusted: a page of a stranger cannot have been loaded under one of these, unless this machine serves it."""
_PROBES: Final = frozenset({"/api/health", "/api/health/live", "/api/health/ready"})
"""Load balancers and Kubernetes ask under the address of the machine, which changes."""


class HeadGuard:
    """Looks at the head of each request before anybody else does.

    `python -m pyapi` has refused a large head on the connection already; other servers let it through to here.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str]) -> None:
        self._app = app
        names = [name.lower() for name in trusted]
        self._trusted = frozenset(names) | _OWN_NAMES
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._trusts_all = "*" in trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(Request(scope), problem)(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target > MAX_HEAD_BYTES:
            return UriTooLong()
        if target + sum(field_bytes(name, value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
            return HeadersTooLarge()
        codings = [value.strip().lower() for name, value in scope["headers"] if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            # A parser unpacks the chunks and forgets the rest: `gzip, chunked` would be read as if it were not gzip.
            return TransferCodingUnknown()
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if not hosts and scope["http_version"] == "1.0":
            hosts = [b""]  # it knew no such header
        if len(hosts) != 1:
            return BadRequest("Send one Host header.")
        host = _HOST.fullmatch(hosts[0].decode("latin-1"))
        if host is None and hosts != [b""]:
            return BadRequest("The Host header is no host.")
        if self._is_trusted(host[1] if host else "") or scope["path"] in _PROBES:
            return None
        return BadRequest("This service is not served under that host.")

    def _is_trusted(self, host: str) -> bool:
        name = host.lower().removesuffix(".")
        return self._trusts_all or name in self._trusted or name.endswith(self._suffixes)
