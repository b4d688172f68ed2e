"""Who may do what: every route of the OpenAPI document, for every kind of caller, has one expected outcome.

ASVS 5.0, 8.2.1 (function-level access), 8.2.2 (data-specific access), 8.3.1 (enforced by the service); OWASP API
Security Top 10 2023, API1 and API5. A route without a row in ROUTES fails the test, and so does a row without a route.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from jose import jwt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker

from pyapi.db.database import Database
from tests.fake_airflow import FakeAirflow
from tests.fixtures.application import PASSWORD, assert_problem, log_in
from tests.fixtures.statements import OneConnection

# --- What is expected -------------------------------------------------------------------------------------------------

# `{data_id}` is a private record of the owner, shared for reading with the reader, for writing with the writer and the
# viewer; the last four columns are personal access tokens: three of the owner, with the scope data:read,
# data:write and runs:write, and one of the viewer with all scopes.
#
# ok: a success. 401, 403, 404: this problem. scope: 403 insufficient_scope.
OUTCOMES = """
           nobody forged expired closed | viewer other reader writer owner admin  |  T:reads T:writes  T:runs  T:viewer

open         ok     ok     ok      ok   |  ok     ok     ok    ok     ok    ok  |    ok       ok       ok       ok
session     401    401    401     401   |  ok     ok     ok    ok     ok    ok  |   scope    scope    scope    scope
admin       401    401    401     401   |  403    403    403   403    403   ok  |   scope    scope    scope    scope

list         ok    401    401     401   |  ok     ok     ok    ok     ok    ok  |    ok      scope    scope     ok
look        404    401    401     401   |  ok     404    ok    ok     ok    ok  |    ok      scope    scope     ok
create      401    401    401     401   |  403    ok     ok    ok     ok    ok  |   scope     ok      scope     403
change      401    401    401     401   |  403    404    403   ok     ok    ok  |   scope     ok      scope     403
delete      401    401    401     401   |  403    404    403   403    ok    ok  |   scope     ok      scope     403
see access  401    401    401     401   |  403    404    403   403    ok    ok  |    ok      scope    scope     403

