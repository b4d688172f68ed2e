"""No record can make the list it stands in fail, whoever has written it, and however (ASVS 5.0, 2.2.1, 15.2.2).

One record that is nested deeper than the answer can be written, and `GET /api/data/` would be a 500 for everybody.

First the door: what is too deep, too much or ambiguous is refused and not stored. Rows that plain SQL has written past
that door, and that are read all the same: tests/integration/api/test_data_secrets.py, its last part.
"""

import json

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import count_records, create, insert, post, stored_config, strict_json, with_config

JSON = "application/json"


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


def nested(depth: int, *, lists: bool = False) -> str:
    """A config that is `depth` levels deep, itself included."""
    inner, opening, closing = ("1", "[", "]") if lists else ("{}", '{"a":', "}")
    levels = depth - 1
    return (
        '{"a":' + opening * levels + inner + closing * levels + "}"
        if lists
        else opening * levels + inner + "}" * levels
    )


@pytest.mark.parametrize("lists", [False, True], ids=["objects", "lists"])
async def test_a_config_may_be_64_levels_deep(client: httpx.AsyncClient, owner: Account, lists: bool) -> None:
    config = json.loads(nested(64, lists=lists))
    record = await create(client, owner, config=config)
    assert (await client.get(f"/api/data/{record['id']}", headers=owner.headers)).json()["config"] == config


DEEP = {
    f"{depth} {'lists' if lists else 'objects'}": nested(depth, lists=lists)
    for depth in (65, 256, 900, 50_000)
    for lists in (False, True)
}


@pytest.mark.parametrize("config", DEEP.values(), ids=DEEP)
async def test_a_deeper_config_is_refused_and_not_stored(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: str
) -> None:
    assert_problem(await post(client, owner, with_config(config)), 422, "validation_failed")
    assert await count_records(connection) == 0


async def test_what_is_too_deep_is_named(client: httpx.AsyncClient, owner: Account) -> None:
    document = assert_problem(await post(client, owner, with_config(nested(65))), 422, "validation_failed")
    assert document["errors"] == [{"detail": "Nest objects and lists at most 64 deep.", "pointer": "/body/config"}]


async def test_a_deeper_config_is_not_taken_for_a_change(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    record = await create(client, owner, config={"a": 1})
    headers = {**owner.headers, "Content-Type": JSON}
    await client.put(f"/api/data/{record['id']}", content=f'{{"config": {nested(65)}}}', headers=headers)
    assert await stored_config(connection, record["id"]) == '{"a": 1}'


TWICE = {
    "name": '{"name": "x", "name": "y"}',
    "in the config": with_config('{"a": 1, "a": 2}'),
    "deep in the config": with_config('{"a": [{"b": 1, "b": 1}]}'),
    "written differently": with_config('{"a": 1, "\\u0061": 2}'),
}


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE)
async def test_a_name_that_occurs_twice_is_refused_and_not_stored(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, body: str
) -> None:
    """Two readers of one JSON text would have two records."""
    assert_problem(await post(client, owner, body), 422, "validation_failed")
    assert await count_records(connection) == 0


@pytest.mark.parametrize("config", DEEP.values(), ids=DEEP)
async def test_everybody_can_read_the_list_after_an_attack(
    client: httpx.AsyncClient, owner: Account, config: str
) -> None:
    record = await create(client, owner)
    await post(client, owner, with_config(config))
    answer = await client.get("/api/data/")
    assert (answer.status_code, [found["id"] for found in strict_json(answer)["data"]]) == (200, [record["id"]])


async def test_everybody_can_read_the_list_when_sql_has_poisoned_it(
    client: httpx.AsyncClient, connection: AsyncConnection
) -> None:
    poisoned = await insert(connection, '{"a":' + "[" * 3000 + "]" * 3000 + "}")
    answer = await client.get("/api/data/")
    assert (answer.status_code, [found["id"] for found in strict_json(answer)["data"]]) == (200, [poisoned])
