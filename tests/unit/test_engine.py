"""DATABASE_URL in the spellings of people, errors in the words of operators, and JSON that plain SQL has stored."""

import ssl
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from sqlalchemy import exc, make_url

from pyapi.db.engine import create_engine, explain, is_unavailable, parse_database_url, read_stored_json
from pyapi.exceptions import ConfigurationError

# --- DATABASE_URL ---

SPELLINGS = [
    ("postgresql+asyncpg://u:p@h:5433/d", "postgresql+asyncpg://u:p@h:5433/d"),
    ("postgresql://u:p@h:5433/d", "postgresql+asyncpg://u:p@h:5433/d"),
    ("postgres://u:p@h:5433/d", "postgresql+asyncpg://u:p@h:5433/d"),
    ("postgresql+psycopg2://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
    ("postgresql+psycopg://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
    ("  postgresql://h/d\n", "postgresql+asyncpg://h/d"),
    ("postgresql://h", "postgresql+asyncpg://h"),
    ("postgresql:///d", "postgresql+asyncpg:///d"),
    ("postgresql://u@[::1]:5433/d", "postgresql+asyncpg://u@[::1]:5433/d"),
    ("postgresql://u:p%40ss%2Fw%3Ard@h/d", "postgresql+asyncpg://u:p%40ss%2Fw%3Ard@h/d"),
    ("postgresql://u:密碼@h/資料", "postgresql+asyncpg://u:%E5%AF%86%E7%A2%BC@h/%E8%B3%87%E6%96%99"),
    ("postgresql://h:1/d", "postgresql+asyncpg://h:1/d"),
    ("postgresql://h:65535/d", "postgresql+asyncpg://h:65535/d"),
    ("postgresql://h/d?sslmode=require", "postgresql+asyncpg://h/d?ssl=require"),
    ("postgresql://h/d?sslmode=verify-full", "postgresql+asyncpg://h/d?ssl=verify-full"),
    ("postgresql://h/d?ssl=disable", "postgresql+asyncpg://h/d?ssl=disable"),
    ("postgresql://h/d?sslmode=prefer&ssl=require", "postgresql+asyncpg://h/d?ssl=require"),
    ("postgresql://h/d?sslmode=", "postgresql+asyncpg://h/d"),
]

# "hunter2" stands where a password, or a part of one, may end up.
REFUSED = [
    ("", "DATABASE_URL is not a URL"),
    ("hunter2", "DATABASE_URL is not a URL"),
    ("u:hunter2@h/d", "DATABASE_URL is not a URL"),
    ("postgresql:/u:hunter2@h/d", "DATABASE_URL is not a URL"),
    ("postgresql://u:x@hunter2@h/d", "DATABASE_URL is not a URL"),
    ("postgresql://u:x@h/unter2@hunter2/d", "DATABASE_URL is not a URL"),
    ("postgresql://u:x@h:hunter2/d", "DATABASE_URL is not a URL"),
    ("postgresql://u:hunter2@h:0/d", "DATABASE_URL is not a URL"),
    ("postgresql://u:hunter2@h:-1/d", "DATABASE_URL is not a URL"),
    ("postgresql://u:hunter2@h:65536/d", "DATABASE_URL is not a URL"),
    ("mysql://u:hunter2@h/d", "DATABASE_URL names 'mysql'"),
    ("mysql+pymysql://u:hunter2@h/d", "DATABASE_URL names 'mysql+pymysql'"),
    ("sqlite:///hunter2.db", "DATABASE_URL names 'sqlite'"),
    ("postgresql+pg8000://u:hunter2@h/d", "DATABASE_URL names 'postgresql+pg8000'"),
    ("postgresql://u:hunter2@h/d?sslmode=hunter2", "DATABASE_URL: sslmode must be one of allow, disable"),
    ("postgresql://u:hunter2@h/d?ssl=true", "DATABASE_URL: sslmode must be one of allow, disable"),
    ("postgresql://h/d?ssl=require&ssl=disable", "DATABASE_URL: sslmode must be one of allow, disable"),
    ("postgresql://h/d?password=hunter2", "DATABASE_URL has the option 'password'"),
    ("postgresql://h/d?sslmode=require&connect_timeout=1", "DATABASE_URL has the option 'connect_timeout'"),
]


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
def test_each_spelling_becomes_the_one_of_asyncpg(written: str, meant: str) -> None:
    assert parse_database_url(written).render_as_string(hide_password=False) == meant


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
def test_parsing_again_changes_nothing(written: str, meant: str) -> None:
    assert parse_database_url(meant) == parse_database_url(written)


def test_a_password_is_decoded() -> None:
    assert parse_database_url("postgresql://u:p%40ss%2Fw%3Ard@h/d").password == "p@ss/w:rd"


@pytest.mark.parametrize(("written", "beginning"), REFUSED)
def test_anything_else_is_refused_in_one_line_without_the_password(written: str, beginning: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_database_url(written)
    line = str(refused.value)
    assert line.startswith(beginning)
    assert "\n" not in line
    assert "hunter2" not in line


async def test_an_engine_shows_neither_password_nor_parameters() -> None:
    engine = create_engine("postgresql://u:hunter2@h/d", pool_size=3)
    assert "hunter2" not in f"{engine!r} {engine.url}"
    assert engine.sync_engine.hide_parameters
    await engine.dispose()


# --- errors ---


def from_driver(kind: type[exc.DBAPIError], orig: Exception, *, connection_invalidated: bool = False) -> exc.DBAPIError:
    """An error as SQLAlchemy raises it for what the driver has raised."""
    return kind("SELECT 1", {}, orig, connection_invalidated=connection_invalidated)


# (name, error, whether the same request may work later)
ERRORS: list[tuple[str, BaseException, bool]] = [
    ("no connection in the pool", exc.TimeoutError(), True),
    ("no answer", TimeoutError(), True),
    ("refused", ConnectionRefusedError(111, "Connection refused"), True),
    ("reset", ConnectionResetError(104, "Connection reset by peer"), True),
    ("no such host", OSError(-2, "Name or service not known"), True),
    ("certificate", ssl.SSLCertVerificationError(1, "certificate verify failed"), True),
    ("cut while waiting", from_driver(exc.InterfaceError, asyncpg.InterfaceError("connection is closed")), True),
    ("lost, class 08", from_driver(exc.OperationalError, asyncpg.ConnectionDoesNotExistError("")), True),
    ("cut and noticed", from_driver(exc.DBAPIError, Exception(), connection_invalidated=True), True),
    ("deadlock", from_driver(exc.DBAPIError, asyncpg.DeadlockDetectedError("")), True),
    ("serialization", from_driver(exc.DBAPIError, asyncpg.SerializationError("")), True),
    ("too many connections", from_driver(exc.DBAPIError, asyncpg.TooManyConnectionsError("")), True),
    ("disk full", from_driver(exc.DBAPIError, asyncpg.DiskFullError("")), True),
    ("out of memory", from_driver(exc.DBAPIError, asyncpg.OutOfMemoryError("")), True),
    ("statement timeout", from_driver(exc.DBAPIError, asyncpg.QueryCanceledError("")), True),
    ("terminated", from_driver(exc.DBAPIError, asyncpg.AdminShutdownError("")), True),
    ("crashed", from_driver(exc.DBAPIError, asyncpg.CrashShutdownError("")), True),
    ("starting", from_driver(exc.DBAPIError, asyncpg.CannotConnectNowError("")), True),
    ("input or output", from_driver(exc.DBAPIError, asyncpg.PostgresIOError("")), True),
    ("locked", from_driver(exc.DBAPIError, asyncpg.LockNotAvailableError("")), True),
    ("standby", from_driver(exc.InternalError, asyncpg.ReadOnlySQLTransactionError("")), True),
    ("duplicate", from_driver(exc.IntegrityError, asyncpg.UniqueViolationError("")), False),
    ("not null", from_driver(exc.IntegrityError, asyncpg.NotNullViolationError("")), False),
    ("no such table", from_driver(exc.ProgrammingError, asyncpg.UndefinedTableError("")), False),
    ("not allowed", from_driver(exc.ProgrammingError, asyncpg.InsufficientPrivilegeError("")), False),
    ("wrong password", from_driver(exc.DBAPIError, asyncpg.InvalidPasswordError("")), False),
    ("bad value, said by the driver", from_driver(exc.DBAPIError, asyncpg.DataError("")), False),
    ("bad value, said by the server", from_driver(exc.DBAPIError, asyncpg.NumericValueOutOfRangeError("")), False),
    ("row missing", exc.NoResultFound(), False),
    ("bug", ValueError("hunter2"), False),
]


@pytest.mark.parametrize(("error", "passes"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_only_what_passes_by_itself_counts_as_unavailable(error: BaseException, passes: bool) -> None:
    assert is_unavailable(error) is passes


@pytest.mark.parametrize("error", [row[1] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_no_explanation_shows_a_password(error: BaseException) -> None:
    url = make_url("postgresql+asyncpg://airflow:hunter2@db.example:5433/airflow")
    line = explain(error, url)
    assert line.startswith("DATABASE_URL (db.example:5433/airflow): ")
    assert "\n" not in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "the server does not answer"),
        (ConnectionRefusedError(111, "Connection refused"), "the server cannot be reached (Connection refused)"),
        (OSError(), "the server cannot be reached (OSError)"),
        (asyncpg.InvalidPasswordError("hunter2"), "the user or the password is wrong"),
        (asyncpg.InvalidAuthorizationSpecificationError("hunter2"), "the server does not let this user in"),
        (asyncpg.InvalidCatalogNameError("hunter2"), "there is no such database"),
        (asyncpg.InsufficientPrivilegeError("hunter2"), "the user may not create tables there"),
        (asyncpg.TooManyConnectionsError("hunter2"), "the server has no connection left"),
        (asyncpg.CannotConnectNowError("hunter2"), "the server is starting or stopping"),
        (asyncpg.UndefinedTableError("hunter2"), "PostgreSQL answered with SQLSTATE 42P01"),
        (asyncpg.InterfaceError("hunter2"), "the connection failed (InterfaceError)"),
        (from_driver(exc.DBAPIError, asyncpg.InvalidPasswordError("hunter2")), "the user or the password is wrong"),
    ],
)
def test_an_explanation_names_the_cause(error: BaseException, reason: str) -> None:
    line = explain(error, make_url("postgresql://airflow:hunter2@db.example/airflow"))
    assert line.startswith(f"DATABASE_URL (db.example:5432/airflow): {reason}")


def test_an_explanation_needs_no_host() -> None:
    line = explain(TimeoutError(), make_url("postgresql:///"))
    assert line == "DATABASE_URL (localhost:5432/): the server does not answer."


# --- JSON that plain SQL has stored ---


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("null", None),
        ("true", True),
        ('"每日"', "每日"),
        ('{"a": [1, 2.5, {"b": null}]}', {"a": [1, 2.5, {"b": None}]}),
        ("-0.0", -0.0),
        ("1e308", 1e308),
        ("1e400", None),
        ("-1e400", None),
        ("[1, 1e999, 2]", [1, None, 2]),
        ("9" * 310, int("9" * 310)),
        ("9" * 311, None),
        ("-" + "9" * 309, -int("9" * 309)),
        ("9" * 100_000, None),
        ("9" * 100_000 + ".5", None),
        ("0." + "1" * 100_000, float(Decimal("0." + "1" * 30))),
        ("[" * 64 + "]" * 64, []),
        ("[" * 100_000 + "]" * 100_000, "(nested too deeply to be shown)"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "(nested too deeply to be shown)"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else None,
)
def test_stored_json_is_read_whatever_it_is(stored: str, read: Any) -> None:
    found = read_stored_json(stored)
    while isinstance(found, list) and len(found) == 1:  # comparing deep lists would go deep as well
        [found] = found
    assert (type(found), found) == (type(read), read)
