"""Connections to PostgreSQL: from what a user writes in DATABASE_URL to an engine that never hangs a request."""

import asyncio
import json
import math
import os
from contextlib import suppress
from functools import partial
from typing import Any, Final

import asyncpg
from pydantic_core import to_json
from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_

from pyapi.db.places import FairPool
from pyapi.exceptions import ConfigurationError

CONNECT_SECONDS = 2.0
LOCK_SECONDS = 2.0
STATEMENT_SECONDS = 2.3
"""Limits of single steps; the server keeps the last two, so a server that lives says itself what was too slow."""

ANSWER_SECONDS = 2.5
"""The longest that one request waits for the database, all steps together: no answer may take longer than 3 s to say
503, also when the server is frozen in the middle."""

PATIENT_LOCK_SECONDS = 60
PATIENT_SECONDS = 900
"""Limits for migrations and commands: long enough for a million records, and not for ever."""

MIGRATION_LOCK_SECONDS = 10
"""For a table that a migration wants: while it waits, everybody who comes later waits behind it, readers too."""

IDLE_SECONDS = 60
"""For a transaction in which nobody says anything: what it has locked is needed."""

RESERVED_CONNECTIONS = 2
"""Connections that requests for data records leave to others, so that people can sign in while a table is locked."""

MAX_DIGITS = 310
"""Longest whole number that is read back: PostgreSQL writes the largest double, 1.8e308, with all its 309 digits."""

DEFAULT_PORT = 5432

_NOT_A_URL = (
    "DATABASE_URL is not a URL: write postgresql://user:password@host:5432/database "
    "(percent-encode special characters of the password)."
)
_DRIVERS = frozenset({"postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "postgresql+psycopg"})
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


def parse_database_url(text: str) -> URL:
    """Turn the spellings of PostgreSQL URLs that people have at hand into the one asyncpg takes.

    `postgres://`, `postgresql://` and the psycopg drivers become `postgresql+asyncpg://`; libpq's `?sslmode=` becomes
    asyncpg's `?ssl=`. Raises ConfigurationError, in one line without the password.
    """
    try:
        url = make_url(text.strip())
    except (ArgumentError, ValueError):
        raise ConfigurationError(_NOT_A_URL) from None
    # Behind a bare `@` in the password its rest would be the host, and hosts are shown in messages.
    if text.count("@") > 1 or not 1 <= (DEFAULT_PORT if url.port is None else url.port) <= 65535:
        raise ConfigurationError(_NOT_A_URL)
    if url.drivername not in _DRIVERS:
        raise ConfigurationError(
            f"DATABASE_URL names '{url.drivername}': PyAPI needs PostgreSQL, write postgresql+asyncpg://... instead."
        )
    options = dict(url.query)
    mode = options.pop("sslmode", None)
    ssl = options.pop("ssl", mode)
    if options:
        raise ConfigurationError(f"DATABASE_URL has the option '{min(options)}', which is not supported: remove it.")
    if ssl is not None and ssl not in _SSL_MODES:
        raise ConfigurationError(f"DATABASE_URL: sslmode must be one of {', '.join(sorted(_SSL_MODES))}.")
    return url.set(drivername="postgresql+asyncpg", query={"ssl": ssl} if ssl else {})


def create_engine(database_url: str, *, pool_size: int, patient: bool = False) -> AsyncEngine:
    """Make an engine whose pool holds at most `pool_size` connections to `database_url`.

    Statement and lock limits are set by the server for each connection; `command_timeout` is for a server that is
    frozen and would not keep them. A `patient` engine (migrations, commands) has limits of minutes. Parameters stay out
    of errors and logs: they are passwords and tokens.
    """
    lock, statement, idle = (
        (PATIENT_LOCK_SECONDS, PATIENT_SECONDS, PATIENT_SECONDS)
        if patient
        else (LOCK_SECONDS, STATEMENT_SECONDS, IDLE_SECONDS)
    )
    limits = {
        "lock_timeout": f"{lock * 1000:.0f}",
        "statement_timeout": f"{statement * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{idle * 1000:.0f}",
    }
    engine = create_async_engine(
        parse_database_url(database_url),
        poolclass=FairPool,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        hide_parameters=True,
        json_serializer=write_json,
        json_deserializer=read_stored_json,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": None if patient else STATEMENT_SECONDS,
            "server_settings": {"application_name": "pyapi", "timezone": "UTC", "jit": "off", **limits},
        },
    )
    hanging_up: set[asyncio.Task[None]] = set()
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "do_connect", partial(_await_ends, hanging_up))
    engine.dialect.do_terminate = partial(_hang_up, hanging_up)  # type: ignore[method-assign]
    return engine


