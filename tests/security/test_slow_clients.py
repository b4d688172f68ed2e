"""Whoever is slow, or silent, is let go, and nobody else notices (ASVS 5.0, 13.1.3, 15.2.2; RFC 9110, 15.5.9).

A head has 15 s, a body 30 s, an idle connection 75 s, and an answer has to be read on within 30 s. Here a server counts
in single seconds (`hasty_server.py`); 600 connections to one with the real numbers are opened before all other tests
and looked at after them.
"""

import contextlib
import selectors
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from pyapi.gunicorn_runner import Worker
from pyapi.http_protocol import Protocol
from pyapi.web.requests import BODY_SECONDS
from tests.conftest import NewDatabase
from tests.fixtures.servers import RunningServer
from tests.fixtures.wire import connected, problem, quiet, receive, seconds_until_closed, send_slowly
from tests.security import hasty_server

HASTY = (sys.executable, str(Path(hasty_server.__file__)))
GET = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BUSY_SECONDS = 3
"""What a busy machine may add to any wait."""


@pytest.fixture(scope="module")
async def hasty(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    folder = tmp_path_factory.mktemp("hasty") / "server"
    server = RunningServer(folder, {"DATABASE_URL": await new_database()}, command=HASTY)
    try:
        yield server.wait_until_live()
    finally:
        server.clean_up()


def test_the_real_numbers() -> None:
    """Those of the promise; the tests below shorten them."""
    assert (Protocol.head_seconds, BODY_SECONDS, Protocol.keep_alive_seconds, Protocol.stall_seconds) == (
        15,
        30,
        75,
        30,
    )


def test_the_server_of_production_keeps_them() -> None:
    assert Worker.CONFIG_KWARGS["http"] is Protocol


# --- slow to ask ------------------------------------------------------------------------------------------------------

BEGUN = {
    "first letter": b"G",
    "request line": b"GET /api/health/live HTT",
    "a header": b"GET /api/health/live HTTP/1.1\r\nHost: loc",
    "all but the end": GET[:-2],
    "empty lines": b"\r\n\r\n",
}


@pytest.mark.parametrize("case", BEGUN)
def test_a_head_that_does_not_end_is_answered_and_closed(hasty: RunningServer, case: str) -> None:
    with connected(hasty) as connection:
        connection.sendall(BEGUN[case])
        document = problem(*receive(connection))
        assert (document.status, document.code, connection.recv(1)) == (408, "request_timeout", b"")


def test_a_head_of_a_byte_now_and_then_is_no_better(hasty: RunningServer) -> None:
    started = time.monotonic()
    answer = send_slowly(hasty, (GET[n : n + 1] for n in range(len(GET))), pause=0.2)
    assert (problem(*answer).status, time.monotonic() - started < hasty_server.HEAD_SECONDS + BUSY_SECONDS) == (
        408,
        True,
    )


def test_who_says_nothing_hears_nothing(hasty: RunningServer) -> None:
    with connected(hasty) as connection:
        assert connection.recv(1) == b""


def test_a_second_request_has_no_more_time(hasty: RunningServer) -> None:
    with connected(hasty) as connection:
        connection.sendall(GET + GET[:10])
        receive(connection)
        assert problem(*receive(connection)).status == 408


BODIES = {
    "length": (b"Content-Length: 100\r\n\r\n", b" "),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_of_a_byte_now_and_then_is_answered_and_closed(hasty: RunningServer, case: str) -> None:
    announced, piece = BODIES[case]
    answer, body = send_slowly(hasty, [POST + announced, *[piece] * 50], pause=0.2)
    document = problem(answer, body)
    assert (document.code, answer.headers["Connection"]) == ("request_timeout", "close")


def test_a_body_that_never_comes_is_not_waited_for(hasty: RunningServer) -> None:
    with connected(hasty) as connection:
        connection.sendall(POST + b"Content-Length: 100\r\n\r\n")
        document = problem(*receive(connection))
        assert (document.status, connection.recv(1)) == (408, b"")


def test_a_body_for_nobody_is_not_waited_for(hasty: RunningServer) -> None:
    with connected(hasty) as connection:
        connection.sendall(POST.replace(b"/api/auth/login", b"/api/nothing") + b"Content-Length: 100\r\n\r\n")
        receive(connection)
        assert seconds_until_closed(connection) < hasty_server.LINGER_SECONDS + BUSY_SECONDS


async def test_slow_bodies_hold_no_connection_to_the_database(shared_server: RunningServer) -> None:
    """More of them than the pools of both workers have; a real answer needs one."""
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connected(shared_server)).sendall(POST + b"Content-Length: 100\r\n\r\n{")
        async with shared_server.client() as client:
            assert (await client.get("/api/data/")).status_code == 200


# --- idle -------------------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_kept_for_a_while(hasty: RunningServer) -> None:
    with connected(hasty) as connection:
        connection.sendall(GET)
        receive(connection)
        assert quiet(connection, hasty_server.KEEP_ALIVE_SECONDS / 2)
        connection.sendall(GET)
        assert receive(connection)[0].status == 200


AFTER = {
    "an answer": GET,
    "an answer to a body that nobody read": GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n{}"),
    "empty lines": GET + b"\r\n\r\n",
}


@pytest.mark.parametrize("case", AFTER)
def test_and_closed_then(hasty: RunningServer, case: str) -> None:
    with connected(hasty) as connection:
        connection.sendall(AFTER[case])
        receive(connection)
        assert seconds_until_closed(connection) < hasty_server.KEEP_ALIVE_SECONDS + BUSY_SECONDS


def test_closed_also_when_the_rest_of_a_body_came_late(hasty: RunningServer) -> None:
    """Bytes make uvicorn forget that it was going to close."""
    with connected(hasty) as connection:
        connection.sendall(POST.replace(b"/api/auth/login", b"/api/nothing") + b"Content-Length: 2\r\n\r\n{")
        receive(connection)
        connection.sendall(b"}")
        assert seconds_until_closed(connection) < hasty_server.KEEP_ALIVE_SECONDS + BUSY_SECONDS


# --- slow to read -----------------------------------------------------------------------------------------------------

LARGE = {
    "a file": b"GET /api/static/redoc/redoc.standalone.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a document": b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def stalled(server: RunningServer) -> int:
    return sum(event["event"] == "client.stalled" for event in server.events)


@pytest.mark.parametrize("case", LARGE)
def test_who_does_not_read_is_cut(hasty: RunningServer, case: str) -> None:
    """More answers than the buffers of two kernels hold; what a worker keeps of them goes with the connection."""
    before = stalled(hasty)
    with connected(hasty) as connection:
        connection.sendall(LARGE[case] * 100)
        deadline = time.monotonic() + 10 * hasty_server.STALL_SECONDS + BUSY_SECONDS
        while stalled(hasty) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1024 * 1024):
                received += piece
    assert received.count(b"HTTP/1.1 200 OK") < 100


def test_who_reads_slowly_gets_it_all(hasty: RunningServer) -> None:
    """Each pause is shorter than a stall, all of them together are longer."""
    request = LARGE["a file"].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    received = b""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", hasty.port))
        connection.sendall(request)
        while piece := connection.recv(65536):
            received += piece
            time.sleep(hasty_server.STALL_SECONDS / 5)
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()


# --- all at once, with the real numbers -------------------------------------------------------------------------------

HALF_OPEN = 600


class Siege(threading.Thread):
    """600 clients that are not going to ask anything, and one that asks how the service is meanwhile."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.closed_after: list[float] = []
        self.health_seconds: list[float] = []
        self.opened = 0

    def run(self) -> None:
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as open_ones:
            started = time.monotonic()
            for number in range(HALF_OPEN):
                connection = stack.enter_context(connected(self._server))
                connection.sendall([b"", b"GET /api/he", GET[:-2]][number % 3])
                open_ones.register(connection, selectors.EVENT_READ)
                self.opened += 1
            while open_ones.get_map() and time.monotonic() < started + 120:
                for key, _ in open_ones.select(0.5):
                    with contextlib.suppress(ConnectionError):
                        if key.fileobj.recv(65536):  # type: ignore[union-attr]
                            continue
                    open_ones.unregister(key.fileobj)
                    self.closed_after.append(time.monotonic() - started)
                self._ask()

    def _ask(self) -> None:
        started = time.monotonic()
        if len(self.closed_after) < HALF_OPEN:
            httpx.get(f"{self._server.url}/api/health", timeout=30).raise_for_status()
            self.health_seconds.append(time.monotonic() - started)


@pytest.fixture(scope="session")
def siege(shared_server: RunningServer) -> Iterator[Siege]:
    thread = Siege(shared_server)
    thread.start()
    yield thread
    thread.join()


@pytest.mark.first
def test_600_connections_that_ask_nothing_begin(siege: Siege) -> None:
    deadline = time.monotonic() + 60
    while siege.opened < HALF_OPEN and time.monotonic() < deadline:
        time.sleep(0.1)
    assert siege.opened == HALF_OPEN


@pytest.mark.last
def test_all_of_them_are_gone_within_a_minute(siege: Siege) -> None:
    siege.join()
    assert (len(siege.closed_after), max(siege.closed_after) < 60) == (HALF_OPEN, True)


@pytest.mark.last
def test_none_of_them_before_its_15_seconds(siege: Siege) -> None:
    siege.join()
    assert min(siege.closed_after) >= Protocol.head_seconds


@pytest.mark.last
def test_nobody_else_noticed(siege: Siege) -> None:
    siege.join()
    assert max(siege.health_seconds) < BUSY_SECONDS
