"""The audit log over the API: who may read it, what is listed, and page by page."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import SignUp, assert_outcome, assert_problem
from tests.fixtures.callers import HeadersOf

FIELDS = {"id", "at", "event", "actor_id", "actor_name", "target_kind", "target_id", "changes", "is_cut", "details"}
FIELDS |= {"request_id", "address", "user_agent"}
INSERT = text(
    "INSERT INTO pyapi_audit_log (at, event, actor_id, actor_name, target_kind, target_id, request_id)"
    " VALUES (timestamptz '2030-01-01' + :n * interval '1 day', :event, :actor_id, 'x', :kind, :target, :request)"
    " RETURNING id"
)
ROWS: list[dict[str, Any]] = [
    {"event": "data.created", "actor_id": 901, "kind": "record", "target": "71", "request": "r-0"},
    {"event": "data.updated", "actor_id": 901, "kind": "record", "target": "71", "request": "r-1"},
    {"event": "data.updated", "actor_id": 902, "kind": "record", "target": "72", "request": "r-2"},
    {"event": "login.failed", "actor_id": None, "kind": "user", "target": "71", "request": "r-3"},
    {"event": "run.started", "actor_id": 902, "kind": "record", "target": "72", "request": "r-4"},
]
MINE = "from=2030-01-01T00:00:00Z"


@pytest.fixture
async def ids(connection: AsyncConnection) -> list[int]:
    return [(await connection.execute(INSERT, {"n": n, **row})).scalar_one() for n, row in enumerate(ROWS)]


@pytest.fixture
async def superuser(headers_of: HeadersOf) -> dict[str, str]:
    return await headers_of("superuser")


async def listed(client: httpx.AsyncClient, headers: dict[str, str], query: str) -> dict[str, Any]:
    answer = await client.get(f"/api/audit?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("caller", "query", "status", "code"),
    [
        ("superuser", "", 200, None),
        ("superuser", "?event=login.failed&target_kind=user&target_id=7&actor_id=1&request_id=x&limit=1000", 200, None),
        ("superuser", "?from=2026-01-01&to=2026-01-02T00:00:00%2B08:00", 200, None),
        ("owner", "", 403, "permission_denied"),
        ("nobody", "", 401, "not_authenticated"),
        ("a forger", "", 401, "invalid_token"),
        ("a late comer", "", 401, "invalid_token"),
        ("owner", "?limit=0", 403, "permission_denied"),
        ("superuser", "?limit=0", 422, "validation_failed"),
        ("superuser", "?limit=1001", 422, "validation_failed"),
        ("superuser", "?actor_id=0", 422, "validation_failed"),
        ("superuser", "?actor_id=2147483648", 422, "validation_failed"),
        ("superuser", "?event=%00", 422, "validation_failed"),
        ("superuser", "?event=Data", 422, "validation_failed"),
        ("superuser", f"?event={'x' * 51}", 422, "validation_failed"),
        ("superuser", "?target_kind=", 422, "validation_failed"),
        ("superuser", "?target_id=%00", 422, "validation_failed"),
        ("superuser", f"?target_id={'x' * 256}", 422, "validation_failed"),
        ("superuser", "?request_id=%00", 422, "validation_failed"),
        ("superuser", "?from=yesterday", 422, "validation_failed"),
        ("superuser", "?to=1", 422, "validation_failed"),
        ("superuser", "?cursor=x", 422, "validation_failed"),
        ("superuser", "?cursor=WyJhdWRpdDotaWQiLC0xXQ", 422, "validation_failed"),
        ("superuser", "?cursor=WyJhdWRpdDotaWQiLDkyMjMzNzIwMzY4NTQ3NzU4MDhd", 422, "validation_failed"),
        ("superuser", "?cursor=WyJhdWRpdDotaWQiLDkyMjMzNzIwMzY4NTQ3NzU4MDdd", 200, None),
        ("superuser", "?cursor=WyJoaXN0b3J5Oi1yZXZpc2lvbiIsMV0", 422, "validation_failed"),
        ("superuser", "?unknown=1", 422, "validation_failed"),
    ],
)
async def test_status(
    client: httpx.AsyncClient, headers_of: HeadersOf, caller: str, query: str, status: int, code: str | None
) -> None:
    assert_outcome(await client.get(f"/api/audit{query}", headers=await headers_of(caller)), status, code)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (MINE, [4, 3, 2, 1, 0]),
        (f"{MINE}&limit=2", [4, 3]),
        (f"{MINE}&event=data.updated", [2, 1]),
        (f"{MINE}&event=data", []),
        (f"{MINE}&actor_id=901", [1, 0]),
        (f"{MINE}&target_kind=record", [4, 2, 1, 0]),
        (f"{MINE}&target_id=71", [3, 1, 0]),
        (f"{MINE}&target_kind=record&target_id=71", [1, 0]),
        (f"{MINE}&request_id=r-3", [3]),
        (f"{MINE}&event=data.updated&actor_id=902", [2]),
        ("from=2030-01-02T00:00:00Z&to=2030-01-04T00:00:00Z", [2, 1]),
        ("from=2030-01-02T08:00:00%2B08:00&to=2030-01-02T00:00:01Z", [1]),
    ],
)
async def test_filters(
    client: httpx.AsyncClient, superuser: dict[str, str], ids: list[int], query: str, expected: list[int]
) -> None:
    page = await listed(client, superuser, query)
    assert [ids.index(entry["id"]) for entry in page["data"]] == expected


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_page_by_page_each_row_comes_once(
    client: httpx.AsyncClient, superuser: dict[str, str], ids: list[int], limit: int
) -> None:
    query = f"{MINE}&limit={limit}"
    page = await listed(client, superuser, query)
    seen = page["data"]
    while page["next_cursor"] is not None:
        page = await listed(client, superuser, f"{query}&cursor={page['next_cursor']}")
        seen += page["data"]
    assert [entry["id"] for entry in seen] == ids[::-1]


async def test_what_an_entry_has(client: httpx.AsyncClient, superuser: dict[str, str], ids: list[int]) -> None:
    page = await listed(client, superuser, f"{MINE}&request_id=r-1")
    [entry] = page["data"]
    assert (entry.keys(), entry | {"user_agent": None}) == (
        FIELDS,
        {
            "id": ids[1],
            "at": "2030-01-02T00:00:00Z",
            "event": "data.updated",
            "actor_id": 901,
            "actor_name": "x",
            "target_kind": "record",
            "target_id": "71",
            "changes": None,
            "is_cut": False,
            "details": None,
            "request_id": "r-1",
            "address": None,
            "user_agent": None,
        },
    )


@pytest.mark.parametrize("changes", ["{}", "[1]", '[{"pointer": 1}]', '[{"after": {"x": [1e400]}}]', "7"])
async def test_whatever_sql_has_written_can_be_listed(
    client: httpx.AsyncClient, connection: AsyncConnection, superuser: dict[str, str], changes: str
) -> None:
    statement = "INSERT INTO pyapi_audit_log (event, changes, details) VALUES ('x', CAST(:changes AS jsonb), '[]')"
    await connection.execute(text(statement), {"changes": changes})
    page = await listed(client, superuser, "event=x")
    assert [entry["event"] for entry in page["data"]] == ["x"]


async def test_what_somebody_did_stays_when_the_account_is_gone(
    client: httpx.AsyncClient, connection: AsyncConnection, superuser: dict[str, str], sign_up: SignUp
) -> None:
    gone = await sign_up("wang")
    await connection.execute(text("DELETE FROM pyapi_users WHERE id = :id"), {"id": gone.id})
    page = await listed(client, superuser, f"actor_id={gone.id}")
    assert [(entry["event"], entry["actor_name"]) for entry in page["data"]] == [
        ("login.succeeded", "wang"),
        ("user.registered", "wang"),
    ]


async def test_nobody_writes_over_the_api(client: httpx.AsyncClient, superuser: dict[str, str]) -> None:
    assert_problem(await client.post("/api/audit", json={}, headers=superuser), 405, "method_not_allowed")
