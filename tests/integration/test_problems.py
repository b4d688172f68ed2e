"""Failures on the wire: always a problem document, never what was sent, always with the request id."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from pyapi.settings import Settings
from pyapi.web.application import get_app
from pyapi.web.requests import MAX_BODY_BYTES
from tests.fixtures.application import SignUp, assert_problem

JSON = {"Content-Type": "application/json"}
ORIGIN = "https://frontend.example"
SECRET = "hunter2-SecurePass123"
REGISTER, LOGIN, REFRESH = "/api/auth/register", "/api/auth/login", "/api/auth/refresh"

# FastAPI reads the body of one, our own code that of the other.
BODIES = [REGISTER, LOGIN]


def reasons(problem: dict[str, Any]) -> list[tuple[str, str]]:
    return [(error["pointer"], error["detail"]) for error in problem["errors"]]


# --- addresses and methods ---


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/",
        "/api/nothing",
        "/api/auth",
        "/api/auth/login/",
        "/api/health/",
        "/API/health",
        "/api//health",
        "/api/data/1/",
        "/docs",
        "/openapi.json",
        "/api/%00",
        "/api/%ff%fe",
        "/api/%ed%a0%80",
        "/api/..%2f..%2fetc%2fpasswd",
        "/api/<script>alert(1)</script>",
        f"/api/{'x' * 10_000}",
    ],
    ids=lambda path: path[:40],
)
async def test_an_unknown_address(client: httpx.AsyncClient, path: str) -> None:
    problem = assert_problem(await client.get(path), 404, "not_found")
    assert (problem["title"], problem["detail"]) == ("Not found", "There is nothing at this address.")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/auth/me", "GET, PUT"),
        ("OPTIONS", "/api/auth/me", "GET, PUT"),
        ("GET", LOGIN, "POST"),
        ("PUT", "/api/data/", "GET, POST"),
        ("PUT", "/api/data", "GET, POST"),
        ("POST", "/api/data/1", "GET, PUT, PATCH, DELETE"),
        ("POST", "/api/data/not-a-number", "GET, PUT, PATCH, DELETE"),
        ("PATCH", "/api/auth/users/1", "GET, PUT"),
        ("GET", "/api/auth/users/1/revoke-tokens", "POST"),
        ("POST", "/api/health", "GET"),
        ("POST", "/api/docs", "GET, HEAD"),
        ("POST", "/api/openapi.json", "GET, HEAD"),
        ("POST", "/metrics", "GET"),
        ("TRACE", "/api/health", "GET"),
        ("X" * 100, "/api/health", "GET"),
    ],
)
async def test_an_unknown_method_is_told_the_known_ones(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


# --- bodies that cannot be read ---

# (name, body, what is wrong with it); the words of Python's own parser are only begun here.
UNREADABLE: list[tuple[str, bytes, str]] = [
    ("cut", b'{"username": "a', "Unterminated string"),
    ("no value", b'{"username": }', "Expecting value"),
    ("no quotes", b"{username: 1}", "Expecting property name"),
    ("trailing comma", b'{"username": "a",}', "Expecting property name"),
    ("two documents", b"{} {}", "Extra data"),
    ("comment", b"{} // nothing", "Extra data"),
    ("control character", b'{"username": "a\x01"}', "Invalid control character"),
    ("bad escape", b'{"username": "\\x"}', "Invalid \\escape"),
    ("NaN", b'{"username": NaN}', "NaN and Infinity are not numbers"),
    ("Infinity", b'{"username": Infinity}', "NaN and Infinity are not numbers"),
    ("-Infinity", b'{"username": [-Infinity]}', "NaN and Infinity are not numbers"),
    ("1e400", b'{"username": 1e400}', "a number is too large"),
    ("-1e400", b'{"username": {"a": -1e400}}', "a number is too large"),
    ("309 digits", b'{"username": ' + b"9" * 309 + b"}", "a number is too large"),
    ("5,000 digits", b'{"username": ' + b"9" * 5000 + b"}", "a number is too large"),
    ("1,000,000 digits", b'{"username": ' + b"9" * 1_000_000 + b"}", "a number is too large"),
    ("exponent of 1,000,000 digits", b'{"username": 1e' + b"9" * 1_000_000 + b"}", "a number is too large"),
    ("a name twice", b'{"username": "a", "username": "b"}', "a name occurs twice in one object"),
    ("a name twice, escaped", b'{"username": "a", "usern\\u0061me": "b"}', "a name occurs twice in one object"),
    ("a name twice, deeper", b'{"username": [{"a": 1, "a": 1}]}', "a name occurs twice in one object"),
    ("deep list", b'{"username": ' + b"[" * 100_000, "it is nested too deeply"),
    ("deep object", b'{"a":' * 100_000, "it is nested too deeply"),
    ("deep and closed", b'{"username": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is nested too deeply"),
    ("byte order mark", b'\xef\xbb\xbf{"username": "a"}', "Unexpected UTF-8 BOM"),
    ("UTF-16", '{"username": "a"}'.encode("utf-16"), "it is not UTF-8"),
    ("UTF-32", '{"username": "a"}'.encode("utf-32-le"), "Expecting property name"),
    ("Latin-1", '{"username": "é"}'.encode("latin-1"), "it is not UTF-8"),
    ("Big5", '{"username": "王"}'.encode("big5"), "it is not UTF-8"),
    ("surrogate in UTF-8", b'{"username": "\xed\xa0\x80"}', "it is not UTF-8"),
    ("overlong UTF-8", b'{"username": "\xc0\x80"}', "it is not UTF-8"),
    ("bytes", b"\xff\xfe\xfd", "it is not UTF-8"),
    ("NUL bytes", b"\0\0\0", "Expecting value"),
    ("a form", b"username=a&password=b", "Expecting value"),
]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("body", "wrong"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE])
async def test_a_body_that_is_not_json(client: httpx.AsyncClient, path: str, body: bytes, wrong: str) -> None:
    answer = await client.post(path, content=body, headers=JSON)
    [(pointer, detail)] = reasons(assert_problem(answer, 422, "validation_failed"))
    assert (pointer, detail[: len("The body is not JSON: ") + len(wrong)]) == (
        "/body",
        f"The body is not JSON: {wrong}",
    )


# (name, JSON, pointers): it is JSON, and no text PostgreSQL could hold, or no text at all.
HOSTILE: list[tuple[str, bytes, list[str]]] = [
    ("NUL", b'{"username": "a\\u0000b", "password": "x"}', ["/body/username"]),
    ("high surrogate", b'{"username": "\\ud800", "password": "x"}', ["/body/username"]),
    ("low surrogate", b'{"username": "\\udfff", "password": "x"}', ["/body/username"]),
    ("surrogates in the wrong order", b'{"username": "\\udc00\\ud800", "password": "x"}', ["/body/username"]),
    ("number", b'{"username": 1, "password": "x"}', ["/body/username"]),
    ("308 digits", b'{"username": ' + b"9" * 308 + b', "password": "x"}', ["/body/username"]),
    ("long fraction", b'{"username": 0.' + b"1" * 900_000 + b', "password": "x"}', ["/body/username"]),
    ("list", b'{"username": [[[[[[[["a"]]]]]]]], "password": "x"}', ["/body/username"]),
    ("65 deep", b'{"username": ' + b"[" * 65 + b"]" * 65 + b', "password": "x"}', ["/body/username"]),
    ("object", b'{"username": {"a": "b"}, "password": "x"}', ["/body/username"]),
    ("name of a surrogate", b'{"username": "a", "password": "x", "\\ud800": 1}', ["/body"]),
    ("name of NUL", b'{"username": "a", "password": "x", "\\u0000": 1}', ["/body/\0"]),
    ("empty name", b'{"username": "a", "password": "x", "": 1}', ["/body/"]),
    ("name with slashes", b'{"username": "a", "password": "x", "a/b~c": 1}', ["/body/a~1b~0c"]),
    ("__proto__", b'{"username": "a", "password": "x", "__proto__": {}}', ["/body/__proto__"]),
    (
        "long name",
        b'{"username": "a", "password": "x", "' + b"n" * 10_000 + b'": 1}',
        ["/body/" + "n" * 200],
    ),
    ("text", b'"username"', ["/body"]),
    ("whole body a number", b"1e308", ["/body"]),
    ("whole body true", b"true", ["/body"]),
    ("whole body a list", b"[{}]", ["/body"]),
    ("whole body deep", b"[" * 500 + b"]" * 500, ["/body"]),
]


@pytest.mark.parametrize(("body", "pointers"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_a_body_that_is_json_and_not_acceptable(
    client: httpx.AsyncClient, body: bytes, pointers: list[str]
) -> None:
    problem = assert_problem(await client.post(LOGIN, content=body, headers=JSON), 422, "validation_failed")
    assert [pointer for pointer, _ in reasons(problem)] == pointers


@pytest.mark.parametrize(("body", "pointers"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_fastapi_reads_it_the_same_way(client: httpx.AsyncClient, body: bytes, pointers: list[str]) -> None:
    complete = body.replace(b'"password": "x"', b'"email": "a@b.c", "password": "SecurePass123"')
    complete = complete.replace(b'"username": "a"', b'"username": "abc"')
    problem = assert_problem(await client.post(REGISTER, content=complete, headers=JSON), 422, "validation_failed")
    assert [pointer for pointer, _ in reasons(problem)] == pointers


@pytest.mark.parametrize("path", [REGISTER, REFRESH, "/api/auth/logout"])
@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/json, text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "json",
    ],
)
async def test_a_body_of_another_type(client: httpx.AsyncClient, sign_up: SignUp, path: str, kind: str | None) -> None:
    headers = (await sign_up()).headers | ({} if kind is None else {"Content-Type": kind})
    problem = assert_problem(await client.post(path, content=b"{}", headers=headers), 415, "unsupported_media_type")
    assert problem["detail"] == "Send the body as 'Content-Type: application/json'."


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/merge-patch+json"]
)
async def test_json_under_its_other_names_is_read(client: httpx.AsyncClient, kind: str) -> None:
    answer = await client.post(REFRESH, content=b'{"refresh_token": "x"}', headers={"Content-Type": kind})
    assert_problem(answer, 401, "invalid_token")


# --- bodies that are too large ---


def padded(size: int) -> bytes:
    """A login of somebody unknown, in so many bytes."""
    body = b'{"username": "nobody", "password": "x"}'
    return body + b" " * (size - len(body))


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Without a Content-Length: httpx sends it in chunks."""
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


