"""Who reads the tables reads no secret, and nobody gets the secret of somebody else's record opened.

ASVS 5.0, 14.2.4 (sensitive data is protected at rest as its class asks for), 11.3.2 and 11.3.3 (approved, authenticated
encryption), 13.3.1 (secrets are not kept in readable form); API1:2023 for tokens that are copied from another record.
"""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.services import stored_config
from pyapi.services.run_log import UNREADABLE
from pyapi.utils.sealing import Sealer
from tests.fake_airflow import FakeAirflow
from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import create, insert

KEY, OTHER_KEY = (Fernet.generate_key().decode() for _ in range(2))
SECRET = "Qz7-geheim-x9W"
CONFIG: dict[str, Any] = {
    "source": f"postgresql://etl:{SECRET}@host:5432/db",
    "target": {"type": "postgresql", "host": "h", "database": "d", "user": "etl", "password": SECRET},
    "headers": {"Authorization": f"Bearer {SECRET}"},
    "odbc": f"Server=h;User Id=sa;Password={SECRET};Database=d",
    "call": f"curl -H 'Authorization: Bearer {SECRET}-0123456789' https://h/?token={SECRET}",
    "service_account": {"key": SECRET, "ids": [1, 2], "ok": True},
    "steps": [{"name": "a", "token": SECRET}, {"name": "b", "token": f"{SECRET}-2"}],
    "schedule": "0 9 * * *",
    "tags": ["每日"],
    "batch_size": 1000,
}
FOREIGN = str(Sealer([OTHER_KEY]).seal({"token": "x"})["token"])


@pytest.fixture(autouse=True)
async def sealer(app: FastAPI) -> AsyncIterator[Sealer]:
    """The application has a key during this test."""
    before, app.state.sealer = app.state.sealer, Sealer([KEY])
    yield app.state.sealer
    app.state.sealer = before


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.fixture
async def record(client: httpx.AsyncClient, owner: Account) -> dict[str, Any]:
    return await create(client, owner, config=CONFIG)


async def stored(connection: AsyncConnection, record: dict[str, Any]) -> Any:
    """The config that the table holds."""
    statement = text("SELECT config FROM pyapi_data_records WHERE id = :id")
    return json.loads(json.dumps((await connection.execute(statement, {"id": record["id"]})).scalar_one()))


async def dump(connection: AsyncConnection) -> str:
    """All that the tables of records hold, as text."""
    rows = await connection.execute(
        text("SELECT r::text FROM pyapi_data_records r UNION ALL SELECT s::text FROM pyapi_data_revisions s")
    )
    return "\n".join(rows.scalars())


async def put(client: httpx.AsyncClient, owner: Account, record: dict[str, Any], config: Any) -> httpx.Response:
    return await client.put(f"/api/data/{record['id']}", json={"config": config}, headers=owner.headers)


async def get(client: httpx.AsyncClient, owner: Account, record: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/api/data/{record['id']}", headers=owner.headers)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


# --- Nothing readable in the tables -----------------------------------------------------------------------------------


async def test_the_tables_hold_no_secret_of_a_new_record(connection: AsyncConnection, record: dict[str, Any]) -> None:
    assert (await dump(connection)).count(SECRET) == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_the_tables_hold_no_secret_of_a_changed_or_deleted_record(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, method: str
) -> None:
    record = await create(client, owner, config={"batch_size": 1})
    path = f"/api/data/{record['id']}"
    await client.request(method, path, json={"config": CONFIG, "name": "x"}, headers=owner.headers)
    await client.delete(path, headers=owner.headers)
    found = await dump(connection)
    assert (found.count(SECRET), found.count("fernet:gAAAA") > 10) == (0, True)


async def test_a_sealed_config_is_the_same_config_but_for_its_secrets(
    connection: AsyncConnection, record: dict[str, Any]
) -> None:
    found = await stored(connection, record)
    assert Sealer([KEY]).open(found).value == CONFIG
    assert found["source"].startswith("postgresql://etl:fernet:gAAAA")
    assert found["source"].endswith("@host:5432/db")
    assert {key: found[key] for key in ("schedule", "tags", "batch_size")} == {
        key: CONFIG[key] for key in ("schedule", "tags", "batch_size")
    }


async def test_another_key_opens_nothing(connection: AsyncConnection, record: dict[str, Any]) -> None:
    found = await stored(connection, record)
    assert Sealer([OTHER_KEY]).open(found).value == found


async def test_a_dry_run_stores_nothing_and_shows_no_secret(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any]
) -> None:
    before = await dump(connection)
    answer = await client.put(
        f"/api/data/{record['id']}?dry_run=true",
        json={"config": CONFIG | {"target": {"type": "postgresql", "conn_id": "lake", "password": f"{SECRET}-new"}}},
        headers=owner.headers,
    )
    assert answer.status_code == 200
    changed = {change["pointer"] for change in answer.json()["changes"]}
    assert changed == {f"/config/target/{name}" for name in ("conn_id", "database", "host", "password", "user")}
    assert (SECRET in answer.text, "fernet:" in answer.text) == (False, False)
    assert await dump(connection) == before


