"""The log: one JSON line for each request, whatever was sent, and no secret in any of them."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.enums import LogFormat
from pyapi.log import configure_logging, current_request, log_request
from tests.fixtures.application import PASSWORD, Account, SignUp, log_in

NEW_PASSWORD = "另一組更長的密碼 2026"
SECRET = "hunter2"


class Stream(io.StringIO):
    """What stands for stderr: a terminal, or not."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def lines(self) -> list[str]:
        """What was written, cut where every reader of logs cuts."""
        return self.getvalue().removesuffix("\n").split("\n")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What this project wrote; that of the client, which runs in this process too, is left out."""
        found = [json.loads(line) for line in self.lines]
        return [event for event in found if event["logger"].startswith("pyapi.")]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "request"]


SetUp = Callable[..., Stream]


@pytest.fixture
def set_up_log(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetUp]:
    """Sets logging up anew, into a stream; afterwards it is as it was."""
    root = logging.getLogger()
    level = root.level

    def ours() -> list[logging.Handler]:
        return [h for h in root.handlers if isinstance(h.formatter, structlog.stdlib.ProcessorFormatter)]

    before = ours()

    def set_up(*, style: LogFormat = LogFormat.JSON, level: str = "INFO", terminal: bool = False) -> Stream:
        stream = Stream(terminal=terminal)
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", stream)
            configure_logging(level=level, style=style)
        return stream

    yield set_up
    for handler in ours():
        root.removeHandler(handler)
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


@pytest.fixture
def log(set_up_log: SetUp) -> Stream:
    return set_up_log()


# --- one line for each request ---


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/health", b"", 200),
        ("GET", "/api/data", b"", 200),
        ("GET", "/api/auth/me", b"", 401),
        ("GET", "/api/nothing", b"", 404),
        ("DELETE", "/api/health", b"", 405),
        ("POST", "/api/auth/login", b"x" * 2_000_000, 413),
        ("POST", "/api/auth/login", b"x", 415),
        ("GET", "/api/data/0", b"", 422),
    ],
)
async def test_each_request_is_one_line(
    client: httpx.AsyncClient, log: Stream, method: str, path: str, body: bytes, status: int
) -> None:
    answer = await client.request(method, path, content=body)
    [event] = log.events
    assert datetime.now(UTC) - datetime.fromisoformat(event.pop("timestamp")) < timedelta(minutes=1)
    assert event.pop("duration_ms") > 0
    assert event == {
        "event": "request",
        "method": method,
        "path": path,
        "status": status,
        "client": "127.0.0.1",
        "request_id": answer.headers["x-request-id"],
        "logger": "pyapi.access",
        "level": "info",
    }


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("style", [LogFormat.JSON, LogFormat.CONSOLE])
async def test_the_line_of_a_request_looks_as_any_other(set_up_log: SetUp, style: LogFormat, terminal: bool) -> None:
    """It does not go through structlog, and nobody can tell."""
    log = set_up_log(style=style, terminal=terminal)
    current_request.set("the-id")
    path = "/api/\x85王"
    log_request(method="GET", path=path, status=200, seconds=0.01234, client=None)
    await asyncio.sleep(0)
    structlog.get_logger("pyapi.access").info(
        "request", method="GET", path=path, status=200, duration_ms=12.34, client=None
    )
    ours, structlogs = (re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "now", line) for line in log.lines)
    assert ours == structlogs


async def test_requests_that_end_in_one_turn_are_written_together(
    set_up_log: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, each with its own id, and at the latest when the loop has come to everybody else once."""
    log = set_up_log()
    written: list[str] = []
    monkeypatch.setattr(log, "write", written.append)
    for number in range(3):
        current_request.set(f"id-{number}")
        log_request(method="GET", path="/", status=200, seconds=0.001, client=None)
    assert written == []
    await asyncio.sleep(0)
    assert [len(written), [json.loads(line)["request_id"] for line in written[0].splitlines()]] == [
        1,
        ["id-0", "id-1", "id-2"],
    ]