list runs   401    401    401     401   |  ok     ok     ok    ok     ok    ok  |    ok      scope    scope     ok
look at run 401    401    401     401   |  ok     404    ok    ok     ok    ok  |    ok      scope    scope     ok
run         401    401    401     401   |  403    404    403   ok     ok    ok  |   scope    scope     ok       403
"""

RUN = "manual__1"
RUNNING = "manual__2"
NEW_ACCOUNT = {"username": "newcomer", "email": "newcomer@example.com", "password": PASSWORD}
NEW_PASSWORD = {"current_password": PASSWORD, "new_password": "correct horse battery staple"}
BACKFILL = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
TOKEN = {"name": "ci", "scopes": ["data:read"], "current_password": PASSWORD}

# What is sent is valid, so who is let in succeeds. The refresh token is filled in below.
ROUTES: dict[str, tuple[str, Any]] = {
    "POST /api/auth/register": ("open", NEW_ACCOUNT),
    "POST /api/auth/login": ("open", {"username": "owner", "password": PASSWORD}),
    "POST /api/auth/refresh": ("open", None),
    "POST /api/auth/logout": ("session", None),
    "POST /api/auth/logout-all": ("session", None),
    "GET /api/auth/sessions": ("session", None),
    "DELETE /api/auth/sessions/{session_id}": ("session", None),
    "GET /api/auth/me": ("session", None),
    "PUT /api/auth/me": ("session", {"full_name": "王小明"}),
    "POST /api/auth/change-password": ("session", NEW_PASSWORD),
    "POST /api/auth/tokens": ("session", TOKEN),
    "GET /api/auth/tokens": ("session", None),
    "DELETE /api/auth/tokens/{token_id}": ("session", None),
    "GET /api/auth/users": ("admin", None),
    "GET /api/auth/users/{user_id}": ("admin", None),
    "PUT /api/auth/users/{user_id}": ("admin", {"role": "viewer"}),
    "POST /api/auth/users/{user_id}/revoke-tokens": ("admin", None),
    "POST /api/data/": ("create", {"name": "每日同步"}),
    "GET /api/data/": ("list", None),
    "GET /api/data/{data_id}": ("look", None),
    "PUT /api/data/{data_id}": ("change", {"description": "更新"}),
    "PATCH /api/data/{data_id}": ("change", {"description": "更新"}),
    "DELETE /api/data/{data_id}": ("delete", None),
    "GET /api/data/{data_id}/access": ("see access", None),
    "PUT /api/data/{data_id}/access": ("delete", {"visibility": "internal", "grants": []}),
    "GET /api/data/{data_id}/history": ("look at run", None),
    "GET /api/audit": ("admin", None),
    "POST /api/schedules/preview": ("open", {"schedule": "@daily"}),
    "GET /api/schedules/calendar": ("list", None),
    "GET /api/etl/schema": ("open", None),
    "POST /api/data/validate": ("list runs", {"name": "每日同步"}),
    "POST /api/data/{data_id}/check": ("run", None),
    "GET /api/data/{data_id}/stats": ("look at run", None),
    "GET /api/runs": ("list runs", None),
    "POST /api/data/{data_id}/runs": ("run", {}),
    "GET /api/data/{data_id}/runs": ("look at run", None),
    "GET /api/data/{data_id}/runs/{run_id}": ("look at run", None),
    "GET /api/data/{data_id}/runs/{run_id}/logs": ("look at run", None),
    "POST /api/data/{data_id}/runs/{run_id}/cancel": ("run", None),
    "POST /api/data/{data_id}/runs/{run_id}/retry": ("run", None),
    "POST /api/data/{data_id}/backfills": ("run", BACKFILL),
    "GET /api/data/{data_id}/backfills": ("look at run", None),
    "POST /api/data/{data_id}/backfills/{backfill_id}/cancel": ("run", None),
    "GET /api/airflow": ("admin", None),
    "POST /api/airflow/reconcile": ("admin", None),
    "GET /api/health": ("open", None),
    "GET /api/health/live": ("open", None),
    "GET /api/health/ready": ("open", None),
    "GET /api/version": ("open", None),
    "GET /metrics": ("open", None),
}

# The same for records that need no grant. `dry` is PUT with ?dry_run=true.
BY_VISIBILITY = """
                nobody forged | viewer other owner admin  |  T:reads T:writes