async def test_no_line_of_the_log_has_a_secret_or_a_token(
    client: httpx.AsyncClient, owner: Account, record: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await put(client, owner, record, CONFIG | {"x": 1})
    await put(client, owner, record, {"password": FOREIGN})
    said = caplog.text
    assert ("data.updated" in said, SECRET in said, "fernet:" in said) == (True, False, False)


# --- Reading needs no key, and shows what it showed before ------------------------------------------------------------


@pytest.mark.parametrize("keys", [[KEY], [OTHER_KEY, KEY], [OTHER_KEY], []])
async def test_a_sealed_record_is_shown_as_a_plain_one(
    app: FastAPI, client: httpx.AsyncClient, owner: Account, record: dict[str, Any], keys: list[str]
) -> None:
    app.state.sealer = Sealer()
    plain = await create(client, owner, config=CONFIG)
    app.state.sealer = Sealer(keys)
    shown = await get(client, owner, record)
    listed = (await client.get("/api/data/", headers=owner.headers)).json()["data"]
    assert shown["config"] == (await get(client, owner, plain))["config"] == record["config"]
    assert {json.dumps(found["config"], sort_keys=True) for found in listed} == {
        json.dumps(record["config"], sort_keys=True)
    }


# --- What comes back keeps its token ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["masked", "plain"])
async def test_sending_the_same_again_changes_nothing(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any], body: str
) -> None:
    before = await dump(connection)
    answer = await put(client, owner, record, record["config"] if body == "masked" else CONFIG)
    assert (answer.status_code, answer.json()["revision"]) == (200, 1)
    assert await dump(connection) == before


async def test_a_change_elsewhere_keeps_all_tokens(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any]
) -> None:
    before = await stored(connection, record)
    masked = record["config"] | {"source": "postgresql://etl:***@host:5432/other", "batch_size": 5}
    assert (await put(client, owner, record, masked)).json()["revision"] == 2
    expected = before | {"source": before["source"].replace("5432/db", "5432/other"), "batch_size": 5}
    assert await stored(connection, record) == expected


async def test_a_new_secret_gets_a_token_of_its_own(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any]
) -> None:
    before = await stored(connection, record)
    await put(client, owner, record, record["config"] | {"headers": {"Authorization": "Bearer new"}})
    after = await stored(connection, record)
    assert [key for key in after if after[key] != before[key]] == ["headers"]
    assert Sealer([KEY]).open(after).value == CONFIG | {"headers": {"Authorization": "Bearer new"}}


async def test_entries_of_a_list_keep_their_secrets_when_they_move(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any]
) -> None:
    await put(client, owner, record, record["config"] | {"steps": record["config"]["steps"][::-1]})
    assert Sealer([KEY]).open(await stored(connection, record)).value == CONFIG | {"steps": CONFIG["steps"][::-1]}


@pytest.mark.parametrize(
    ("config", "pointer"),
    [
        ({"api_key": "***"}, "/body/config/api_key"),
        ({"target": CONFIG["target"] | {"host": "evil", "password": "***"}}, "/body/config/target/password"),
        ({"source": "postgresql://etl:***@evil:5432/db"}, "/body/config/source"),
        ({"steps": [{"name": "c", "token": "***"}]}, "/body/config/steps/0/token"),
    ],
)
async def test_a_moved_mask_is_refused_and_nothing_is_stored(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    owner: Account,
    record: dict[str, Any],
    config: dict[str, Any],
    pointer: str,
) -> None:
    before = await dump(connection)
    document = assert_problem(await put(client, owner, record, config), 422, "validation_failed")
    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert await dump(connection) == before


# --- A token is no way to a secret ------------------------------------------------------------------------------------

TOKEN_PLACES: dict[str, Any] = {
    "/password": {"password": "TOKEN"},
    "/source": {"source": "postgresql://u:TOKEN@attacker/db"},
    "/note": {"note": "see TOKEN."},
    "/a/0/b~1c": {"a": [{"b/c": "TOKEN"}]},
    "/secrets/x": {"secrets": {"x": "TOKEN"}},
    "/tags/0": {"tags": ["TOKEN"]},
}


def with_token(pointer: str, token: str) -> Any:
    return json.loads(json.dumps(TOKEN_PLACES[pointer]).replace("TOKEN", token))


