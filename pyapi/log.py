"""Sets up logging: one event a line, JSON or for a terminal, with the id of the request it belongs to."""

import logging
import sys
from collections.abc import Sequence

import structlog

from pyapi.enums import LogFormat

_FOREIGN = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access")


def configure_logging(*, level: str, style: LogFormat) -> None:
    """Send the events of this project and of the servers around it to stderr in one format.

    Stdout belongs to what commands print. When nobody can take a line any more (a full disk, a closed pipe), the line
    is lost and the request is not.
    """
    as_json = style is LogFormat.JSON or (style is LogFormat.AUTO and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers(as_json=as_json))
    )
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = not name.endswith(".access")  # every request has its line already
    logging.getLogger("alembic").setLevel("WARNING")


def _renderers(*, as_json: bool) -> Sequence[structlog.typing.Processor]:
    first = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if not as_json:
        return [first, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    # Tracebacks as one string without local variables: those may hold passwords.
    return [first, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
