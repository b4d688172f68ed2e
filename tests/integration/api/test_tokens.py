"""Personal access tokens: made, shown once, used within their scopes, and ended."""

import re
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker

from pyapi.db.audit_dao import AuditDAO
from pyapi.db.auth_dao import UserDAO, UserLookup
from pyapi.db.auth_models import User
from pyapi.db.session_dao import SessionDAO
from pyapi.db.token_dao import AccessTokenDAO
from pyapi.services.audit_trail import AuditTrail
from pyapi.services.token_service import MOST_TOKENS
from pyapi.services.user_service import UserService
from tests.fixtures.application import PASSWORD, Account, SignUp, assert_outcome, assert_problem, log_in

TOKENS = "/api/auth/tokens"
BODY: dict[str, Any] = {"name": "夜間 CI", "scopes": ["data:read"], "current_password": PASSWORD}
ALL_SCOPES = ["data:read", "data:write", "runs:write"]
READ_FIELDS = ["id", "name", "scopes", "created_at", "expires_at", "last_used_at"]


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.fixture
async def made(client: httpx.AsyncClient, owner: Account) -> dict[str, Any]:
    return await make(client, owner)


async def make(client: httpx.AsyncClient, account: Account, **changes: Any) -> dict[str, Any]:
    answer = await client.post(TOKENS, json=BODY | changes, headers=account.headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def read_with(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get("/api/data/", headers=bearer(token))


# --- Making -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (BODY, 201, None),
        (BODY | {"scopes": ALL_SCOPES, "expires_in_days": 365}, 201, None),
        (BODY | {"expires_in_days": 1}, 201, None),
        (BODY | {"expires_in_days": 7.0}, 201, None),
        (BODY | {"expires_in_days": 7.5}, 422, "validation_failed"),
        (BODY | {"expires_in_days": True}, 422, "validation_failed"),
        (BODY | {"name": "x" * 100}, 201, None),
        (BODY | {"name": "x" * 101}, 422, "validation_failed"),
        (BODY | {"name": ""}, 422, "validation_failed"),
        (BODY | {"name": "\x00"}, 422, "validation_failed"),
        (BODY | {"scopes": []}, 422, "validation_failed"),
        (BODY | {"scopes": ["data:read", "data:read"]}, 422, "validation_failed"),
        (BODY | {"scopes": ["admin"]}, 422, "validation_failed"),
        (BODY | {"scopes": "data:read"}, 422, "validation_failed"),
        (BODY | {"expires_in_days": 0}, 422, "validation_failed"),
        (BODY | {"expires_in_days": 366}, 422, "validation_failed"),
        (BODY | {"expires_in_days": "7"}, 422, "validation_failed"),
        (BODY | {"expires_in_days": None}, 422, "validation_failed"),
        (BODY | {"token": "pyapi_pat_x"}, 422, "validation_failed"),
        ({"name": "x"}, 422, "validation_failed"),
        (BODY | {"current_password": "wrong"}, 422, "validation_failed"),
        (BODY | {"current_password": ""}, 422, "validation_failed"),
        (BODY | {"current_password": None}, 422, "validation_failed"),
        ({"name": "x", "scopes": ["data:read"]}, 422, "validation_failed"),
    ],
    ids=ascii,
)
async def test_status_of_making(
    client: httpx.AsyncClient, owner: Account, body: dict[str, Any], status: int, code: str | None
) -> None:
    assert_outcome(await client.post(TOKENS, json=body, headers=owner.headers), status, code)


async def test_a_token_is_random_behind_a_prefix_that_scanners_find(made: dict[str, Any]) -> None:
    assert re.fullmatch(r"pyapi_pat_[A-Za-z0-9_-]{43}", made["token"])


async def test_no_two_tokens_are_the_same(client: httpx.AsyncClient, owner: Account) -> None:
    first, second = await make(client, owner), await make(client, owner)
    assert first["token"] != second["token"]


async def test_the_answer_is_not_for_caches(client: httpx.AsyncClient, owner: Account) -> None:
    answer = await client.post(TOKENS, json=BODY, headers=owner.headers)
    assert answer.headers["cache-control"] == "no-store"