def test_a_loop_that_is_closed_stops_no_other(set_up_log: SetUp) -> None:
    """What it has not written is written by the next one, with what comes there."""
    log = set_up_log()

    def ask() -> None:
        log_request(method="GET", path="/", status=200, seconds=0.001, client=None)

    async def ask_and_go_on() -> None:
        ask()
        await asyncio.sleep(0)

    ended = asyncio.new_event_loop()
    ended.call_soon(ended.stop)
    ended.call_soon(ask)
    ended.run_forever()
    ended.close()
    asyncio.run(ask_and_go_on())
    assert len(log.requests) == 2


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
async def test_a_request_is_no_warning(client: httpx.AsyncClient, set_up_log: SetUp, level: str) -> None:
    log = set_up_log(level=level)
    await client.get("/api/health/live")
    assert log.getvalue() == ""


async def test_every_line_about_a_request_has_its_id(client: httpx.AsyncClient, sign_up: SignUp, log: Stream) -> None:
    headers = {"X-Request-ID": "the-id"}
    await client.post("/api/auth/login", json={"username": "nobody", "password": PASSWORD}, headers=headers)
    assert [(event["event"], event["request_id"]) for event in log.events] == [
        ("login.failed", "the-id"),
        ("request", "the-id"),
    ]


async def test_requests_that_run_side_by_side_keep_their_ids(client: httpx.AsyncClient, log: Stream) -> None:
    sent = [f"id-{number}" for number in range(20)]
    paths = [f"/api/nothing/{request_id}" for request_id in sent]
    await asyncio.gather(
        *(client.get(path, headers={"X-Request-ID": id_}) for path, id_ in zip(paths, sent, strict=True))
    )
    assert sorted((event["request_id"], event["path"]) for event in log.requests) == sorted(
        zip(sent, paths, strict=True)
    )


async def test_a_client_that_left_has_a_line_too(app: FastAPI, client: httpx.AsyncClient, log: Stream) -> None:
    waiting = asyncio.Event()

    class Endless:
        def require_room(self) -> None: ...

        async def verify(self, password: str, hashed: str | None) -> bool:
            waiting.set()
            return await asyncio.Event().wait()

    passwords, app.state.passwords = app.state.passwords, Endless()
    body = {"username": "nobody", "password": PASSWORD}
    request = asyncio.create_task(client.post("/api/auth/login", json=body))
    await waiting.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    app.state.passwords = passwords
    assert [event["status"] for event in log.requests] == [499]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/data/17", "/api/data/17"),
        (f"/api/data/{SECRET}", "/api/data/{data_id}"),
        (f"/api/auth/sessions/{SECRET}", "/api/auth/sessions/{session_id}"),
        (f"/api/{SECRET}", f"/api/{SECRET}"),  # no address of ours: what it was is all there is to say
    ],
)
async def test_what_stands_in_the_place_of_an_id_is_not_logged(
    client: httpx.AsyncClient, log: Stream, path: str, shown: str
) -> None:
    await client.delete(path)
    assert [event["path"] for event in log.requests] == [shown]


# --- what is written about people ---


async def _register(client: httpx.AsyncClient, account: Account) -> None:
    body = {"username": "another", "email": "a@b.c", "password": PASSWORD}
    await client.post("/api/auth/register", json=body)


async def _log_in(client: httpx.AsyncClient, account: Account) -> None:
    await log_in(client, account.username)


async def _fail_to_log_in(client: httpx.AsyncClient, account: Account) -> None:
    await client.post("/api/auth/login", json={"username": account.username, "password": "wrong"})


async def _fail_as_nobody(client: httpx.AsyncClient, account: Account) -> None:
    await client.post("/api/auth/login", json={"username": "nobody", "password": "wrong"})


async def _refresh(client: httpx.AsyncClient, account: Account) -> None:
    await client.post("/api/auth/refresh", json={"refresh_token": account.refresh_token})


async def _refresh_twice(client: httpx.AsyncClient, account: Account) -> None:
    for _ in range(2):
        await _refresh(client, account)


async def _log_out(client: httpx.AsyncClient, account: Account) -> None:
    await client.post("/api/auth/logout", headers=account.headers)


async def _log_out_everywhere(client: httpx.AsyncClient, account: Account) -> None:
    await client.post("/api/auth/logout-all", headers=account.headers)


