"""Who may not change records hears that, and nothing else about the request; and nothing of it is stored.

The statement of a change finds out itself who is calling, so what can be wrong with a request is known before. All that
would be refused for another reason is asked again after its sender.
"""

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.db.auth_dao import SessionLookup
from pyapi.web.requests import StrictRequest
from tests.fixtures.application import Account, SignUp

Bar = Callable[[httpx.AsyncClient, AsyncConnection, Account], Awaitable[None]]
Sent = tuple[str, str, dict[str, Any]]
"""Method, path, and what httpx sends with it."""

RIGHT: dict[str, Any] = {"name": "同步", "config": {"schedule": "@daily"}}
WRONG_RULE: dict[str, Any] = {"name": "同步", "config": {"schedule": "never"}}


async def owner_of_a_record(client: httpx.AsyncClient, sign_up: SignUp) -> tuple[Account, str]:
    """Somebody, and the address of a record of theirs."""
    member = await sign_up("lin")
    made = await client.post("/api/data/", json={"name": "mine"}, headers=member.headers)
    return member, f"/api/data/{made.json()['id']}"


async def send(client: httpx.AsyncClient, member: Account, own: str, request_: Sent) -> httpx.Response:
    """Send a request of the table as a member; `{own}` is the record of theirs."""
    method, path, options = request_
    headers = {**member.headers, **options.get("headers", {})}
    return await client.request(method, path.format(own=own), **{**options, "headers": headers})


async def end_session(client: httpx.AsyncClient, _: AsyncConnection, member: Account) -> None:
    (await client.post("/api/auth/logout", headers=member.headers)).raise_for_status()


async def close_account(_: httpx.AsyncClient, connection: AsyncConnection, member: Account) -> None:
    await connection.execute(text("UPDATE pyapi_users SET is_active = false WHERE id = :id"), {"id": member.id})


async def take_pen(_: httpx.AsyncClient, connection: AsyncConnection, member: Account) -> None:
    await connection.execute(text("UPDATE pyapi_users SET role = 'viewer' WHERE id = :id"), {"id": member.id})


BARS: list[tuple[Bar, int]] = [(end_session, 401), (close_account, 401), (take_pen, 403)]
REQUESTS: dict[str, Sent] = {
    "create": ("POST", "/api/data/", {"json": RIGHT}),
    "create, unknown field": ("POST", "/api/data/", {"json": RIGHT | {"nam": "x"}}),
    "create, no name": ("POST", "/api/data/", {"json": {}}),
    "create, wrong rule": ("POST", "/api/data/", {"json": WRONG_RULE}),
    "update": ("PUT", "{own}", {"json": RIGHT}),
    "update, unknown field": ("PUT", "{own}", {"json": {"nam": "x"}}),
    "update, wrong rule": ("PUT", "{own}", {"json": WRONG_RULE}),
    "update, two tags": ("PUT", "{own}", {"json": RIGHT, "headers": {"If-Match": '"rev-1", "rev-2"'}}),
    "update, another revision": ("PUT", "{own}", {"json": RIGHT, "headers": {"If-Match": '"rev-7"'}}),
    "update of what is not there": ("PUT", "/api/data/999999", {"json": RIGHT}),
    "update, no id": ("PUT", "/api/data/0", {"json": RIGHT}),
    "dry run": ("PUT", "{own}?dry_run=true", {"json": RIGHT}),
    "dry run, wrong rule": ("PATCH", "{own}?dry_run=true", {"json": WRONG_RULE}),
    "delete": ("DELETE", "{own}", {}),
    "delete of what is not there": ("DELETE", "/api/data/999999", {}),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(("bar", "status"), BARS, ids=[bar.__name__ for bar, _ in BARS])
async def test_who_is_calling_is_asked_before_what_is_wrong(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    sign_up: SignUp,
    bar: Bar,
    status: int,
    request_: Sent,
) -> None:
    member, own = await owner_of_a_record(client, sign_up)
    await bar(client, connection, member)
    before = await stored(connection)
    answer = await send(client, member, own, request_)
    assert (answer.status_code, await stored(connection)) == (status, before)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_refused_viewer_is_written_down_once(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    sign_up: SignUp,
    request_: Sent,
) -> None:
    member, own = await owner_of_a_record(client, sign_up)
    await take_pen(client, connection, member)
    await send(client, member, own, request_)
    denied = text("SELECT actor_id FROM pyapi_audit_log WHERE event = 'access.denied'")
    assert (await connection.execute(denied)).scalars().all() == [member.id]


async def test_a_request_is_gone_when_it_is_answered(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    """And does not wait, with its body, for the collector of cycles."""
    member = await sign_up("lin")
    gc.collect()
    gc.disable()
    try:
        for body in (RIGHT, WRONG_RULE):
            await client.post("/api/data/", json=body, headers=member.headers)
        assert [each for each in gc.get_objects() if isinstance(each, StrictRequest)] == []
    finally:
        gc.enable()


@pytest.mark.parametrize(("bar", "status"), BARS, ids=[bar.__name__ for bar, _ in BARS])
async def test_nobody_is_looked_at_twice(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    sign_up: SignUp,
    monkeypatch: pytest.MonkeyPatch,
    bar: Bar,
    status: int,
) -> None:
    """The statement of the change has said already who it is."""
    member = await sign_up("lin")
    await bar(client, connection, member)

    async def ask(*_: object, **__: object) -> None:
        pytest.fail("somebody asked again")

    monkeypatch.setattr(SessionLookup, "user_of", ask)
    answer = await client.post("/api/data/", json=RIGHT, headers=member.headers)
    assert answer.status_code == status


async def stored(connection: AsyncConnection) -> Any:
    """Records, revisions, and rows about records in the audit log."""
    statement = text("""
        SELECT (SELECT jsonb_agg(r ORDER BY id) FROM pyapi_data_records r)::text,
               (SELECT count(*) FROM pyapi_data_revisions),
               (SELECT count(*) FROM pyapi_audit_log WHERE event LIKE 'data.%')
        """)
    return (await connection.execute(statement)).one()
