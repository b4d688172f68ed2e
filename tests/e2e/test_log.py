"""The whole log of a session in which everything secret was sent: one JSON object a line, and none of the secrets."""

import secrets
from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import make_url

from tests.fixtures.application import PASSWORD
from tests.fixtures.servers import QUICK, OwnPostgres, RunningServer

SECRET_KEY = secrets.token_urlsafe(48)
NEW_PASSWORD = "另一組更長的密碼 2026"
WRONG_PASSWORD = "not-the-password-2026"
WEAK_PASSWORD = "12345678"
CREDENTIALS = {
    "source": "postgresql://user:in-a-url-2026@host:5432/db",
    "password": "under-a-key-2026",
    "store": {"api_key": "deep-inside-2026", "connection_string": "AccountKey=of-a-cloud-2026"},
}
IN_CONFIG = ["in-a-url-2026", "under-a-key-2026", "deep-inside-2026", "of-a-cloud-2026"]


@dataclass(frozen=True)
class Story:
    """What was logged, what was answered, and what must not be in the log."""

    server: RunningServer
    answers: list[httpx.Response]
    secrets: dict[str, str]


@pytest.fixture(scope="module")
async def story(own_postgres: OwnPostgres, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """At the level that says most; the database is gone for a moment, so that errors are logged too."""
    settings = {
        "DATABASE_URL": own_postgres.url,
        "SECRET_KEY": SECRET_KEY,
        "PYAPI_LOG_LEVEL": "DEBUG",
        **QUICK,
    }
    server = RunningServer(tmp_path_factory.mktemp("log") / "server", settings)
    answers: list[httpx.Response] = []

    async def remember(answer: httpx.Response) -> None:
        answers.append(answer)

    try:
        server.wait_until_live()
        async with server.client(event_hooks={"response": [remember]}) as client:
            told = await tell_secrets(client)
            own_postgres.stop()
            try:
                await tell_secrets(client)
            finally:
                own_postgres.start()
    finally:
        server.clean_up()
    database_password = str(make_url(own_postgres.url).password)
    return Story(server, answers, told | {"SECRET_KEY": SECRET_KEY, "database password": database_password})


async def tell_secrets(client: httpx.AsyncClient) -> dict[str, str]:
    """Send every kind of secret to every place that takes one, and to some that do not; the secrets by name."""
    name = {"username": "log_reader"}
    await client.post("/api/auth/register", json={**name, "email": "log@example.com", "password": WEAK_PASSWORD})
    await client.post("/api/auth/register", json={**name, "email": "log@example.com", "password": PASSWORD})
    await client.post("/api/auth/register", json={**name, "email": "log@example.com", "password": PASSWORD})
    await client.post("/api/auth/login", json={**name, "password": WRONG_PASSWORD})
    await client.post("/api/auth/login", json={**name, "passwort": WRONG_PASSWORD})
    await client.post("/api/auth/login", data={"grant_type": "password", **name, "password": PASSWORD})
    login = await client.post("/api/auth/login", json={**name, "password": PASSWORD})
    first = login.json() if login.is_success else {"access_token": "no.such.token", "refresh_token": "no-such-token"}
    refreshed = await client.post("/api/auth/refresh", json={"refresh_token": first["refresh_token"]})
    second = refreshed.json() if refreshed.is_success else first
    signed_in = {"Authorization": f"Bearer {second['access_token']}"}

    body = {"name": "祕密", "config": CREDENTIALS}
    created = await client.post("/api/data/", json=body, headers=signed_in)
    path = created.headers.get("location", "/api/data/1")
    await client.put(path, json={"config": {**CREDENTIALS, "password": "***"}}, headers=signed_in)
    await client.put(path, json={"config": {"new": "***"}, "password": NEW_PASSWORD}, headers=signed_in)
    await client.get(path, headers=signed_in)
    await client.get(f"/api/data/?q={IN_CONFIG[1]}&token={second['access_token']}", headers=signed_in)
    await client.get("/api/auth/me", headers={"Authorization": f"Basic {PASSWORD}"})
    await client.get("/api/auth/me", headers={"X-Request-ID": f"a {PASSWORD}", "User-Agent": second["access_token"]})
    broken = f'{{"refresh_token": "{second["refresh_token"]}"'
    await client.post("/api/auth/refresh", content=broken, headers={"Content-Type": "application/json"})

    passwords = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    await client.post("/api/auth/change-password", json=passwords, headers=signed_in)
    await client.post("/api/auth/refresh", json={"refresh_token": first["refresh_token"]})
    await client.post("/api/auth/logout", json={"refresh_token": second["refresh_token"]}, headers=signed_in)
    return {
        "password": PASSWORD,
        "new password": NEW_PASSWORD,
        "wrong password": WRONG_PASSWORD,
        "weak password": WEAK_PASSWORD,
        "access token": first["access_token"].rpartition(".")[2],
        "second access token": second["access_token"].rpartition(".")[2],
        "refresh token": first["refresh_token"],
        "second refresh token": second["refresh_token"],
        **{f"credential {number}": secret for number, secret in enumerate(IN_CONFIG)},
    }


SECRETS = [
    *("password", "new password", "wrong password", "weak password", "SECRET_KEY", "database password"),
    *("access token", "second access token", "refresh token", "second refresh token"),
    *(f"credential {number}" for number in range(len(IN_CONFIG))),
]


def test_what_was_sent_has_worked(story: Story) -> None:
    """Else there would be no secret to be found."""
    found = {answer.status_code for answer in story.answers}

    assert found == {200, 201, 401, 409, 422, 503}


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_in_the_log(story: Story, name: str) -> None:
    assert story.secrets[name] not in story.server.output + story.server.log


@pytest.mark.parametrize("field", ["event", "level", "logger", "timestamp"])
def test_every_line_is_an_event(story: Story, field: str) -> None:
    assert [event for event in story.server.events if field not in event] == []


def test_every_request_is_one_line_with_its_id(story: Story) -> None:
    logged = [event["request_id"] for event in story.server.events if event["event"] == "request"]
    answered = [answer.headers["x-request-id"] for answer in story.answers]

    assert [request_id for request_id in logged if request_id in answered] == answered


def test_nothing_unforeseen_has_happened(story: Story) -> None:
    assert [event for event in story.server.events if event["level"] in {"error", "critical"}] == []