async def test_the_largest_body_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post(LOGIN, content=padded(MAX_BODY_BYTES), headers=JSON)
    assert_problem(answer, 401, "invalid_credentials")


async def test_the_largest_body_in_chunks_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post(LOGIN, content=in_pieces(padded(MAX_BODY_BYTES)), headers=JSON)
    assert_problem(answer, 401, "invalid_credentials")


@pytest.mark.parametrize("path", [REGISTER, LOGIN, REFRESH, "/api/data/", "/api/nothing", "/api/health"])
async def test_one_byte_more_is_too_much(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=padded(MAX_BODY_BYTES + 1), headers=JSON)
    problem = assert_problem(answer, 413, "payload_too_large")
    assert problem["detail"] == "Send at most 1048576 bytes."


@pytest.mark.parametrize("path", [REGISTER, LOGIN, REFRESH, "/api/data/"])
async def test_one_byte_more_in_chunks_is_too_much(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=in_pieces(padded(MAX_BODY_BYTES + 1)), headers=JSON)
    problem = assert_problem(answer, 413, "payload_too_large")
    assert problem["detail"] == "Send at most 1048576 bytes."


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "10000000000", "9" * 4000])
async def test_a_body_that_announces_too_much_is_not_waited_for(client: httpx.AsyncClient, length: str) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await client.post(LOGIN, content=never(), headers=JSON | {"Content-Length": length})
    assert_problem(answer, 413, "payload_too_large")


