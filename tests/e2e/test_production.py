"""What must not start: production with unsafe settings, and any server without its database. One line says why.

And what starts with a warning.
"""

import json
import secrets
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from tests.conftest import NewDatabase
from tests.fixtures.servers import (
    GUNICORN,
    PYAPI,
    UVICORN,
    WARM_PYAPI,
    Finished,
    OwnPostgres,
    StartServer,
    free_port,
    run_command,
)

pytestmark = pytest.mark.usefixtures("warm_interpreter")

GOOD_KEY = secrets.token_urlsafe(48)
DATABASE_PASSWORD = "database-password-2026"
MISSING = ""


class Commands(Mapping[str, Finished]):
    """Commands by name that are started at once, two at a time; an entry is there when it has ended."""

    def __init__(self, folder: Path, commands: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]) -> None:
        self._threads = ThreadPoolExecutor(2)
        self._futures = {
            name: self._threads.submit(run_command, folder / name, *command, settings=settings)
            for name, (command, settings) in commands.items()
        }

    def __getitem__(self, name: str) -> Finished:
        return self._futures[name].result()

    def __iter__(self) -> Iterator[str]:
        return iter(self._futures)

    def __len__(self) -> int:
        return len(self._futures)


# --- unsafe settings --------------------------------------------------------------------------------------------------

CURE = "Make one with `pyapi secret generate`."
REFUSALS = {
    "no database": (
        {"DATABASE_URL": MISSING},
        "DATABASE_URL is missing: production needs a PostgreSQL server, name it as postgresql://user@host/db.",
    ),
    "no key": (
        {"SECRET_KEY": MISSING},
        "SECRET_KEY is missing: make one with `pyapi secret generate` and set it on every worker.",
    ),
    "31 bytes": ({"SECRET_KEY": GOOD_KEY[:31]}, f"SECRET_KEY is unsafe: The key is shorter than 32 bytes. {CURE}"),
    "low variety": (
        {"SECRET_KEY": "0123456701234567012345670123456701234567"},
        f"SECRET_KEY is unsafe: The key has too much of a pattern to be random. {CURE}",
    ),
    "first example": (
        {"SECRET_KEY": "your-super-secret-key-change-in-production-min-32-chars"},
        f"SECRET_KEY is unsafe: The key is an example from the documentation, known to everybody. {CURE}",
    ),
    "second example": (
        {"SECRET_KEY": "your-production-secret-key-at-least-32-characters"},
        f"SECRET_KEY is unsafe: The key is an example from the documentation, known to everybody. {CURE}",
    ),
    "no limits": (
        {"PYAPI_RATE_LIMIT_ENABLED": "false"},
        "PYAPI_RATE_LIMIT_ENABLED is off: set it to true, or passwords can be guessed without end.",
    ),
    "any proxy": (
        {"PYAPI_FORWARDED_ALLOW_IPS": "*"},
        "PYAPI_FORWARDED_ALLOW_IPS is open to everybody: name the proxies, or their networks as 10.0.0.0/8.",
    ),
    "reload": (
        {"PYAPI_RELOAD": "true"},
        "PYAPI_RELOAD is on: set it to false, reloading is for development.",
    ),
}
PRODUCTION = {
    "PYAPI_ENVIRONMENT": "production",
    "DATABASE_URL": f"postgresql://pyapi:{DATABASE_PASSWORD}@127.0.0.1/pyapi",
    "SECRET_KEY": GOOD_KEY,
}
SERVERS: dict[str, tuple[str, ...]] = {"uvicorn": UVICORN, "gunicorn": (*GUNICORN, "--workers", "1")}
Command = tuple[tuple[str, ...], Mapping[str, str]]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """What each server says: of each setting `python -m pyapi`, of one the others, which ask the same function."""
    port = str(free_port())
    commands: dict[str, Command] = {
        name: (WARM_PYAPI, PRODUCTION | bad | {"PYAPI_PORT": port}) for name, (bad, _) in REFUSALS.items()
    }
    commands["no database"] = (PYAPI, commands["no database"][1])  # one with all the time it takes
    for server, command in SERVERS.items():
        words = tuple(word.format(port=port) for word in command)
        commands[server] = (words, PRODUCTION | REFUSALS["31 bytes"][0])
    return Commands(tmp_path_factory.mktemp("refused"), commands)


@pytest.mark.parametrize("name", REFUSALS)
def test_production_refuses_in_one_line(refused: Commands, name: str) -> None:
    assert refused[name].refusal == REFUSALS[name][1] + "\n"


def test_production_refuses_within_five_seconds(refused: Commands) -> None:
    assert max(refused[name].seconds for name in REFUSALS) < 5


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_leaves_nothing_behind(refused: Commands, name: str) -> None:
    assert list(refused[name].folder.iterdir()) == []


@pytest.mark.parametrize("server", SERVERS)
def test_other_servers_end_as_well(refused: Commands, server: str) -> None:
    """gunicorn would start a worker that fails again and again, had it not the exit status 3."""
    assert refused[server].status == 3


@pytest.mark.parametrize("server", SERVERS)
def test_other_servers_say_the_same(refused: Commands, server: str) -> None:
    assert [line for line in refused[server].said.splitlines() if "KEY" in line] == [REFUSALS["31 bytes"][1]]


@pytest.mark.parametrize("name", REFUSALS)
def test_no_value_is_shown(refused: Commands, name: str) -> None:
    bad = [value for variable, value in REFUSALS[name][0].items() if variable == "SECRET_KEY" and value]
    said = "".join(finished.said for finished in refused.values())

    assert [value for value in [GOOD_KEY, DATABASE_PASSWORD, *bad] if value in said] == []


