"""Requests for another host are refused, and pages of another origin may read nothing (RFC 9112, 3.2; Fetch, 3.2;
ASVS 5.0, 3.4.2 and 4.1.3; OWASP API Security 2023, API8).
"""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from pyapi.cli import app as cli
from pyapi.enums import Environment
from pyapi.exceptions import ConfigurationError
from pyapi.settings import Settings
from pyapi.web.application import get_app
from pyapi.web.origins import READABLE, SENDABLE
from tests.fixtures.application import SECRET_KEY, SignUp, assert_problem
from tests.fixtures.servers import RunningServer, server_on
from tests.fixtures.wire import problem, send

# --- hosts ------------------------------------------------------------------------------------------------------------

TRUSTED = "etl.example.com, *.intern.example"


@pytest.fixture(scope="module")
def strict(shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that knows its names."""
    folder = tmp_path_factory.mktemp("hosts") / "server"
    with server_on(shared_database, folder, PYAPI_TRUSTED_HOSTS=TRUSTED) as server:
        yield server


def get(target: bytes, *fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/" + version, *fields, b"", b""])


VERSION = b"/api/version"
SERVED = {
    "name": get(VERSION, b"Host: etl.example.com"),
    "port": get(VERSION, b"Host: etl.example.com:8443"),
    "large letters": get(VERSION, b"Host: ETL.Example.com"),
    "dot of the root": get(VERSION, b"Host: etl.example.com."),
    "below a name": get(VERSION, b"Host: a.b.intern.example"),
    "this machine": get(VERSION, b"Host: localhost:8000"),
    "this machine, IPv4": get(VERSION, b"Host: 127.0.0.1:8000"),
    "this machine, IPv6": get(VERSION, b"Host: [::1]:8000"),
    "absolute form": get(b"http://etl.example.com/api/version", b"Host: evil.example"),
    "probe of liveness": get(b"/api/health/live", b"Host: 10.1.2.3:8000"),
    "probe of readiness": get(b"/api/health/ready", b"Host: 10.1.2.3:8000"),
}
REFUSED = {
    "another name": get(VERSION, b"Host: evil.example"),
    "our name before it": get(VERSION, b"Host: etl.example.com.evil.example"),
    "our name behind it": get(VERSION, b"Host: evil-etl.example.com"),
    "the name that others are below": get(VERSION, b"Host: intern.example"),
    "an end without the dot": get(VERSION, b"Host: evilintern.example"),
    "an address": get(VERSION, b"Host: 10.1.2.3:8000"),
    "an account": get(VERSION, b"Host: etl.example.com@evil.example"),
    "a path": get(VERSION, b"Host: etl.example.com/evil.example"),
    "two names": get(VERSION, b"Host: etl.example.com, evil.example"),
    "letters as the port": get(VERSION, b"Host: etl.example.com:evil"),
    "two headers": get(VERSION, b"Host: etl.example.com", b"Host: evil.example"),
    "the same header twice": get(VERSION, b"Host: etl.example.com", b"Host: etl.example.com"),
    "no header": get(VERSION),
    "an empty header": get(VERSION, b"Host:"),
    "no header in HTTP/1.0": get(VERSION, version=b"1.0"),
    "absolute form": get(b"http://evil.example/api/version", b"Host: etl.example.com"),
    "absolute form with a port": get(b"http://evil.example:80/api/version", b"Host: etl.example.com"),
    "name for proxies": get(VERSION, b"Host: evil.example", b"X-Forwarded-Host: etl.example.com"),
}


@pytest.mark.parametrize("case", SERVED)
def test_our_hosts_are_served(strict: RunningServer, case: str) -> None:
    answer, _ = send(strict, SERVED[case])
    assert answer.status == 200


@pytest.mark.parametrize("case", REFUSED)
def test_another_host_is_refused(strict: RunningServer, case: str) -> None:
    document = problem(*send(strict, REFUSED[case]))
    assert (document.status, document.code) == (400, "bad_request")


MALFORMED = {case: REFUSED[case] for case in ("two headers", "the same header twice", "no header", "a path")}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_host_that_is_none_is_refused_everywhere(shared_server: RunningServer, case: str) -> None:
    document = problem(*send(shared_server, MALFORMED[case]))
    assert (document.status, document.code) == (400, "bad_request")


@pytest.mark.parametrize(
    "request_", [get(VERSION, b"Host: anything.example"), get(VERSION, b"Host: 10.1.2.3"), get(VERSION, version=b"1.0")]
)
def test_without_the_setting_every_host_is_served(shared_server: RunningServer, request_: bytes) -> None:
    """Nothing here is made from the Host header; `docker run -p` and a name on the local network just work."""
    answer, _ = send(shared_server, request_)
    assert answer.status == 200


async def test_no_answer_repeats_the_host(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    headers = {**(await sign_up()).headers, "Host": "evil.example"}
    made = await client.post("/api/data/", json={"name": "x"}, headers=headers)
    listed = await client.get("/api/data/?limit=1", headers=headers)
    missing = await client.get("/api/nothing", headers=headers)
    said = "".join(f"{answer.headers}{answer.text}" for answer in (made, listed, missing))
    assert (made.status_code, "evil.example" in said) == (201, False)


@pytest.mark.parametrize("text", ["https://etl.example.com", "etl.example.com:8000", "a/b", "*example.com", "a.*.b"])
def test_what_is_no_host_is_not_taken_for_a_setting(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PYAPI_TRUSTED_HOSTS", text)
    with pytest.raises(ConfigurationError, match="PYAPI_TRUSTED_HOSTS: a host is a name without scheme and port"):
        Settings.load()


@pytest.mark.parametrize(("hosts", "warned"), [("*", True), ("etl.example.com", False)])
def test_production_is_warned_of_every_host(monkeypatch: pytest.MonkeyPatch, hosts: str, warned: bool) -> None:
    monkeypatch.setenv("PYAPI_TRUSTED_HOSTS", hosts)
    settings = Settings.load(environment=Environment.PRODUCTION)
    assert any("PYAPI_TRUSTED_HOSTS" in line for line in settings.warnings()) == warned


def test_and_the_command_that_checks_the_settings_says_so(
    monkeypatch: pytest.MonkeyPatch, shared_database: str
) -> None:
    for name, value in {"PYAPI_ENVIRONMENT": "production", "SECRET_KEY": SECRET_KEY}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", shared_database)
    said = CliRunner().invoke(cli, ["config", "check"])
    assert (said.exit_code, "warning: PYAPI_TRUSTED_HOSTS is *: " in said.stderr) == (0, True)


# --- origins ----------------------------------------------------------------------------------------------------------

ORIGIN = "https://frontend.example"  # the one that the application of the tests allows
HOSTILE = {
    "another": "https://evil.example",
    "ours in front": f"{ORIGIN}.evil.example",
    "ours at the end": "https://evilfrontend.example",
    "another scheme": "http://frontend.example",
    "another port": f"{ORIGIN}:8443",
    "sandbox": "null",
    "large letters": "https://FRONTEND.example",
    "with a path": f"{ORIGIN}/",
}
ALLOWED = "access-control-allow-origin"


def preflight(origin: str, *, method: str = "POST", headers: str = "authorization, content-type") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


async def test_the_allowed_origin_may_read(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/version", headers={"Origin": ORIGIN})).headers[ALLOWED] == ORIGIN


@pytest.mark.parametrize("path", ["/api/version", "/api/nothing", "/api/data/0"])
@pytest.mark.parametrize("origin", HOSTILE.values(), ids=HOSTILE)
async def test_no_other_origin_may(client: httpx.AsyncClient, path: str, origin: str) -> None:
    assert ALLOWED not in (await client.get(path, headers={"Origin": origin})).headers


@pytest.mark.parametrize("origin", HOSTILE.values(), ids=HOSTILE)
async def test_no_other_origin_may_ask(client: httpx.AsyncClient, origin: str) -> None:
    answer = await client.options("/api/data/", headers=preflight(origin))
    assert_problem(answer, 400, "bad_request")
    assert ALLOWED not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_the_allowed_origin_may_ask(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.options("/api/data/", headers=preflight(ORIGIN, method=method, headers=", ".join(SENDABLE)))
    assert (answer.status_code, answer.headers[ALLOWED]) == (200, ORIGIN)


@pytest.mark.parametrize("headers", ["x-anything", "cookie"])
async def test_not_with_any_header(client: httpx.AsyncClient, headers: str) -> None:
    assert_problem(await client.options("/api/data/", headers=preflight(ORIGIN, headers=headers)), 400, "bad_request")


async def test_every_header_that_a_route_documents_can_be_sent(app: FastAPI) -> None:
    documented = {
        parameter["name"]
        for path in app.openapi()["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "header"
    }
    assert documented - {"Accept-Language"} <= set(SENDABLE)  # that one is always allowed


async def test_every_header_that_an_answer_documents_can_be_read(app: FastAPI) -> None:
    documented = {
        name
        for path in app.openapi()["paths"].values()
        for operation in path.values()
        for response in operation["responses"].values()
        for name in response.get("headers", ())
    }
    assert documented - {"Cache-Control"} <= set(READABLE)  # that one is always readable


async def test_a_frontend_is_told_which_headers_it_may_read(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/version", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-expose-headers"] == ", ".join(READABLE)


@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example"])
async def test_nobody_is_allowed_credentials_of_the_browser(client: httpx.AsyncClient, origin: str) -> None:
    answer = await client.options("/api/data/", headers=preflight(origin))
    assert "access-control-allow-credentials" not in answer.headers


@pytest.fixture
async def without_origins() -> AsyncIterator[httpx.AsyncClient]:
    app = get_app(Settings(_env_file=None, SECRET_KEY=SECRET_KEY))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_without_the_setting_there_is_no_allowed_origin(without_origins: httpx.AsyncClient) -> None:
    assert ALLOWED not in (await without_origins.get("/api/version", headers={"Origin": ORIGIN})).headers


async def test_without_the_setting_nobody_may_ask(without_origins: httpx.AsyncClient) -> None:
    assert_problem(await without_origins.options("/api/data/", headers=preflight(ORIGIN)), 405, "method_not_allowed")


def test_production_refuses_every_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYAPI_CORS_ORIGINS", "*")
    with pytest.raises(ConfigurationError, match=r"PYAPI_CORS_ORIGINS is \*"):
        Settings.load(environment=Environment.PRODUCTION).require_safe()


@pytest.mark.parametrize("text", ["null", "etl.example.com", "https://etl.example.com/", "https://*.example.com"])
def test_what_is_no_origin_is_not_taken_for_a_setting(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PYAPI_CORS_ORIGINS", text)
    with pytest.raises(ConfigurationError, match="PYAPI_CORS_ORIGINS: an origin is scheme, host and port"):
        Settings.load()