async def test_a_stream_without_an_end_is_left(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b" " * 65536

    assert_problem(await client.post(LOGIN, content=endless(), headers=JSON), 413, "payload_too_large")
    assert sent <= MAX_BODY_BYTES + 2 * 65536


# --- what was sent never comes back ---


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "body",
    [
        {"username": "x y", "email": "x", "password": SECRET},
        {"username": SECRET + "!" * 300, "email": SECRET, "password": [SECRET]},
        {"username": {"a": SECRET}, "email": [SECRET], "password": {"b": SECRET}},
        {"username": "wang", "password": SECRET, "is_superuser": SECRET},
        {"username": "wang\0", "email": "a@b.c", "password": f"{SECRET}\0" * 500},
        [SECRET],
        SECRET,
        {"full_name": SECRET},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
async def test_a_422_never_repeats_a_value(client: httpx.AsyncClient, path: str, body: object) -> None:
    answer = await client.post(path, json=body)
    assert_problem(answer, 422, "validation_failed")
    assert SECRET not in answer.text + str(answer.headers)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "body",
    [
        f'{{"password": "{SECRET}"',
        f'{{"password": "{SECRET}", "password": "{SECRET}"}}',
        f'{{"password": {SECRET}}}',
        f'{{"{SECRET}',
        f'{{"password": ["{SECRET}", NaN]}}',
        f'{{"password": "{SECRET}", "n": 1e400}}',
    ],
)
async def test_json_that_is_broken_is_not_repeated(client: httpx.AsyncClient, path: str, body: str) -> None:
    answer = await client.post(path, content=body, headers=JSON)
    assert_problem(answer, 422, "validation_failed")
    assert SECRET not in answer.text


@pytest.mark.parametrize("path", [f"/api/data/{SECRET}", f"/api/data/?limit={SECRET}", f"/api/data/?status={SECRET}"])
async def test_addresses_are_repeated_as_instance_only(client: httpx.AsyncClient, path: str) -> None:
    problem = assert_problem(await client.get(path), 422, "validation_failed")
    assert SECRET not in str(problem | {"instance": ""})


# --- what nobody foresaw ---


class Unforeseen(Exception):
    """A bug."""


@pytest.fixture
def broken_app(settings: Settings) -> FastAPI:
    """The application with routes that fail: before their answer, and in the middle of it."""
    app = get_app(settings)

    async def broken() -> None:
        raise Unforeseen(SECRET)

    async def broken_stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"the first piece"
            raise Unforeseen(SECRET)

        return StreamingResponse(pieces())

    app.add_api_route("/api/broken", broken, methods=["GET", "POST"])
    app.add_api_route("/api/broken-stream", broken_stream)
    return app


@pytest.fixture
async def broken(broken_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(broken_app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_a_bug_is_a_problem_document_that_says_nothing(broken: httpx.AsyncClient) -> None:
    problem = assert_problem(await broken.get("/api/broken"), 500, "internal_error")
    assert problem | {"request_id": ""} == {
        "type": "urn:pyapi:problem:internal_error",
        "title": "Internal server error",
        "status": 500,
        "detail": "Something went wrong here. The log has the details under this request id.",
        "instance": "/api/broken",
        "code": "internal_error",
        "request_id": "",
    }


async def test_a_browser_may_read_a_500(broken: httpx.AsyncClient) -> None:
    answer = await broken.get("/api/broken", headers={"Origin": ORIGIN})
    assert_problem(answer, 500, "internal_error")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


async def test_a_500_has_the_same_id_in_header_body_and_log(
    broken: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await broken.get("/api/broken", headers={"X-Request-ID": "the-id-of-the-client"})
    problem = assert_problem(answer, 500, "internal_error")
    events: list[Any] = [record.msg for record in caplog.records if record.name.startswith("pyapi.")]
    logged = [(event["event"], event["request_id"]) for event in events]
    assert problem["request_id"] == "the-id-of-the-client"
    assert logged == [("request.failed", "the-id-of-the-client"), ("request", "the-id-of-the-client")]


async def test_a_bug_in_the_middle_of_an_answer_breaks_the_connection(broken_app: FastAPI) -> None:
    """The status is sent already; ending the answer in order would make half of it look like all of it."""
    transport = httpx.ASGITransport(broken_app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(Unforeseen):
            await client.get("/api/broken-stream")


# --- who may read the answers ---


async def test_failures_can_be_read_by_the_frontends_that_are_allowed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/nothing", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://frontend.example", "null", f"{ORIGIN}.evil.example"]
)
async def test_other_origins_get_no_permission(client: httpx.AsyncClient, origin: str) -> None:
    answer = await client.get("/api/health", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_body_that_is_too_large_can_be_read_about(client: httpx.AsyncClient) -> None:
    headers = JSON | {"Origin": ORIGIN}
    answer = await client.post(LOGIN, content=padded(MAX_BODY_BYTES + 1), headers=headers)
    assert_problem(answer, 413, "payload_too_large")
    assert answer.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("path", ["/api/health", "/api/nothing", "/api/docs"])
async def test_no_answer_is_sniffed(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/api/health", "/api/nothing", "/api/docs"])
async def test_no_address_is_told_to_others(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/api/docs", "/api/redoc", "/api/openapi.json", "/api/static/swagger-ui.css"])
async def test_docs_can_be_switched_off(settings: Settings, path: str) -> None:
    app = get_app(settings.model_copy(update={"docs_enabled": False}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert_problem(await client.get(path), 404, "not_found")


# --- X-Request-ID ---


@pytest.mark.parametrize("request_id", ["a", "0af7651916cd43dd8448eb211c80319c", "A-Z.a_z-09", "x" * 128])
@pytest.mark.parametrize("path", ["/api/health", "/api/nothing"])
async def test_the_id_of_the_client_is_kept(client: httpx.AsyncClient, path: str, request_id: str) -> None:
    answer = await client.get(path, headers={"X-Request-ID": request_id})
    assert answer.headers["x-request-id"] == request_id


HOSTILE_IDS: list[bytes] = [
    b"",
    b" ",
    b"x" * 129,
    b"two words",
    b"a\r\nSet-Cookie: a=b",
    b'a\n{"event": "forged"}',
    b"<script>alert(1)</script>",
    b'"quoted"',
    b"a,b",
    b"../../etc/passwd",
    b"\x1b[31mred",
    b"\0",
    b"\xff\xfe",
    "王".encode(),
    b"id\n",
]


@pytest.mark.parametrize("request_id", HOSTILE_IDS)
async def test_a_hostile_id_is_replaced(client: httpx.AsyncClient, request_id: bytes) -> None:
    answer = await client.get("/api/nothing", headers=[(b"x-request-id", request_id)])
    problem = assert_problem(answer, 404, "not_found")
    assert re.fullmatch("[0-9a-f]{32}", problem["request_id"])


async def test_the_first_of_two_ids_counts(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/health", headers=[("X-Request-ID", "first"), ("X-Request-ID", "second")])
    assert answer.headers.get_list("x-request-id") == ["first"]


async def test_every_request_gets_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/api/health/live") for _ in range(5)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 5