# --- a database that cannot be used -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """Takes connections and never says a word, as a server does behind a firewall."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield int(silent.getsockname()[1])


UNUSABLE = {
    "password": ("postgresql://pyapi:{wrong}@127.0.0.1:{port}/pyapi", "the user or the password is wrong."),
    "user": ("postgresql://nobody:{right}@127.0.0.1:{port}/pyapi", "the user or the password is wrong."),
    "database": ("postgresql://pyapi:{right}@127.0.0.1:{port}/nothing", "there is no such database."),
    "port": (
        "postgresql://pyapi:{right}@127.0.0.1:{closed}/pyapi",
        "the server cannot be reached (Connection refused).",
    ),
    "silence": ("postgresql://pyapi:{right}@127.0.0.1:{silent}/pyapi", "the server does not answer."),
}
UNREADABLE = {
    "driver": (
        "mysql://pyapi:{right}@127.0.0.1:{port}/pyapi",
        "DATABASE_URL names 'mysql': PyAPI needs PostgreSQL, write postgresql+asyncpg://... instead.",
    ),
    "option": (
        "postgresql://pyapi:{right}@127.0.0.1:{port}/pyapi?target_session_attrs=read-write",
        "DATABASE_URL has the option 'target_session_attrs', which is not supported: remove it.",
    ),
}


@dataclass(frozen=True)
class Attempts:
    """What was said about URLs that cannot work."""

    urls: Mapping[str, URL]
    commands: Commands
    passwords: list[str]


@pytest.fixture(scope="module")
def attempts(own_postgres: OwnPostgres, silent_port: int, tmp_path_factory: pytest.TempPathFactory) -> Attempts:
    good = make_url(own_postgres.url)
    words = {
        "wrong": DATABASE_PASSWORD,
        "right": str(good.password),
        "port": good.port,
        "closed": free_port(),
        "silent": silent_port,
    }
    urls = {name: text.format(**words) for name, (text, _) in (UNUSABLE | UNREADABLE).items()}
    port = str(free_port())
    commands: dict[str, Command] = {
        name: (WARM_PYAPI, {"DATABASE_URL": url, "PYAPI_PORT": port}) for name, url in urls.items()
    }
    commands["silence"] = (PYAPI, commands["silence"][1])  # the slowest one with all the time it takes
    for server, command in SERVERS.items():
        line = tuple(word.format(port=port) for word in command)
        commands[server] = (line, {"DATABASE_URL": urls["password"]})
    return Attempts(
        {name: make_url(url) for name, url in urls.items()},
        Commands(tmp_path_factory.mktemp("attempts"), commands),
        [DATABASE_PASSWORD, str(good.password)],
    )


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_database_that_cannot_be_used_is_one_line(attempts: Attempts, name: str) -> None:
    url = attempts.urls[name]

    assert attempts.commands[name].refusal == (
        f"DATABASE_URL ({url.host}:{url.port}/{url.database}): {UNUSABLE[name][1]}\n"
    )


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_url_that_cannot_be_read_is_one_line(attempts: Attempts, name: str) -> None:
    assert attempts.commands[name].refusal == UNREADABLE[name][1] + "\n"


def test_a_database_that_cannot_be_used_is_known_within_ten_seconds(attempts: Attempts) -> None:
    assert max(finished.seconds for finished in attempts.commands.values()) < 10


@pytest.mark.parametrize("server", SERVERS)
def test_other_servers_end_without_a_database(attempts: Attempts, server: str) -> None:
    assert attempts.commands[server].status == 3


@pytest.mark.parametrize("server", SERVERS)
def test_other_servers_have_one_line_for_it_too(attempts: Attempts, server: str) -> None:
    url = attempts.urls["password"]
    lines = attempts.commands[server].said.splitlines()
    told = [json.loads(line)["event"] for line in lines if "DATABASE_URL" in line]

    assert told == [f"DATABASE_URL ({url.host}:{url.port}/{url.database}): the user or the password is wrong."]


@pytest.mark.parametrize("secret", ["Traceback", "wrong password", "right password"])
def test_neither_traceback_nor_password_is_shown(attempts: Attempts, secret: str) -> None:
    wrong, right = attempts.passwords
    text = {"Traceback": "Traceback", "wrong password": wrong, "right password": right}[secret]

    assert [name for name, finished in attempts.commands.items() if text in finished.said] == []


# --- what production can do without -----------------------------------------------------------------------------------

FERNET_KEY = "OPCaHqFd1I1N3EocN9UCBEYlr5w9NpWDTEZKmJqE38s="


@pytest.mark.parametrize(("keys", "warnings"), [("", 1), (FERNET_KEY, 0)])
async def test_production_is_warned_once_when_it_cannot_encrypt_secrets(
    new_database: NewDatabase, start_server: StartServer, keys: str, warnings: int
) -> None:
    settings = {"DATABASE_URL": await new_database(), "PYAPI_FERNET_KEYS": keys, "PYAPI_WORKERS_COUNT": "2"}
    server = start_server(settings={**PRODUCTION, **settings, "PYAPI_RATE_LIMIT_ENABLED": "true"})
    hints = [event["hint"] for event in server.events if event["event"] == "settings.unsafe"]
    assert len([hint for hint in hints if hint.startswith("PYAPI_FERNET_KEYS is missing: ")]) == warnings
