"""Credentials inside records: nobody is shown them, nobody loses them by sending `***` back; bad rows harm no list."""

import json
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import count_records, create, insert, stored_config, strict_json

SECRET = "p4ssw0rd-七"
CONFIG: dict[str, Any] = {
    "source": f"postgresql://etl:{SECRET}@host:5432/db",
    "warehouse": f"Server=host;User Id=etl;Password={SECRET};Database=db",
    "password": SECRET,
    "DB_PASSWORD": SECRET,
    "api-key": SECRET,
    "privateKey": f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    "connection_string": f"Endpoint=sb://x;Key={SECRET}",
    "access_token": {"value": SECRET},
    "secrets": [SECRET, {"deep": SECRET}],
    "headers": {"Authorization": f"Bearer {SECRET}0123456789"},
    "steps": [
        {"url": f"https://u:{SECRET}@host/a"},
        {"url": f"https://host/b?token={SECRET}"},
        [f"redis://:{SECRET}@h"],
    ],
    "pin_secret": 123456,
    "schedule": "0 9 * * *",
    "batch_size": 1000,
    "username": "etl",
}
MASKED: dict[str, Any] = {
    "source": "postgresql://etl:***@host:5432/db",
    "warehouse": "Server=host;User Id=etl;Password=***;Database=db",
    "password": "***",
    "DB_PASSWORD": "***",
    "api-key": "***",
    "privateKey": "***",
    "connection_string": "***",
    "access_token": "***",
    "secrets": "***",
    "headers": {"Authorization": "***"},
    "steps": [{"url": "https://u:***@host/a"}, {"url": "https://host/b?token=***"}, ["redis://:***@h"]],
    "pin_secret": "***",
    "schedule": "0 9 * * *",
    "batch_size": 1000,
    "username": "etl",
}


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.fixture
async def record(client: httpx.AsyncClient, owner: Account) -> dict[str, Any]:
    """A record of `owner` that is full of credentials, as it was answered."""
    return await create(client, owner, config=CONFIG)


async def change(
    client: httpx.AsyncClient, owner: Account, record_id: int, body: dict[str, Any], method: str = "PUT"
) -> httpx.Response:
    return await client.request(method, f"/api/data/{record_id}", json=body, headers=owner.headers)


# --- What is shown ----------------------------------------------------------------------------------------------------


async def test_the_answer_to_creating_is_masked(record: dict[str, Any]) -> None:
    assert record["config"] == MASKED


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("body", [{"name": "x"}, {"config": CONFIG}, {"config": MASKED}, {}])
async def test_the_answer_to_changing_is_masked(
    client: httpx.AsyncClient, owner: Account, record: dict[str, Any], method: str, body: dict[str, Any]
) -> None:
    assert (await change(client, owner, record["id"], body, method)).json()["config"] == MASKED


@pytest.mark.parametrize("reader", ["owner", "somebody_else", "superuser"])
async def test_a_record_is_masked_for_everybody(
    client: httpx.AsyncClient, owner: Account, sign_up: SignUp, record: dict[str, Any], reader: str
) -> None:
    account = owner if reader == "owner" else await sign_up(reader, superuser=reader == "superuser")
    answer = await client.get(f"/api/data/{record['id']}", headers=account.headers)
    assert answer.json()["config"] == MASKED


@pytest.mark.parametrize("reader", ["owner", "somebody_else", "superuser"])
async def test_the_list_is_masked_for_everybody(
    client: httpx.AsyncClient, owner: Account, sign_up: SignUp, record: dict[str, Any], reader: str
) -> None:
    account = owner if reader == "owner" else await sign_up(reader, superuser=reader == "superuser")
    answer = await client.get("/api/data/", headers=account.headers)
    assert answer.json()["data"][0]["config"] == MASKED


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_an_anonymous_reader_sees_no_credential(
    client: httpx.AsyncClient, connection: AsyncConnection, path: str
) -> None:
    record_id = await insert(connection, json.dumps({**CONFIG, "schedule": f"https://u:{SECRET}@host/cron"}))
    assert SECRET not in (await client.get(path.format(id=record_id))).text


async def test_the_log_holds_no_credential(
    client: httpx.AsyncClient, owner: Account, record: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    await change(client, owner, record["id"], {"config": {"password": SECRET}})
    await change(client, owner, record["id"], {"config": {"password": SECRET, "token": "***"}})
    assert SECRET not in "".join(capfd.readouterr())


async def test_a_refusal_holds_no_credential(client: httpx.AsyncClient, owner: Account) -> None:
    body = {"name": "x", "config": {"password": SECRET, "token": "***", "deep": [{"token": SECRET}]}}
    answer = await client.post("/api/data/", json=body, headers=owner.headers)
    assert SECRET not in answer.text


# --- What is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_sending_back_what_was_read_keeps_every_byte(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any], method: str
) -> None:
    before = await stored_config(connection, record["id"])
    read = (await client.get(f"/api/data/{record['id']}", headers=owner.headers)).json()
    body = {name: read[name] for name in ("name", "description", "config", "status")}
    await change(client, owner, record["id"], body, method)
    assert await stored_config(connection, record["id"]) == before


