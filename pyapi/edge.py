"""What holds for every connection, whoever answers: the largest head of a request, and headers of each answer."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MAX_HEAD_BYTES: Final = 16 * 1024
"""The target of a request and its header fields, together."""

_SEPARATORS: Final = len(": \r\n")

ANSWER_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
"""For an answer that says nothing else: keep it nowhere, run nothing in it, show it in no frame of anybody.

Strict-Transport-Security is missing on purpose: only who ends TLS, the proxy, knows whether a promise of TLS holds.
"""


def field_bytes(name: bytes, value: bytes) -> int:
    """What a header field counts for."""
    return len(name) + len(value) + _SEPARATORS
