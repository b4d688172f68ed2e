"""A refresh token works once; a second use ends its whole session (RFC 9700, 4.14.2; ASVS 5.0, 10.4.5).

There is no grace: of 20 requests at once over two workers one gets a successor, and as the others came second, that
successor is dead as well. One after the other, and what the rows say then: "refresh" in
tests/integration/api/test_auth.py.
"""

import httpx
import pytest

from tests.fixtures.application import log_in
from tests.fixtures.servers import sign_up
from tests.fixtures.workers import CROWD, crowd, new_name, refresh, statuses

ROUNDS = 50


@pytest.fixture(scope="module")
async def refreshed(workers: list[httpx.AsyncClient]) -> list[list[httpx.Response]]:
    """Rounds of parallel refreshes with one token, each in a session of its own."""
    name = (await sign_up(workers[0], new_name())).username
    rounds = []
    for _ in range(ROUNDS):
        token = (await log_in(workers[0], name))["refresh_token"]
        rounds.append(await crowd(workers, lambda client, _, token=token: refresh(client, token)))  # type: ignore[misc]
    return rounds


def test_of_parallel_refreshes_exactly_one_wins(refreshed: list[list[httpx.Response]]) -> None:
    assert [statuses(answers) for answers in refreshed] == [[200] + [401] * (CROWD - 1)] * ROUNDS


async def test_the_winner_cannot_refresh_what_others_tried_too(
    workers: list[httpx.AsyncClient], refreshed: list[list[httpx.Response]]
) -> None:
    winners = [answer.json() for answers in refreshed for answer in answers if answer.status_code == 200]

    answers = [await refresh(workers[0], winner["refresh_token"]) for winner in winners]

    assert statuses(answers) == [401] * ROUNDS


async def test_the_winner_cannot_use_what_others_tried_too(
    workers: list[httpx.AsyncClient], refreshed: list[list[httpx.Response]]
) -> None:
    winners = [answer.json() for answers in refreshed for answer in answers if answer.status_code == 200]

    answers = [
        await workers[0].get("/api/auth/me", headers={"Authorization": f"Bearer {winner['access_token']}"})
        for winner in winners
    ]

    assert statuses(answers) == [401] * ROUNDS


async def test_a_token_that_was_used_at_one_worker_ends_the_session_at_the_other(
    workers: list[httpx.AsyncClient],
) -> None:
    account = await sign_up(workers[0], new_name())
    successor = (await refresh(workers[0], account.refresh_token)).json()["refresh_token"]
    assert (await refresh(workers[1], account.refresh_token)).status_code == 401
    assert (await refresh(workers[0], successor)).status_code == 401


async def test_the_grandparent_ends_the_session_as_well(workers: list[httpx.AsyncClient]) -> None:
    account = await sign_up(workers[0], new_name())
    child = (await refresh(workers[0], account.refresh_token)).json()["refresh_token"]
    grandchild = (await refresh(workers[1], child)).json()["refresh_token"]
    assert (await refresh(workers[0], account.refresh_token)).status_code == 401
    assert (await refresh(workers[1], grandchild)).status_code == 401