async def test_only_the_digest_is_stored(made: dict[str, Any], connection: AsyncConnection) -> None:
    stored = (await connection.execute(text("SELECT to_jsonb(t)::text FROM pyapi_access_tokens t"))).scalar_one()
    assert made["token"] not in stored
    assert made["token"].removeprefix("pyapi_pat_") not in stored


@pytest.mark.parametrize(("given", "days"), [({}, 90), ({"expires_in_days": 7}, 7)])
async def test_the_end_of_a_token(client: httpx.AsyncClient, owner: Account, given: dict[str, int], days: int) -> None:
    made = await make(client, owner, **given)
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert abs(lasts - timedelta(days=days)) < timedelta(minutes=1)


async def test_there_are_fifty_at_most(client: httpx.AsyncClient, owner: Account) -> None:
    for _ in range(MOST_TOKENS):
        await make(client, owner)
    assert_problem(await client.post(TOKENS, json=BODY, headers=owner.headers), 409, "conflict")


async def test_expired_ones_do_not_count(
    client: httpx.AsyncClient, owner: Account, connection: AsyncConnection
) -> None:
    for _ in range(MOST_TOKENS):
        await make(client, owner)
    await connection.execute(text("UPDATE pyapi_access_tokens SET expires_at = now()"))
    assert (await client.post(TOKENS, json=BODY, headers=owner.headers)).status_code == 201


async def test_those_of_others_do_not_count(client: httpx.AsyncClient, owner: Account, sign_up: SignUp) -> None:
    for _ in range(MOST_TOKENS):
        await make(client, owner)
    await make(client, await sign_up("other"))


# --- A stolen access token makes none ---------------------------------------------------------------------------------


async def stored(connection: AsyncConnection) -> int:
    return int((await connection.execute(text("SELECT count(*) FROM pyapi_access_tokens"))).scalar_one())


@pytest.mark.parametrize("password", ["wrong", PASSWORD.lower(), None])
async def test_without_the_password_there_is_no_token(
    client: httpx.AsyncClient, owner: Account, connection: AsyncConnection, password: str | None
) -> None:
    body = BODY | {"current_password": password}
    document = assert_problem(await client.post(TOKENS, json=body, headers=owner.headers), 422, "validation_failed")
    assert ([error["pointer"] for error in document["errors"]], await stored(connection)) == (
        ["/body/current_password"],
        0,
    )


async def test_the_password_of_another_account_does_not_help(
    client: httpx.AsyncClient, owner: Account, connection: AsyncConnection, sign_up: SignUp
) -> None:
    await sign_up("other")
    changed = {"current_password": PASSWORD, "new_password": "另一組更長的密碼 2026"}
    await client.post("/api/auth/change-password", json=changed, headers=owner.headers)
    tokens = await log_in(client, "owner", "另一組更長的密碼 2026")
    answer = await client.post(TOKENS, json=BODY, headers=bearer(tokens["access_token"]))
    assert (answer.status_code, await stored(connection)) == (422, 0)


