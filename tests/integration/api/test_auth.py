"""Accounts and sessions: each route with each status it can answer, and the rows that each write leaves."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from jose import jwt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.services.password_service import PasswordService
from pyapi.utils.auth import PasswordHasher, TokenSigner
from tests.fixtures.application import PASSWORD, SECRET_KEY, Account, SignUp, assert_problem, log_in

AUTH = "/api/auth"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NEW_PASSWORD = "另一組更長的密碼 2026"
CJK_PASSWORD = "".join(chr(0x4E00 + 37 * i) for i in range(64))
REGISTRATION = {"username": "New_User", "email": "new@example.com", "password": PASSWORD, "full_name": "王小明"}
USER_FIELDS = ["id", "username", "email", "full_name", "is_active", "is_superuser", "role"]
USER_FIELDS += ["created_at", "last_login_at"]


async def row(connection: AsyncConnection, statement: str, **values: object) -> Any:
    return (await connection.execute(text(statement), values)).one()


async def scalars(connection: AsyncConnection, statement: str, **values: object) -> list[Any]:
    return list((await connection.execute(text(statement), values)).scalars())


async def post(client: httpx.AsyncClient, path: str, body: object, *, by: Account | None = None) -> httpx.Response:
    """Send JSON with every character outside of ASCII escaped, so that lone surrogates can be sent as well."""
    headers = JSON | (by.headers if by else {})
    return await client.post(f"{AUTH}{path}", content=json.dumps(body), headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def is_alive(client: httpx.AsyncClient, access_token: str) -> bool:
    """Whether an access token still opens the door."""
    answer = await client.get(f"{AUTH}/me", headers=bearer(access_token))
    if answer.status_code != 200:
        assert_problem(answer, 401, "invalid_token")
    return answer.status_code == 200


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def reasons(problem: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


@dataclass
class Clock:
    """The clock of the service; that of the database goes on by itself."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(app: FastAPI) -> Iterator[Clock]:
    clock = Clock(datetime.now(UTC).replace(microsecond=0))
    policy = app.state.tokens
    app.state.tokens = replace(policy, clock=clock)
    yield clock
    app.state.tokens = policy


@pytest.fixture
def busy(app: FastAPI) -> Iterator[None]:
    """A service whose queue for passwords has no room left."""
    passwords = app.state.passwords
    app.state.passwords = full = PasswordService(PasswordHasher(rounds=4), threads=1, queue=-1)
    yield
    app.state.passwords = passwords
    full.close()


