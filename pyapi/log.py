"""Sets up logging: one event a line, JSON or for a terminal, with the id of the request it belongs to."""

import asyncio
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TextIO

import structlog
from pydantic_core import to_json

from pyapi.enums import LogFormat

# Control characters, line separators and lone surrogates that `json` leaves as they are: they move the cursor of a
# terminal, end a line for some readers, or cannot be written at all.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TALKATIVE = frozenset({"asyncpg", "sqlalchemy"})
_FOREIGN = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access")

current_request: ContextVar[str | None] = ContextVar("current_request", default=None)
"""The id of the request that the running task answers; every line that it writes has it."""

_ACCESS: Final = "pyapi.access"


def warn_of_settings(warnings: Iterable[str]) -> None:
    """Say what works and should not stay as it is."""
    for text in warnings:
        structlog.get_logger(__name__).warning("settings.unsafe", hint=text)


def configure_logging(*, level: str, style: LogFormat) -> None:
    """Send the events of this project and of the servers around it to stderr in one format.

    Stdout belongs to what commands print. When nobody can take a line any more (a full disk, a closed pipe), the line
    is lost and the request is not.
    """
    as_json = style is LogFormat.JSON or (style is LogFormat.AUTO and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        _add_request_id,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Lines(sys.stderr)
    formatter = _JsonFormatter if as_json else structlog.stdlib.ProcessorFormatter
    handler.setFormatter(formatter(foreign_pre_chain=shared, processors=_renderers(as_json=as_json)))
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = not name.endswith(".access")  # every request has its line already
    # Each step of a migration, each request to Airflow, each file that a reloader sees.
    for name in ("alembic", "httpcore", "httpx", "watchfiles"):
        logging.getLogger(name).setLevel("WARNING")


class _Lines(logging.StreamHandler[TextIO]):
    """Writes to a stream, and lines of requests together: those that end in one turn of the event loop."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: list[_Event] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def write_soon(self, line: "_Event") -> None:
        """Write a line with the next turn of the running loop, when answers of this one are on their way as well."""
        loop = asyncio.get_running_loop()
        if not self._waiting or loop is not self._loop:
            self._loop = loop
            loop.call_soon(self._write_waiting)
        self._waiting.append(line)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        lines = "".join(_to_json(line.as_structlog_has_it()) + self.terminator for line in waiting)
        with suppress(OSError, ValueError):  # when nobody can take them, they are lost
            self.acquire()
            try:
                self.stream.write(lines)
                self.stream.flush()
            finally:
                self.release()


class _Event(NamedTuple):
    """What one line says; `at` are seconds since 1970."""

    logger: str
    level: str
    name: str
    fields: Mapping[str, Any]
    request_id: str | None
    at: float

    def as_structlog_has_it(self) -> dict[str, Any]:
        """All of it, in the order of structlog."""
        event = {**self.fields, "event": self.name}
        if self.request_id is not None:
            event.setdefault("request_id", self.request_id)
        event |= {"logger": self.logger, "level": self.level}
        event["timestamp"] = (
            datetime.fromtimestamp(self.at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        )
        return event


class _EventRecord(logging.LogRecord):
    """An event in the shape in which structlog hands its own to the formatter."""

    def __init__(self, event: _Event) -> None:
        level = logging.getLevelNamesMapping()[event.level.upper()]
        super().__init__(event.logger, level, "", 0, event.as_structlog_has_it(), None, None)
        self._logger, self._name = None, event.level


class _JsonFormatter(structlog.stdlib.ProcessorFormatter):
    """Lines of JSON."""


def log_event(logger: str, name: str, *, level: Literal["info", "warning"] = "info", **fields: Any) -> None:
    """Write a line past structlog and, where only our handler listens, past `logging`.

    For what happens all the time: their steps and copies of the event take ten times as long, and requests wait for it.
    Needs a running event loop.
    """
    target = logging.getLogger(logger)
    if not target.isEnabledFor(logging.WARNING if level == "warning" else logging.INFO):
        return
    event = _Event(logger, level, name, fields, current_request.get(), time.time())
    listeners = logging.root.handlers
    first = listeners[0] if len(listeners) == 1 else None
    if isinstance(first, _Lines) and isinstance(first.formatter, _JsonFormatter):
        first.write_soon(event)
    else:
        target.handle(_EventRecord(event))


def log_request(*, method: str, path: str, status: int, seconds: float, client: str | None) -> None:
    """Write the line that each request has."""
    took = round(seconds * 1000, 2)
    log_event(_ACCESS, "request", method=method, path=path, status=status, duration_ms=took, client=client)


def _add_request_id(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if (request_id := current_request.get()) is not None:
        event.setdefault("request_id", request_id)
    return event


def _renderers(*, as_json: bool) -> Sequence[structlog.typing.Processor]:
    first = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if not as_json:
        # Strings are shown with repr(), which escapes what would move the cursor.
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), repr_native_str=True, exception_formatter=_write_traceback
        )
        return [first, console]
    return [first, structlog.processors.ExceptionRenderer(_traceback), structlog.processors.JSONRenderer(_to_json)]


def _to_json(event: object, **options: Any) -> str:
    """One line of JSON, whatever it is about."""
    try:
        line = to_json(event).decode()
    except ValueError:  # a lone surrogate, or a thing that has no JSON
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"), **{"default": repr, **options})
    return _printable(line)


def _printable(text: str) -> str:
    if text.isprintable():  # nearly all are, and this is ten times as fast as looking with a pattern
        return text
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    out.write(f"\n{_traceback(exc_info)}")


def _traceback(exc_info: structlog.typing.ExcInfo) -> str:
    """A traceback without values: no local variables, which hold passwords, and nothing that the database said.

    PostgreSQL and its driver repeat what was sent to them: `Key (token)=(...) already exists`.
    """
    text = "".join(traceback.format_exception(*exc_info))
    talkative = [error for error in _chain(exc_info[1]) if type(error).__module__.partition(".")[0] in _TALKATIVE]
    for error in sorted(talkative, key=lambda error: len(str(error)), reverse=True):  # one may be the start of another
        state = getattr(getattr(error, "orig", error), "sqlstate", None)
        text = text.replace(f": {error}\n", f": (message not logged, SQLSTATE {state})\n")
    return text.rstrip("\n")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