async def test_a_password_that_changes_meanwhile_makes_no_token(
    client: httpx.AsyncClient, owner: Account, connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = UserDAO.lock

    async def lock_later(users: UserDAO, user_id: int) -> User | None:
        await connection.execute(text("UPDATE pyapi_users SET hashed_password = 'another'"))
        return await lock(users, user_id)

    monkeypatch.setattr(UserDAO, "lock", lock_later)
    answer = await client.post(TOKENS, json=BODY, headers=owner.headers)
    assert (answer.status_code, await stored(connection)) == (422, 0)


# --- The list ---------------------------------------------------------------------------------------------------------


async def test_the_list_shows_no_token(client: httpx.AsyncClient, owner: Account, made: dict[str, Any]) -> None:
    (shown,) = (await client.get(TOKENS, headers=owner.headers)).json()["data"]
    assert shown == {field: made[field] for field in READ_FIELDS}


async def test_the_newest_comes_first(client: httpx.AsyncClient, owner: Account) -> None:
    ids = [(await make(client, owner))["id"] for _ in range(3)]
    listed = (await client.get(TOKENS, headers=owner.headers)).json()["data"]
    assert [one["id"] for one in listed] == ids[::-1]


async def test_tokens_of_others_are_not_listed(
    client: httpx.AsyncClient, made: dict[str, Any], sign_up: SignUp
) -> None:
    other = await sign_up("other", superuser=True)
    assert (await client.get(TOKENS, headers=other.headers)).json() == {"data": []}


# --- Use --------------------------------------------------------------------------------------------------------------


async def test_a_token_reads_as_its_owner(client: httpx.AsyncClient, owner: Account, made: dict[str, Any]) -> None:
    body = {"name": "x", "visibility": "private"}
    record_id = (await client.post("/api/data/", json=body, headers=owner.headers)).json()["id"]
    answer = await client.get(f"/api/data/{record_id}", headers=bearer(made["token"]))
    assert (answer.status_code, answer.json()["visibility"]) == (200, "private")


async def test_what_a_token_creates_belongs_to_its_owner(client: httpx.AsyncClient, owner: Account) -> None:
    token = (await make(client, owner, scopes=["data:write"]))["token"]
    answer = await client.post("/api/data/", json={"name": "x"}, headers=bearer(token))
    assert (answer.status_code, answer.json()["owner_id"]) == (201, owner.id)


@pytest.mark.parametrize(
    ("method", "path", "challenge"),
    [
        ("GET", "/api/data/", 'Bearer error="insufficient_scope", scope="data:read"'),
        ("DELETE", "/api/data/1", 'Bearer error="insufficient_scope", scope="data:write"'),
        ("GET", "/api/auth/me", 'Bearer error="insufficient_scope"'),
    ],
)
async def test_the_challenge_names_the_scope(
    client: httpx.AsyncClient, owner: Account, method: str, path: str, challenge: str
) -> None:
    """RFC 6750, 3.1. No scope lets a token into somebody's account."""
    token = (await make(client, owner, scopes=["runs:write"]))["token"]
    answer = await client.request(method, path, headers=bearer(token))
    assert_problem(answer, 403, "insufficient_scope")
    assert answer.headers["www-authenticate"] == challenge


async def test_a_token_does_no_more_than_its_owner_may_now(
    client: httpx.AsyncClient, owner: Account, connection: AsyncConnection
) -> None:
    token = (await make(client, owner, scopes=ALL_SCOPES))["token"]
    await connection.execute(text("UPDATE pyapi_users SET role = 'viewer'"))
    answer = await client.post("/api/data/", json={"name": "x"}, headers=bearer(token))
    assert_problem(answer, 403, "permission_denied")


async def noted(connection: AsyncConnection, seconds_ago: int | None) -> None:
    statement = "UPDATE pyapi_access_tokens SET last_used_at = now() - make_interval(secs => :seconds)"
    await connection.execute(text(statement), {"seconds": seconds_ago})


@pytest.mark.parametrize(("seconds_ago", "is_noted"), [(None, True), (61, True), (59, False)])
async def test_its_use_is_noted_once_a_minute(
    client: httpx.AsyncClient,
    made: dict[str, Any],
    connection: AsyncConnection,
    seconds_ago: int | None,
    is_noted: bool,
) -> None:
    await noted(connection, seconds_ago)
    await read_with(client, made["token"])
    statement = "SELECT last_used_at IS NOT DISTINCT FROM now() FROM pyapi_access_tokens"
    assert (await connection.execute(text(statement))).scalar_one() is is_noted


# --- The end ----------------------------------------------------------------------------------------------------------


ENDS = {
    "expired": "UPDATE pyapi_access_tokens SET expires_at = now()",
    "revoked": "DELETE FROM pyapi_access_tokens",
    "account closed": "UPDATE pyapi_users SET is_active = false",
    "account deleted": "DELETE FROM pyapi_users",
}


@pytest.mark.parametrize("statement", ENDS.values(), ids=list(ENDS))
async def test_a_token_that_has_ended(
    client: httpx.AsyncClient, made: dict[str, Any], connection: AsyncConnection, statement: str
) -> None:
    await connection.execute(text(statement))
    assert_problem(await read_with(client, made["token"]), 401, "invalid_token")


@pytest.mark.parametrize("statement", ["account closed", "expired"])
async def test_the_use_of_a_token_that_has_ended_is_not_noted(
    client: httpx.AsyncClient, made: dict[str, Any], connection: AsyncConnection, statement: str
) -> None:
    await connection.execute(text(ENDS[statement]))
    await read_with(client, made["token"])
    found = await connection.execute(text("SELECT last_used_at FROM pyapi_access_tokens"))
    assert found.scalar_one() is None


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1],
        lambda token: token + "x",
        lambda token: token + " x",
        lambda token: token.swapcase(),
        lambda token: token.replace("pyapi_pat_", ""),
        lambda token: "pyapi_pat_",
        lambda token: "pyapi_pat_" + "A" * 43,
        lambda token: "pyapi_pat_" + "é" * 43,
    ],
    ids=["shorter", "longer", "two words", "other case", "no prefix", "empty", "unknown", "not ASCII"],
)
async def test_what_is_no_token(client: httpx.AsyncClient, made: dict[str, Any], change: Any) -> None:
    headers = {"Authorization": f"Bearer {change(made['token'])}".encode()}
    assert_problem(await client.get("/api/data/", headers=headers), 401, "invalid_token")  # type: ignore[arg-type]