# --- register ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"username": "abc"},
        {"username": "x" * 64},
        {"username": "-_0"},
        {"full_name": None},
        {"full_name": "王" * 255},
        {"full_name": "Zoë “Ⅷ” 𠮷"},
        {"password": CJK_PASSWORD},
        {"password": "  a phrase with spaces outside  "},
        {"password": ("correct horse battery staple " * 5)[:128]},
        {"email": "a@b.c"},
        {"email": "王@例子.tw"},
        {"email": "first.last+etl@sub.example.com"},
    ],
    ids=repr,
)
async def test_register_answers_the_account(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    body = REGISTRATION | changes
    answer = await post(client, "/register", body)
    account = answer.json()
    assert answer.status_code == 201
    assert list(account) == USER_FIELDS
    expected = {
        "username": body["username"],
        "email": body["email"],
        "full_name": body["full_name"],
        "is_active": True,
        "is_superuser": False,
        "last_login_at": None,
    }
    assert account | expected == account


async def test_register_needs_no_full_name(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/register", {k: v for k, v in REGISTRATION.items() if k != "full_name"})
    assert (answer.status_code, answer.json()["full_name"]) == (201, None)


async def test_register_leaves_one_row_with_a_hash(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    await post(client, "/register", REGISTRATION)
    stored = await row(connection, "SELECT * FROM pyapi_users")
    assert (stored.username, stored.email, stored.full_name) == ("New_User", "new@example.com", "王小明")
    assert (stored.is_active, stored.is_superuser, stored.last_login_at) == (True, False, None)
    assert stored.hashed_password.startswith("$bcrypt-sha256$v=2,t=2b,r=4$")


async def test_register_signs_nobody_in(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    await post(client, "/register", REGISTRATION)
    assert await scalars(connection, "SELECT id FROM pyapi_sessions") == []


@pytest.mark.parametrize("password", [CJK_PASSWORD, "  a phrase with spaces outside  "])
async def test_whoever_registered_can_log_in_with_exactly_that_password(
    client: httpx.AsyncClient, password: str
) -> None:
    await post(client, "/register", REGISTRATION | {"password": password})
    tried = [password, password[:-1], password.strip() + "x"]
    answers = [await post(client, "/login", {"username": "New_User", "password": given}) for given in tried]
    assert [answer.status_code for answer in answers] == [200, 401, 401]


TAKEN = [
    ({"username": "Wang"}, "username"),
    ({"username": "wANG"}, "username"),
    ({"email": "Wang@example.com"}, "e-mail address"),
    ({"email": "WANG@EXAMPLE.COM"}, "e-mail address"),
    ({"username": "WANG", "email": "wang@Example.com"}, "username"),
]


@pytest.mark.parametrize(("changes", "taken"), TAKEN)
async def test_register_refuses_what_is_taken_in_any_case(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, changes: dict[str, str], taken: str
) -> None:
    await sign_up("Wang")
    problem = assert_problem(await post(client, "/register", REGISTRATION | changes), 409, "conflict")
    assert problem["detail"] == f"This {taken} is already in use."
    assert await scalars(connection, "SELECT username FROM pyapi_users") == ["Wang"]


REMOVED: object = ...  # its repr, and so the name of a test, is the same in every process

# (change of REGISTRATION, where the answer points to)
BAD_REGISTRATIONS: list[tuple[dict[str, Any], str]] = [
    ({"username": REMOVED}, "/body/username"),
    ({"email": REMOVED}, "/body/email"),
    ({"password": REMOVED}, "/body/password"),
    ({"username": None}, "/body/username"),
    ({"username": 12345}, "/body/username"),
    ({"username": ""}, "/body/username"),
    ({"username": "ab"}, "/body/username"),
    ({"username": "x" * 65}, "/body/username"),
    ({"username": "two words"}, "/body/username"),
    ({"username": "name "}, "/body/username"),
    ({"username": "name\n"}, "/body/username"),
    ({"username": "name@example.com"}, "/body/username"),
    ({"username": "王小明"}, "/body/username"),
    ({"username": "na\u200bme"}, "/body/username"),
    ({"username": "ｎａｍｅ"}, "/body/username"),
    ({"username": "name\0"}, "/body/username"),
    ({"username": "name\ud800"}, "/body/username"),
    ({"email": None}, "/body/email"),
    ({"email": ""}, "/body/email"),
    ({"email": "example.com"}, "/body/email"),
    ({"email": "A <a@b.c>"}, "/body/email"),
    ({"email": "<a@b.c>"}, "/body/email"),
    ({"email": '"a b"@example.com'}, "/body/email"),
    ({"email": "a@b.c, d@e.f"}, "/body/email"),
    ({"email": "a@b..c"}, "/body/email"),
    ({"email": "a..b@example.com"}, "/body/email"),
    ({"email": "a@example.com "}, "/body/email"),
    ({"email": "a@example.com\r\nBcc: b@example.com"}, "/body/email"),
    ({"email": "a@[127.0.0.1]"}, "/body/email"),
    ({"email": "a\0@example.com"}, "/body/email"),
    ({"email": "a\ud800@example.com"}, "/body/email"),
    ({"email": f"{'a' * 64}@{'b' * 62}.{'c' * 62}.{'d' * 60}.com"}, "/body/email"),
    ({"password": None}, "/body/password"),
    ({"password": ["SecurePass123"]}, "/body/password"),
    ({"password": "7 chars"}, "/body/password"),
    ({"password": ("correct horse battery staple " * 5)[:129]}, "/body/password"),
    ({"password": "password"}, "/body/password"),
    ({"password": "PASSWORD"}, "/body/password"),
    ({"password": "12345678"}, "/body/password"),
    ({"password": "baseball1"}, "/body/password"),
    ({"password": "aaaaaaaaaaaaaaaa"}, "/body/password"),
    ({"password": "qwertyuiop"}, "/body/password"),
    ({"password": "new_user"}, "/body/password"),
    ({"password": "NEW@example.COM1"}, "/body/password"),
    ({"password": "SecurePass123\0"}, "/body/password"),
    ({"password": "SecurePass123\ud800"}, "/body/password"),
    ({"full_name": ""}, "/body/full_name"),
    ({"full_name": "  "}, "/body/full_name"),
    ({"full_name": "王" * 256}, "/body/full_name"),
    ({"full_name": "王\0"}, "/body/full_name"),
    ({"full_name": "王\ud800"}, "/body/full_name"),
    ({"full_name": 5}, "/body/full_name"),
    ({"is_superuser": True}, "/body/is_superuser"),
    ({"is_active": False}, "/body/is_active"),
    ({"id": 1}, "/body/id"),
    ({"hashed_password": "x"}, "/body/hashed_password"),
    ({"Username": "twice"}, "/body/Username"),
]


@pytest.mark.parametrize(("changes", "pointer"), BAD_REGISTRATIONS, ids=ascii)
async def test_register_refuses_and_stores_nothing(
    client: httpx.AsyncClient, connection: AsyncConnection, changes: dict[str, Any], pointer: str
) -> None:
    body = {name: value for name, value in (REGISTRATION | changes).items() if value is not REMOVED}
    problem = assert_problem(await post(client, "/register", body), 422, "validation_failed")
    assert reasons(problem) == [pointer]
    assert await scalars(connection, "SELECT username FROM pyapi_users") == []


async def test_register_lists_everything_that_is_wrong(client: httpx.AsyncClient) -> None:
    body = {"username": "x", "email": "x", "password": "x", "is_superuser": True}
    problem = assert_problem(await post(client, "/register", body), 422, "validation_failed")
    assert reasons(problem) == ["/body/username", "/body/email", "/body/password", "/body/is_superuser"]


async def test_register_refuses_a_form(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{AUTH}/register", content=b"username=abc", headers=FORM)
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.usefixtures("busy")
async def test_register_says_when_it_is_busy(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    answer = await post(client, "/register", REGISTRATION)
    assert_problem(answer, 503, "busy")
    assert answer.headers["retry-after"] == "2"
    assert await scalars(connection, "SELECT username FROM pyapi_users") == []


# --- login ---

LOGIN_BODIES = [
    ("JSON", JSON, b'{"username": "Wang", "password": "SecurePass123"}'),
    ("another case", JSON, b'{"username": "wANG", "password": "SecurePass123"}'),
    (
        "another JSON",
        {"Content-Type": "Application/JSON; charset=utf-8"},
        b'{"username":"Wang","password":"SecurePass123"}',
    ),
    ("form", FORM, b"username=Wang&password=SecurePass123"),
    ("form of OAuth 2", FORM, b"grant_type=password&username=wang&password=SecurePass123&scope="),
    (
        "form of Swagger UI",
        FORM | {"Authorization": "Basic Og=="},
        b"grant_type=password&username=Wang&password=SecurePass123&client_id=&client_secret=",
    ),
]


@pytest.mark.parametrize(
    ("headers", "body"), [case[1:] for case in LOGIN_BODIES], ids=[case[0] for case in LOGIN_BODIES]
)
async def test_login_answers_a_pair_of_tokens(
    client: httpx.AsyncClient, sign_up: SignUp, headers: dict[str, str], body: bytes
) -> None:
    await sign_up("Wang")
    answer = await client.post(f"{AUTH}/login", content=body, headers=headers)
    assert answer.status_code == 200
    assert list(answer.json()) == ["access_token", "refresh_token", "token_type", "expires_in"]
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 1800)
    assert await is_alive(client, answer.json()["access_token"])


async def test_login_must_not_be_kept_by_caches(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    answer = await post(client, "/login", {"username": account.username, "password": PASSWORD})
    assert answer.headers["cache-control"] == "no-store"


async def test_login_leaves_a_session_and_the_digest_of_its_token(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, clock: Clock
) -> None:
    account = await sign_up()
    session = await row(connection, "SELECT * FROM pyapi_sessions")
    token = await row(connection, "SELECT * FROM pyapi_refresh_tokens")
    expires_at = clock.now + timedelta(days=7)
    assert (session.user_id, session.expires_at) == (account.id, expires_at)
    assert (session.ended_at, session.end_reason) == (None, None)
    assert (token.user_id, token.family_id, token.parent_id) == (account.id, session.id, None)
    assert (token.token, token.expires_at) == (digest(account.refresh_token), expires_at)
    assert (token.is_active, token.revoked_at) == (True, None)
    assert jwt.get_unverified_claims(account.access_token)["sid"] == str(session.id)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"curl/8.7.1", "curl/8.7.1"),
        ("瀏覽器".encode(), "瀏覽器".encode().decode("latin-1")),
        (b"a\0b", "ab"),
        (b"x" * 600, "x" * 512),
        (b"a\r\nX-Forged: 1", "a\r\nX-Forged: 1"),
        (b"", None),
    ],
    ids=["plain", "not ASCII", "NUL", "long", "CRLF", "empty"],
)
async def test_login_keeps_what_the_client_calls_itself(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, sent: bytes, stored: str | None
) -> None:
    account = await sign_up()
    body = json.dumps({"username": account.username, "password": PASSWORD})
    await client.post(
        f"{AUTH}/login", content=body, headers=[(b"content-type", b"application/json"), (b"user-agent", sent)]
    )
    token = await row(connection, "SELECT * FROM pyapi_refresh_tokens ORDER BY id DESC LIMIT 1")
    assert (token.user_agent, token.address) == (stored, "127.0.0.1")


async def test_login_is_stamped_on_the_account(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    shown = (await client.get(f"{AUTH}/me", headers=account.headers)).json()["last_login_at"]
    now = await row(connection, "SELECT now()")
    assert datetime.fromisoformat(shown) == now[0]


async def test_each_login_is_a_session_of_its_own(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    again = await log_in(client, account.username)
    assert again["refresh_token"] != account.refresh_token
    assert len(await scalars(connection, "SELECT DISTINCT family_id FROM pyapi_refresh_tokens")) == 2


async def test_a_login_renews_a_hash_of_another_cost(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    dear = PasswordHasher(rounds=5).hash(PASSWORD)
    await connection.execute(text("UPDATE pyapi_users SET hashed_password = :hash"), {"hash": dear})
    await log_in(client, account.username)
    [renewed] = await scalars(connection, "SELECT hashed_password FROM pyapi_users")
    assert renewed.startswith("$bcrypt-sha256$v=2,t=2b,r=4$")
    assert await log_in(client, account.username)


# (name, headers, body, where the answer points to)
UNREADABLE_LOGINS: list[tuple[str, dict[str, str], bytes, list[str]]] = [
    ("empty", JSON, b"", ["/body"]),
    ("not an object", JSON, b"[]", ["/body"]),
    ("no fields", JSON, b"{}", ["/body/username", "/body/password"]),
    ("null", JSON, b'{"username": null, "password": null}', ["/body/username", "/body/password"]),
    ("empty name", JSON, b'{"username": "", "password": "x"}', ["/body/username"]),
    ("empty password", JSON, b'{"username": "a", "password": ""}', ["/body/password"]),
    ("long name", JSON, json.dumps({"username": "x" * 256, "password": "x"}).encode(), ["/body/username"]),
    ("long password", JSON, json.dumps({"username": "x", "password": "x" * 4097}).encode(), ["/body/password"]),
    ("NUL in the name", JSON, b'{"username": "a\\u0000", "password": "x"}', ["/body/username"]),
    ("surrogate in the name", JSON, b'{"username": "\\ud800", "password": "x"}', ["/body/username"]),
    ("surrogate in the password", JSON, b'{"username": "a", "password": "\\udfff"}', ["/body/password"]),
    ("unknown field", JSON, b'{"username": "a", "password": "x", "otp": "1"}', ["/body/otp"]),
    ("empty form", FORM, b"", ["/body/username", "/body/password"]),
    ("form without fields", FORM, b"a=1", ["/body/username", "/body/password"]),
    ("form with an empty password", FORM, b"username=a&password=", ["/body/password"]),
    ("form with NUL", FORM, b"username=a%00&password=x", ["/body/username"]),
    ("form in Latin-1", FORM, b"username=%ff&password=x", ["/body"]),
    ("form of raw bytes", FORM, b"username=\xff&password=x", ["/body"]),
    ("form with a name twice", FORM, b"username=a&password=x&username=b", ["/body"]),
    ("form of many fields", FORM, b"username=a&password=x" + b"&a=1" * 20, ["/body"]),
    ("another grant", FORM, b"grant_type=refresh_token&username=a&password=x", ["/body/grant_type"]),
]


@pytest.mark.parametrize(
    ("headers", "body", "pointers"),
    [case[1:] for case in UNREADABLE_LOGINS],
    ids=[case[0] for case in UNREADABLE_LOGINS],
)
async def test_a_login_that_cannot_be_read_is_refused_without_a_hash(
    client: httpx.AsyncClient, hashings: list[bytes], headers: dict[str, str], body: bytes, pointers: list[str]
) -> None:
    answer = await client.post(f"{AUTH}/login", content=body, headers=headers)
    problem = assert_problem(answer, 422, "validation_failed")
    assert (reasons(problem), hashings) == (pointers, [])


@pytest.mark.parametrize("kind", [None, "", "text/plain", "text/json", "application/jsonx", "multipart/form-data"])
async def test_login_takes_json_and_forms_only(client: httpx.AsyncClient, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = await client.post(f"{AUTH}/login", content=b'{"username": "a", "password": "x"}', headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.usefixtures("busy")
async def test_login_says_when_it_is_busy(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/login", {"username": "nobody", "password": PASSWORD})
    assert_problem(answer, 503, "busy")
    assert answer.headers["retry-after"] == "2"


# --- what the table of tokens holds ---


async def test_no_row_anywhere_holds_a_token_or_a_password(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    pairs = [await log_in(client, account.username)]
    pairs.append((await post(client, "/refresh", {"refresh_token": pairs[0]["refresh_token"]})).json())
    secrets = [account.access_token, account.refresh_token, PASSWORD]
    secrets += [pair[kind] for pair in pairs for kind in ("access_token", "refresh_token")]
    rows = []
    for table in ("pyapi_users", "pyapi_sessions", "pyapi_refresh_tokens"):
        rows += await scalars(connection, f"SELECT to_jsonb(t)::text FROM {table} t")
    stored = "\n".join(rows)
    assert not [secret for secret in secrets if secret in stored or secret.rpartition(".")[2] in stored]


async def test_the_token_column_holds_sha_256_only(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    successor = (await post(client, "/refresh", {"refresh_token": account.refresh_token})).json()["refresh_token"]
    stored = await scalars(connection, "SELECT token FROM pyapi_refresh_tokens ORDER BY id")
    assert stored == [digest(account.refresh_token), digest(successor)]


# --- refresh ---


async def refresh(client: httpx.AsyncClient, refresh_token: str) -> httpx.Response:
    return await post(client, "/refresh", {"refresh_token": refresh_token})


async def rotate(client: httpx.AsyncClient, refresh_token: str) -> dict[str, Any]:
    answer = await refresh(client, refresh_token)
    assert answer.status_code == 200
    pair: dict[str, Any] = answer.json()
    return pair


async def test_refresh_answers_a_new_pair(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    answer = await refresh(client, account.refresh_token)
    pair = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert list(pair) == ["access_token", "refresh_token", "token_type", "expires_in"]
    assert (pair["token_type"], pair["expires_in"]) == ("bearer", 1800)
    assert pair["refresh_token"] != account.refresh_token
    assert await is_alive(client, pair["access_token"])


async def test_refresh_needs_no_access_token_and_ends_none(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    await rotate(client, account.refresh_token)
    assert await is_alive(client, account.access_token)


async def test_refresh_leaves_the_old_row_used_and_a_new_one(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    body = json.dumps({"refresh_token": account.refresh_token})
    await client.post(f"{AUTH}/refresh", content=body, headers=JSON | {"User-Agent": "another program"})
    old, new = (await connection.execute(text("SELECT * FROM pyapi_refresh_tokens ORDER BY id"))).all()
    assert (old.is_active, old.revoked_at is not None) == (False, True)
    assert (new.is_active, new.revoked_at, new.parent_id) == (True, None, old.id)
    assert (new.user_id, new.family_id) == (account.id, old.family_id)
    assert (new.user_agent, new.address) == ("another program", "127.0.0.1")


async def test_refresh_does_not_make_a_session_longer(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, clock: Clock
) -> None:
    account = await sign_up()
    began = clock.now
    clock.now += timedelta(days=6)
    await rotate(client, account.refresh_token)
    expiries = await scalars(connection, "SELECT DISTINCT expires_at FROM pyapi_refresh_tokens")
    assert expiries == [began + timedelta(days=7)]


async def test_an_access_token_ends_with_its_session_at_the_latest(
    client: httpx.AsyncClient, sign_up: SignUp, clock: Clock
) -> None:
    account = await sign_up()
    clock.now += timedelta(days=7) - timedelta(minutes=5)
    assert (await rotate(client, account.refresh_token))["expires_in"] == 300


async def test_many_refreshes_in_one_second_give_different_tokens(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    pairs = [await rotate(client, account.refresh_token)]
    for _ in range(4):
        pairs.append(await rotate(client, pairs[-1]["refresh_token"]))
    tokens = {pair[kind] for pair in pairs for kind in ("access_token", "refresh_token")}
    assert len(tokens) == 10


async def test_a_used_token_is_refused(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    await rotate(client, account.refresh_token)
    answer = await refresh(client, account.refresh_token)
    assert_problem(answer, 401, "invalid_token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_used_token_ends_the_tokens_that_came_of_it(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    pair = await rotate(client, account.refresh_token)
    await refresh(client, account.refresh_token)
    assert_problem(await refresh(client, pair["refresh_token"]), 401, "invalid_token")


async def test_a_used_token_ends_the_access_tokens_of_its_session(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    pair = await rotate(client, account.refresh_token)
    await refresh(client, account.refresh_token)
    alive = [await is_alive(client, token) for token in (account.access_token, pair["access_token"])]
    assert alive == [False, False]


async def test_the_end_by_a_used_token_survives_its_own_401(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    await rotate(client, account.refresh_token)
    await refresh(client, account.refresh_token)
    session = await row(connection, "SELECT ended_at IS NOT NULL AS ended, end_reason FROM pyapi_sessions")
    tokens = await scalars(connection, "SELECT is_active FROM pyapi_refresh_tokens")
    assert (session.ended, session.end_reason, tokens) == (True, "reuse", [False, False])


async def test_a_grandparent_ends_the_session_as_well(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    parent = await rotate(client, account.refresh_token)
    pair = await rotate(client, parent["refresh_token"])
    assert_problem(await refresh(client, account.refresh_token), 401, "invalid_token")
    assert not await is_alive(client, pair["access_token"])


async def test_a_used_token_ends_no_other_session(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    other = await log_in(client, account.username)
    await rotate(client, account.refresh_token)
    await refresh(client, account.refresh_token)
    assert await is_alive(client, other["access_token"])
    assert (await refresh(client, other["refresh_token"])).status_code == 200


async def test_presenting_a_used_token_again_and_again_changes_nothing(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    await rotate(client, account.refresh_token)
    answers = [await refresh(client, account.refresh_token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert await scalars(connection, "SELECT end_reason FROM pyapi_sessions") == ["reuse"]


# What makes an unused refresh token invalid, as SQL.
INVALID_BY = {
    "expired": "UPDATE pyapi_refresh_tokens SET expires_at = now() - interval '1 second'",
    "expires now": "UPDATE pyapi_refresh_tokens SET expires_at = now()",
    "deactivated user": "UPDATE pyapi_users SET is_active = false",
    "ended session": "UPDATE pyapi_sessions SET ended_at = now()",
    "deleted session": "DELETE FROM pyapi_sessions",
    "deleted user": "DELETE FROM pyapi_users",
}


@pytest.mark.parametrize("statement", INVALID_BY.values(), ids=INVALID_BY)
async def test_a_token_that_does_not_hold_any_more_is_refused(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, statement: str
) -> None:
    account = await sign_up()
    await connection.execute(text(statement))
    assert_problem(await refresh(client, account.refresh_token), 401, "invalid_token")
    assert await scalars(connection, "SELECT id FROM pyapi_refresh_tokens WHERE parent_id IS NOT NULL") == []


@pytest.mark.parametrize(
    "forge",
    [
        lambda account: account.access_token,
        lambda account: digest(account.refresh_token),
        lambda account: account.refresh_token + "=",
        lambda account: account.refresh_token[:-1],
        lambda account: account.refresh_token.swapcase(),
        lambda account: f" {account.refresh_token}",
        lambda account: "x",
        lambda account: "\0",
        lambda account: "密" * 512,
    ],
    ids=["access token", "stored digest", "padded", "cut", "another case", "space", "short", "NUL", "longest"],
)
async def test_what_is_no_refresh_token_is_refused(
    client: httpx.AsyncClient, sign_up: SignUp, forge: Callable[[Account], str]
) -> None:
    account = await sign_up()
    assert_problem(await refresh(client, forge(account)), 401, "invalid_token")
    assert await is_alive(client, account.access_token)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/body/refresh_token"),
        ({"refresh_token": None}, "/body/refresh_token"),
        ({"refresh_token": ""}, "/body/refresh_token"),
        ({"refresh_token": 5}, "/body/refresh_token"),
        ({"refresh_token": "x" * 513}, "/body/refresh_token"),
        ({"refresh_token": "\ud800"}, "/body/refresh_token"),
        ({"refresh_token": "x", "scope": "all"}, "/body/scope"),
        ([], "/body"),
        (None, "/body"),
    ],
    ids=ascii,
)
async def test_refresh_refuses_other_bodies(client: httpx.AsyncClient, body: object, pointer: str) -> None:
    problem = assert_problem(await post(client, "/refresh", body), 422, "validation_failed")
    assert reasons(problem) == [pointer]


# --- logout ---


@pytest.mark.parametrize(
    ("headers", "body"),
    [({}, b""), (JSON, b""), (JSON, b"{}"), (JSON, b"null"), (JSON, b'{"refresh_token": null}')],
    ids=["nothing", "nothing, called JSON", "empty object", "null", "null token"],
)
async def test_logout_ends_the_session_of_the_access_token(
    client: httpx.AsyncClient, sign_up: SignUp, headers: dict[str, str], body: bytes
) -> None:
    account = await sign_up()
    answer = await client.post(f"{AUTH}/logout", content=body, headers=headers | account.headers)
    assert (answer.status_code, answer.json()) == (200, {"message": "Logged out."})
    assert not await is_alive(client, account.access_token)


async def test_logout_ends_the_refresh_token_as_well(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    await client.post(f"{AUTH}/logout", headers=account.headers)
    assert_problem(await refresh(client, account.refresh_token), 401, "invalid_token")


async def test_logout_leaves_an_ended_session(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    await client.post(f"{AUTH}/logout", headers=account.headers)
    session = await row(connection, "SELECT ended_at IS NOT NULL AS ended, end_reason FROM pyapi_sessions")
    token = await row(connection, "SELECT is_active, revoked_at IS NOT NULL AS revoked FROM pyapi_refresh_tokens")
    assert (session.ended, session.end_reason) == (True, "logout")
    assert (token.is_active, token.revoked) == (False, True)


async def test_logout_ends_every_access_token_of_the_session(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    pair = await rotate(client, account.refresh_token)
    await client.post(f"{AUTH}/logout", headers=account.headers)
    assert not await is_alive(client, pair["access_token"])


async def test_logout_ends_no_other_session(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    other = await log_in(client, account.username)
    await client.post(f"{AUTH}/logout", headers=account.headers)
    assert await is_alive(client, other["access_token"])


async def test_logout_with_a_refresh_token_ends_that_session(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    other = await log_in(client, account.username)
    answer = await post(client, "/logout", {"refresh_token": other["refresh_token"]}, by=account)
    assert answer.status_code == 200
    alive = [await is_alive(client, token) for token in (account.access_token, other["access_token"])]
    assert alive == [True, False]


async def test_logout_knows_the_session_of_a_used_refresh_token(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    await rotate(client, account.refresh_token)
    answer = await post(client, "/logout", {"refresh_token": account.refresh_token}, by=account)
    assert answer.status_code == 200
    assert not await is_alive(client, account.access_token)


async def test_logout_refuses_the_token_of_somebody_else(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account, other = await sign_up(), await sign_up()
    answer = await post(client, "/logout", {"refresh_token": other.refresh_token}, by=account)
    assert reasons(assert_problem(answer, 422, "validation_failed")) == ["/body/refresh_token"]
    alive = [await is_alive(client, token) for token in (account.access_token, other.access_token)]
    assert alive == [True, True]


async def test_logout_says_the_same_of_an_unknown_token(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account, other = await sign_up(), await sign_up()
    answers = [
        await post(client, "/logout", {"refresh_token": token}, by=account)
        for token in (other.refresh_token, "x" * 43, account.access_token[:512])
    ]
    problems = [assert_problem(answer, 422, "validation_failed") | {"request_id": ""} for answer in answers]
    assert problems == [problems[0]] * 3


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"refresh_token": ""}, "/body/refresh_token"),
        ({"refresh_token": 1}, "/body/refresh_token"),
        ({"refresh_token": "x" * 513}, "/body/refresh_token"),
        ({"all": True}, "/body/all"),
        ([], "/body"),
    ],
    ids=ascii,
)
async def test_logout_refuses_other_bodies_and_ends_nothing(
    client: httpx.AsyncClient, sign_up: SignUp, body: object, pointer: str
) -> None:
    account = await sign_up()
    problem = assert_problem(await post(client, "/logout", body, by=account), 422, "validation_failed")
    assert reasons(problem) == [pointer]
    assert await is_alive(client, account.access_token)


async def test_logout_refuses_a_form(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    answer = await client.post(f"{AUTH}/logout", content=b"refresh_token=x", headers=FORM | account.headers)
    assert_problem(answer, 415, "unsupported_media_type")


async def test_logging_out_twice_needs_a_login_between(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    answers = [await client.post(f"{AUTH}/logout", headers=account.headers) for _ in range(2)]
    assert answers[0].status_code == 200
    assert_problem(answers[1], 401, "invalid_token")


# --- logout-all ---


async def test_logout_all_ends_every_session_of_the_caller(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    other = await log_in(client, account.username)
    answer = await client.post(f"{AUTH}/logout-all", headers=account.headers)
    assert answer.status_code == 200
    assert answer.json() == {"message": "Logged out of 2 sessions.", "ended_sessions": 2}
    alive = [await is_alive(client, token) for token in (account.access_token, other["access_token"])]
    assert alive == [False, False]


async def test_logout_all_leaves_ended_sessions(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    await log_in(client, account.username)
    await client.post(f"{AUTH}/logout-all", headers=account.headers)
    reasons = await scalars(connection, "SELECT end_reason FROM pyapi_sessions WHERE ended_at IS NOT NULL")
    assert reasons == ["logout-all", "logout-all"]
    assert await scalars(connection, "SELECT is_active FROM pyapi_refresh_tokens") == [False, False]


async def test_logout_all_ends_nobody_else_s_session(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account, other = await sign_up(), await sign_up()
    await client.post(f"{AUTH}/logout-all", headers=account.headers)
    assert await is_alive(client, other.access_token)
    assert (await refresh(client, other.refresh_token)).status_code == 200


async def test_logout_all_counts_only_what_it_ended(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    other = await log_in(client, account.username)
    await client.post(f"{AUTH}/logout", headers=bearer(other["access_token"]))
    answer = await client.post(f"{AUTH}/logout-all", headers=account.headers)
    assert answer.json()["ended_sessions"] == 1


# --- me ---


async def test_me_answers_the_caller(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up("Wang")
    answer = await client.get(f"{AUTH}/me", headers=account.headers)
    assert (answer.status_code, list(answer.json())) == (200, USER_FIELDS)
    expected = {"id": account.id, "username": "Wang", "email": "Wang@example.com", "full_name": "王小明"}
    assert answer.json() | expected == answer.json()


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ({}, {}),
        ({"full_name": "Ada Lovelace"}, {"full_name": "Ada Lovelace"}),
        ({"full_name": None}, {"full_name": None}),
        ({"full_name": "Ada", "current_password": "wrong, and not needed"}, {"full_name": "Ada"}),
        ({"email": "Wang@example.com"}, {}),
        ({"email": "ada@example.com", "current_password": PASSWORD}, {"email": "ada@example.com"}),
        ({"email": "WANG@example.com", "current_password": PASSWORD}, {"email": "WANG@example.com"}),
        (
            {"email": "ada@example.com", "full_name": "Ada", "current_password": PASSWORD},
            {"email": "ada@example.com", "full_name": "Ada"},
        ),
    ],
    ids=ascii,
)
async def test_update_me_changes_what_was_sent(
    client: httpx.AsyncClient,
    sign_up: SignUp,
    connection: AsyncConnection,
    body: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    account = await sign_up("Wang")
    before = (await row(connection, "SELECT * FROM pyapi_users"))._asdict()
    answer = await client.put(f"{AUTH}/me", json=body, headers=account.headers)
    after = (await row(connection, "SELECT * FROM pyapi_users"))._asdict()
    assert answer.status_code == 200
    assert answer.json() | changes == answer.json()
    assert after == before | changes


async def test_update_me_keeps_the_sessions(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    await client.put(f"{AUTH}/me", json={"email": "a@b.c", "current_password": PASSWORD}, headers=account.headers)
    assert await is_alive(client, account.access_token)


BAD_UPDATES: list[tuple[dict[str, Any], str]] = [
    ({"email": "ada@example.com"}, "/body/current_password"),
    ({"email": "ada@example.com", "current_password": None}, "/body/current_password"),
    ({"email": "ada@example.com", "current_password": "SecurePass124"}, "/body/current_password"),
    ({"email": "ada@example.com", "current_password": "\0"}, "/body/current_password"),
    ({"email": "ada@example.com", "current_password": ""}, "/body/current_password"),
    ({"email": "Ada <ada@example.com>", "current_password": PASSWORD}, "/body/email"),
    ({"email": None, "current_password": PASSWORD}, "/body/email"),
    ({"full_name": ""}, "/body/full_name"),
    ({"full_name": "x" * 256}, "/body/full_name"),
    ({"full_name": "\0"}, "/body/full_name"),
    ({"full_name": ["Ada"]}, "/body/full_name"),
    ({"is_superuser": True}, "/body/is_superuser"),
    ({"is_active": False}, "/body/is_active"),
    ({"username": "ada"}, "/body/username"),
    ({"password": "x"}, "/body/password"),
    ({"hashed_password": "x"}, "/body/hashed_password"),
    ({"full_name": "Ada", "is_superuser": True}, "/body/is_superuser"),
    ({"id": 1}, "/body/id"),
]


@pytest.mark.parametrize(("body", "pointer"), BAD_UPDATES, ids=ascii)
async def test_update_me_refuses_and_changes_nothing(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, body: dict[str, Any], pointer: str
) -> None:
    account = await sign_up()
    before = await row(connection, "SELECT * FROM pyapi_users")
    answer = await client.put(f"{AUTH}/me", json=body, headers=account.headers)
    assert reasons(assert_problem(answer, 422, "validation_failed")) == [pointer]
    assert await row(connection, "SELECT * FROM pyapi_users") == before


@pytest.mark.parametrize("email", ["other@example.com", "OTHER@Example.com"])
async def test_update_me_refuses_an_address_that_is_taken(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, email: str
) -> None:
    await sign_up("other")
    account = await sign_up("wang")
    body = {"email": email, "current_password": PASSWORD}
    problem = assert_problem(await client.put(f"{AUTH}/me", json=body, headers=account.headers), 409, "conflict")
    assert problem["detail"] == "This e-mail address is already in use."
    assert await scalars(connection, "SELECT email FROM pyapi_users WHERE username = 'wang'") == ["wang@example.com"]


async def test_update_me_refuses_other_types(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    answer = await client.put(f"{AUTH}/me", content=b"{}", headers=account.headers | {"Content-Type": "text/plain"})
    assert_problem(answer, 415, "unsupported_media_type")


async def test_update_me_says_when_it_is_busy(
    client: httpx.AsyncClient, sign_up: SignUp, request: pytest.FixtureRequest
) -> None:
    account = await sign_up()
    request.getfixturevalue("busy")
    body = {"email": "a@b.c", "current_password": PASSWORD}
    assert_problem(await client.put(f"{AUTH}/me", json=body, headers=account.headers), 503, "busy")


# --- change-password ---


async def change_password(
    client: httpx.AsyncClient, account: Account, *, current: str = PASSWORD, new: str = NEW_PASSWORD
) -> httpx.Response:
    return await post(client, "/change-password", {"current_password": current, "new_password": new}, by=account)


async def test_change_password_ends_every_session_at_once(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    other = await log_in(client, account.username)
    answer = await change_password(client, account)
    assert (answer.status_code, answer.json()["ended_sessions"]) == (200, 2)
    alive = [await is_alive(client, token) for token in (account.access_token, other["access_token"])]
    assert alive == [False, False]


async def test_change_password_ends_the_refresh_tokens(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    await change_password(client, account)
    assert_problem(await refresh(client, account.refresh_token), 401, "invalid_token")


async def test_only_the_new_password_fits_afterwards(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    await change_password(client, account)
    tried = [PASSWORD, NEW_PASSWORD]
    answers = [await post(client, "/login", {"username": account.username, "password": given}) for given in tried]
    assert [answer.status_code for answer in answers] == [401, 200]


async def test_change_password_leaves_another_hash_and_ended_sessions(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    account = await sign_up()
    before = (await row(connection, "SELECT * FROM pyapi_users"))._asdict()
    await change_password(client, account)
    after = (await row(connection, "SELECT * FROM pyapi_users"))._asdict()
    assert {name for name in after if after[name] != before[name]} == {"hashed_password"}
    assert await scalars(connection, "SELECT end_reason FROM pyapi_sessions") == ["password-changed"]


async def test_change_password_ends_nobody_else_s_session(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account, other = await sign_up(), await sign_up()
    await change_password(client, account)
    assert await is_alive(client, other.access_token)


BAD_CHANGES: list[tuple[object, str]] = [
    ({"current_password": "SecurePass124", "new_password": NEW_PASSWORD}, "/body/current_password"),
    ({"current_password": PASSWORD + " ", "new_password": NEW_PASSWORD}, "/body/current_password"),
    ({"current_password": "\0", "new_password": NEW_PASSWORD}, "/body/current_password"),
    ({"current_password": "", "new_password": NEW_PASSWORD}, "/body/current_password"),
    ({"new_password": NEW_PASSWORD}, "/body/current_password"),
    ({"current_password": PASSWORD}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": "7 chars"}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": "x" * 129}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": "password"}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": "aaaaaaaaaaaa"}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": PASSWORD}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": f"{PASSWORD}4"}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": "wang@example.com"}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": "SecurePass456\0"}, "/body/new_password"),
    ({"current_password": PASSWORD, "new_password": NEW_PASSWORD, "username": "x"}, "/body/username"),
    ([], "/body"),
]


@pytest.mark.parametrize(("body", "pointer"), BAD_CHANGES, ids=ascii)
async def test_change_password_refuses_and_changes_nothing(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, body: object, pointer: str
) -> None:
    account = await sign_up("wang")
    before = await row(connection, "SELECT * FROM pyapi_users")
    problem = assert_problem(await post(client, "/change-password", body, by=account), 422, "validation_failed")
    assert reasons(problem) == [pointer]
    assert await row(connection, "SELECT * FROM pyapi_users") == before
    assert await is_alive(client, account.access_token)


async def test_change_password_refuses_a_form(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account = await sign_up()
    answer = await client.post(f"{AUTH}/change-password", content=b"new_password=x", headers=FORM | account.headers)
    assert_problem(answer, 415, "unsupported_media_type")


async def test_change_password_says_when_it_is_busy(
    client: httpx.AsyncClient, sign_up: SignUp, request: pytest.FixtureRequest
) -> None:
    account = await sign_up()
    request.getfixturevalue("busy")
    assert_problem(await change_password(client, account), 503, "busy")


# --- who may enter: every route that asks who is calling ---

REQUIRED = [
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/logout-all"),
    ("GET", "/api/auth/sessions"),
    ("DELETE", "/api/auth/sessions/{session_id}"),
    ("GET", "/api/auth/me"),
    ("PUT", "/api/auth/me"),
    ("POST", "/api/auth/change-password"),
    ("GET", "/api/auth/users"),
    ("GET", "/api/auth/users/{user_id}"),
    ("PUT", "/api/auth/users/{user_id}"),
    ("POST", "/api/auth/users/{user_id}/revoke-tokens"),
    ("POST", "/api/auth/tokens"),
    ("GET", "/api/auth/tokens"),
    ("DELETE", "/api/auth/tokens/{token_id}"),
    ("POST", "/api/data/"),
    ("PUT", "/api/data/{data_id}"),
    ("PATCH", "/api/data/{data_id}"),
    ("DELETE", "/api/data/{data_id}"),
    ("GET", "/api/data/{data_id}/access"),
    ("PUT", "/api/data/{data_id}/access"),
    ("POST", "/api/data/validate"),
    ("POST", "/api/data/{data_id}/check"),
    ("GET", "/api/data/{data_id}/stats"),
    ("GET", "/api/runs"),
    ("POST", "/api/data/{data_id}/runs"),
    ("GET", "/api/data/{data_id}/runs"),
    ("GET", "/api/data/{data_id}/runs/{run_id}"),
    ("GET", "/api/data/{data_id}/runs/{run_id}/logs"),
    ("POST", "/api/data/{data_id}/runs/{run_id}/cancel"),
    ("POST", "/api/data/{data_id}/runs/{run_id}/retry"),
    ("POST", "/api/data/{data_id}/backfills"),
    ("GET", "/api/data/{data_id}/backfills"),
    ("POST", "/api/data/{data_id}/backfills/{backfill_id}/cancel"),
    ("GET", "/api/airflow"),
    ("POST", "/api/airflow/reconcile"),
    ("GET", "/api/audit"),
    ("GET", "/api/data/{data_id}/history"),
]
OPTIONAL = [("GET", "/api/data/"), ("GET", "/api/data/{data_id}"), ("GET", "/api/schedules/calendar")]
Headers = list[tuple[bytes, bytes]]


def test_the_tables_of_routes_are_complete(app: FastAPI) -> None:
    found: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            if "security" in operation:
                found[{} in operation["security"]].append((method.upper(), path))
    assert (sorted(found[False]), sorted(found[True])) == (sorted(REQUIRED), sorted(OPTIONAL))


def authorization(*values: str | bytes) -> Headers:
    return [(b"authorization", value.encode() if isinstance(value, str) else value) for value in values]


def signed(account: Account, **differs: Any) -> str:
    """An access token of the account's session, as another signer or at another time would have written it."""
    claims = jwt.get_unverified_claims(account.access_token)
    key = differs.pop("key", SECRET_KEY)
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "user_id": int(claims["sub"]),
        "session_id": UUID(claims["sid"]),
        "issued_at": now,
        "expires_at": now + timedelta(minutes=30),
    } | differs
    return TokenSigner(key).sign(**given)


def unsigned(account: Account) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{account.access_token.split('.')[1]}."


def tampered(account: Account) -> str:
    header, _, signature = account.access_token.split(".")
    claims = jwt.get_unverified_claims(account.access_token) | {"sub": "1"}
    payload = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


# As deep as the limit for a head lets through: beyond 16 KiB the answer is a 431 (tests/security/test_sizes.py).
DEEP = base64.urlsafe_b64encode(b"[" * 11_000).decode()
HOUR = timedelta(hours=1)

BAD_AUTHORIZATIONS: dict[str, Callable[[Account], Headers]] = {
    "empty": lambda account: authorization(""),
    "scheme only": lambda account: authorization("Bearer"),
    "scheme and space": lambda account: authorization("Bearer "),
    "scheme and spaces": lambda account: authorization("Bearer   "),
    "token only": lambda account: authorization(account.access_token),
    "Basic": lambda account: authorization("Basic dXNlcjpTZWN1cmVQYXNzMTIz"),
    "another scheme": lambda account: authorization(f"Token {account.access_token}"),
    "tab": lambda account: authorization(f"Bearer\t{account.access_token}"),
    "colon": lambda account: authorization(f"Bearer: {account.access_token}"),
    "two words": lambda account: authorization(f"Bearer {account.access_token} x"),
    "list": lambda account: authorization(f"Bearer {account.access_token}, Bearer {account.access_token}"),
    "quoted": lambda account: authorization(f'Bearer "{account.access_token}"'),
    "doubled": lambda account: authorization(f"Bearer {account.access_token}", f"Bearer {account.access_token}"),
    "doubled with Basic": lambda account: authorization(f"Bearer {account.access_token}", "Basic Og=="),
    "garbage": lambda account: authorization("Bearer garbage"),
    "garbage in lower case": lambda account: authorization("bearer garbage"),
    "dots": lambda account: authorization("Bearer .."),
    "not ASCII": lambda account: authorization("Bearer 密碼"),
    "not UTF-8": lambda account: authorization(b"Bearer \xff\xfe"),
    "deep": lambda account: authorization(f"Bearer {DEEP}.e30.AA"),
    "long": lambda account: authorization(f"Bearer {'A' * 15_000}"),
    "padded": lambda account: authorization(f"Bearer {account.access_token}="),
    "cut": lambda account: authorization(f"Bearer {account.access_token[:-1]}"),
    "unsigned": lambda account: authorization(f"Bearer {unsigned(account)}"),
    "tampered": lambda account: authorization(f"Bearer {tampered(account)}"),
    "another key": lambda account: authorization(f"Bearer {signed(account, key='x' * 32)}"),
    "refresh token": lambda account: authorization(f"Bearer {account.refresh_token}"),
    "expired": lambda account: authorization(
        f"Bearer {signed(account, issued_at=datetime.now(UTC) - HOUR, expires_at=datetime.now(UTC))}"
    ),
    "from the future": lambda account: authorization(
        f"Bearer {signed(account, issued_at=datetime.now(UTC) + HOUR, expires_at=datetime.now(UTC) + 2 * HOUR)}"
    ),
    "unknown session": lambda account: authorization(f"Bearer {signed(account, session_id=uuid4())}"),
    "unknown user": lambda account: authorization(f"Bearer {signed(account, user_id=2**31 - 1)}"),
}


async def knock(client: httpx.AsyncClient, headers: Headers | dict[str, str]) -> dict[tuple[str, str], httpx.Response]:
    """What each route that asks who is calling answers."""
    answers = {}
    for method, path in REQUIRED + OPTIONAL:
        url = path.replace("{user_id}", "1").replace("{data_id}", "1")
        answers[method, path] = await client.request(method, url, headers=headers)
    return answers


@pytest.mark.parametrize("make", BAD_AUTHORIZATIONS.values(), ids=BAD_AUTHORIZATIONS)
async def test_a_bad_authorization_opens_no_door(
    client: httpx.AsyncClient, sign_up: SignUp, make: Callable[[Account], Headers]
) -> None:
    """Not even where nobody has to sign in: an expired token must not turn into a shorter answer."""
    headers = make(await sign_up())
    for answer in (await knock(client, headers)).values():
        assert_problem(answer, 401, "invalid_token")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_without_authorization_only_optional_doors_open(client: httpx.AsyncClient) -> None:
    answers = await knock(client, {})
    for route in REQUIRED:
        assert_problem(answers[route], 401, "not_authenticated")
        assert answers[route].headers["www-authenticate"] == "Bearer"
    assert [answers[route].status_code for route in OPTIONAL] == [200, 404, 200]


ENDED_BY = {
    "logout": "UPDATE pyapi_sessions SET ended_at = now()",
    "end of the session": "UPDATE pyapi_sessions SET expires_at = now()",
    "deletion of the session": "DELETE FROM pyapi_sessions",
    "deactivation": "UPDATE pyapi_users SET is_active = false",
    "deletion": "DELETE FROM pyapi_users",
}


@pytest.mark.parametrize("statement", ENDED_BY.values(), ids=ENDED_BY)
async def test_an_access_token_ends_at_once(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, statement: str
) -> None:
    account = await sign_up()
    await connection.execute(text(statement))
    for answer in (await knock(client, account.headers)).values():
        assert_problem(answer, 401, "invalid_token")


async def test_the_session_of_somebody_else_does_not_help(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    account, other = await sign_up(), await sign_up()
    token = signed(account, session_id=UUID(jwt.get_unverified_claims(other.access_token)["sid"]))
    assert not await is_alive(client, token)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
async def test_the_scheme_is_read_in_any_case(client: httpx.AsyncClient, sign_up: SignUp, scheme: str) -> None:
    account = await sign_up()
    answer = await client.get(f"{AUTH}/me", headers={"Authorization": f"{scheme} {account.access_token}"})
    assert (answer.status_code, answer.json()["id"]) == (200, account.id)


@pytest.mark.parametrize(("age", "alive"), [(1799, True), (1800, False)])
async def test_an_access_token_lives_for_thirty_minutes(
    client: httpx.AsyncClient, sign_up: SignUp, clock: Clock, age: int, alive: bool
) -> None:
    account = await sign_up()
    clock.now += timedelta(seconds=age)
    assert await is_alive(client, account.access_token) is alive


PUBLIC = [("GET", "/api/health"), ("GET", "/api/version"), ("GET", "/api/docs"), ("GET", "/api/openapi.json")]


@pytest.mark.parametrize(("method", "path"), PUBLIC)
async def test_public_routes_do_not_look_at_the_header(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, headers={"Authorization": "Bearer garbage"})
    assert answer.status_code == 200


# --- requests that meet: these need connections of their own ---


async def open_account(client: httpx.AsyncClient, username: str) -> int:
    """Register somebody; their id."""
    body = REGISTRATION | {"username": username, "email": f"{username}@example.com"}
    user_id: int = (await post(client, "/register", body)).json()["id"]
    return user_id


async def test_of_twenty_who_register_one_name_at_once_one_gets_it(racing: httpx.AsyncClient) -> None:
    accounts = [{"username": ("Wang", "wANG")[i % 2], "email": f"wang{i}@example.com"} for i in range(20)]
    answers = await asyncio.gather(*(post(racing, "/register", REGISTRATION | account) for account in accounts))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19


async def test_of_twenty_who_refresh_one_token_at_once_one_wins_and_keeps_nothing(racing: httpx.AsyncClient) -> None:
    await open_account(racing, "zhang")
    pair = await log_in(racing, "zhang")
    answers = await asyncio.gather(*(refresh(racing, pair["refresh_token"]) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    [winner] = [answer.json() for answer in answers if answer.status_code == 200]
    assert not await is_alive(racing, winner["access_token"])


async def test_two_superusers_who_demote_each_other_at_once_leave_one(
    racing_app: FastAPI, racing: httpx.AsyncClient
) -> None:
    ids = [await open_account(racing, name) for name in ("ada", "bob")]
    async with racing_app.state.database.transactions.begin() as session:
        await session.execute(text("UPDATE pyapi_users SET is_superuser = true WHERE id = ANY(:ids)"), {"ids": ids})
    ada, bob = [bearer((await log_in(racing, name))["access_token"]) for name in ("ada", "bob")]
    await asyncio.gather(
        racing.put(f"{AUTH}/users/{ids[1]}", json={"is_superuser": False}, headers=ada),
        racing.put(f"{AUTH}/users/{ids[0]}", json={"is_active": False}, headers=bob),
    )
    async with racing_app.state.database.reads() as session:
        left = await session.scalar(text("SELECT count(*) FROM pyapi_users WHERE is_superuser AND is_active"))
    assert left == 1


@pytest.fixture
def _closed_registration(app: FastAPI) -> Iterator[None]:
    app.state.registration_open = False
    yield
    app.state.registration_open = True


@pytest.mark.usefixtures("_closed_registration")
async def test_a_closed_registration_opens_no_account(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    body = {"username": "stranger", "email": "stranger@example.com", "password": PASSWORD}
    assert_problem(await client.post("/api/auth/register", json=body), 403, "registration_closed")
    assert await connection.scalar(text("SELECT count(*) FROM pyapi_users")) == 0