async def test_sending_back_what_was_read_is_no_revision(
    client: httpx.AsyncClient, owner: Account, record: dict[str, Any]
) -> None:
    answer = await change(client, owner, record["id"], {"config": record["config"]})
    assert answer.json()["revision"] == 1


async def test_what_is_stored_is_what_was_sent(connection: AsyncConnection, record: dict[str, Any]) -> None:
    assert json.loads(await stored_config(connection, record["id"])) == CONFIG


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batch_size": 5}, {"batch_size": 5}),
        ({"password": "new"}, {"password": "new"}),
        ({"password": None}, {"password": None}),
        ({"source": "postgresql://etl:***@host:5432/other"}, {"source": f"postgresql://etl:{SECRET}@host:5432/other"}),
        ({"source": "postgresql://etl:new@elsewhere/db"}, {"source": "postgresql://etl:new@elsewhere/db"}),
        ({"steps": MASKED["steps"][::-1]}, {"steps": CONFIG["steps"][::-1]}),
        ({"steps": MASKED["steps"][:1]}, {"steps": CONFIG["steps"][:1]}),
        ({"說明": "三顆星"}, {"說明": "三顆星"}),
    ],
)
async def test_a_change_beside_a_masked_credential_keeps_it(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    owner: Account,
    record: dict[str, Any],
    changes: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    await change(client, owner, record["id"], {"config": {**MASKED, **changes}})
    assert json.loads(await stored_config(connection, record["id"])) == {**CONFIG, **expected}


async def test_a_superuser_keeps_the_credentials_of_others_too(
    client: httpx.AsyncClient, connection: AsyncConnection, sign_up: SignUp, record: dict[str, Any]
) -> None:
    superuser = await sign_up("superuser", superuser=True)
    await change(client, superuser, record["id"], {"config": {**MASKED, "batch_size": 5}})
    assert json.loads(await stored_config(connection, record["id"])) == {**CONFIG, "batch_size": 5}


async def test_a_change_without_config_keeps_the_credentials(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any]
) -> None:
    await change(client, owner, record["id"], {"name": "x"})
    assert json.loads(await stored_config(connection, record["id"])) == CONFIG


NOTHING_STORED = [
    ({"password": "***"}, "/body/config/password"),
    ({"a": {"b": [{"token": "***"}]}}, "/body/config/a/b/0/token"),
    ({"source": "postgresql://etl:***@host/db"}, "/body/config/source"),
    ({"a/b": {"c~d": {"secret": "***"}}}, "/body/config/a~1b/c~0d/secret"),
    ({"list": ["redis://:***@h"]}, "/body/config/list/0"),
]


@pytest.mark.parametrize(("config", "pointer"), NOTHING_STORED)
async def test_a_new_record_cannot_keep_what_it_does_not_have(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/api/data/", json={"name": "x", "config": config}, headers=owner.headers)
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert ([error["pointer"] for error in errors], await count_records(connection)) == ([pointer], 0)


@pytest.mark.parametrize(("config", "pointer"), NOTHING_STORED)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_change_cannot_keep_what_is_not_stored(
    client: httpx.AsyncClient, owner: Account, method: str, config: dict[str, Any], pointer: str
) -> None:
    record = await create(client, owner, config={"unrelated": 1})
    answer = await change(client, owner, record["id"], {"config": config}, method)
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert [error["pointer"] for error in errors] == [pointer]


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ({"host": "db", "password": SECRET}, {"host": "evil.example", "password": "***"}),
        ({"source": f"postgresql://etl:{SECRET}@db/x"}, {"source": "postgresql://etl:***@evil.example/x"}),
        ({"a": {"password": SECRET}}, {"b": {"password": "***"}}),
        ({"password": SECRET}, {"message": "***", "url": "https://u:***@evil.example"}),
    ],
)
async def test_a_credential_cannot_be_sent_elsewhere(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, stored: dict[str, Any], sent: dict[str, Any]
) -> None:
    """Whoever may change a record could otherwise read its password on a server of their own."""
    record = await create(client, owner, config=stored)
    assert_problem(await change(client, owner, record["id"], {"config": sent}), 422, "validation_failed")
    assert json.loads(await stored_config(connection, record["id"])) == stored


async def test_a_refused_change_keeps_the_credentials(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: dict[str, Any]
) -> None:
    await change(client, owner, record["id"], {"name": "x", "config": {**MASKED, "new_token": "***"}})
    assert json.loads(await stored_config(connection, record["id"])) == CONFIG


async def test_nobody_else_learns_whether_a_guess_was_right(
    client: httpx.AsyncClient, sign_up: SignUp, record: dict[str, Any]
) -> None:
    other = await sign_up("somebody_else")
    assert_problem(await change(client, other, record["id"], {"config": MASKED}), 403, "permission_denied")


# --- Rows that plain SQL has written ----------------------------------------------------------------------------------


