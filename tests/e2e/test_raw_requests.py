"""Bytes that no HTTP library sends, on the wire to a real server: each is answered with a problem document."""

import socket
import uuid

import pytest

from tests.fixtures.servers import RunningServer
from tests.fixtures.wire import events, problem, send

LIST = b"GET /api/data/ HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /api/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

WEBSOCKET = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

UNREADABLE = {
    "no HTTP": b"hello\r\n\r\n",
    "NUL bytes": b"\0\0\0\0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET /api/data/ HTTP/9.9\r\nHost: x\r\n\r\n",
    "method in small letters": b"get /api/data/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "method nobody knows": b"FOO /api/data/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the method": b"G\0T /api/data/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "no slash": b"GET api/data/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "host and port": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "path with a raw byte": b"GET /api/data/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the path": b"GET /api/data/?q=a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "header without colon": LIST + b"nothing\r\n\r\n",
    "header with a space in its name": LIST + b"X Y: 1\r\n\r\n",
    "header with a byte over 127 in its name": LIST + b"\xff: 1\r\n\r\n",
    "header with NUL": LIST + b"If-Match: a\0b\r\n\r\n",
    "header with a control character": LIST + b"If-Match: a\x01b\r\n\r\n",
    "header over two lines": LIST + b"User-Agent: a\r\n b\r\n\r\n",
    "lines that end in LF": b"GET /api/data/ HTTP/1.1\nHost: x\n\n",
    "length below zero": POST + b"Content-Length: -1\r\n\r\n{}",
    "length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "length in letters": POST + b"Content-Length: two\r\n\r\n{}",
    "length of a superscript": POST + b"Content-Length: \xb2\r\n\r\n{}",
    "length of 2^64": POST + b"Content-Length: 18446744073709551616\r\n\r\n{}",
    "length of 5,000 digits": POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "encoding nobody knows": POST + b"Transfer-Encoding: bogus\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunk whose size is no number": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "chunk of 2^68 bytes": CHUNKED + b"fffffffffffffffff\r\n{}",
}

REFUSED: dict[str, tuple[bytes, int, str]] = {
    "body shorter than it is": (POST + b"Content-Length: 1\r\n\r\n{", 422, "validation_failed"),
    "body of 10 GB, announced": (POST + b"Content-Length: 10000000000\r\n\r\n{}", 413, "payload_too_large"),
    "body of 2 MB in chunks": (CHUNKED + CHUNK * 32 + b"0\r\n\r\n", 413, "payload_too_large"),
    "body of a GET": (LIST + b"Content-Length: 2000000\r\n\r\n", 413, "payload_too_large"),
    "body for nobody": (
        b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n",
        413,
        "payload_too_large",
    ),
    "body that is packed and in chunks": (
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        501,
        "transfer_coding_unknown",
    ),
    "body that is packed and in chunks, in two fields": (
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        501,
        "transfer_coding_unknown",
    ),
    "no path": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
    "two slashes": (b"GET //api/data/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
    "way up": (b"GET /api/static/../../pyproject.toml HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
    "way up, encoded": (
        b"GET /api/static/%2e%2e%2f%2e%2e%2fpyproject.toml HTTP/1.1\r\nHost: x\r\n\r\n",
        404,
        "not_found",
    ),
    "path of 6,000 parts": (b"GET /" + b"a/" * 6000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
    "path with NUL": (b"GET /api/data/%00 HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "path that is no UTF-8": (b"GET /api/data/%ff HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "path of overlong UTF-8": (b"GET /api/data/%c0%80 HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "path of a surrogate": (b"GET /api/data/%ed%a0%80 HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "path of half an escape": (b"GET /api/data/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "id of 5,000 digits": (b"GET /api/data/" + b"9" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "query with NUL": (b"GET /api/data/?q=%00 HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "limit twice": (b"GET /api/data/?limit=1&limit=%00 HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "500 parameters": (b"GET /api/data/?" + b"a=b&" * 500 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 422, "validation_failed"),
    "TRACE": (b"TRACE /api/data/ HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    "OPTIONS": (b"OPTIONS /api/data/1 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    "token of bytes": (LIST + b"Authorization: Bearer \xff\xfe\r\n\r\n", 401, "invalid_token"),
    "token of 16,000 characters": (
        LIST + b"Authorization: Bearer " + b"A" * 16_000 + b"\r\n\r\n",
        401,
        "invalid_token",
    ),
    "two tokens": (LIST + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 401, "invalid_token"),
    "upgrade": (WEBSOCKET, 404, "not_found"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_http(shared_server: RunningServer, case: str) -> None:
    document = problem(*send(shared_server, UNREADABLE[case]))
    assert (document.status, document.code) == (400, "bad_request")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(shared_server: RunningServer, case: str) -> None:
    request, status, code = REFUSED[case]
    document = problem(*send(shared_server, request))
    assert (document.status, document.code) == (status, code)


@pytest.mark.parametrize("case", ["no HTTP", "two lengths"])
def test_the_log_knows_the_id_of_what_is_no_http(shared_server: RunningServer, case: str) -> None:
    document = problem(*send(shared_server, UNREADABLE[case]))
    [event] = events(shared_server, document.request_id)
    assert event["event"] == "request.unreadable"


@pytest.mark.parametrize("body", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
def test_who_leaves_in_the_middle_is_no_failure_of_ours(shared_server: RunningServer, body: bytes) -> None:
    request_id = uuid.uuid4().hex
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=30) as connection:
        connection.sendall(POST + b"X-Request-ID: " + request_id.encode() + b"\r\n" + body)
    [event] = events(shared_server, request_id)
    assert (event["event"], event["status"], event["level"]) == ("request", 499, "info")
