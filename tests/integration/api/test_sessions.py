"""Where somebody is signed in: the list, and the end of one of them."""

from datetime import timedelta
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


MORE = text("""
    WITH begun AS (
        INSERT INTO pyapi_sessions (user_id, created_at, expires_at)
        SELECT :user_id, now() - make_interval(mins => minutes), now() + interval '1 day'
        FROM generate_series(1, :count) AS minutes
        RETURNING id, user_id, expires_at
    )
    INSERT INTO pyapi_refresh_tokens (token, user_id, family_id, expires_at)
    SELECT id::text, user_id, id, expires_at FROM begun
    """)
LIVE = text("SELECT count(*) FROM pyapi_sessions WHERE user_id = :user_id AND ended_at IS NULL")
ENDED = text("SELECT now() - created_at, end_reason FROM pyapi_sessions WHERE ended_at IS NOT NULL")
USABLE = text("SELECT count(*) FROM pyapi_refresh_tokens WHERE user_id = :user_id AND is_active")


@pytest.fixture
async def hundred(connection: AsyncConnection, account: Account) -> dict[str, int]:
    """As many sessions as an account may have; the oldest is 99 minutes old."""
    whose = {"user_id": account.id}
    await connection.execute(MORE, whose | {"count": 99})
    return whose


async def test_one_session_too_many_ends_the_oldest(
    client: httpx.AsyncClient, connection: AsyncConnection, hundred: dict[str, int]
) -> None:
    await log_in(client, "wang")
    [(age, reason)] = (await connection.execute(ENDED)).all()
    assert (age, reason) == (timedelta(minutes=99), "too-many")
    left = [(await connection.execute(statement, hundred)).scalar() for statement in (LIVE, USABLE)]
    assert left == [100, 100]


async def test_that_it_has_ended_is_in_the_audit_log(
    client: httpx.AsyncClient, connection: AsyncConnection, hundred: dict[str, int]
) -> None:
    await log_in(client, "wang")
    told = text("SELECT details->>'ended_sessions' FROM pyapi_audit_log ORDER BY id DESC LIMIT 1")
    assert (await connection.execute(told)).scalar() == "1"


async def test_sessions_of_others_and_those_that_have_ended_do_not_count(
    client: httpx.AsyncClient, connection: AsyncConnection, hundred: dict[str, int], sign_up: SignUp
) -> None:
    await sign_up("other")
    ended = "UPDATE pyapi_sessions SET ended_at = now() WHERE created_at < now() - interval '98 minutes'"
    await connection.execute(text(ended))
    await log_in(client, "wang")
    assert (await connection.execute(LIVE, hundred)).scalar() == 100


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