async def _update(client: httpx.AsyncClient, account: Account) -> None:
    body = {"email": f"{SECRET}@example.com", "full_name": SECRET, "current_password": PASSWORD}
    await client.put("/api/auth/me", json=body, headers=account.headers)


async def _change_password(client: httpx.AsyncClient, account: Account) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    await client.post("/api/auth/change-password", json=body, headers=account.headers)


async def _close(client: httpx.AsyncClient, account: Account) -> None:
    await client.put(f"/api/auth/users/{account.id + 1}", json={"is_active": False}, headers=account.headers)


async def _revoke(client: httpx.AsyncClient, account: Account) -> None:
    await client.post(f"/api/auth/users/{account.id}/revoke-tokens", headers=account.headers)


async def _make_token(client: httpx.AsyncClient, account: Account) -> None:
    body = {"name": SECRET, "scopes": ["data:read"], "current_password": PASSWORD}
    await client.post("/api/auth/tokens", json=body, headers=account.headers)


Act = Callable[[httpx.AsyncClient, Account], Awaitable[None]]
EVENTS: list[tuple[Act, str, str, set[str]]] = [
    (_register, "user.registered", "info", {"user_id"}),
    (_log_in, "login.succeeded", "info", {"user_id", "session_id"}),
    (_fail_to_log_in, "login.failed", "info", {"user_id"}),
    (_fail_as_nobody, "login.failed", "info", {"user_id"}),
    (_refresh_twice, "token.reused", "warning", {"user_id", "session_id"}),
    (_log_out, "logout", "info", {"user_id", "session_id"}),
    (_log_out_everywhere, "logout.all", "info", {"user_id", "sessions"}),
    (_update, "user.updated", "info", {"user_id", "fields"}),
    (_change_password, "password.changed", "info", {"user_id", "sessions"}),
    (_close, "user.updated", "info", {"user_id", "fields"}),
    (_revoke, "tokens.revoked", "info", {"user_id", "sessions", "tokens"}),
    (_make_token, "token.created", "info", {"token_id", "scopes"}),
]


@pytest.mark.parametrize(("act", "name", "level", "fields"), EVENTS, ids=[act.__name__ for act, *_ in EVENTS])
async def test_what_people_do_is_one_event_about_ids_and_not_names(
    client: httpx.AsyncClient, sign_up: SignUp, log: Stream, act: Act, name: str, level: str, fields: set[str]
) -> None:
    account = await sign_up(superuser=True)
    await sign_up()
    seen = len(log.events)
    await act(client, account)
    [event] = [event for event in log.events[seen:] if event["event"] != "request"]
    always = {"event", "level", "logger", "timestamp", "request_id", "actor_id"}
    assert (event["event"], event["level"], event.keys() - always) == (name, level, fields)


async def test_an_update_names_the_fields_and_not_their_values(
    client: httpx.AsyncClient, sign_up: SignUp, log: Stream
) -> None:
    await _update(client, await sign_up())
    [event] = [event for event in log.events if event["event"] == "user.updated"]
    assert (event["fields"], SECRET in log.getvalue()) == (["email", "full_name"], False)


async def test_no_secret_of_a_whole_life_is_in_the_log(
    client: httpx.AsyncClient, sign_up: SignUp, set_up_log: SetUp
) -> None:
    log = set_up_log(level="DEBUG")
    account = await sign_up("wang", superuser=True)
    pairs = [await log_in(client, "wang")]
    for act in (_register, _fail_to_log_in, _update, _refresh_twice, _revoke, _close):
        await act(client, account)
    pairs.append(await log_in(client, "wang"))
    headers = {"Authorization": f"Bearer {pairs[1]['access_token']}"}
    config = {"source": f"postgresql://u:{SECRET}@h/d", "password": SECRET}
    await client.post("/api/data/", json={"name": "n", "config": config}, headers=headers)
    await client.get("/api/data/", headers=headers, params={"q": SECRET})
    await client.get("/api/auth/me", headers={"Authorization": f"Bearer {SECRET}"})
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    await client.post("/api/auth/change-password", json=body, headers=headers)
    await client.post("/api/auth/login", json={"username": SECRET, "password": SECRET, "x": SECRET})
    await client.post("/api/auth/login", content=f"{{{SECRET}", headers={"Content-Type": "application/json"})
    await asyncio.sleep(0)  # the last line comes with the next turn of the loop
    ours = "\n".join(json.dumps(event, ensure_ascii=False) for event in log.events)
    secrets = [SECRET, PASSWORD, NEW_PASSWORD, account.access_token, account.refresh_token]
    secrets += [pair[kind] for pair in pairs for kind in ("access_token", "refresh_token")]
    assert len(log.requests) > 15
    assert not [secret for secret in secrets if secret in ours or secret.rpartition(".")[2] in ours]


