"""While a long answer is made, other requests get their turn between any two of its records."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from types import ModuleType
from typing import Any

import httpx
import pytest

from pyapi.services import data_changes, record_views, turns
from tests.fixtures.application import Account, SignUp
from tests.integration.api.records import create

RECORDS = 5


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every record takes a second."""
    seconds = count()
    monkeypatch.setattr(turns.Turns.__init__, "__defaults__", (lambda: float(next(seconds)),))


@pytest.fixture
async def others(slow: None) -> AsyncIterator[list[int]]:
    """Another task, which counts its turns."""
    turn = [0]

    async def work() -> None:
        while True:
            await asyncio.sleep(0)
            turn[0] += 1

    task = asyncio.create_task(work())
    yield turn
    task.cancel()


def seen(monkeypatch: pytest.MonkeyPatch, module: ModuleType, others: list[int]) -> list[tuple[int, Any]]:
    """For each value that is masked: the turn in which it was, and the value."""
    masked: list[tuple[int, Any]] = []
    original = module.mask_secrets

    def mask(value: Any) -> Any:
        masked.append((others[0], value))
        return original(value)

    monkeypatch.setattr(module, "mask_secrets", mask)
    return masked


async def fill(client: httpx.AsyncClient, owner: Account) -> None:
    for _ in range(RECORDS):
        await create(client, owner, config={"schedule": "@daily", "text": "x"})


@pytest.mark.parametrize("is_signed_in", [True, False])
async def test_a_list_gives_a_turn_after_each_record(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, owner: Account, others: list[int], is_signed_in: bool
) -> None:
    await fill(client, owner)
    masked = seen(monkeypatch, record_views, others)
    await client.get("/api/data/", headers=owner.headers if is_signed_in else {})
    assert len({turn for turn, _ in masked}) == RECORDS


async def test_a_history_gives_a_turn_after_each_state(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, owner: Account, others: list[int]
) -> None:
    record = await create(client, owner, config={"batch_size": 0})
    path = f"/api/data/{record['id']}"
    for number in range(1, RECORDS):
        await client.put(path, json={"config": {"batch_size": number}}, headers=owner.headers)
    masked = seen(monkeypatch, data_changes, others)
    await client.get(f"{path}/history", headers=owner.headers)
    assert len({turn for turn, _ in masked}) == RECORDS


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_a_summary_looks_through_nothing_that_it_does_not_show(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, owner: Account, path: str
) -> None:
    record = await create(client, owner, config={"schedule": "@daily", "text": "x"})
    masked = seen(monkeypatch, record_views, [0])
    await client.get(path.format(id=record["id"]))
    assert [value for _, value in masked] == ["@daily"]


async def test_small_records_are_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a turn nobody is let in; the turn that ends it begins a new one."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    clock = iter([0.0, 0.01, 0.019, 0.02, 0.02, 0.03])
    given = turns.Turns(clock.__next__)
    for _ in range(4):
        await given.give()
    assert slept == [0]
