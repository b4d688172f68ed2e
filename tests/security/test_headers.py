"""Every answer says how browsers and caches are to treat it, and nothing about the server (ASVS 5.0, 3.4.3 to 3.4.8,
13.4.6, 14.3.2; OWASP API Security 2023, API8).

That the docs pages work under their policy is shown in a real Chromium: tests/e2e/test_browser.py.
"""

import re
from collections.abc import Callable

import httpx
import pytest

from tests.fixtures.application import SignUp
from tests.fixtures.servers import RunningServer
from tests.fixtures.wire import connected, receive, send

PROMISED = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
HOST = b"Host: localhost\r\n"
POST = b"POST /api/auth/login HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"

# How each came to be: by a route, by the router, by middleware, by the connection.
ANSWERS: dict[str, tuple[int, bytes]] = {
    "records": (200, b"GET /api/data/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "health": (200, b"GET /api/health HTTP/1.1\r\n" + HOST + b"\r\n"),
    "metrics": (200, b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"),
    "description": (200, b"GET /api/openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no host": (400, b"GET /api/data/ HTTP/1.1\r\n\r\n"),
    "no HTTP": (400, b"hello\r\n\r\n"),
    "no token": (401, b"GET /api/auth/me HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no address": (404, b"GET /api/nothing HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no method": (405, b"DELETE /api/health HTTP/1.1\r\n" + HOST + b"\r\n"),
    "TRACE": (405, b"TRACE /api/health HTTP/1.1\r\n" + HOST + b"\r\n"),
    "large body": (413, POST + b"Content-Length: 2000000\r\n\r\n"),
    "long target": (414, b"GET /?q=" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no JSON": (415, POST.replace(b"json", b"xml") + b"Content-Length: 2\r\n\r\n{}"),
    "bad JSON": (422, POST + b"Content-Length: 1\r\n\r\n{"),
    "large head": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_every_answer_has_the_headers(shared_server: RunningServer, case: str) -> None:
    status, request = ANSWERS[case]
    answer, _ = send(shared_server, request)
    found = {name: answer.headers[name] for name in PROMISED}
    assert (answer.status, found) == (status, PROMISED)


@pytest.mark.parametrize("case", ANSWERS)
def test_no_answer_names_the_server(shared_server: RunningServer, case: str) -> None:
    answer, _ = send(shared_server, ANSWERS[case][1])
    said = f"{answer.headers}".lower()
    assert [name for name in ("server:", "x-powered-by:", "uvicorn", "gunicorn", "python/") if name in said] == []


@pytest.mark.parametrize("case", [case for case, (status, _) in ANSWERS.items() if status >= 400])
def test_no_failure_tells_a_version(shared_server: RunningServer, case: str) -> None:
    _, body = send(shared_server, ANSWERS[case][1])
    assert re.search(rb"\d+\.\d+\.\d+|python|uvicorn|gunicorn|starlette|fastapi", body.lower()) is None


async def test_answers_with_tokens_and_accounts_are_kept_nowhere(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    somebody = await sign_up()
    made = await client.post("/api/data/", json={"name": "x"}, headers=somebody.headers)
    body = {"username": somebody.username, "password": "SecurePass123"}
    answers = [
        await client.post("/api/auth/login", json=body),
        await client.get("/api/auth/me", headers=somebody.headers),
        await client.get("/api/auth/sessions", headers=somebody.headers),
        made,
        await client.get(made.headers["location"], headers=somebody.headers),
        await client.get("/api/data/", headers=somebody.headers),
    ]
    assert [answer.headers.get_list("cache-control") for answer in answers] == [["no-store"]] * len(answers)


async def test_tls_is_promised_by_who_ends_it(client: httpx.AsyncClient) -> None:
    """The proxy: a promise from here would also be made over plain HTTP, and for hosts that have no certificate."""
    assert "strict-transport-security" not in (await client.get("/api/version")).headers


# --- pages ------------------------------------------------------------------------------------------------------------

PAGES = ["/api/docs", "/api/redoc"]
PAGE_HEADERS = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@pytest.mark.parametrize("path", PAGES)
async def test_pages_have_headers_of_pages(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert {name: answer.headers[name] for name in PAGE_HEADERS} == PAGE_HEADERS


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    directives = [words.split() for words in answer.headers["content-security-policy"].split(";") if words.strip()]
    return {name: values for name, *values in directives}


STRICT: dict[str, Callable[[dict[str, list[str]]], bool]] = {
    "nothing by default": lambda policy: policy["default-src"] == ["'none'"],
    "scripts from here only": lambda policy: policy["script-src"] == ["'self'"],
    "requests to here only": lambda policy: policy["connect-src"] == ["'self'"],
    "styles from here, and known ones": lambda policy: all(
        value == "'self'" or value.startswith("'sha256-") for value in policy["style-src"]
    ),
    "in no frame": lambda policy: policy["frame-ancestors"] == ["'none'"],
    "no other base": lambda policy: policy["base-uri"] == ["'none'"],
    "no form leaves": lambda policy: policy["form-action"] == ["'none'"],
    "nothing unsafe": lambda policy: not any("unsafe" in value for values in policy.values() for value in values),
}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("rule", STRICT)
async def test_pages_run_only_what_is_ours(client: httpx.AsyncClient, path: str, rule: str) -> None:
    assert STRICT[rule](policy(await client.get(path)))


@pytest.mark.parametrize("path", ["/api/static/docs.js", "/api/static/swagger-ui/swagger-ui-bundle.js"])
async def test_what_pages_load_may_be_kept_by_browsers(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).headers["cache-control"] == "public, max-age=3600"


def test_a_connection_may_go_on_after_a_failure(shared_server: RunningServer) -> None:
    """Only what makes the next request unreadable ends it."""
    with connected(shared_server) as connection:
        connection.sendall(ANSWERS["no address"][1])
        receive(connection)
        connection.sendall(ANSWERS["records"][1])
        assert receive(connection)[0].status == 200
