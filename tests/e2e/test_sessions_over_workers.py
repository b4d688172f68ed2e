"""Two workers, one truth: races have one winner wherever they are run, and numbers are those of both.

What ends at one worker has ended at the other: tests/security/test_sessions_end.py and test_refresh_rotation.py.
"""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.application import PASSWORD, Account
from tests.fixtures.servers import RunningServer
from tests.fixtures.workers import CROWD, by_each_worker, crowd, new_name, refresh, statuses

# --- metrics ----------------------------------------------------------------------------------------------------------


def requests_counted(answer: httpx.Response, route: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "pyapi_http_requests_total" and sample.labels["route"] == route
    )


async def test_each_worker_shows_the_numbers_of_both(shared_server: RunningServer, member: Account) -> None:
    for times, worker in enumerate(shared_server.workers(), start=2):
        with shared_server.answered_by(worker) as client:
            async with client:
                for _ in range(times):
                    await client.get("/api/version")

    answers = await by_each_worker(shared_server, "GET", "/metrics", member)

    assert [requests_counted(answer, "/api/version") for answer in answers] == [2 + 3, 2 + 3]


# --- races ------------------------------------------------------------------------------------------------------------


async def test_of_parallel_registrations_of_a_name_exactly_one_wins(workers: list[httpx.AsyncClient]) -> None:
    """In two spellings."""
    name = new_name()

    async def register(client: httpx.AsyncClient, number: int) -> httpx.Response:
        username = name.upper() if number % 3 else name
        body = {"username": username, "email": f"{name}-{number}@example.com", "password": PASSWORD}
        return await client.post("/api/auth/register", json=body)

    assert statuses(await crowd(workers, register)) == [201] + [409] * (CROWD - 1)


@pytest.fixture
async def logins(workers: list[httpx.AsyncClient], member: Account) -> list[httpx.Response]:
    body = {"username": member.username, "password": PASSWORD}
    return await crowd(workers, lambda client, _: client.post("/api/auth/login", json=body))


def test_parallel_logins_of_one_account_all_succeed(logins: list[httpx.Response]) -> None:
    assert statuses(logins) == [200] * CROWD


async def test_parallel_logins_are_sessions_of_their_own(
    workers: list[httpx.AsyncClient], logins: list[httpx.Response]
) -> None:
    answers = [await refresh(workers[0], login.json()["refresh_token"]) for login in logins]

    assert statuses(answers) == [200] * CROWD
