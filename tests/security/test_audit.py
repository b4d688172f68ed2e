"""Who did what is written down, and stays (ASVS 5.0: 16.2.1, 16.3.1 to 16.3.3, 16.4.2).

- Every route that changes something writes one row: who, what, to what, from where. A route that is new has to be in
  the table WRITES.
- The row is there if the change is there, and only then; also when the answer is a 401 or a 403.
- No credential is in it, and no text that somebody has typed in place of a name.
- Nobody rewrites it. The tests of roles and of real commits are in tests/integration/db/test_audit_log.py.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.db.audit_dao import AuditDAO, AuditJournal
from pyapi.db.database import Database
from pyapi.exceptions import DatabaseUnavailable
from pyapi.services.audit_trail import MOST_OF_ALL_CHANGES, AuditEntry, AuditTrail
from pyapi.settings import Settings
from pyapi.web.application import get_app
from tests.fake_airflow import FakeAirflow
from tests.fixtures.application import PASSWORD, Account, SignUp, assert_problem
from tests.fixtures.servers import RunningServer
from tests.fixtures.servers import sign_up as register

ENDED, RUNNING = "manual__ended", "manual__running"
NEW_PASSWORD = "另一組更長的密碼 2026"
TOKEN: dict[str, Any] = {"name": "ci", "scopes": ["data:read"], "current_password": PASSWORD}
SECRETS = {
    "a url": "postgresql://etl:s3cr3t-in-a-url@host/db",
    "password": "s3cr3t-under-a-key",
    "token": {"of": "s3cr3t-below-a-key"},
}
MARKS = ("s3cr3t-in-a-url", "s3cr3t-under-a-key", "s3cr3t-below-a-key")
CLIENT = {"X-Request-ID": "the-request", "User-Agent": "a program/1.0"}
SQL = text("SELECT to_jsonb(a) FROM pyapi_audit_log a WHERE request_id = 'the-request' ORDER BY id")


@dataclass
class Scene:
    """A superuser who does everything, somebody else, and what there is to be changed."""

    boss: Account
    other: Account
    ids: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
async def scene(client: httpx.AsyncClient, sign_up: SignUp, fake_airflow: FakeAirflow) -> Scene:
    boss, other = await sign_up("boss", superuser=True), await sign_up("other")
    body = {"name": "每日同步", "config": {"schedule": "@daily", "gone": SECRETS}}
    record_id = (await client.post("/api/data/", json=body, headers=boss.headers)).json()["id"]
    fake_airflow.add_dag(record_id)
    fake_airflow.add_run(record_id, ENDED)
    fake_airflow.add_run(record_id, RUNNING, state="running", end_date=None)
    [session] = (await client.get("/api/auth/sessions", headers=boss.headers)).json()["data"]
    token = await client.post("/api/auth/tokens", json=TOKEN, headers=boss.headers)
    ids = {
        "token_id": token.json()["id"],
        "data_id": record_id,
        "run_id": ENDED,
        "user_id": other.id,
        "session_id": session["id"],
        "backfill_id": 1,
    }
    return Scene(boss, other, ids)


async def rows(connection: AsyncConnection) -> list[dict[str, Any]]:
    return list((await connection.execute(SQL)).scalars())


async def events(connection: AsyncConnection) -> list[str]:
    return [row["event"] for row in await rows(connection)]


# --- Every write is one row -------------------------------------------------------------------------------------------


class Write(NamedTuple):
    """What a route writes. `target` is a kind and, after a colon, the name of the id in Scene.ids or an account."""

    event: str
    target: str
    body: Any = None
    ids: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    needs: Callable[[FakeAirflow, Scene], Any] = lambda fake, scene: None


CREDENTIALS = {"username": "boss", "password": PASSWORD}
BACKFILL = {"from": "2027-01-01", "to": "2027-01-31"}
WRITES: dict[str, Write | None] = {
    "register": Write(
        "user.registered", "user:new", {"username": "new", "email": "new@example.com", "password": PASSWORD}
    ),
    "login": Write("login.succeeded", "user:boss", CREDENTIALS),
    "refresh": None,  # goes on with a session whose login has its row; every half an hour, for each client
    "logout": Write("logout", "user:boss"),
    "logout_all": Write("logout.all", "user:boss"),
    "end_session": Write("session.ended", "user:boss"),
    "update_me": Write("user.updated", "user:boss", {"full_name": "王大明"}),
    "change_password": Write(
        "password.changed", "user:boss", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    ),
    "update_user": Write("user.updated", "user:user_id", {"is_active": False}),
    "revoke_user_tokens": Write("tokens.revoked", "user:user_id"),
    "create_token": Write("token.created", "token:new", TOKEN),
    "revoke_token": Write("token.revoked", "token:token_id"),
    "set_access": Write("data.shared", "record:data_id", {"grants": [{"username": "other", "permission": "read"}]}),
    "create_data": Write("data.created", "record:new", {"name": "新", "config": SECRETS}),
    "update_data": Write("data.updated", "record:data_id", {"config": {"now": SECRETS}}),
    "patch_data": Write("data.updated", "record:data_id", {"config": {"now": SECRETS}}),
    "delete_data": Write("data.deleted", "record:data_id"),
    "preview_schedule": None,  # saves nothing
    "validate_data": None,  # saves nothing either
    "check_data": Write("run.checked", "record:data_id"),
    "start_run": Write("run.started", "record:data_id", {"conf": SECRETS}),
    "cancel_run": Write("run.cancelled", "record:data_id", ids={"run_id": RUNNING}),
    "retry_run": Write("run.retried", "record:data_id", {"latest": True}),
    "create_backfill": Write("backfill.created", "record:data_id", BACKFILL),
    "cancel_backfill": Write(
        "backfill.cancelled", "record:data_id", needs=lambda fake, scene: fake.add_backfill(scene.ids["data_id"])
    ),
    "reconcile_airflow": Write("airflow.reconciled", "airflow:"),
}
ONE_ROW = [pytest.param(name, write, id=name) for name, write in WRITES.items() if write is not None]

DOCUMENT = get_app(Settings(_env_file=None)).openapi()
OPERATIONS = {
    operation["operationId"]: (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def test_every_route_that_writes_is_in_the_table() -> None:
    assert {name for name, (method, _) in OPERATIONS.items() if method != "GET"} == WRITES.keys()


async def call(
    client: httpx.AsyncClient, scene: Scene, name: str, write: Write, *, query: str = "", by: Account | None = None
) -> httpx.Response:
    method, path = OPERATIONS[name]
    headers = (by or scene.boss).headers | CLIENT
    return await client.request(method, path.format(**scene.ids | write.ids) + query, json=write.body, headers=headers)


@pytest.mark.parametrize(("name", "write"), ONE_ROW)
async def test_a_write_is_one_row_about_who_what_and_from_where(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    fake_airflow: FakeAirflow,
    scene: Scene,
    name: str,
    write: Write,
) -> None:
    write.needs(fake_airflow, scene)
    answer = await call(client, scene, name, write)
    assert answer.is_success, answer.text
    kind, _, which = write.target.partition(":")
    target = {"new": answer.json().get("id"), "boss": scene.boss.id, "": None} | scene.ids
    actor = (answer.json()["id"], "new") if name == "register" else (scene.boss.id, "boss")
    [row] = await rows(connection)
    assert {field: row[field] for field in row.keys() - {"id", "at", "changes", "details"}} == {
        "event": write.event,
        "actor_id": actor[0],
        "actor_name": actor[1],
        "target_kind": kind,
        "target_id": None if target[which] is None else str(target[which]),
        "is_cut": False,
        "request_id": "the-request",
        "address": "127.0.0.1",
        "user_agent": "a program/1.0",
    }


async def test_a_program_is_told_from_its_owner(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene
) -> None:
    token = TOKEN | {"scopes": ["data:write"]}
    made = (await client.post("/api/auth/tokens", json=token, headers=scene.boss.headers)).json()
    headers = {"Authorization": f"Bearer {made['token']}"} | CLIENT
    await client.put(f"/api/data/{scene.ids['data_id']}", json={"name": "新"}, headers=headers)
    [row] = await rows(connection)
    assert (row["actor_id"], row["details"]["by_token_id"]) == (scene.boss.id, made["id"])


READS = sorted(name for name, (method, _) in OPERATIONS.items() if method == "GET" and "run_log" not in name)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        *((name, "") for name in READS),
        ("preview_schedule", ""),
        ("update_data", "?dry_run=true"),
        ("patch_data", "?dry_run=true"),
        ("create_backfill", "?dry_run=true"),
    ],
)
async def test_who_changes_nothing_writes_nothing(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene, name: str, query: str
) -> None:
    write = WRITES.get(name) or Write("", "", {"schedule": "@daily"} if name == "preview_schedule" else None)
    answer = await call(client, scene, name, write, query=query)
    assert (answer.is_success, await rows(connection)) == (True, []), answer.text


# --- What was changed -------------------------------------------------------------------------------------------------


async def test_a_change_says_what_was_and_what_is(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene
) -> None:
    body = {"name": "每時同步", "config": {"schedule": "@hourly", "password": "s3cr3t-under-a-key"}}
    await call(client, scene, "update_data", Write("", "", body))
    [row] = await rows(connection)
    assert row["changes"] == [
        {"pointer": "/name", "before": "每日同步", "after": "每時同步"},
        {"pointer": "/config/gone", "before": MASKED, "after": None},
        {"pointer": "/config/schedule", "before": "@daily", "after": "@hourly"},
        {"pointer": "/config/password", "before": None, "after": "***"},
    ]


MASKED = {"a url": "postgresql://etl:***@host/db", "password": "***", "token": "***"}


async def test_a_secret_that_changes_is_a_change_without_the_secret(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene
) -> None:
    body = {"config": {"schedule": "@daily", "gone": SECRETS | {"password": "another"}}}
    await call(client, scene, "update_data", Write("", "", body))
    [row] = await rows(connection)
    assert row["changes"] == [{"pointer": "/config/gone/password", "before": "***", "after": "***"}]


async def test_a_user_that_is_changed_says_what_was_and_what_is(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene
) -> None:
    await call(client, scene, "update_user", Write("", "", {"is_superuser": True}))
    [row] = await rows(connection)
    assert row["changes"] == [{"pointer": "/is_superuser", "before": False, "after": True}]


@pytest.mark.parametrize(
    "config",
    [
        {"script": "x" * 900_000},
        {f"key {number}": "x" * 90 for number in range(8000)},
        {"k" * 900_000: 1},
        {"steps": [{"run": "x" * 80}] * 4000},
    ],
    ids=["a long text", "many keys", "a long key", "a long list"],
)
async def test_a_large_change_is_cut_and_says_so(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene, config: dict[str, Any]
) -> None:
    await call(client, scene, "update_data", Write("", "", {"config": config}))
    [row] = await rows(connection)
    assert (row["is_cut"], len(json.dumps(row, ensure_ascii=False)) < 2 * MOST_OF_ALL_CHANGES) == (True, True)


async def test_no_credential_is_in_any_row(
    client: httpx.AsyncClient, connection: AsyncConnection, fake_airflow: FakeAirflow, scene: Scene
) -> None:
    """Whatever is done, first what ends no session."""
    last = ("end_session", "logout", "change_password", "logout_all")
    for name in sorted(WRITES, key=lambda name: (name in last, name == "delete_data")):
        if (write := WRITES[name]) is not None:
            write.needs(fake_airflow, scene)
            await call(client, scene, name, write)
    await client.post("/api/auth/refresh", json={"refresh_token": scene.boss.refresh_token}, headers=CLIENT)
    dump = (await connection.execute(text("SELECT string_agg(a::text, '') FROM pyapi_audit_log a"))).scalar_one()
    tokens = {scene.boss.access_token, scene.boss.refresh_token, scene.other.access_token, scene.other.refresh_token}
    assert [secret for secret in (*MARKS, PASSWORD, NEW_PASSWORD, *tokens) if secret in dump] == []


# --- Also when the answer is no ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("username", ["other", "My-Password-Typed-Too-Early!"])
async def test_a_login_that_fails_is_kept_without_what_was_typed(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene, username: str
) -> None:
    body = {"username": username, "password": "wrong-and-s3cr3t"}
    assert_problem(await client.post("/api/auth/login", json=body, headers=CLIENT), 401, "invalid_credentials")
    [row] = await rows(connection)
    target = str(scene.other.id) if username == "other" else None
    seen = {name: row[name] for name in ("event", "actor_id", "actor_name", "target_kind", "target_id", "details")}
    assert seen == {
        "event": "login.failed",
        "actor_id": None,
        "actor_name": None,
        "target_kind": "user",
        "target_id": target,
        "details": None,
    }


async def test_a_closed_account_that_signs_in_is_kept(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene
) -> None:
    await connection.execute(text("UPDATE pyapi_users SET is_active = false WHERE username = 'other'"))
    await client.post("/api/auth/login", json={"username": "other", "password": PASSWORD}, headers=CLIENT)
    assert await events(connection) == ["login.failed"]


async def test_a_stolen_token_is_kept(client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene) -> None:
    body = {"refresh_token": scene.other.refresh_token}
    await client.post("/api/auth/refresh", json=body, headers=CLIENT)
    assert_problem(await client.post("/api/auth/refresh", json=body, headers=CLIENT), 401, "invalid_token")
    [row] = await rows(connection)
    assert (row["event"], row["actor_id"], row["target_id"]) == ("token.reused", None, str(scene.other.id))


DENIED = [
    ("update_data", "record", "data_id"),
    ("delete_data", "record", "data_id"),
    ("start_run", "record", "data_id"),
    ("cancel_backfill", "record", "data_id"),
    ("update_user", "user", "user_id"),
    ("get_user", "user", "user_id"),
    ("list_audit", "route", ""),
    ("reconcile_airflow", "route", ""),
]


@pytest.mark.parametrize(("name", "kind", "which"), DENIED)
async def test_whoever_may_not_is_kept(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene, name: str, kind: str, which: str
) -> None:
    answer = await call(client, scene, name, WRITES.get(name) or Write("", ""), by=scene.other)
    assert_problem(answer, 403, "permission_denied")
    route = " ".join(OPERATIONS[name])
    [row] = await rows(connection)
    assert (row["event"], row["actor_id"], row["target_kind"], row["target_id"], row["details"]) == (
        "access.denied",
        scene.other.id,
        kind,
        str(scene.ids[which]) if which else route,
        {"route": route},
    )


async def test_what_stands_in_place_of_an_id_is_not_kept(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene
) -> None:
    await client.get("/api/auth/users/s3cr3t-in-a-url", headers=scene.other.headers | CLIENT)
    [row] = await rows(connection)
    assert (row["target_id"], "s3cr3t" in str(row)) == ("GET /api/auth/users/{user_id}", False)


async def test_an_order_that_airflow_refuses_has_a_second_row(
    client: httpx.AsyncClient, connection: AsyncConnection, fake_airflow: FakeAirflow, scene: Scene
) -> None:
    """The first is there before Airflow is asked: what it did before its answer was lost is written down, too."""
    fake_airflow.refuses["POST dagRuns"] = 400
    await call(client, scene, "start_run", Write("", "", {}))
    started, failed = await rows(connection)
    assert (started["event"], failed["event"], failed["details"]) == (
        "run.started",
        "order.failed",
        started["details"] | {"order": "run.started", "code": "conflict"},
    )


async def test_a_start_that_is_repeated_is_one_row(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene
) -> None:
    path = f"/api/data/{scene.ids['data_id']}/runs"
    headers = scene.boss.headers | CLIENT | {"Idempotency-Key": "the-key"}
    answers = [await client.post(path, json={}, headers=headers) for _ in range(2)]
    assert ([answer.status_code for answer in answers], await events(connection)) == ([201, 200], ["run.started"])


async def test_a_server_has_committed_it_before_it_says_no(shared_server: RunningServer, shared_database: str) -> None:
    async with shared_server.client(headers={"X-Request-ID": "said-no"}) as client:
        await client.post("/api/auth/login", json={"username": "nobody", "password": PASSWORD})
        account = await register(client, "may_not_much")
        await client.get("/api/audit", headers=account.headers)
    connection = await asyncpg.connect(shared_database.replace("+asyncpg", ""))
    found = await connection.fetch("SELECT event FROM pyapi_audit_log WHERE request_id = 'said-no' ORDER BY id")
    await connection.close()
    assert [row["event"] for row in found] == ["login.failed", "user.registered", "login.succeeded", "access.denied"]


# --- The row and the change come and go together ----------------------------------------------------------------------

NO_ROWS = (
    "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
    "CREATE TRIGGER no_rows BEFORE INSERT ON pyapi_audit_log EXECUTE FUNCTION pg_temp.refuse()",
)


@pytest.mark.parametrize(("name", "write"), ONE_ROW)
async def test_what_cannot_be_written_down_is_not_done(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    fake_airflow: FakeAirflow,
    scene: Scene,
    name: str,
    write: Write,
) -> None:
    write.needs(fake_airflow, scene)
    for statement in NO_ROWS:
        await connection.execute(text(statement))
    before, asked = await state(connection), len(fake_airflow.requests)
    answer = await call(client, scene, name, write)
    assert_problem(answer, 500, "internal_error")
    changed = [request for request in fake_airflow.requests[asked:] if request.method != "GET"]
    assert (await state(connection), [one.url.path for one in changed if one.url.path != "/auth/token"]) == (before, [])


async def test_a_403_that_cannot_be_written_down_is_a_503(
    client: httpx.AsyncClient, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def add(journal: AuditJournal, **values: Any) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(AuditJournal, "add", add)
    answer = await call(client, scene, "delete_data", Write("", ""), by=scene.other)
    assert_problem(answer, 503, "database_unavailable")


async def state(connection: AsyncConnection) -> list[str]:
    """All that a route could have changed."""
    found: list[str] = []
    for table in ("users", "sessions", "refresh_tokens", "data_records", "audit_log"):
        found += (await connection.execute(text(f"SELECT t::text FROM pyapi_{table} t ORDER BY id"))).scalars()
    return found


async def test_a_change_whose_row_cannot_be_written_does_not_happen(
    client: httpx.AsyncClient, connection: AsyncConnection, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = AuditTrail.entry

    def too_long(trail: AuditTrail, event: str, *arguments: Any, **more: Any) -> AuditEntry:
        return entry(trail, event * 10, *arguments, **more)

    monkeypatch.setattr(AuditTrail, "entry", too_long)
    before = await state(connection)
    answer = await call(client, scene, "create_data", Write("", "", {"name": "新"}))
    assert (answer.status_code, await state(connection)) == (500, before)


# --- It only grows ----------------------------------------------------------------------------------------------------

PRUNING = "SELECT set_config('pyapi.pruning', 'on', true)"
COPY = "INSERT INTO pyapi_audit_log (id, event) SELECT id, event FROM pyapi_audit_log"
REPLICA = "SET LOCAL session_replication_role = replica"
# A session may invent a time zone, one whose clocks have just gone forward by twelve days: yesterday is yet to come.
ZONE = """
SELECT set_config('TimeZone', format('AAA144BBB-144,J%s/0,J%s/0', 1 + (today + 2) % 365, 1 + (today + 12) % 365), true)
FROM (SELECT extract(doy FROM now() AT TIME ZONE 'UTC')::integer) AS days (today)
"""
REWRITES: list[tuple[str, ...]] = [
    ("UPDATE pyapi_audit_log SET actor_name = 'somebody else'",),
    ("UPDATE pyapi_audit_log SET at = now() - interval '2 days'",),
    ("DELETE FROM pyapi_audit_log",),
    ("TRUNCATE pyapi_audit_log",),
    (f"{COPY} ON CONFLICT (id) DO UPDATE SET event = 'x'",),
    (PRUNING, "UPDATE pyapi_audit_log SET event = 'x'"),
    (PRUNING, "TRUNCATE pyapi_audit_log"),
    (PRUNING, "DELETE FROM pyapi_audit_log"),
    ("SELECT pyapi_prune_audit_log(now(), 1000)",),
    ("SELECT pyapi_prune_audit_log(now() + interval '1 year', 1000)",),
    (ZONE, "SELECT pyapi_prune_audit_log(now(), 1000)"),
    (REPLICA, "DELETE FROM pyapi_audit_log"),
    (REPLICA, "UPDATE pyapi_audit_log SET event = 'x'"),
]


@pytest.mark.parametrize("statements", REWRITES, ids=" / ".join)
async def test_nobody_rewrites_it(connection: AsyncConnection, scene: Scene, statements: tuple[str, ...]) -> None:
    """Not by any statement about rows, also as the owner of the table, who could do so only by changing the table."""
    before = await state(connection)
    savepoint = await connection.begin_nested()
    for statement in statements[:-1]:
        await connection.execute(text(statement))
    with pytest.raises(DBAPIError) as refused:
        await connection.execute(text(statements[-1]))
    await savepoint.rollback()
    sqlstate = refused.value.orig.sqlstate  # type: ignore[union-attr]
    assert (sqlstate, await state(connection)) == ("55000", before)


OLD_ROWS = """
INSERT INTO pyapi_audit_log (at, event)
SELECT now() - interval '100 days' + n * interval '1 hour', 'data.created' FROM generate_series(1, 30) n
"""


async def prune(connection: AsyncConnection, app: FastAPI, most: int = 1000) -> int:
    opened: Database = app.state.database
    async with opened.transactions() as session:
        older_than = datetime.now(UTC) - timedelta(days=90)
        deleted = await AuditDAO(session).prune(older_than=older_than, most=most, actor_name="cli:operator")
        await session.commit()
        return deleted


async def test_the_old_end_can_be_cut_off_and_that_is_written_down(
    app: FastAPI, connection: AsyncConnection, scene: Scene
) -> None:
    others = await state(connection)
    await connection.execute(text(OLD_ROWS))
    deleted = await prune(connection, app)
    kept = await state(connection)
    [row] = (await connection.execute(text("SELECT * FROM pyapi_audit_log ORDER BY id DESC LIMIT 1"))).mappings()
    assert (deleted, kept[:-1]) == (30, others)
    assert (row["event"], row["actor_name"], row["details"]["deleted"]) == ("audit.pruned", "cli:operator", 30)


async def test_it_is_cut_off_from_the_end(app: FastAPI, connection: AsyncConnection, scene: Scene) -> None:
    await connection.execute(text(OLD_ROWS))
    await prune(connection, app, most=10)
    oldest = await connection.execute(text("SELECT (now() - min(at))::text FROM pyapi_audit_log"))
    assert oldest.scalar_one() == "99 days 13:00:00"


async def test_whoever_goes_round_the_function_leaves_a_row_as_well(connection: AsyncConnection, scene: Scene) -> None:
    await connection.execute(text(OLD_ROWS))
    await connection.execute(text("SELECT set_config('pyapi.actor_name', '', true)"))
    await connection.execute(text(PRUNING))
    await connection.execute(text("DELETE FROM pyapi_audit_log WHERE at < now() - interval '2 days'"))
    newest = await connection.execute(text("SELECT event, actor_name FROM pyapi_audit_log ORDER BY id DESC LIMIT 1"))
    role = (await connection.execute(text("SELECT 'role:' || session_user"))).scalar_one()
    assert tuple(newest.one()) == ("audit.pruned", role)