# --- whatever is sent, a line stays a line ---

FORGED = '\r\n{"event": "forged", "logger": "pyapi.access"}\r\n'
ODD = ["\r\n", "\n", "\r", "\0", "\x1b[2J", "\x7f", "\x85", "\x9b31m", "\u2028", "\u2029", '"', "\\", "\t", "王", "𠮷"]


@pytest.mark.parametrize("odd", [FORGED, *ODD], ids=ascii)
async def test_odd_characters_end_no_line(client: httpx.AsyncClient, sign_up: SignUp, log: Stream, odd: str) -> None:
    account = await sign_up()
    seen = len(log.lines)
    agent = [(b"user-agent", f"curl{odd}".encode())]
    await client.get(f"/api/{quote(odd)}", headers=agent)
    await client.get("/api/health", params={"q": odd}, headers=[*agent, (b"x-request-id", odd.encode())])
    for path, body in (
        ("login", {"username": f"wang{odd}", "password": f"x{odd}"}),
        ("login", {"username": account.username, "password": odd}),
        ("login", {"username": account.username, "password": PASSWORD}),
        ("register", {"username": f"wang{odd}", "email": f"a@b.c{odd}", "password": PASSWORD, odd: odd}),
        ("refresh", {"refresh_token": f"x{odd}"}),
    ):
        await client.post(f"/api/auth/{path}", json=body, headers=agent)
    written = log.lines[seen:]
    assert [event["path"] for event in log.requests][-7:-5] == [f"/api/{odd}", "/api/health"]
    assert not [event for event in log.events if event["event"] == "forged"]
    assert len(written) == len("\n".join(written).splitlines())
    assert all(line.isprintable() for line in written)


async def test_the_query_stays_out(client: httpx.AsyncClient, log: Stream) -> None:
    await client.get(f"/api/data/?q={SECRET}&limit=1")
    assert [(event["path"], SECRET in json.dumps(event)) for event in log.requests] == [("/api/data/", False)]


async def test_a_lone_surrogate_can_be_logged(log: Stream) -> None:
    structlog.get_logger("pyapi.test").info("odd", path="\ud800")
    assert (log.events[0]["path"], "\\ud800" in log.lines[0]) == ("\ud800", True)


# --- failures ---


@pytest.fixture
def failing(connection: AsyncConnection) -> Callable[..., Awaitable[None]]:
    """Logs what PostgreSQL says to a statement that cannot work, as `LastResort` does."""

    async def fail(statement: str, **values: object) -> None:
        try:
            async with connection.begin_nested():
                await connection.execute(text(statement), values)
        except DBAPIError:
            structlog.get_logger("pyapi.test").exception("request.failed")

    return fail


# Each statement makes PostgreSQL or its driver repeat a value that was sent.
TALKATIVE = {
    "duplicate": (
        "INSERT INTO pyapi_users (username, email, hashed_password) VALUES (:secret, 'a', ''), (:secret, 'b', '')",
        {"secret": SECRET},
        "23505",
    ),
    "not null": ("INSERT INTO pyapi_users (username) VALUES (:secret)", {"secret": SECRET}, "23502"),
    "too long": (
        "INSERT INTO pyapi_users (username, email, hashed_password) VALUES (:secret, '', '')",
        {"secret": SECRET * 100},
        "22001",
    ),
    "wrong type, said by the driver": ("SELECT CAST(:secret AS integer)", {"secret": SECRET}, "22000"),
    "wrong type, said by the server": ("SELECT CAST(CAST(:secret AS text) AS integer)", {"secret": SECRET}, "22P02"),
}


