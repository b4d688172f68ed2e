"""Nobody makes a worker keep more than a request may be: a body of 1 MiB, a head of 16 KiB (ASVS 5.0, 4.2.5, 15.2.2;
RFC 6585, 5; RFC 9110, 15.5.14 and 15.5.15; OWASP API Security 2023, API4).

How deep JSON may be nested, and that no name may occur twice in it: test_poison_records.py.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pyapi.edge import MAX_HEAD_BYTES, field_bytes
from pyapi.web.problems import MOST_ERRORS
from pyapi.web.requests import MAX_NAMES
from tests.fixtures.application import assert_problem
from tests.fixtures.servers import GUNICORN, UVICORN, RunningServer
from tests.fixtures.wire import connected, problem, receive, send, send_slowly

LIVE = b"/api/health/live"
HOST = b"Host: localhost\r\n"
POST = b"POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
MIB = 1024 * 1024


def head(size: int) -> bytes:
    """A request without a body whose target and fields are `size` bytes together."""
    padding = size - len(LIVE) - field_bytes(b"Host", b"localhost") - field_bytes(b"X-Padding", b"")
    return b"GET " + LIVE + b" HTTP/1.1\r\n" + HOST + b"X-Padding: " + b"a" * padding + b"\r\n\r\n"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


# --- heads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16 * MIB, 1000, 1])
def test_the_largest_head_is_read(shared_server: RunningServer, size: int) -> None:
    answer, _ = send_slowly(shared_server, pieces(head(MAX_HEAD_BYTES), size))
    assert answer.status == 200


TOO_LARGE: dict[str, tuple[bytes, int, str]] = {
    "one byte more": (head(MAX_HEAD_BYTES + 1), 431, "headers_too_large"),
    "one field of 20 MB": (head(20 * MIB), 431, "headers_too_large"),
    "many small fields": (
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(2000)) + b"\r\n",
        431,
        "headers_too_large",
    ),
    "a field of many small parts": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: a=b; " * 2000 + b"\r\n\r\n",
        431,
        "headers_too_large",
    ),
    "name of a field": (b"GET / HTTP/1.1\r\n" + HOST + b"X" * 20_000 + b": 1\r\n\r\n", 431, "headers_too_large"),
    "no end": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Padding: " + b"a" * MIB, 431, "headers_too_large"),
    "white space without an end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b" " * MIB, 431, "headers_too_large"),
    "empty lines without an end": (b"\r\n" * MIB, 431, "headers_too_large"),
    "trailer without an end": (CHUNKED + b"0\r\nX-Padding: " + b"a" * MIB, 431, "headers_too_large"),
    "extension of a chunk without an end": (CHUNKED + b"1;a=" + b"a" * MIB, 431, "headers_too_large"),
    "target": (b"GET /?q=" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "target without an end": (b"GET /?q=" + b"a" * MIB, 414, "uri_too_long"),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_larger_head_is_refused(shared_server: RunningServer, case: str) -> None:
    request, status, code = TOO_LARGE[case]
    document = problem(*send_slowly(shared_server, pieces(request, 65536)))
    assert (document.status, document.code) == (status, code)


def test_what_was_refused_is_closed(shared_server: RunningServer) -> None:
    answer, _ = send(shared_server, head(MAX_HEAD_BYTES + 1))
    assert answer.headers["Connection"] == "close"


def test_a_large_head_behind_a_good_request_does_not_take_its_answer(shared_server: RunningServer) -> None:
    """Both arrive at once; the first was sent in order and is answered, the second is not."""
    with connected(shared_server) as connection:
        connection.sendall(head(200) + head(MAX_HEAD_BYTES + 1))
        answer, _ = receive(connection)
        assert (answer.status, connection.recv(1)) == (200, b"")


# --- bodies -----------------------------------------------------------------------------------------------------------

BODIES = {
    "announced": POST + b"Content-Length: 10000000000\r\n\r\n",
    "announced, asking first": POST + b"Expect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n",
    "one byte more, announced": POST + b"Content-Length: 1048577\r\n\r\n" + b" " * (MIB + 1),
    "in chunks": CHUNKED + CHUNK * 17,
    "in small chunks": CHUNKED + b"100\r\n" + b" " * 256 + b"\r\n" + (b"100\r\n" + b" " * 256 + b"\r\n") * 5000,
}


@pytest.mark.parametrize("case", BODIES)
def test_a_larger_body_is_refused_before_its_end(shared_server: RunningServer, case: str) -> None:
    """None of these ends: the answer comes while the client could still send."""
    document = problem(*send_slowly(shared_server, pieces(BODIES[case], 65536)))
    assert (document.status, document.code) == (413, "payload_too_large")


@pytest.mark.parametrize("case", ["announced", "in chunks"])
def test_nobody_waits_for_the_rest_of_it(shared_server: RunningServer, case: str) -> None:
    with connected(shared_server) as connection:
        connection.sendall(BODIES[case])
        receive(connection)
        assert connection.recv(1) == b""


def test_a_body_without_an_end_is_not_kept(shared_server: RunningServer) -> None:
    """The worker goes on reading for seconds, so that the client can see the answer, and throws away what it reads."""

    def resident() -> int:
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in shared_server.workers()]
        return sum(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses) * 1024

    before = resident()
    with connected(shared_server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(CHUNKED)
        for _ in itertools.repeat(None, 2000):  # 125 MiB
            connection.sendall(CHUNK)
    assert resident() - before < 30 * MIB


# --- names and errors -------------------------------------------------------------------------------------------------

OPEN_TO_STRANGERS = ["/api/auth/register", "/api/auth/login", "/api/schedules/preview"]
open_to_strangers = pytest.mark.parametrize("path", OPEN_TO_STRANGERS)


def names(count: int) -> dict[str, int]:
    """An object of names that no schema knows."""
    return {f"{number:06}": 1 for number in range(count)}


@open_to_strangers
async def test_an_answer_lists_32_errors_and_says_that_there_are_more(client: httpx.AsyncClient, path: str) -> None:
    """One error for each of 10,000 names would be an answer of 0.7 MB."""
    document = assert_problem(await client.post(path, json=names(10_000)), 422, "validation_failed")
    assert (len(document["errors"]), f"the first {MOST_ERRORS} reasons only" in document["detail"]) == (32, True)


async def test_an_answer_that_lists_all_errors_does_not_speak_of_more(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/auth/refresh", json={"refresh_token": "x"} | names(MOST_ERRORS))
    document = assert_problem(answer, 422, "validation_failed")
    assert (len(document["errors"]), "only" in document["detail"]) == (32, False)


async def test_unknown_parameters_are_listed_as_briefly(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/data/", params=names(1000))
    assert len(assert_problem(answer, 422, "validation_failed")["errors"]) == 32


TOO_MANY_NAMES = {
    "one object": names(MAX_NAMES + 1),
    "many objects": {"config": [names(100)] * (MAX_NAMES // 100), "name": "x"},
    "1 MB": names(80_000),
}


@pytest.mark.parametrize("case", TOO_MANY_NAMES)
@open_to_strangers
async def test_a_body_of_more_names_is_refused_before_anybody_looks_at_them(
    client: httpx.AsyncClient, path: str, case: str
) -> None:
    document = assert_problem(await client.post(path, json=TOO_MANY_NAMES[case]), 422, "validation_failed")
    reason = "The body is not JSON: it has too many names in its objects."
    assert document["errors"] == [{"detail": reason, "pointer": "/body"}]


async def test_so_many_names_are_taken(client: httpx.AsyncClient) -> None:
    """They are refused for what they are, not for how many there are."""
    answer = await client.post("/api/auth/login", json=names(MAX_NAMES))
    assert len(assert_problem(answer, 422, "validation_failed")["errors"]) == 32


async def test_a_form_has_20_fields_at_most(client: httpx.AsyncClient) -> None:
    document = assert_problem(await client.post("/api/auth/login", data=names(21)), 422, "validation_failed")
    assert document["errors"] == [
        {"detail": "The body is not a form of at most 20 fields in UTF-8.", "pointer": "/body"}
    ]


# --- the servers of the first README ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["uvicorn", "gunicorn"])
def other_server(
    request: pytest.FixtureRequest, shared_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """There a complete head is refused by the application; an incomplete one is kept, which a proxy has to prevent."""
    command = {"uvicorn": UVICORN, "gunicorn": GUNICORN}[request.param]
    folder = tmp_path_factory.mktemp("sizes") / request.param
    server = RunningServer(folder, {"DATABASE_URL": shared_database}, command=command)
    try:
        yield server.wait_until_live()
    finally:
        server.clean_up()


ELSEWHERE = {case: TOO_LARGE[case] for case in ("one byte more", "many small fields", "target")} | {
    "body": (BODIES["announced"], 413, "payload_too_large")
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_other_servers_refuse_it_too(other_server: RunningServer, case: str) -> None:
    request, status, code = ELSEWHERE[case]
    document = problem(*send(other_server, request))
    assert (document.status, document.code) == (status, code)