public look       ok    401   |   ok    ok    ok    ok  |    ok      scope
public change    401    401   |  403   403    ok    ok  |   scope     ok
public dry       401    401   |  403   403    ok    ok  |   scope     ok
public delete    401    401   |  403   403    ok    ok  |   scope     ok
public access    401    401   |  403   403    ok    ok  |    ok      scope
public runs      401    401   |   ok    ok    ok    ok  |    ok      scope
public run       401    401   |  403   403    ok    ok  |   scope    scope
internal look    404    401   |   ok    ok    ok    ok  |    ok      scope
internal change  401    401   |  403   403    ok    ok  |   scope     ok
internal dry     401    401   |  403   403    ok    ok  |   scope     ok
internal delete  401    401   |  403   403    ok    ok  |   scope     ok
internal access  401    401   |  403   403    ok    ok  |    ok      scope
internal runs    401    401   |   ok    ok    ok    ok  |    ok      scope
internal run     401    401   |  403   403    ok    ok  |   scope    scope
private look     404    401   |   ok   404    ok    ok  |    ok      scope
private dry      401    401   |  403   404    ok    ok  |   scope     ok
"""
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "look": ("GET", "", None),
    "change": ("PUT", "", {"description": "更新"}),
    "dry": ("PUT", "?dry_run=true", {"description": "更新"}),
    "delete": ("DELETE", "", None),
    "access": ("GET", "/access", None),
    "runs": ("GET", "/runs", None),
    "run": ("POST", "/runs", {}),
}


def table(written: str) -> dict[str, dict[str, str]]:
    """The rows of a table by name, each with its outcomes by caller."""
    head, *rows = [line.replace("|", " ") for line in written.splitlines() if line.strip()]
    callers = head.split()
    found = {}
    for row in rows:
        words = row.split()
        outcomes = words[-len(callers) :]
        found[" ".join(words[: -len(callers)])] = dict(zip(callers, outcomes, strict=True))
    return found


KINDS = table(OUTCOMES)
CELLS = [
    pytest.param(route, caller, outcome, id=f"{route}-{caller}")
    for route, (kind, _) in ROUTES.items()
    for caller, outcome in KINDS[kind].items()
]
SMALLER_CELLS = [
    pytest.param(*row.split(), caller, outcome, id=f"{row}-{caller}")
    for row, outcomes in table(BY_VISIBILITY).items()
    for caller, outcome in outcomes.items()
]
CODES = {"403": "permission_denied", "404": "not_found", "scope": "insufficient_scope"}


def assert_outcome(answer: httpx.Response, caller: str, outcome: str) -> None:
    if outcome == "ok":
        assert 200 <= answer.status_code < 300, answer.text
    elif outcome == "401":
        assert_problem(answer, 401, "not_authenticated" if caller == "nobody" else "invalid_token")
    else:
        assert_problem(answer, 403 if outcome == "scope" else int(outcome), CODES[outcome])


# --- The people and the records, made once ----------------------------------------------------------------------------


@dataclass
class World:
    """Callers with their headers, and what they meet. What a test does is undone after it."""

    client: httpx.AsyncClient
    connection: AsyncConnection
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    session_ids: dict[str, str] = field(default_factory=dict)
    token_ids: dict[str, int] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    refresh_token: str = ""
    user_id: int = 0

    async def sign_up(self, name: str) -> int:
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        user_id = int((await self.client.post("/api/auth/register", json=account)).json()["id"])
        tokens = await log_in(self.client, name)
        self.headers[name] = {"Authorization": f"Bearer {tokens['access_token']}"}
        self.session_ids[name] = jwt.get_unverified_claims(tokens["access_token"])["sid"]
        self.token_ids[name] = (await self.make_token(name, ["data:read"]))["id"]
        return user_id

    async def make_token(self, name: str, scopes: list[str]) -> dict[str, Any]:
        body = {"name": "x", "scopes": scopes, "current_password": PASSWORD}
        answer = await self.client.post("/api/auth/tokens", json=body, headers=self.headers[name])
        made: dict[str, Any] = answer.raise_for_status().json()
        return made

    def path(self, template: str, caller: str) -> str:
        """A path with ids that the caller can mean."""
        return template.format(
            data_id=self.records["private"],
            run_id=RUNNING if template.endswith("cancel") else RUN,
            backfill_id=1,
            user_id=self.user_id,
            session_id=self.session_ids.get(caller, self.session_ids["owner"]),
            token_id=self.token_ids.get(caller, self.token_ids["owner"]),
        )

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        async with self.connection.begin_nested() as savepoint:
            yield
            await savepoint.rollback()


@pytest.fixture(scope="module")
async def world(app: FastAPI, engine: AsyncEngine) -> AsyncIterator[World]:
    opened = app.state.database
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        engine.connect() as connection,
        connection.begin() as transaction,
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        factory = async_sessionmaker(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
        app.state.database = Database(transactions=factory, reads=factory, connections=OneConnection(connection))
        yield await populated(app, World(client, connection))
        app.state.database = opened
        await transaction.rollback()


async def populated(app: FastAPI, world: World) -> World:
    ids = {
        name: await world.sign_up(name) for name in ("owner", "admin", "viewer", "other", "reader", "writer", "closed")
    }
    by_sql = world.connection.execute
    await by_sql(text("UPDATE pyapi_users SET is_superuser = true WHERE id = :id"), {"id": ids["admin"]})
    for visibility in ("public", "internal", "private"):
        body = {"name": visibility, "visibility": visibility, "config": {"schedule": "@daily"}}
        answer = await world.client.post("/api/data/", json=body, headers=world.headers["owner"])
        world.records[visibility] = answer.raise_for_status().json()["id"]
    given = {"reader": "read", "writer": "write", "viewer": "write"}
    grants = {"grants": [{"username": name, "permission": permission} for name, permission in given.items()]}
    path = f"/api/data/{world.records['private']}/access"
    (await world.client.put(path, json=grants, headers=world.headers["owner"])).raise_for_status()
    for name, scope in (("reads", "data:read"), ("writes", "data:write"), ("runs", "runs:write")):
        world.headers[f"T:{name}"] = bearer((await world.make_token("owner", [scope]))["token"])
    all_scopes = await world.make_token("viewer", ["data:read", "data:write", "runs:write"])
    world.headers["T:viewer"] = bearer(all_scopes["token"])
    await by_sql(text("UPDATE pyapi_users SET role = 'viewer' WHERE id = :id"), {"id": ids["viewer"]})
    await by_sql(text("UPDATE pyapi_users SET is_active = false WHERE id = :id"), {"id": ids["closed"]})
    expired = app.state.tokens.signer.sign(
        user_id=ids["owner"],
        session_id=uuid4(),
        issued_at=datetime.now(UTC) - timedelta(hours=2),
        expires_at=datetime.now(UTC) - timedelta(hours=1),
    )
    world.headers |= {"nobody": {}, "forged": bearer("a.b.c"), "expired": bearer(expired)}
    world.refresh_token = (await log_in(world.client, "owner"))["refresh_token"]
    world.user_id = ids["other"]
    return world


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def airflow(app: FastAPI, fake_airflow: FakeAirflow, world: World) -> FakeAirflow:
    """It has a DAG of each record, a run that has ended and one that has not, and a backfill."""
    for record_id in world.records.values():
        fake_airflow.add_dag(record_id)
    record_id = world.records["private"]
    fake_airflow.add_run(record_id, RUN)
    fake_airflow.add_run(record_id, RUNNING, state="running", end_date=None)
    fake_airflow.logs[f"pyapi_{record_id}", RUN, "run", 1] = [{"event": "done", "level": "info"}]
    return fake_airflow


# --- The tests --------------------------------------------------------------------------------------------------------


def test_every_route_has_a_row_and_every_row_a_route(app: FastAPI) -> None:
    documented = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
    assert set(ROUTES) == documented


@pytest.mark.parametrize(("route", "caller", "outcome"), CELLS)
async def test_who_may_do_what(world: World, airflow: FakeAirflow, route: str, caller: str, outcome: str) -> None:
    method, _, path = route.partition(" ")
    body = ROUTES[route][1]
    if path.endswith("/{backfill_id}/cancel"):
        airflow.add_backfill(world.records["private"])
    if route == "POST /api/auth/refresh":
        body = {"refresh_token": world.refresh_token}
    async with world.undone():
        answer = await world.client.request(method, world.path(path, caller), json=body, headers=world.headers[caller])
    assert_outcome(answer, caller, outcome)


@pytest.mark.parametrize(("visibility", "request_name", "caller", "outcome"), SMALLER_CELLS)
async def test_who_may_do_what_with_a_record_that_is(
    world: World, airflow: FakeAirflow, visibility: str, request_name: str, caller: str, outcome: str
) -> None:
    method, rest, body = REQUESTS[request_name]
    path = f"/api/data/{world.records[visibility]}{rest}"
    async with world.undone():
        answer = await world.client.request(method, path, json=body, headers=world.headers[caller])
    assert_outcome(answer, caller, outcome)
