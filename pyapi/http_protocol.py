"""One connection of a client: how long it may take, how much it may send, and what it hears when it does neither well.

uvicorn leaves three things to a proxy that may not be there: the time for the head of a request, its size, and a client
that does not read its answer.
"""

import asyncio
import uuid
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pyapi.edge import ANSWER_HEADERS, MAX_HEAD_BYTES, field_bytes
from pyapi.exceptions import BadRequest, HeadersTooLarge, Problem, RequestTimeout, UriTooLong
from pyapi.schemas.problem_schemas import ProblemDocument

_SILENT_BYTES: Final = MAX_HEAD_BYTES + 1024
"""Bytes in a row that are no body and complete no head: method, version and white space count here as well."""

log = structlog.get_logger(__name__)


class _Phase(Enum):
    """What the next bytes of the client belong to."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


# To look a member up on its class takes longer than all else that is done about a header field.
_NOTHING, _HEAD, _BODY = _Phase


class Protocol(HttpToolsProtocol):
    """Answers what never becomes a request with a problem document too: the application does not see it."""

    head_seconds: ClassVar[float] = 15
    """From the connection, or the first byte of a later request, to the end of the head."""
    keep_alive_seconds: ClassVar[int] = 75
    """Between two requests, for the `timeout_keep_alive` of uvicorn; proxies give up after 60 s as a rule, so first."""
    linger_seconds: ClassVar[float] = 5
    """For a client to read why it was refused while it is still sending: a reset would take the answer from it."""
    stall_seconds: ClassVar[float] = 30
    """In which a client has to read something of its answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = _NOTHING
        self._head_bytes = 0
        self._silent_bytes = 0
        self._is_progress = False
        self._is_refused = False
        self._refusal: Problem = BadRequest("The bytes received are not an HTTP request.")
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # --- what the event loop says ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._after("head", self.head_seconds, self._end_waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        for name in list(self._timers):
            self._forget(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on. What a client sends after it was refused is thrown away."""
        if self._is_refused:
            return
        self._is_progress = False
        super().data_received(data)
        self._weigh(data)

    def _weigh(self, data: bytes) -> None:
        """See what the newest bytes were good for."""
        if self._is_refused or self.transport.is_closing():
            return
        self._silent_bytes = 0 if self._is_progress else self._silent_bytes + len(data)
        if self._silent_bytes > _SILENT_BYTES:
            self._refuse(HeadersTooLarge())
        elif self._phase is _HEAD:
            self._wait_for_head()  # here and not at its first byte: most heads arrive complete, and need no clock
        elif self._phase is _NOTHING and not self._is_answering():
            self._wait_for_next()

    def pause_writing(self) -> None:
        """The client reads more slowly than we answer."""
        super().pause_writing()
        self._watch_reader()

    # --- what the parser says ---

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self._phase = _HEAD
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the target has come."""
        super().on_url(url)
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_from_parser(UriTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field is complete. One behind a chunked body is none that anybody here would read."""
        self._head_bytes += field_bytes(name, value)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_from_parser(HeadersTooLarge())
        if self._phase is _HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete; the application begins."""
        self._phase = _BODY
        self._is_progress = True
        self._forget("head")
        if not self.url.startswith((b"/", b"*")):
            self._take_host_from_target()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        self._is_progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete, read or not."""
        self._phase = _NOTHING
        self._is_progress = True
        self._forget("linger")
        super().on_message_complete()

    def _take_host_from_target(self) -> None:
        """`GET http://host/path`: the host in the target counts, and the header does not (RFC 9112, 3.2.2)."""
        target = httptools.parse_url(self.url)
        authority = target.host + (b":%d" % target.port if target.port else b"")
        self.headers[:] = [(name, value) for name, value in self.headers if name != b"host"]
        self.headers.append((b"host", authority))

    def _refuse_from_parser(self, problem: Problem) -> None:
        """Leave the parser; uvicorn then calls `send_400_response`."""
        self._refusal = problem
        raise problem

    # --- what uvicorn says ---

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer what the parser could not read, or was told to refuse."""
        self._refuse(self._refusal)

    def on_response_complete(self) -> None:
        """An answer is written. A client that is still sending what was refused may do so for a moment."""
        super().on_response_complete()
        if self._phase is _BODY and self.cycle.response_complete:
            self._after("linger", self.linger_seconds, self.transport.close)
        self._watch_reader()

    # --- refusing ---

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's types say
        return cycle is not None and not cycle.response_complete

    def _refuse(self, problem: Problem) -> None:
        """Answer, and close: nobody knows where the next request begins."""
        self._is_refused = True
        self._forget("head")
        if self._is_answering():
            if not self.cycle.more_body and not self.pipeline:
                self.cycle.keep_alive = False  # a request that was sent in order gets its answer, and it is the last
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started or self.pipeline:
                self.transport.close()  # a second answer would be taken for a part of the first
                return
        self.transport.write(self._document(problem))
        self.transport.write_eof()
        self._after("linger", self.linger_seconds, self.transport.abort)

    def _document(self, problem: Problem) -> bytes:
        request_id, status = uuid.uuid4().hex, HTTPStatus(problem.status)
        client = self.client[0] if self.client else None
        log.info("request.unreadable", request_id=request_id, status=status.value, client=client)
        body = ProblemDocument(
            type=f"urn:pyapi:problem:{problem.code}",
            title=problem.title,
            status=status,
            detail=problem.detail,
            instance="",
            code=problem.code,
            request_id=request_id,
        ).model_dump_json()
        headers = {
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Request-ID": request_id,
            **ANSWER_HEADERS,
        }
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("ascii")

    # --- waiting ---

    def _wait_for_next(self) -> None:
        """Bytes ended uvicorn's own waiting: the rest of a body that nobody read, or empty lines."""
        if self._is_progress:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        if "head" not in self._timers:
            self._after("head", self.head_seconds, self._end_waiting)

    def _end_waiting(self) -> None:
        """The head did not come in time. Who has not said a word gets no answer, as after an idle time."""
        if self._is_answering():  # a request before this one; its client waits as well
            self._after("head", self.head_seconds, self._end_waiting)
        elif self._silent_bytes or self._phase is _HEAD:
            self._refuse(RequestTimeout("The head of the request did not arrive in time."))
        else:
            self.transport.close()

    def _watch_reader(self, left: int | None = None) -> None:
        """Cut a client that has not read a byte of what waits for it since there were `left` bytes."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._forget("reader")
        elif left is not None and waiting >= left:
            log.info("client.stalled", bytes=waiting, client=self.client[0] if self.client else None)
            self.transport.abort()
        else:
            self._after("reader", self.stall_seconds, lambda: self._watch_reader(waiting))

    def _after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Do something later; what was to be done under this name is forgotten."""
        self._forget(name)
        self._timers[name] = self.loop.call_later(seconds, self._ring, name, act)

    def _ring(self, name: str, act: Callable[[], None]) -> None:
        del self._timers[name]
        act()

    def _forget(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
