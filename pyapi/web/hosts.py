"""Refuses requests for another host (RFC 9112, 3.2), packed for the way (6.1), or with too large a head."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pyapi.edge import MAX_HEAD_BYTES, field_bytes
from pyapi.exceptions import BadRequest, HeadersTooLarge, Problem, TransferCodingUnknown, UriTooLong
from pyapi.web.problems import problem_response

# A name, an IPv4 address, or an IPv6 address in brackets; with or without a port.
_HOST: Final = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_LONGEST_HOST: Final = 255 + len(":65535")
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
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if size > MAX_HEAD_BYTES:
            return UriTooLong()
        hosts: list[bytes] = []
        codings: list[bytes] = []
        for name, value in scope["headers"]:
            size += field_bytes(name, value)
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings.append(value.strip().lower())
        if size > MAX_HEAD_BYTES:
            return HeadersTooLarge()
        if codings and codings != [b"chunked"]:
            # A parser unpacks the chunks and forgets the rest: `gzip, chunked` would be read as if it were not gzip.
            return TransferCodingUnknown()
        if not hosts and scope["http_version"] == "1.0":
            hosts = [b""]  # it knew no such header
        if len(hosts) != 1:
            return BadRequest("Send one Host header.")
        # A longer one is none, and is not remembered.
        if len(hosts[0]) > _LONGEST_HOST or (host := _name_of(hosts[0])) is None:
            return BadRequest("The Host header is no host.")
        if self._is_trusted(host) or scope["path"] in _PROBES:
            return None
        return BadRequest("This service is not served under that host.")

    def _is_trusted(self, name: str) -> bool:
        return self._trusts_all or name in self._trusted or name.endswith(self._suffixes)


@lru_cache(256)
def _name_of(host: bytes) -> str | None:
    """The name in a Host header, empty for an empty one; None for what is no host."""
    found = _HOST.fullmatch(host.decode("latin-1"))
    if found is None:
        return None if host else ""
    return found[1].lower().removesuffix(".")
