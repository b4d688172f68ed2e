"""Two workers, one truth: what ends at one has ended at the other, and races have one winner wherever they are run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.application import PASSWORD, Account, assert_problem, log_in
from tests.fixtures.servers import RunningServer, sign_up

ROUNDS = 50
CROWD = 20
_numbers = count()


def new_name() -> str:
    return f"member_{next(_numbers)}"


@pytest.fixture(scope="module")
async def clients(shared_server: RunningServer) -> AsyncIterator[list[httpx.AsyncClient]]:
    """One for each worker, with connections enough for half a crowd."""
    clients = []
    for worker in shared_server.workers():
        with shared_server.answered_by(worker) as client:
            await asyncio.gather(*(client.get("/api/health/live") for _ in range(CROWD // 2)))
            clients.append(client)
    yield clients
    for client in clients:
        await client.aclose()


@pytest.fixture(scope="module")
def client(clients: list[httpx.AsyncClient]) -> httpx.AsyncClient:
    """For what it does not matter who answers."""
    return clients[0]


async def crowd(
    clients: list[httpx.AsyncClient], request: Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]
) -> list[httpx.Response]:
    """Send a request many times at once, half of them to each worker; it is told its number."""
    return await asyncio.gather(*(request(clients[number % len(clients)], number) for number in range(CROWD)))


@pytest.fixture
async def account(client: httpx.AsyncClient) -> Account:
    return await sign_up(client, new_name())


@pytest.fixture(scope="module")
async def superuser(client: httpx.AsyncClient, shared_database: str) -> Account:
    account = await sign_up(client, new_name())
    connection = await asyncpg.connect(shared_database.replace("+asyncpg", ""))
    await connection.execute("UPDATE pyapi_users SET is_superuser = true WHERE id = $1", account.id)
    await connection.close()
    return account


async def by_each_worker(server: RunningServer, method: str, path: str, account: Account) -> list[httpx.Response]:
    answers = []
    for worker in server.workers():
        with server.answered_by(worker) as client:
            async with client:
                answers.append(await client.request(method, path, headers=account.headers))
    return answers


# --- what ends, ends everywhere ---------------------------------------------------------------------------------------

End = Callable[[httpx.AsyncClient, Account, Account], Awaitable[httpx.Response]]


async def logout(client: httpx.AsyncClient, account: Account, _: Account) -> httpx.Response:
    return await client.post("/api/auth/logout", headers=account.headers)


async def logout_with_body(client: httpx.AsyncClient, account: Account, _: Account) -> httpx.Response:
    body = {"refresh_token": account.refresh_token}
    return await client.post("/api/auth/logout", headers=account.headers, json=body)


async def logout_all(client: httpx.AsyncClient, account: Account, _: Account) -> httpx.Response:
    return await client.post("/api/auth/logout-all", headers=account.headers)


async def change_password(client: httpx.AsyncClient, account: Account, _: Account) -> httpx.Response:
    body = {"current_password": PASSWORD, "new_password": "另一組更長的密碼 2026"}
    return await client.post("/api/auth/change-password", headers=account.headers, json=body)


async def deactivate(client: httpx.AsyncClient, account: Account, superuser: Account) -> httpx.Response:
    path = f"/api/auth/users/{account.id}"
    return await client.put(path, headers=superuser.headers, json={"is_active": False})


async def revoke(client: httpx.AsyncClient, account: Account, superuser: Account) -> httpx.Response:
    return await client.post(f"/api/auth/users/{account.id}/revoke-tokens", headers=superuser.headers)


ENDS = [logout, logout_with_body, logout_all, change_password, deactivate, revoke]


@pytest.mark.parametrize("end", ENDS)
async def test_a_token_that_ended_is_refused_by_both_workers(
    shared_server: RunningServer, client: httpx.AsyncClient, account: Account, superuser: Account, end: End
) -> None:
    """Both have seen it alive: what one of them remembers must not count."""
    alive = await by_each_worker(shared_server, "GET", "/api/auth/me", account)
    assert [answer.status_code for answer in alive] == [200, 200]
    assert (await end(client, account, superuser)).status_code == 200

    for answer in await by_each_worker(shared_server, "GET", "/api/auth/me", account):
        assert_problem(answer, 401, "invalid_token")


@pytest.mark.parametrize("end", ENDS)
async def test_a_session_that_ended_cannot_be_refreshed(
    client: httpx.AsyncClient, account: Account, superuser: Account, end: End
) -> None:
    assert (await end(client, account, superuser)).status_code == 200

    answer = await client.post("/api/auth/refresh", json={"refresh_token": account.refresh_token})

    assert_problem(answer, 401, "invalid_token")


# --- metrics ----------------------------------------------------------------------------------------------------------


def requests_counted(answer: httpx.Response, route: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "pyapi_http_requests_total" and sample.labels["route"] == route
    )


async def test_each_worker_shows_the_numbers_of_both(shared_server: RunningServer, account: Account) -> None:
    for times, worker in enumerate(shared_server.workers(), start=2):
        with shared_server.answered_by(worker) as client:
            async with client:
                for _ in range(times):
                    await client.get("/api/version")

    answers = await by_each_worker(shared_server, "GET", "/metrics", account)

    assert [requests_counted(answer, "/api/version") for answer in answers] == [2 + 3, 2 + 3]


# --- races ------------------------------------------------------------------------------------------------------------


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/auth/refresh", json={"refresh_token": token})


async def use(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})


def statuses(answers: list[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


@pytest.fixture(scope="module")
async def refreshed(clients: list[httpx.AsyncClient]) -> list[list[httpx.Response]]:
    """Rounds of parallel refreshes with one token, each in a session of its own."""
    name = (await sign_up(clients[0], new_name())).username
    rounds = []
    for _ in range(ROUNDS):
        token = (await log_in(clients[0], name))["refresh_token"]
        rounds.append(await crowd(clients, lambda client, _, token=token: refresh(client, token)))  # type: ignore[misc]
    return rounds


def test_of_parallel_refreshes_exactly_one_wins(refreshed: list[list[httpx.Response]]) -> None:
    assert [statuses(answers) for answers in refreshed] == [[200] + [401] * (CROWD - 1)] * ROUNDS


async def test_the_winner_cannot_refresh_what_others_tried_too(
    client: httpx.AsyncClient, refreshed: list[list[httpx.Response]]
) -> None:
    winners = [answer.json() for answers in refreshed for answer in answers if answer.status_code == 200]

    answers = [await refresh(client, winner["refresh_token"]) for winner in winners]

    assert statuses(answers) == [401] * ROUNDS


async def test_the_winner_cannot_use_what_others_tried_too(
    client: httpx.AsyncClient, refreshed: list[list[httpx.Response]]
) -> None:
    winners = [answer.json() for answers in refreshed for answer in answers if answer.status_code == 200]

    answers = [await use(client, winner["access_token"]) for winner in winners]

    assert statuses(answers) == [401] * ROUNDS


async def test_no_token_outlives_a_logout_that_met_a_refresh(clients: list[httpx.AsyncClient]) -> None:
    name = (await sign_up(clients[0], new_name())).username
    later = []
    for _ in range(ROUNDS):
        first = await log_in(clients[0], name)
        header = {"Authorization": f"Bearer {first['access_token']}"}
        second, ended = await asyncio.gather(
            refresh(clients[0], first["refresh_token"]), clients[1].post("/api/auth/logout", headers=header)
        )
        assert ended.status_code == 200
        issued = [first, second.json()] if second.status_code == 200 else [first]
        later += [await use(clients[0], pair["access_token"]) for pair in issued]
        later.append(await refresh(clients[1], issued[-1]["refresh_token"]))

    assert {answer.status_code for answer in later} == {401}


async def test_of_parallel_registrations_of_a_name_exactly_one_wins(clients: list[httpx.AsyncClient]) -> None:
    """In two spellings."""
    name = new_name()

    async def register(client: httpx.AsyncClient, number: int) -> httpx.Response:
        username = name.upper() if number % 3 else name
        body = {"username": username, "email": f"{name}-{number}@example.com", "password": PASSWORD}
        return await client.post("/api/auth/register", json=body)

    assert statuses(await crowd(clients, register)) == [201] + [409] * (CROWD - 1)


@pytest.fixture
async def logins(clients: list[httpx.AsyncClient], account: Account) -> list[httpx.Response]:
    body = {"username": account.username, "password": PASSWORD}
    return await crowd(clients, lambda client, _: client.post("/api/auth/login", json=body))


def test_parallel_logins_of_one_account_all_succeed(logins: list[httpx.Response]) -> None:
    assert statuses(logins) == [200] * CROWD


async def test_parallel_logins_are_sessions_of_their_own(
    client: httpx.AsyncClient, logins: list[httpx.Response]
) -> None:
    answers = [await refresh(client, login.json()["refresh_token"]) for login in logins]

    assert statuses(answers) == [200] * CROWD
