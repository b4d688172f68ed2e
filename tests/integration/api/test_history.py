"""The history of a record: who may read it, and what it says about changes over the API and by SQL."""

import sys
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_outcome, assert_problem
from tests.fixtures.callers import HeadersOf
from tests.integration.api.records import create, insert

MISSING_ID = 2**31 - 1
SECRET = "s3cr3t-in-a-state"
CONFIG = {"source": f"postgresql://etl:{SECRET}@host/db", "schedule": "@daily"}


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("wang")


@pytest.fixture
async def record(client: httpx.AsyncClient, owner: Account) -> int:
    return int((await create(client, owner, config=CONFIG))["id"])


async def put(client: httpx.AsyncClient, caller: Account, record_id: int, **body: Any) -> None:
    answer = await client.put(f"/api/data/{record_id}", json=body, headers=caller.headers)
    assert answer.status_code == 200, answer.text


async def history(client: httpx.AsyncClient, caller: Account, record_id: int, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/api/data/{record_id}/history{query}", headers=caller.headers)
    assert answer.status_code == 200, answer.text
    assert SECRET not in answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("caller", "query", "status", "code"),
    [
        ("owner", "", 200, None),
        ("somebody else", "", 200, None),
        ("superuser", "?limit=100", 200, None),
        ("nobody", "", 401, "not_authenticated"),
        ("a forger", "", 401, "invalid_token"),
        ("a late comer", "", 401, "invalid_token"),
        ("owner", "?limit=0", 422, "validation_failed"),
        ("owner", "?limit=101", 422, "validation_failed"),
        ("owner", "?cursor=x", 422, "validation_failed"),
        ("owner", "?cursor=WyJhdWRpdDotaWQiLDFd", 422, "validation_failed"),
        ("owner", "?cursor=WyJoaXN0b3J5Oi1yZXZpc2lvbiIsMjE0NzQ4MzY0OF0", 422, "validation_failed"),
        ("owner", "?unknown=1", 422, "validation_failed"),
    ],
)
async def test_status(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    record: int,
    caller: str,
    query: str,
    status: int,
    code: str | None,
) -> None:
    answer = await client.get(f"/api/data/{record}/history{query}", headers=await headers_of(caller))
    assert_outcome(answer, status, code)


@pytest.mark.parametrize("caller", ["owner", "superuser"])
@pytest.mark.parametrize(("record_id", "status"), [(MISSING_ID, 404), (0, 422), (2**31, 422)])
async def test_no_record(
    client: httpx.AsyncClient, headers_of: HeadersOf, caller: str, record_id: int, status: int
) -> None:
    answer = await client.get(f"/api/data/{record_id}/history", headers=await headers_of(caller))
    assert_problem(answer, status, "not_found" if status == 404 else "validation_failed")


async def test_who_changed_what(client: httpx.AsyncClient, owner: Account, record: int, sign_up: SignUp) -> None:
    boss = await sign_up("boss", superuser=True)
    await put(client, boss, record, name="每時同步", config=CONFIG | {"schedule": "@hourly"})
    newest, first = (await history(client, owner, record))["data"]
    assert newest.pop("changed_at") > first.pop("changed_at")
    assert newest == {
        "revision": 2,
        "kind": "updated",
        "changed_by": boss.id,
        "changed_by_name": "boss",
        "changes": [
            {"pointer": "/name", "before": "每日同步", "after": "每時同步"},
            {"pointer": "/config/schedule", "before": "@daily", "after": "@hourly"},
        ],
        "is_cut": False,
    }
    pointers = {change["pointer"]: change["after"] for change in first.pop("changes")}
    assert (first["kind"], first["changed_by_name"], pointers) == (
        "created",
        "wang",
        {
            "/name": "每日同步",
            "/description": None,
            "/config/source": "postgresql://etl:***@host/db",
            "/config/schedule": "@daily",
            "/status": "active",
            "/visibility": "public",
            "/owner_id": owner.id,
        },
    )


