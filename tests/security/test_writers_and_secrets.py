"""Who was let in to work on a record neither gets its secrets nor learns what they are.

ASVS 5.0, 8.2.3 (access to fields is what somebody was given), 13.3.2 (secrets are for those who need them); API3:2023.
What decides where a secret is sent has a thousand names, so no list of them is the promise: beside a secret a writer
changes when and how a record runs, and nothing else.
"""

from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.services.stored_config import OWNERS_PART
from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import create, insert, stored_config
from tests.integration.api.test_access import grant, share

SECRET = "Qz7-geheim-x9W"
CONFIG: dict[str, Any] = {
    "api": "https://good",
    "token": SECRET,
    "http": {"host": "good"},
    "auth": {"user": "etl", "password": SECRET},
    "query": "SELECT 1",
    "schedule": "@daily",
    "batch_size": 1000,
}
SHOWN = CONFIG | {"token": "***", "auth": {"user": "etl", "password": "***"}}


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.fixture
async def mei(sign_up: SignUp) -> Account:
    return await sign_up("Mei")


@pytest.fixture
async def path(client: httpx.AsyncClient, owner: Account, mei: Account) -> str:
    """A record with secrets, on which Mei may work."""
    record = await create(client, owner, config=CONFIG, visibility="private")
    await share(client, owner, record["id"], grants=[grant("Mei", "write")])
    return f"/api/data/{record['id']}"


MOVED: list[tuple[dict[str, Any] | None, list[str]]] = [
    (SHOWN | {"api": "https://evil"}, ["/api"]),
    (SHOWN | {"http": {"host": "evil"}}, ["/http"]),
    (SHOWN | {"auth": {"user": "me", "password": "***"}}, ["/auth"]),
    (SHOWN | {"query": "SELECT 2"}, ["/query"]),
    (SHOWN | {"proxies": "https://evil"}, ["/proxies"]),
    (SHOWN | {"token": "another"}, ["/token"]),
    ({"api": "https://evil", "token": "***"}, ["/api", "/http", "/auth", "/query"]),
    ({}, ["/api", "/token", "/http", "/auth", "/query"]),
    (None, [""]),
]


@pytest.mark.parametrize(("config", "pointers"), MOVED)
async def test_a_writer_cannot_send_a_secret_elsewhere(
    client: httpx.AsyncClient, mei: Account, path: str, config: Any, pointers: list[str]
) -> None:
    answer = assert_problem(
        await client.put(path, json={"config": config}, headers=mei.headers), 422, "validation_failed"
    )
    told = {(error["pointer"], error["detail"]) for error in answer["errors"]}
    assert told == {(f"/body/config{pointer}", OWNERS_PART) for pointer in pointers}


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
@pytest.mark.parametrize("place", ["token", "auth"])
async def test_a_right_guess_is_answered_like_a_wrong_one(
    client: httpx.AsyncClient, mei: Account, path: str, query: str, place: str
) -> None:
    answers = []
    for guess in (SECRET, "wrong"):
        config = SHOWN | {place: guess if place == "token" else {"user": "etl", "password": guess}}
        answer = await client.put(path + query, json={"config": config}, headers=mei.headers)
        answers.append((answer.status_code, answer.json()["errors"]))
    assert answers == [(422, [{"pointer": f"/body/config/{place}", "detail": OWNERS_PART}])] * 2


async def test_a_guess_beside_another_mistake_is_answered_like_a_wrong_one(
    client: httpx.AsyncClient, mei: Account, path: str
) -> None:
    """Only what is the owner's is said: other errors could depend on what is stored."""
    config = SHOWN | {"token": SECRET, "schedule": "nonsense"}
    answer = (await client.put(path, json={"config": config}, headers=mei.headers)).json()
    assert [error["pointer"] for error in answer["errors"]] == ["/body/config/token"]


@pytest.mark.parametrize("changed", [{"schedule": "@hourly"}, {"batch_size": 5, "retry_count": 2, "tags": ["a"]}, {}])
async def test_a_writer_decides_when_and_how_it_runs(
    client: httpx.AsyncClient, mei: Account, path: str, changed: dict[str, Any]
) -> None:
    answer = await client.put(path, json={"config": SHOWN | changed}, headers=mei.headers)
    assert (answer.status_code, answer.json().get("config")) == (200, SHOWN | changed)


async def test_the_secret_is_still_there_after_a_writer_has_changed_the_schedule(
    client: httpx.AsyncClient, connection: AsyncConnection, mei: Account, path: str
) -> None:
    answer = await client.put(path, json={"config": SHOWN | {"schedule": "@hourly"}}, headers=mei.headers)
    assert answer.status_code == 200
    assert (await stored_config(connection, int(path.rpartition("/")[2]))).count(SECRET) == 2


async def test_a_secret_under_a_free_key_is_not_guessed_either(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, mei: Account
) -> None:
    """SQL can have written one there."""
    record_id = await insert(connection, f'{{"batch_size": "token={SECRET}"}}', owner_id=owner.id)
    await share(client, owner, record_id, grants=[grant("Mei", "write")])
    body = {"config": {"batch_size": f"token={SECRET}"}}
    answer = await client.put(f"/api/data/{record_id}?dry_run=true", json=body, headers=mei.headers)
    assert assert_problem(answer, 422, "validation_failed")["errors"][0]["pointer"] == "/body/config/batch_size"


async def test_a_record_without_a_secret_is_free(client: httpx.AsyncClient, owner: Account, mei: Account) -> None:
    """A Connection of Airflow is a name, and shows nothing."""
    record = await create(client, owner, config={"source": {"type": "postgresql", "conn_id": "erp"}})
    await share(client, owner, record["id"], grants=[grant("Mei", "write")])
    body = {"config": {"source": {"type": "mysql", "conn_id": "crm"}, "query": "SELECT 1"}}
    answer = await client.put(f"/api/data/{record['id']}", json=body, headers=mei.headers)
    assert (answer.status_code, answer.json()["config"]) == (200, body["config"])


@pytest.mark.parametrize("caller", ["owner", "superuser"])
async def test_the_owner_and_admins_change_all_of_it(
    client: httpx.AsyncClient, sign_up: SignUp, owner: Account, path: str, caller: str
) -> None:
    account = owner if caller == "owner" else await sign_up("root", superuser=True)
    config = SHOWN | {"api": "https://other", "token": "new"}
    assert (await client.put(path, json={"config": config}, headers=account.headers)).status_code == 200