def _refuse_closed(dbapi_connection: Any, *_: object) -> None:
    """Let the pool replace a connection whose server end is gone.

    asyncpg has noticed the end of the stream already, so asking costs nothing; a ping would cost a round trip.
    """
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


def _hang_up(hanging_up: set[asyncio.Task[None]], dbapi_connection: Any) -> None:
    """Throw a connection away, and let nobody wait for that who needs no new one.

    A server that lives is told to cancel what it is still doing, so that no statement works on for a request that is
    over; SQLAlchemy would do the same and make the request wait, two seconds when the server is frozen.
    """
    try:
        task = asyncio.get_running_loop().create_task(_close(dbapi_connection.driver_connection))
    except RuntimeError:  # the loop is gone, and with it who could wait
        dbapi_connection.driver_connection.terminate()
    else:
        hanging_up.add(task)
        task.add_done_callback(hanging_up.discard)


def _await_ends(hanging_up: set[asyncio.Task[None]], *_: object) -> None:
    """Make no connection before those that were thrown away are gone: the server would see more than the pool holds.

    Each of them ends within CONNECT_SECONDS, whatever the server does.
    """
    if hanging_up:
        await_(asyncio.wait(set(hanging_up)))


async def _close(connection: Any) -> None:
    with suppress(Exception):  # asyncpg cuts the connection itself when it cannot close it in order
        await connection.close(timeout=CONNECT_SECONDS)


def write_json(value: object) -> str:
    """JSON for PostgreSQL, at most 254 levels deep. The schemas let no NaN come so far; PostgreSQL would refuse it."""
    return to_json(value).decode()


def read_stored_json(text: str) -> Any:
    """Parse a JSONB value, whatever a user of plain SQL has stored in it.

    Numbers that no other JSON reader could take (beyond a double, or thousands of digits) become null, and a value
    nested too deeply for Python becomes a sentence: one bad row must not fail the list it stands in.
    """
    try:
        return _STORED_JSON.raw_decode(text)[0]  # all of it: PostgreSQL puts nothing around it
    except RecursionError:
        return "(nested too deeply to be shown)"


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _bounded(digits: str) -> int | None:
    return int(digits) if len(digits) <= MAX_DIGITS else None


# `json.loads` would make a new one for each value.
_STORED_JSON: Final = json.JSONDecoder(parse_float=_finite, parse_int=_bounded)


# SQLSTATE classes and codes (PostgreSQL, appendix A) that say "not now" rather than "wrong": connection exceptions,
# transaction rollback by deadlock or serialization, resources, operator intervention, system errors; lock not
# available, and a server that is only a standby for the moment.
_PASSING_CLASSES = frozenset({"08", "40", "53", "57", "58"})
_PASSING_CODES = frozenset({"55P03", "25006"})


def is_unavailable(error: BaseException) -> bool:
    """Whether `error` means that the database is away, locked or too slow, and the same request may work later."""
    if isinstance(error, PoolTimeoutError | TimeoutError | OSError):
        return True
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        state = getattr(error, "sqlstate", None)
        return state is None or _passes(state)
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # not said by the server: the connection broke, or could not be made
        return error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
    return _passes(state)


def _passes(state: str) -> bool:
    return state[:2] in _PASSING_CLASSES or state in _PASSING_CODES


_CURES = {
    "28P01": "the user or the password is wrong",
    "28000": "the server does not let this user in (see its pg_hba.conf)",
    "3D000": "there is no such database",
    "42501": "the user may not create tables there: GRANT CREATE ON SCHEMA public, or let the owner migrate",
    "53300": "the server has no connection left",
    "55P03": "a table is locked by somebody else; try again when they have ended",
    "57P03": "the server is starting or stopping",
}


def explain(error: BaseException, url: URL) -> str:
    """One line for an operator about why the database cannot be used; never the text of `error`, never the password."""
    place = f"{url.host or 'localhost'}:{url.port or DEFAULT_PORT}/{url.database or ''}"
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        reason = _CURES.get(state, f"PostgreSQL answered with SQLSTATE {state}")
    elif isinstance(cause, TimeoutError):
        reason = "the server does not answer"
    elif isinstance(cause, OSError):
        # asyncio puts the address into strerror; a failed look-up of a name has a number of its own, below zero.
        words = os.strerror(cause.errno) if cause.errno is not None and cause.errno > 0 else cause.strerror
        reason = f"the server cannot be reached ({words or type(cause).__name__})"
    else:
        reason = f"the connection failed ({type(cause).__name__})"
    return f"DATABASE_URL ({place}): {reason}."