async def test_a_credential_that_changes_is_a_change_without_it(
    client: httpx.AsyncClient, owner: Account, record: int
) -> None:
    await put(client, owner, record, config=CONFIG | {"source": "postgresql://etl:another@host/db"})
    [newest, _] = (await history(client, owner, record))["data"]
    masked = "postgresql://etl:***@host/db"
    assert newest["changes"] == [{"pointer": "/config/source", "before": masked, "after": masked}]


async def test_a_change_by_sql_is_there(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, record: int
) -> None:
    await connection.execute(
        text("SELECT set_config('pyapi.actor_id', '', true), set_config('pyapi.actor_name', '', true)")
    )
    await connection.execute(text("UPDATE pyapi_data_records SET status = 'inactive' WHERE id = :id"), {"id": record})
    role = (await connection.execute(text("SELECT 'role:' || session_user"))).scalar_one()
    newest = (await history(client, owner, record))["data"][0]
    assert (newest["changed_by"], newest["changed_by_name"], newest["changes"]) == (
        None,
        role,
        [{"pointer": "/status", "before": "active", "after": "inactive"}],
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 13, 24, 25, 26, 100])
async def test_page_by_page_each_change_comes_once(
    client: httpx.AsyncClient, owner: Account, record: int, limit: int
) -> None:
    for number in range(24):
        await put(client, owner, record, name=f"{number}")
    page = await history(client, owner, record, f"?limit={limit}")
    seen, sizes = page["data"], [len(page["data"])]
    while page["next_cursor"] is not None:
        page = await history(client, owner, record, f"?limit={limit}&cursor={page['next_cursor']}")
        seen += page["data"]
        sizes.append(len(page["data"]))
    names = [[change["after"] for change in entry["changes"] if change["pointer"] == "/name"] for entry in seen]
    assert names == [*([f"{number}"] for number in range(23, -1, -1)), ["每日同步"]]
    assert set(sizes[:-1]) <= {limit}


async def test_the_history_of_a_deleted_record_is_for_superusers(
    client: httpx.AsyncClient, owner: Account, record: int, sign_up: SignUp
) -> None:
    boss = await sign_up("boss", superuser=True)
    await client.delete(f"/api/data/{record}", headers=owner.headers)
    assert_problem(await client.get(f"/api/data/{record}/history", headers=owner.headers), 404, "not_found")
    entries = (await history(client, boss, record))["data"]
    assert [(entry["kind"], entry["changed_by_name"]) for entry in entries] == [
        ("deleted", "wang"),
        ("created", "wang"),
    ]


# Python can read this and cannot compare it; from 3.13 on it compares more.
_DEPTH = 900 if sys.version_info < (3, 13) else 3000
DEEP = '{{"x": {}}}'.format("[" * _DEPTH + "]" * _DEPTH)


@pytest.mark.parametrize("config", ["[1]", '"x"', "7", "null", '{"x": 1e400}', DEEP, "[" * 3000 + "]" * 3000])
async def test_whatever_sql_has_stored_has_a_history(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: str
) -> None:
    record_id = await insert(connection, config, owner_id=owner.id)
    await connection.execute(text("UPDATE pyapi_data_records SET name = 'y' WHERE id = :id"), {"id": record_id})
    entries = (await history(client, owner, record_id))["data"]
    assert [entry["kind"] for entry in entries] == ["updated", "created"]


async def test_a_large_change_is_cut_and_says_so(client: httpx.AsyncClient, owner: Account, record: int) -> None:
    await put(client, owner, record, config={f"key {number}": "x" * 90 for number in range(5000)})
    newest = (await history(client, owner, record))["data"][0]
    assert (newest["is_cut"], 50 < len(newest["changes"]) < 500) == (True, True)


async def test_what_is_nested_too_deeply_to_be_compared_can_be_changed(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    """And the row of the audit log says that it is not all."""
    record_id = await insert(connection, DEEP, owner_id=owner.id)
    await put(client, owner, record_id, name="y")
    cut = "SELECT is_cut FROM pyapi_audit_log WHERE event = 'data.updated' ORDER BY id DESC LIMIT 1"
    assert (await connection.execute(text(cut))).scalar_one() is True
