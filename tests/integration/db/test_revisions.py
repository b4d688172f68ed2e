"""Every saved state of a record is kept, whoever writes it: the triggers, in transactions that really commit."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db.database import Database
from pyapi.schedules.rules import RULE_KEYS, TIME_KEYS
from tests.fixtures.application import PASSWORD, log_in
from tests.integration.db.conftest import NewEngine, NewRole

CONFIG = {"source": "postgresql://etl:pass@host/db", "時區": "Asia/Taipei", "batches": [1, 2.5, None, True]}
INSERT = "INSERT INTO pyapi_data_records (name) VALUES ('每日同步') RETURNING id"


RETURNING_STATE = " RETURNING to_jsonb(r) - 'next_run_at' - 'schedule_summary'"


class Change(NamedTuple):
    revision: int
    kind: str
    by: int | None
    name: str


async def write(engine: AsyncEngine, *statements: str, **parameters: Any) -> Any:
    """Run statements in one transaction of their own; the first value that they answer, if any."""
    answers = []
    async with engine.begin() as connection:
        for statement in statements:
            result = await connection.execute(text(statement), parameters)
            answers += list(result.scalars()) if result.returns_rows else []
    return answers[0] if answers else None


async def history(engine: AsyncEngine, record_id: int) -> list[Change]:
    async with engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT revision, change_kind, changed_by, changed_by_name FROM pyapi_data_revisions"
                " WHERE record_id = :id ORDER BY change_id"
            ),
            {"id": record_id},
        )
        return [Change._make(row) for row in rows]


async def kinds(engine: AsyncEngine, record_id: int) -> list[tuple[int, str]]:
    return [(change.revision, change.kind) for change in await history(engine, record_id)]


async def sqlstate(engine: AsyncEngine, *statements: str, **parameters: Any) -> str:
    """The SQLSTATE with which a transaction is refused."""
    with pytest.raises(DBAPIError) as refused:
        await write(engine, *statements, **parameters)
    return str(getattr(refused.value.orig, "sqlstate", None))


@pytest.fixture
async def record_id(committing: AsyncEngine) -> int:
    return int(await write(committing, INSERT))


@pytest.fixture
async def role_name(committing: AsyncEngine) -> str:
    """Who wrote, when no user of PyAPI did."""
    return f"role:{await write(committing, 'SELECT session_user')}"


# --- By SQL -----------------------------------------------------------------------------------------------------------


async def test_insert_is_the_first_revision(committing: AsyncEngine, record_id: int, role_name: str) -> None:
    assert await history(committing, record_id) == [(1, "created", None, role_name)]


async def test_update_is_the_next_revision(committing: AsyncEngine, record_id: int, role_name: str) -> None:
    await write(committing, "UPDATE pyapi_data_records SET status = 'inactive' WHERE id = :id", id=record_id)
    assert (await history(committing, record_id))[1:] == [(2, "updated", None, role_name)]


async def test_delete_is_the_last_revision(committing: AsyncEngine, record_id: int, role_name: str) -> None:
    await write(committing, "DELETE FROM pyapi_data_records WHERE id = :id", id=record_id)
    assert (await history(committing, record_id))[1:] == [(2, "deleted", None, role_name)]


@pytest.mark.parametrize(
    "assignment",
    [
        "name = '新名稱'",
        "description = '說明'",
        "config = '{}'",
        "status = 'pending'",
        "owner_id = NULL",
        "created_at = '2020-01-01'",
    ],
)
async def test_change_of_any_column_is_a_revision(committing: AsyncEngine, assignment: str) -> None:
    owner = await write(
        committing,
        "INSERT INTO pyapi_users (username, email, hashed_password)"
        " VALUES (gen_random_uuid(), gen_random_uuid(), '') RETURNING id",
    )
    record_id = await write(
        committing, "INSERT INTO pyapi_data_records (name, owner_id) VALUES ('x', :owner) RETURNING id", owner=owner
    )
    await write(committing, f"UPDATE pyapi_data_records SET {assignment} WHERE id = :id", id=record_id)
    assert await kinds(committing, record_id) == [(1, "created"), (2, "updated")]


NO_CHANGES = [
    "name = name",
    "config = config || '{}'",
    "updated_at = now()",
    "revision = 99",
    "created_at = NULL",
    "name = '每日同步', status = 'active'",
]


@pytest.mark.parametrize("assignment", NO_CHANGES)
async def test_update_that_changes_nothing_is_no_revision(
    committing: AsyncEngine, record_id: int, assignment: str
) -> None:
    await write(committing, f"UPDATE pyapi_data_records SET {assignment} WHERE id = :id", id=record_id)
    assert await kinds(committing, record_id) == [(1, "created")]


@pytest.mark.parametrize("assignment", NO_CHANGES)
async def test_update_that_changes_nothing_leaves_the_row_as_it_was(
    committing: AsyncEngine, record_id: int, assignment: str
) -> None:
    row = "SELECT pyapi_data_records::text FROM pyapi_data_records WHERE id = :id"
    before = await write(committing, row, id=record_id)
    await write(committing, f"UPDATE pyapi_data_records SET {assignment} WHERE id = :id", id=record_id)
    assert await write(committing, row, id=record_id) == before


async def test_updated_at_moves_with_a_change(committing: AsyncEngine, record_id: int) -> None:
    await write(committing, "UPDATE pyapi_data_records SET name = 'x' WHERE id = :id", id=record_id)
    moved = "SELECT updated_at > created_at FROM pyapi_data_records WHERE id = :id"
    assert await write(committing, moved, id=record_id) is True


async def test_updated_at_and_revision_cannot_be_chosen_by_an_update(committing: AsyncEngine, record_id: int) -> None:
    await write(
        committing,
        "UPDATE pyapi_data_records SET name = 'x', revision = 99, updated_at = '2000-01-01' WHERE id = :id",
        id=record_id,
    )
    kept = "SELECT revision = 2 AND updated_at > created_at FROM pyapi_data_records WHERE id = :id"
    assert await write(committing, kept, id=record_id) is True


async def test_revision_cannot_be_chosen_by_an_insert(committing: AsyncEngine) -> None:
    record_id = await write(committing, "INSERT INTO pyapi_data_records (name, revision) VALUES ('x', 7) RETURNING id")
    assert await kinds(committing, record_id) == [(1, "created")]


@pytest.mark.parametrize("kind", ["created", "updated", "deleted"])
async def test_state_is_the_whole_row(committing: AsyncEngine, kind: str) -> None:
    """Credentials included: a state without them could not be restored. What follows from other columns is left out."""
    insert = "INSERT INTO pyapi_data_records AS r (name, config) VALUES ('x', CAST(:config AS jsonb))" + RETURNING_STATE
    row = await write(committing, insert, config=json.dumps(CONFIG, ensure_ascii=False))
    if kind == "updated":
        row = await write(
            committing,
            "UPDATE pyapi_data_records r SET status = 'pending' WHERE id = :id" + RETURNING_STATE,
            id=row["id"],
        )
    elif kind == "deleted":
        await write(committing, "DELETE FROM pyapi_data_records WHERE id = :id", id=row["id"])
    newest = (
        "SELECT state FROM pyapi_data_revisions WHERE record_id = :id AND change_kind = :kind ORDER BY revision DESC"
    )
    assert await write(committing, newest, id=row["id"], kind=kind) == row


async def test_each_statement_of_a_transaction_is_a_revision(committing: AsyncEngine, record_id: int) -> None:
    await write(
        committing,
        "UPDATE pyapi_data_records SET status = 'pending' WHERE id = :id",
        "UPDATE pyapi_data_records SET status = 'active' WHERE id = :id",
        id=record_id,
    )
    assert await kinds(committing, record_id) == [(1, "created"), (2, "updated"), (3, "updated")]


async def test_each_of_those_revisions_has_its_own_state(committing: AsyncEngine, record_id: int) -> None:
    await write(
        committing,
        "UPDATE pyapi_data_records SET status = 'pending' WHERE id = :id",
        "UPDATE pyapi_data_records SET status = 'completed' WHERE id = :id",
        id=record_id,
    )
    states = (
        "SELECT string_agg(state->>'status', ' ' ORDER BY change_id) FROM pyapi_data_revisions WHERE record_id = :id"
    )
    assert await write(committing, states, id=record_id) == "active pending completed"


async def test_a_life_within_one_transaction_is_kept(committing: AsyncEngine) -> None:
    record_id = await write(
        committing,
        INSERT,
        "UPDATE pyapi_data_records SET status = 'pending' WHERE id = lastval()",
        "DELETE FROM pyapi_data_records WHERE id = lastval()",
    )
    assert await kinds(committing, record_id) == [(1, "created"), (2, "updated"), (3, "deleted")]


async def test_a_transaction_that_is_rolled_back_leaves_no_revision(committing: AsyncEngine, record_id: int) -> None:
    async with committing.connect() as connection:
        await connection.execute(text("UPDATE pyapi_data_records SET name = 'x' WHERE id = :id"), {"id": record_id})
        await connection.rollback()
    assert await kinds(committing, record_id) == [(1, "created")]


async def test_an_upsert_is_an_update(committing: AsyncEngine, record_id: int) -> None:
    await write(
        committing,
        "INSERT INTO pyapi_data_records (id, name) VALUES (:id, 'x')"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name, revision = excluded.revision",
        id=record_id,
    )
    assert await kinds(committing, record_id) == [(1, "created"), (2, "updated")]


async def test_an_id_that_comes_back_goes_on_counting(committing: AsyncEngine, record_id: int) -> None:
    await write(committing, "DELETE FROM pyapi_data_records WHERE id = :id", id=record_id)
    await write(committing, "INSERT INTO pyapi_data_records (id, name) VALUES (:id, 'x')", id=record_id)
    assert await kinds(committing, record_id) == [(1, "created"), (2, "deleted"), (3, "created")]


async def test_an_id_cannot_come_back_within_its_last_transaction(committing: AsyncEngine, record_id: int) -> None:
    state = await sqlstate(
        committing,
        "DELETE FROM pyapi_data_records WHERE id = :id",
        "INSERT INTO pyapi_data_records (id, name) VALUES (:id, 'x')",
        id=record_id,
    )
    assert state == "23505"


async def test_an_id_cannot_change(committing: AsyncEngine, record_id: int) -> None:
    state = await sqlstate(committing, "UPDATE pyapi_data_records SET id = id + 1000000 WHERE id = :id", id=record_id)
    assert state == "23514"


async def test_truncate_is_refused_with_a_hint(committing: AsyncEngine) -> None:
    with pytest.raises(DBAPIError) as refused:
        await write(committing, "TRUNCATE pyapi_data_records CASCADE")
    assert (
        getattr(getattr(refused.value.orig, "__cause__", None), "hint", None)
        == "Write DELETE FROM pyapi_data_records instead."
    )


async def test_a_status_of_another_word_is_refused(committing: AsyncEngine, record_id: int) -> None:
    with pytest.raises(IntegrityError, match="ck_pyapi_data_records_status"):
        await write(committing, "UPDATE pyapi_data_records SET status = 'paused' WHERE id = :id", id=record_id)


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01 00:00:00+00"])
async def test_a_time_that_no_client_could_read_is_refused(committing: AsyncEngine, column: str, time: str) -> None:
    """One such row would fail every list it stands in."""
    with pytest.raises(IntegrityError, match=f"ck_pyapi_data_records_{column}"):
        await write(committing, f"INSERT INTO pyapi_data_records (name, {column}) VALUES ('x', '{time}')")


async def test_a_record_outlives_its_owner_with_a_revision(committing: AsyncEngine) -> None:
    owner = await write(
        committing,
        "INSERT INTO pyapi_users (username, email, hashed_password)"
        " VALUES ('leaving', 'leaving@example.com', '') RETURNING id",
    )
    record_id = await write(
        committing, "INSERT INTO pyapi_data_records (name, owner_id) VALUES ('x', :owner) RETURNING id", owner=owner
    )
    await write(committing, "DELETE FROM pyapi_users WHERE id = :owner", owner=owner)
    assert await kinds(committing, record_id) == [(1, "created"), (2, "updated")]


async def test_a_bulk_insert_writes_a_revision_for_each_row(committing: AsyncEngine) -> None:
    await write(committing, "INSERT INTO pyapi_data_records (name) SELECT 'bulk' FROM generate_series(1, 2000)")
    numbers = (
        "SELECT ARRAY[count(*), count(DISTINCT change_id), max(change_id) - min(change_id) + 1]"
        " FROM pyapi_data_revisions WHERE state->>'name' = 'bulk' AND revision = 1 AND change_kind = 'created'"
    )
    assert await write(committing, numbers) == [2000, 2000, 2000]


# --- By a role that may do little -------------------------------------------------------------------------------------


@pytest.fixture
async def writer(committing: AsyncEngine, engines: NewEngine, new_role: NewRole) -> AsyncEngine:
    """Signed in as a role that may write the records, and nothing else of ours."""
    url = await new_role(committing.url.render_as_string(hide_password=False))
    engine = engines(url)
    await write(
        committing,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON pyapi_data_records TO {engine.url.username}",
        f"GRANT USAGE ON SEQUENCE pyapi_data_records_id_seq TO {engine.url.username}",
    )
    return engine


async def test_a_role_that_may_only_write_records_writes_revisions(
    committing: AsyncEngine, writer: AsyncEngine
) -> None:
    record_id = await write(writer, INSERT)
    await write(writer, "UPDATE pyapi_data_records SET name = 'x' WHERE id = :id", id=record_id)
    await write(writer, "DELETE FROM pyapi_data_records WHERE id = :id", id=record_id)
    by = f"role:{writer.url.username}"
    assert await history(committing, record_id) == [
        (1, "created", None, by),
        (2, "updated", None, by),
        (3, "deleted", None, by),
    ]


WRITE_DERIVED = (
    "SET LOCAL pyapi.schedules_computed = 'true'",
    """
    INSERT INTO pyapi_data_records (name, next_run_at, schedule_summary) VALUES ('x', now(), '{}')
    RETURNING schedule_summary IS NOT NULL AND next_run_at IS NOT NULL
    """,
)


async def test_that_role_cannot_write_what_follows_from_a_schedule(writer: AsyncEngine) -> None:
    """Whoever may set a parameter is not yet PyAPI: what it says of a row would fail every list that has it."""
    assert await write(writer, *WRITE_DERIVED) is False


async def test_pyapi_can_write_it_without_owning_the_tables(committing: AsyncEngine, writer: AsyncEngine) -> None:
    """Where an owner migrates, and the service runs as another role."""
    await write(committing, f"GRANT UPDATE ON pyapi_sessions TO {writer.url.username}")
    assert await write(writer, *WRITE_DERIVED) is True


async def test_functions_and_code_have_the_same_keys(committing: AsyncEngine) -> None:
    keys = "SELECT jsonb_agg(key) FROM jsonb_object_keys(pyapi_rule('{}')) AS key"
    assert sorted(await write(committing, keys)) == sorted(RULE_KEYS)
    timing = "SELECT pyapi_timing('active', CAST(:config AS jsonb))"
    found = await write(committing, timing, config=json.dumps({key: key for key in RULE_KEYS}))
    assert found == [True, *TIME_KEYS]


@pytest.mark.parametrize("config", ["[1, {}]", '"x"', "null", '{"schedule": null, "other": 1}'])
async def test_what_is_no_object_stays_as_it_is(committing: AsyncEngine, config: str) -> None:
    found = await write(committing, "SELECT pyapi_rule(CAST(:config AS jsonb))", config=config)
    assert found == (dict.fromkeys(RULE_KEYS) if config.startswith("{") else json.loads(config))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM pyapi_data_revisions",
        "DELETE FROM pyapi_data_revisions",
        "SELECT nextval('pyapi_data_change_id_seq')",
        "SELECT * FROM pyapi_users",
    ],
)
async def test_that_role_may_not_touch_the_rest(writer: AsyncEngine, statement: str) -> None:
    assert await sqlstate(writer, statement) == "42501"


async def test_any_role_may_ask_for_the_counter(committing: AsyncEngine, writer: AsyncEngine, record_id: int) -> None:
    newest = await write(committing, "SELECT max(change_id) FROM pyapi_data_revisions")
    assert await write(writer, "SELECT pyapi_change_counter()") == newest


async def test_a_temporary_table_of_the_same_name_does_not_catch_revisions(
    committing: AsyncEngine, writer: AsyncEngine
) -> None:
    """The classic attack on functions that run with the rights of their owner."""
    record_id = await write(
        writer,
        "CREATE TEMPORARY TABLE pyapi_data_revisions (record_id integer, revision integer, change_id bigint,"
        " change_kind text, changed_at timestamptz, changed_by integer, changed_by_name text, state jsonb)",
        "GRANT ALL ON pyapi_data_revisions TO PUBLIC",
        INSERT,
    )
    assert await kinds(committing, record_id) == [(1, "created")]


async def test_a_role_cannot_forge_revisions_with_our_triggers(writer: AsyncEngine) -> None:
    state = await sqlstate(
        writer,
        "CREATE TEMPORARY TABLE forged AS SELECT * FROM pyapi_data_records LIMIT 0",
        "CREATE TRIGGER forge AFTER INSERT ON forged FOR EACH ROW EXECUTE FUNCTION pyapi_write_revision()",
    )
    assert state == "42501"


# --- By the API -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def api(app: FastAPI, committing: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    """The application on the database of this module, with a user `wang` who has signed in."""
    opened = app.state.database
    app.state.database = Database.on(committing)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await sign_in(client, "wang")
        yield client
    app.state.database = opened


async def sign_in(client: httpx.AsyncClient, username: str) -> None:
    """Open the account if it is new (the database outlives the test), and call as it from now on."""
    body = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
    await client.post("/api/auth/register", json=body)
    tokens = await log_in(client, username)
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"


async def user_id(client: httpx.AsyncClient) -> int:
    return int((await client.get("/api/auth/me")).json()["id"])


async def created(client: httpx.AsyncClient) -> int:
    return int((await client.post("/api/data/", json={"name": "每日同步", "config": CONFIG})).json()["id"])


async def test_post_is_a_revision_of_its_user(api: httpx.AsyncClient, committing: AsyncEngine) -> None:
    assert await history(committing, await created(api)) == [(1, "created", await user_id(api), "wang")]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_change_is_a_revision_of_its_user(api: httpx.AsyncClient, committing: AsyncEngine, method: str) -> None:
    record_id = await created(api)
    await api.request(method, f"/api/data/{record_id}", json={"status": "inactive"})
    assert (await history(committing, record_id))[1:] == [(2, "updated", await user_id(api), "wang")]


async def test_delete_is_a_revision_of_its_user(api: httpx.AsyncClient, committing: AsyncEngine) -> None:
    record_id = await created(api)
    await api.delete(f"/api/data/{record_id}")
    assert (await history(committing, record_id))[1:] == [(2, "deleted", await user_id(api), "wang")]


async def test_change_by_a_superuser_names_the_superuser(api: httpx.AsyncClient, committing: AsyncEngine) -> None:
    record_id = await created(api)
    await sign_in(api, "root_lin")
    await write(committing, "UPDATE pyapi_users SET is_superuser = true WHERE username = 'root_lin'")
    await api.put(f"/api/data/{record_id}", json={"status": "inactive"})
    assert (await history(committing, record_id))[1:] == [(2, "updated", await user_id(api), "root_lin")]


async def test_the_state_of_a_masked_record_has_its_credentials(
    api: httpx.AsyncClient, committing: AsyncEngine
) -> None:
    record_id = await created(api)
    masked = (await api.get(f"/api/data/{record_id}")).json()["config"]
    await api.put(f"/api/data/{record_id}", json={"name": "x", "config": masked})
    state = "SELECT state->'config' FROM pyapi_data_revisions WHERE record_id = :id AND revision = 2"
    assert await write(committing, state, id=record_id) == CONFIG


@pytest.mark.parametrize("body", [{}, {"name": "每日同步"}, {"config": CONFIG}, {"status": "active"}])
async def test_request_that_changes_nothing_is_no_revision(
    api: httpx.AsyncClient, committing: AsyncEngine, body: dict[str, Any]
) -> None:
    record_id = await created(api)
    await api.put(f"/api/data/{record_id}", json=body)
    assert await kinds(committing, record_id) == [(1, "created")]


@pytest.mark.parametrize(
    "body", [{"name": None}, {"status": "paused"}, {"config": {"password": "***"}}, {"unknown": 1}]
)
async def test_request_that_is_refused_is_no_revision(
    api: httpx.AsyncClient, committing: AsyncEngine, body: dict[str, Any]
) -> None:
    record_id = await created(api)
    await api.put(f"/api/data/{record_id}", json=body)
    assert await kinds(committing, record_id) == [(1, "created")]


async def test_the_user_of_a_request_is_not_taken_for_the_next_writer(
    api: httpx.AsyncClient, committing: AsyncEngine, role_name: str
) -> None:
    """The connection goes back to the pool, and SQL that uses it next was not written by that user."""
    record_id = await created(api)
    await write(committing, "UPDATE pyapi_data_records SET name = 'x' WHERE id = :id", id=record_id)
    assert (await history(committing, record_id))[1:] == [(2, "updated", None, role_name)]
