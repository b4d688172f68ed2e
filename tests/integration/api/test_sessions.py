"""Where somebody is signed in: the list, and the end of one of them."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_problem, log_in

SESSIONS = "/api/auth/sessions"


@pytest.fixture
async def account(sign_up: SignUp) -> Account:
    return await sign_up("wang")


async def sessions_of(client: httpx.AsyncClient, token: str) -> list[dict[str, Any]]:
    answer = await client.get(SESSIONS, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_a_session_says_whose_program_it_is(client: httpx.AsyncClient, account: Account) -> None:
    body = {"username": "wang", "password": "SecurePass123"}
    tokens = (await client.post("/api/auth/login", json=body, headers={"User-Agent": "curl/8"})).json()
    newest, first = await sessions_of(client, tokens["access_token"])
    shown = {name: newest[name] for name in ("user_agent", "address", "is_current")}
    assert shown == {"user_agent": "curl/8", "address": "127.0.0.1", "is_current": True}
    assert first["is_current"] is False


async def test_a_session_that_is_renewed_stays_one(client: httpx.AsyncClient, account: Account) -> None:
    (before,) = await sessions_of(client, account.access_token)
    await client.post("/api/auth/refresh", json={"refresh_token": account.refresh_token}, headers={"User-Agent": "new"})
    (after,) = await sessions_of(client, account.access_token)
    assert (after["id"], after["expires_at"], after["user_agent"]) == (before["id"], before["expires_at"], "new")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE pyapi_sessions SET ended_at = now()", "UPDATE pyapi_sessions SET expires_at = now()"],
    ids=["ended", "expired"],
)
async def test_what_has_ended_is_not_listed(
    client: httpx.AsyncClient, account: Account, connection: AsyncConnection, statement: str
) -> None:
    await connection.execute(text(statement))
    tokens = await log_in(client, "wang")
    (only,) = await sessions_of(client, tokens["access_token"])
    assert only["is_current"] is True


async def test_sessions_of_others_are_not_listed(client: httpx.AsyncClient, account: Account, sign_up: SignUp) -> None:
    other = await sign_up("other")
    assert len(await sessions_of(client, other.access_token)) == 1


async def test_a_session_ends_at_once_and_no_other(client: httpx.AsyncClient, account: Account) -> None:
    tokens = await log_in(client, "wang")
    (old,) = [one for one in await sessions_of(client, tokens["access_token"]) if not one["is_current"]]
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await client.delete(f"{SESSIONS}/{old['id']}", headers=headers)).status_code == 200
    assert_problem(await client.get(SESSIONS, headers=account.headers), 401, "invalid_token")
    refreshed = await client.post("/api/auth/refresh", json={"refresh_token": account.refresh_token})
    assert_problem(refreshed, 401, "invalid_token")
    assert len(await sessions_of(client, tokens["access_token"])) == 1


async def test_a_session_ends_once(client: httpx.AsyncClient, account: Account) -> None:
    tokens = await log_in(client, "wang")
    (old,) = [one for one in await sessions_of(client, tokens["access_token"]) if not one["is_current"]]
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    answers = [await client.delete(f"{SESSIONS}/{old['id']}", headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 404]


async def test_nobody_ends_sessions_of_others(client: httpx.AsyncClient, account: Account, sign_up: SignUp) -> None:
    (own,) = await sessions_of(client, account.access_token)
    other = await sign_up("other", superuser=True)
    answer = await client.delete(f"{SESSIONS}/{own['id']}", headers=other.headers)
    assert_problem(answer, 404, "not_found")
    assert len(await sessions_of(client, account.access_token)) == 1


async def test_an_id_that_is_none(client: httpx.AsyncClient, account: Account) -> None:
    answer = await client.delete(f"{SESSIONS}/x", headers=account.headers)
    assert_problem(answer, 422, "validation_failed")
