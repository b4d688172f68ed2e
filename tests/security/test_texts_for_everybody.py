"""Names, descriptions, notes and the names of keys are shown to everybody: no credential is taken for them.

ASVS 5.0, 14.2.4 and 14.2.6 (only what is needed is answered, masked where it is sensitive). SQL can write what the API
refuses: in the first three that is masked on its way out.
"""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.services.stored_config import SECRET_NAME
from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import by_sql, create, insert

SECRET = "Qz7-geheim-x9W"
URL = f"postgresql://etl:{SECRET}@host/db"
SHOWN = "postgresql://etl:***@host/db"
DETAIL = "This is shown to everybody: leave credentials out of it."


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.mark.parametrize("field", ["name", "description"])
@pytest.mark.parametrize("path", ["/api/data/", "/api/data/validate"])
async def test_no_credential_is_taken(client: httpx.AsyncClient, owner: Account, field: str, path: str) -> None:
    body = {"name": "x", field: f"from {URL}"}
    answer = assert_problem(await client.post(path, json=body, headers=owner.headers), 422, "validation_failed")
    assert answer["errors"] == [{"pointer": f"/body/{field}", "detail": DETAIL}]


@pytest.mark.parametrize("field", ["name", "description"])
async def test_none_is_taken_afterwards(client: httpx.AsyncClient, owner: Account, field: str) -> None:
    path = f"/api/data/{(await create(client, owner))['id']}"
    answer = await client.put(path, json={field: f"password={SECRET}"}, headers=owner.headers)
    assert assert_problem(answer, 422, "validation_failed")["errors"] == [
        {"pointer": f"/body/{field}", "detail": DETAIL}
    ]


async def test_none_is_taken_for_the_note_of_a_run(client: httpx.AsyncClient, owner: Account) -> None:
    path = f"/api/data/{(await create(client, owner))['id']}/runs"
    answer = await client.post(path, json={"note": URL}, headers=owner.headers)
    assert assert_problem(answer, 422, "validation_failed")["errors"] == [{"pointer": "/body/note", "detail": DETAIL}]


NAMES = [
    ({URL: 1}, ""),
    ({"a": {f"Authorization: Bearer {SECRET}": None}}, "/a"),
    ({"a/b": [0, {f"https://h/?token={SECRET}": {}}]}, "/a~1b/1"),
]


@pytest.mark.parametrize(("config", "pointer"), NAMES)
async def test_none_is_taken_as_the_name_of_a_key(
    client: httpx.AsyncClient, owner: Account, config: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/api/data/", json={"name": "x", "config": config}, headers=owner.headers)
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert (errors, SECRET in answer.text) == (
        [{"pointer": f"/body/config{pointer}", "detail": SECRET_NAME}],
        False,
    )


async def test_none_is_taken_as_a_name_in_the_conf_of_a_run(client: httpx.AsyncClient, owner: Account) -> None:
    path = f"/api/data/{(await create(client, owner))['id']}/runs"
    answer = assert_problem(
        await client.post(path, json={"conf": {URL: 1}}, headers=owner.headers), 422, "validation_failed"
    )
    assert answer["errors"] == [{"pointer": "/body/conf", "detail": SECRET_NAME}]


@pytest.fixture
async def by_somebody(connection: AsyncConnection, owner: Account) -> int:
    """A record with credentials in its texts, which SQL has written, and has written again."""
    record_id = await insert(connection, '{"schedule": "@daily"}', owner_id=owner.id)
    statement = text(
        "UPDATE pyapi_data_records SET name = CAST(:url AS text), description = CAST(:url AS text) WHERE id = :id"
    )
    await by_sql(connection, statement, url=URL, id=record_id)
    return record_id


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
@pytest.mark.parametrize("is_signed_in", [True, False])
async def test_none_is_shown(
    client: httpx.AsyncClient, owner: Account, by_somebody: int, path: str, is_signed_in: bool
) -> None:
    answer = await client.get(path.format(id=by_somebody), headers=owner.headers if is_signed_in else {})
    found: dict[str, Any] = answer.json()
    (record,) = found.get("data", [found])
    assert (record["name"], record["description"], SECRET in answer.text) == (SHOWN, SHOWN, False)


@pytest.mark.parametrize("path", ["/api/data/{id}/history", "/api/schedules/calendar?from={from}&to={to}"])
async def test_none_is_shown_elsewhere(client: httpx.AsyncClient, owner: Account, by_somebody: int, path: str) -> None:
    day = {"from": "2027-03-01T00:00:00Z", "to": "2027-03-02T00:00:00Z"}
    answer = await client.get(path.format(id=by_somebody, **day), headers=owner.headers)
    assert (SHOWN in answer.text, SECRET in answer.text) == (True, False)


async def test_none_is_written_into_the_audit_log(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, by_somebody: int
) -> None:
    path = f"/api/data/{by_somebody}"
    answers = [
        await client.put(path, json={"name": "new"}, headers=owner.headers),
        await client.put(path, json={"description": "new"}, headers=owner.headers),
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    written = await connection.scalar(text("SELECT string_agg(changes::text, '') FROM pyapi_audit_log"))
    assert (SHOWN in written, SECRET in written) == (True, False)


async def test_deleting_says_none(client: httpx.AsyncClient, owner: Account, by_somebody: int) -> None:
    answer = await client.delete(f"/api/data/{by_somebody}", headers=owner.headers)
    assert answer.json()["message"] == f"Deleted '{SHOWN}'."