async def test_a_token_refreshes_nothing(client: httpx.AsyncClient, made: dict[str, Any]) -> None:
    answer = await client.post("/api/auth/refresh", json={"refresh_token": made["token"]})
    assert_problem(answer, 401, "invalid_token")


async def test_a_revoked_token_is_refused_at_once(
    client: httpx.AsyncClient, owner: Account, made: dict[str, Any]
) -> None:
    assert (await client.delete(f"{TOKENS}/{made['id']}", headers=owner.headers)).status_code == 200
    assert_problem(await read_with(client, made["token"]), 401, "invalid_token")


@pytest.mark.parametrize(
    ("token_id", "status", "code"),
    [("{id}", 404, "not_found"), ("2147483647", 404, "not_found"), ("0", 422, "validation_failed")],
)
async def test_nobody_revokes_tokens_of_others(
    client: httpx.AsyncClient, made: dict[str, Any], sign_up: SignUp, token_id: str, status: int, code: str
) -> None:
    other = await sign_up("other", superuser=True)
    answer = await client.delete(f"{TOKENS}/{token_id.format(id=made['id'])}", headers=other.headers)
    assert_problem(answer, status, code)
    assert (await read_with(client, made["token"])).status_code == 200


async def test_a_superuser_ends_all_tokens_of_an_account(
    client: httpx.AsyncClient, owner: Account, made: dict[str, Any], sign_up: SignUp
) -> None:
    root = await sign_up("root", superuser=True)
    answer = await client.post(f"/api/auth/users/{owner.id}/revoke-tokens", headers=root.headers)
    assert (answer.json()["revoked_tokens"], answer.json()["ended_sessions"]) == (1, 1)
    assert_problem(await read_with(client, made["token"]), 401, "invalid_token")


async def test_an_account_that_was_closed_has_no_tokens_when_it_is_opened_again(
    client: httpx.AsyncClient, owner: Account, made: dict[str, Any], sign_up: SignUp
) -> None:
    root = await sign_up("root", superuser=True)
    for is_active in (False, True):
        await client.put(f"/api/auth/users/{owner.id}", json={"is_active": is_active}, headers=root.headers)
    assert_problem(await read_with(client, made["token"]), 401, "invalid_token")


async def test_an_operator_who_sets_a_password_ends_all_tokens(
    client: httpx.AsyncClient, made: dict[str, Any], app: FastAPI, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session:
        daos = UserDAO(session), SessionDAO(session), AccessTokenDAO(session)
        users = UserService(UserLookup(sessions), *daos, AuditTrail(AuditDAO(session)))
        await users.reset_password("owner", "correct horse battery staple", app.state.passwords)
        await session.commit()
    assert_problem(await read_with(client, made["token"]), 401, "invalid_token")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/auth/change-password", {"current_password": PASSWORD, "new_password": "correct horse battery staple"}),
        ("/api/auth/logout-all", None),
    ],
)
async def test_programs_go_on_when_their_owner_signs_out(
    client: httpx.AsyncClient, owner: Account, made: dict[str, Any], path: str, body: Any
) -> None:
    assert (await client.post(path, json=body, headers=owner.headers)).status_code == 200
    assert (await read_with(client, made["token"])).status_code == 200