def deep(levels: int, opening: str, closing: str) -> str:
    return opening * levels + "1" + closing * levels


HOSTILE = {
    "a list": '["postgresql://etl:secret@host/db", {"password": "secret"}]',
    "an empty list": "[]",
    "a text": '"postgresql://etl:secret@host/db"',
    "a number": "42",
    "true": "true",
    "null in JSON": "null",
    "65 levels": deep(65, "[", "]"),
    "3,000 lists": deep(3000, "[", "]"),
    "3,000 objects": deep(3000, '{"a":', "}"),
    "3,000 sensitive objects": deep(3000, '{"password":', "}"),
    "1.5e400": '{"a": 1.5e400, "b": [-1.5e400], "password": 1e400}',
    "1e-400": '{"a": 1e-400}',
    "1e100000": '{"a": 1e100000}',
    "5,000 digits": f'{{"a": {"9" * 5000}, "b": [-{"9" * 5000}], "token": {"9" * 5000}}}',
    "5,000 digits behind the point": f'{{"a": 0.{"9" * 5000}}}',
    "largest double": '{"a": 1.7976931348623157e308}',
    "a schedule out of range": '{"schedule": 1.5e400}',
    "a schedule of 5,000 digits": f'{{"schedule": {"9" * 5000}}}',
    "a deep schedule": f'{{"schedule": {deep(3000, "[", "]")}}}',
    "odd keys": '{"": "", " ": 1, "\\u0001": 2, "***": "***", "…": "…", "password": "***", "__proto__": {}}',
    "a long key": f'{{"{"k" * 100_000}": 1, "{"password" * 10_000}": "secret"}}',
    "noncharacters": '{"\\uffff": "\\ufdd0", "a": "\\uffff:\\uffff@\\uffff://\\uffff"}',
    "20,000 values": f'{{"list": [{", ".join("1" for _ in range(20_000))}]}}',
}
HOSTILE_ROWS = pytest.mark.parametrize("config", HOSTILE.values(), ids=HOSTILE)


@HOSTILE_ROWS
async def test_a_hostile_row_can_be_read(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: str
) -> None:
    record_id = await insert(connection, config)
    answer = await client.get(f"/api/data/{record_id}", headers=owner.headers)
    assert (answer.status_code, strict_json(answer)["id"]) == (200, record_id)


@HOSTILE_ROWS
async def test_a_hostile_row_does_not_fail_its_list(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: str
) -> None:
    record_id = await insert(connection, config)
    answer = await client.get("/api/data/", headers=owner.headers)
    assert (answer.status_code, [record["id"] for record in strict_json(answer)["data"]]) == (200, [record_id])


@HOSTILE_ROWS
@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_a_hostile_row_does_not_fail_anonymous_readers(
    client: httpx.AsyncClient, connection: AsyncConnection, path: str, config: str
) -> None:
    record_id = await insert(connection, config)
    answer = await client.get(path.format(id=record_id))
    assert (answer.status_code, type(strict_json(answer))) == (200, dict)


@HOSTILE_ROWS
async def test_a_change_beside_a_hostile_config_leaves_it_alone(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: str
) -> None:
    record_id = await insert(connection, config, owner_id=owner.id)
    before = await stored_config(connection, record_id)
    answer = await change(client, owner, record_id, {"name": "x"})
    assert (answer.status_code, await stored_config(connection, record_id)) == (200, before)


@HOSTILE_ROWS
async def test_a_hostile_config_can_be_replaced(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: str
) -> None:
    record_id = await insert(connection, config, owner_id=owner.id)
    answer = await change(client, owner, record_id, {"config": {"a": 1}})
    assert (answer.status_code, await stored_config(connection, record_id)) == (200, '{"a": 1}')


@HOSTILE_ROWS
async def test_a_hostile_row_can_be_deleted(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: str
) -> None:
    record_id = await insert(connection, config, owner_id=owner.id)
    answer = await client.delete(f"/api/data/{record_id}", headers=owner.headers)
    assert (answer.status_code, await count_records(connection)) == (200, 0)


@pytest.mark.parametrize("name", ["a list", "a text", "3,000 sensitive objects", "a long key"])
async def test_credentials_of_hostile_rows_are_masked_too(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, name: str
) -> None:
    record_id = await insert(connection, HOSTILE[name])
    assert "secret" not in (await client.get(f"/api/data/{record_id}", headers=owner.headers)).text


@pytest.mark.parametrize("name", ["3,000 objects", "65 levels", "a list", "a text"])
async def test_what_was_not_shown_whole_is_never_written_back_cut(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, name: str
) -> None:
    """Reading and sending back must not turn what could not be shown into what stands in its place."""
    record_id = await insert(connection, HOSTILE[name], owner_id=owner.id)
    before = await stored_config(connection, record_id)
    read = (await client.get(f"/api/data/{record_id}", headers=owner.headers)).json()
    await change(client, owner, record_id, {"config": read["config"]})
    assert await stored_config(connection, record_id) == before
