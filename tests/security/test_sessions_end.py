"""What ends a session ends it now: the next request is a 401, at every worker (ASVS 5.0, 7.4.1 to 7.4.3 and 8.3.2).

Both workers have seen the access token alive before, so what one of them remembers must not count. In one process, and
for every route there is: `ENDED_BY` in tests/integration/api/test_auth.py. Which of one's own sessions are ended by
hand: tests/integration/api/test_sessions.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest

from tests.fixtures.application import PASSWORD, Account, assert_problem, log_in
from tests.fixtures.servers import RunningServer, sign_up
from tests.fixtures.workers import by_each_worker, new_name, refresh

ROUNDS = 50


@dataclass(frozen=True)
class Hands:
    """Those who can end a session: its owner over `client`, an administrator, and SQL."""

    client: httpx.AsyncClient
    administrator: Account
    database: Any


@pytest.fixture(scope="module")
async def hands(workers: list[httpx.AsyncClient], shared_database: str) -> AsyncIterator[Hands]:
    administrator = await sign_up(workers[0], new_name())
    connection = await asyncpg.connect(shared_database.replace("+asyncpg", ""))
    await connection.execute("UPDATE pyapi_users SET is_superuser = true WHERE id = $1", administrator.id)
    yield Hands(workers[0], administrator, connection)
    await connection.close()


async def logout(hands: Hands, member: Account) -> None:
    (await hands.client.post("/api/auth/logout", headers=member.headers)).raise_for_status()


async def logout_by_refresh_token(hands: Hands, member: Account) -> None:
    body = {"refresh_token": member.refresh_token}
    (await hands.client.post("/api/auth/logout", headers=member.headers, json=body)).raise_for_status()


async def logout_all(hands: Hands, member: Account) -> None:
    (await hands.client.post("/api/auth/logout-all", headers=member.headers)).raise_for_status()


async def logout_all_elsewhere(hands: Hands, member: Account) -> None:
    elsewhere = {"Authorization": f"Bearer {(await log_in(hands.client, member.username))['access_token']}"}
    (await hands.client.post("/api/auth/logout-all", headers=elsewhere)).raise_for_status()


async def end_of_the_session(hands: Hands, member: Account) -> None:
    (session,) = (await hands.client.get("/api/auth/sessions", headers=member.headers)).json()["data"]
    answer = await hands.client.delete(f"/api/auth/sessions/{session['id']}", headers=member.headers)
    answer.raise_for_status()


async def change_of_password(hands: Hands, member: Account) -> None:
    body = {"current_password": PASSWORD, "new_password": "另一組更長的密碼 2026"}
    answer = await hands.client.post("/api/auth/change-password", headers=member.headers, json=body)
    answer.raise_for_status()


async def deactivation(hands: Hands, member: Account) -> None:
    path, body = f"/api/auth/users/{member.id}", {"is_active": False}
    (await hands.client.put(path, headers=hands.administrator.headers, json=body)).raise_for_status()


async def revocation(hands: Hands, member: Account) -> None:
    path = f"/api/auth/users/{member.id}/revoke-tokens"
    (await hands.client.post(path, headers=hands.administrator.headers)).raise_for_status()


async def deletion_of_the_user(hands: Hands, member: Account) -> None:
    await hands.database.execute("DELETE FROM pyapi_users WHERE id = $1", member.id)


async def expiry(hands: Hands, member: Account) -> None:
    for table in ("pyapi_sessions", "pyapi_refresh_tokens"):
        await hands.database.execute(f"UPDATE {table} SET expires_at = now() WHERE user_id = $1", member.id)


End = Callable[[Hands, Account], Awaitable[None]]
ENDS = [
    *(logout, logout_by_refresh_token, logout_all, logout_all_elsewhere, end_of_the_session),
    *(change_of_password, deactivation, revocation, deletion_of_the_user, expiry),
]


@pytest.mark.parametrize("end", ENDS)
async def test_the_access_token_is_refused_by_every_worker(
    shared_server: RunningServer, hands: Hands, member: Account, end: End
) -> None:
    alive = await by_each_worker(shared_server, "GET", "/api/auth/me", member)
    assert [answer.status_code for answer in alive] == [200, 200]

    await end(hands, member)

    for answer in await by_each_worker(shared_server, "GET", "/api/auth/me", member):
        assert_problem(answer, 401, "invalid_token")


@pytest.mark.parametrize("end", ENDS)
async def test_the_refresh_token_is_refused(
    workers: list[httpx.AsyncClient], hands: Hands, member: Account, end: End
) -> None:
    await end(hands, member)

    assert_problem(await refresh(workers[1], member.refresh_token), 401, "invalid_token")


async def test_no_token_outlives_a_logout_that_met_a_refresh(workers: list[httpx.AsyncClient]) -> None:
    name = (await sign_up(workers[0], new_name())).username
    later = []
    for _ in range(ROUNDS):
        first = await log_in(workers[0], name)
        second, ended = await asyncio.gather(
            refresh(workers[0], first["refresh_token"]), workers[1].post("/api/auth/logout", headers=by(first))
        )
        assert ended.status_code == 200
        issued = [first, second.json()] if second.status_code == 200 else [first]
        later += [await workers[0].get("/api/auth/me", headers=by(pair)) for pair in issued]
        later.append(await refresh(workers[1], issued[-1]["refresh_token"]))

    assert {answer.status_code for answer in later} == {401}


def by(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}
