"""Changes of one record that meet: each is made in one statement, and none is lost or made twice."""

import asyncio
from typing import Any

import httpx
import pytest

from pyapi.db.record_writes import RecordWrites
from tests.fixtures.application import PASSWORD, log_in

AT_ONCE = 20


@pytest.fixture
async def owner(racing: httpx.AsyncClient) -> httpx.AsyncClient:
    """The client, signed in."""
    name = "lin"
    account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    await racing.post("/api/auth/register", json=account)  # for the first test
    racing.headers["Authorization"] = f"Bearer {(await log_in(racing, name))['access_token']}"
    return racing


@pytest.fixture
async def path(owner: httpx.AsyncClient) -> str:
    return f"/api/data/{(await owner.post('/api/data/', json={'name': '同步'})).json()['id']}"


async def history(owner: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """Saved states, oldest first."""
    entries: list[dict[str, Any]] = (await owner.get(f"{path}/history?limit=100")).json()["data"]
    return entries[::-1]


async def test_of_many_changes_each_is_made_once(owner: httpx.AsyncClient, path: str) -> None:
    bodies = [{"description": f"number {number}"} for number in range(AT_ONCE)]
    answers = await asyncio.gather(*(owner.put(path, json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [200] * AT_ONCE
    assert sorted(answer.json()["revision"] for answer in answers) == list(range(2, AT_ONCE + 2))
    assert (await owner.get(path)).json()["revision"] == AT_ONCE + 1


async def test_each_answer_is_the_state_that_its_change_has_made(owner: httpx.AsyncClient, path: str) -> None:
    await asyncio.gather(*(owner.put(path, json={"description": str(number)}) for number in range(AT_ONCE)))
    told = [change["after"] for entry in await history(owner, path) for change in entry["changes"]]
    assert sorted(told[-AT_ONCE:], key=int) == [str(number) for number in range(AT_ONCE)]


async def test_of_many_that_expect_one_revision_one_is_made(owner: httpx.AsyncClient, path: str) -> None:
    expected = {"If-Match": '"rev-1"'}
    answers = await asyncio.gather(
        *(owner.put(path, json={"description": str(number)}, headers=expected) for number in range(AT_ONCE))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * (AT_ONCE - 1)


async def test_who_was_overtaken_waits_for_a_turn(
    owner: httpx.AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change comes between the look at the record and its change: the second one builds on it."""
    change, overtaken = RecordWrites.change, False

    async def overtake(writes: RecordWrites, *arguments: Any, **options: Any) -> Any:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            await owner.put(path, json={"name": "first"})
        return await change(writes, *arguments, **options)

    monkeypatch.setattr(RecordWrites, "change", overtake)
    answer = (await owner.put(path, json={"description": "second"})).json()
    assert (answer["name"], answer["description"], answer["revision"]) == ("first", "second", 3)