@pytest.mark.parametrize("case", TALKATIVE)
@pytest.mark.parametrize("style", [LogFormat.JSON, LogFormat.CONSOLE])
async def test_what_the_database_repeats_is_not_logged(
    set_up_log: SetUp, failing: Callable[..., Awaitable[None]], style: LogFormat, case: str
) -> None:
    log = set_up_log(style=style)
    statement, values, state = TALKATIVE[case]
    await failing(statement, **values)
    assert SECRET not in log.getvalue()
    assert f"(message not logged, SQLSTATE {state})" in log.getvalue()


def fail() -> None:
    raise KeyError("the cause")


def fail_with(password: str) -> None:
    try:
        fail()
    except KeyError as error:
        raise RuntimeError("the effect") from error


async def test_a_traceback_is_one_line_of_json(log: Stream) -> None:
    try:
        fail_with(SECRET)
    except RuntimeError:
        structlog.get_logger("pyapi.test").exception("request.failed")
    [event] = log.events
    assert [line for line in event["exception"].splitlines() if line.endswith(("'the cause'", "the effect"))] == [
        "KeyError: 'the cause'",
        "RuntimeError: the effect",
    ]


@pytest.mark.parametrize("style", [LogFormat.JSON, LogFormat.CONSOLE])
@pytest.mark.parametrize("terminal", [False, True])
async def test_a_traceback_shows_no_local_variables(set_up_log: SetUp, style: LogFormat, terminal: bool) -> None:
    log = set_up_log(style=style, terminal=terminal)
    try:
        fail_with(SECRET)
    except RuntimeError:
        structlog.get_logger("pyapi.test").exception("request.failed")
    assert "RuntimeError: the effect" in log.getvalue()
    assert SECRET not in log.getvalue()


class Full(Stream):
    """A disk that is full, a pipe that is closed."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture
def full(log: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is log:
            monkeypatch.setattr(handler, "stream", Full())


@pytest.mark.usefixtures("full")
async def test_a_log_that_cannot_be_written_stops_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/health")).status_code == 200


@pytest.mark.usefixtures("full")
async def test_a_log_that_cannot_be_written_is_not_complained_about(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's own complaint repeats the event, in no format, where the log should be."""
    await client.get("/api/health")
    assert capsys.readouterr() == ("", "")


# --- set-up ---


@pytest.mark.parametrize(
    ("style", "terminal", "json_lines"),
    [
        (LogFormat.AUTO, False, True),
        (LogFormat.AUTO, True, False),
        (LogFormat.JSON, True, True),
        (LogFormat.CONSOLE, False, False),
    ],
)
def test_the_style_depends_on_the_terminal(
    set_up_log: SetUp, style: LogFormat, terminal: bool, json_lines: bool
) -> None:
    log = set_up_log(style=style, terminal=terminal)
    structlog.get_logger("pyapi.test").info("hello")
    assert log.lines[0].startswith("{") is json_lines


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x9b31m", "\r", "\u2028"], ids=ascii)
def test_a_terminal_is_not_at_the_mercy_of_clients(set_up_log: SetUp, odd: str) -> None:
    log = set_up_log(style=LogFormat.CONSOLE)
    structlog.get_logger("pyapi.test").info("request", path=f"/api/{odd}")
    assert (odd in log.getvalue(), "/api/" in log.getvalue()) == (False, True)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("ERROR", ["error"]),
    ],
)
def test_the_level_counts(set_up_log: SetUp, level: str, expected: list[str]) -> None:
    log = set_up_log(level=level)
    for method in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger("pyapi.test"), method)("hello")
    assert [event["level"] for event in log.events] == expected


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "gunicorn.error"])
def test_the_servers_write_in_the_same_format(log: Stream, name: str) -> None:
    logging.getLogger(name).warning("Shutting down %s", "now")
    line = json.loads(log.lines[0])
    assert (line["event"], line["logger"], line["level"]) == ("Shutting down now", name, "warning")


@pytest.mark.parametrize("name", ["uvicorn.access", "gunicorn.access"])
def test_the_servers_write_no_second_line_for_a_request(log: Stream, name: str) -> None:
    logging.getLogger(name).info('127.0.0.1 - "GET /api/data/?q=secret HTTP/1.1" 200')
    assert log.getvalue() == ""