@pytest.mark.parametrize("keys", [[KEY], []])
@pytest.mark.parametrize("pointer", TOKEN_PLACES)
async def test_a_token_of_another_record_is_refused(
    app: FastAPI,
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    owner: Account,
    record: dict[str, Any],
    sign_up: SignUp,
    pointer: str,
    keys: list[str],
) -> None:
    token = (await stored(connection, record))["target"]["password"]
    app.state.sealer = Sealer(keys)
    thief = await sign_up("thief")
    body = {"name": "x", "config": with_token(pointer, token)}
    answer = await client.post("/api/data/", json=body, headers=thief.headers)
    document = assert_problem(answer, 422, "validation_failed")
    assert {"detail": stored_config.FOREIGN_TOKEN, "pointer": f"/body/config{pointer}"} in document["errors"]
    assert token not in answer.text


@pytest.mark.parametrize("pointer", TOKEN_PLACES)
async def test_the_own_token_is_refused_as_well(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any], pointer: str
) -> None:
    token = (await stored(connection, record))["target"]["password"]
    before = await dump(connection)
    assert_problem(await put(client, owner, record, with_token(pointer, token)), 422, "validation_failed")
    assert await dump(connection) == before


async def test_a_secret_where_airflow_shows_it_is_refused(client: httpx.AsyncClient, owner: Account) -> None:
    body = {"name": "x", "config": {"tags": ["a", f"token={SECRET}"]}}
    document = assert_problem(
        await client.post("/api/data/", json=body, headers=owner.headers), 422, "validation_failed"
    )
    assert document["errors"] == [{"detail": stored_config.SHOWN_SECRET, "pointer": "/body/config/tags"}]


async def test_secrets_by_the_thousand_are_refused(client: httpx.AsyncClient, owner: Account) -> None:
    config = {"steps": [{"token": str(number)} for number in range(1001)]}
    answer = await client.post("/api/data/", json={"name": "x", "config": config}, headers=owner.headers)
    document = assert_problem(answer, 422, "validation_failed")
    assert document["errors"] == [{"detail": stored_config.TOO_MANY, "pointer": "/body/config"}]
    config["steps"].pop()
    await create(client, owner, config=config)


# --- Tokens that no key opens -----------------------------------------------------------------------------------------

UNREADABLE_CONFIG = {"source": f"postgresql://u:{FOREIGN}@h/db", "password": FOREIGN, "note": FOREIGN, "x": 1}


@pytest.fixture
async def unreadable(connection: AsyncConnection, owner: Account) -> dict[str, Any]:
    return {"id": await insert(connection, json.dumps(UNREADABLE_CONFIG), owner_id=owner.id)}


async def test_what_cannot_be_opened_is_shown_masked(
    client: httpx.AsyncClient, owner: Account, unreadable: dict[str, Any]
) -> None:
    shown = (await get(client, owner, unreadable))["config"]
    assert shown == {"source": "postgresql://u:***@h/db", "password": "***", "note": "***", "x": 1}


async def test_what_cannot_be_opened_is_kept_when_the_rest_changes(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, unreadable: dict[str, Any]
) -> None:
    shown = (await get(client, owner, unreadable))["config"]
    changed = shown | {"source": "postgresql://u:***@h/other", "x": 2, "api_key": SECRET}
    answer = await put(client, owner, unreadable, changed)
    assert (answer.status_code, answer.json()["config"]) == (200, changed | {"api_key": "***"})
    found = await stored(connection, unreadable)
    assert SECRET not in found.pop("api_key")
    assert found == UNREADABLE_CONFIG | {"source": f"postgresql://u:{FOREIGN}@h/other", "x": 2}


async def test_what_cannot_be_opened_can_be_replaced(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, unreadable: dict[str, Any]
) -> None:
    await put(client, owner, unreadable, {"password": SECRET})
    assert Sealer([KEY]).open(await stored(connection, unreadable)).value == {"password": SECRET}


# --- Logs of tasks ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def logged(fake_airflow: FakeAirflow, record: dict[str, Any]) -> str:
    """The log of a task that has said the secret in all its forms."""
    dag = f"pyapi_{record['id']}"
    fake_airflow.add_dag(record["id"])
    fake_airflow.add_run(record["id"], "manual__1")
    fake_airflow.logs[dag, "manual__1", "run", 1] = [{"event": f"connecting with {SECRET} and {SECRET}-2"}]
    return f"/api/data/{record['id']}/runs/manual__1/logs"


async def test_a_sealed_secret_is_hidden_in_the_logs_of_tasks(
    client: httpx.AsyncClient, owner: Account, logged: str
) -> None:
    answer = await client.get(logged, headers=owner.headers)
    assert (answer.status_code, answer.text) == (200, "connecting with *** and ***\n")


async def test_a_log_whose_secrets_cannot_be_known_is_not_shown(
    app: FastAPI, client: httpx.AsyncClient, owner: Account, logged: str
) -> None:
    app.state.sealer = Sealer([OTHER_KEY])
    assert (await client.get(logged, headers=owner.headers)).text == f"{UNREADABLE}\n"
