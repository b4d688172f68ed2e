"""What a record moves is checked on every write: what is refused says where and what to write, and is not stored."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.utils.sealing import Sealer
from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import count_records, create, insert, stored_config

KEY, OTHER_KEY = "OPCaHqFd1I1N3EocN9UCBEYlr5w9NpWDTEZKmJqE38s=", "3u1AfZSkCwqiHfbhCmsxRsgRiqbHCwcGQm-7A0CkY8w="
SOURCE, TARGET = "postgresql://user:pass@host:5432/db", "s3://bucket/path/"
JOB: dict[str, Any] = {"source": SOURCE, "target": TARGET, "tables": "orders"}


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


# What is refused: the changes to JOB, the pointers, and a word of the fix.
WRONG: list[tuple[dict[str, Any], list[str], str]] = [
    ({"source": "nowhere"}, ["/source"], "postgresql"),
    ({"target": "kafka://host/topic"}, ["/target"], "s3"),
    ({"source": {"type": "db2", "host": "h"}}, ["/source/type"], "mysql"),
    ({"source": {"type": "postgresql"}}, ["/source/database", "/source/host"], "Write `database`"),
    ({"source": {"type": "postgresql", "conn_id": "w", "tabels": ["a"]}}, ["/source/tabels"], "tables"),
    ({"tables": []}, ["/tables"], "list of 1 to"),
    ({"tables": [{"cursor": "id"}]}, ["/tables/0/name"], "name"),
    ({"query": "SELECT 1"}, ["/query"], "only one"),
    ({"mode": "incremental"}, ["/cursor"], "grow"),
    ({"mode": "merge", "target": "duckdb:///lake/x.duckdb"}, ["/primary_key"], "merge"),
    ({"mode": "merge", "primary_key": "id"}, ["/mode"], "duckdb"),
    ({"mode": "all"}, ["/mode"], "append"),
    ({"batch_size": 0}, ["/batch_size"], "whole number"),
    ({"target": "s3://bucket/${run.day}/${run.nothing}/"}, ["/target"], "s3://bucket/path/"),
    ({"source": 7, "mode": "all"}, ["/source", "/mode"], "URL"),
]
EACH_WRONG = pytest.mark.parametrize(
    ("changes", "pointers", "word"),
    WRONG,
    ids=[" ".join(pointers) + f" {number}" for number, (_, pointers, _) in enumerate(WRONG)],
)


def assert_refused(answer: httpx.Response, pointers: list[str], word: str) -> None:
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert [error["pointer"] for error in errors] == [f"/body/config{pointer}" for pointer in pointers]
    assert word in errors[0]["detail"]


@EACH_WRONG
async def test_creating(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    owner: Account,
    changes: dict[str, Any],
    pointers: list[str],
    word: str,
) -> None:
    answer = await client.post("/api/data/", json={"name": "x", "config": JOB | changes}, headers=owner.headers)
    assert_refused(answer, pointers, word)
    assert await count_records(connection) == 0


@EACH_WRONG
async def test_validating(
    client: httpx.AsyncClient, owner: Account, changes: dict[str, Any], pointers: list[str], word: str
) -> None:
    answer = await client.post("/api/data/validate", json={"name": "x", "config": JOB | changes}, headers=owner.headers)
    assert_refused(answer, pointers, word)


@EACH_WRONG
@pytest.mark.parametrize(("method", "query"), [("PUT", ""), ("PATCH", ""), ("PUT", "?dry_run=true")])
async def test_changing(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    owner: Account,
    changes: dict[str, Any],
    pointers: list[str],
    word: str,
    method: str,
    query: str,
) -> None:
    record_id = (await create(client, owner, config=JOB))["id"]
    before = await stored_config(connection, record_id)
    body = {"config": JOB | changes}
    answer = await client.request(method, f"/api/data/{record_id}{query}", json=body, headers=owner.headers)
    assert_refused(answer, pointers, word)
    assert await stored_config(connection, record_id) == before


@pytest.mark.parametrize("status", ["active", "inactive", "pending", "completed"])
async def test_a_draft_is_checked_as_its_schedule_is(client: httpx.AsyncClient, owner: Account, status: str) -> None:
    body = {"name": "x", "config": JOB | {"mode": "all"}, "status": status}
    assert_refused(await client.post("/api/data/", json=body, headers=owner.headers), ["/mode"], "append")


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"source": "anything"},
        {"target": {"any": "thing"}},
        {"source": None, "target": TARGET},
        {"source": "", "target": ""},
        {"source": "a", "target": "b", "task": "package.module:function"},
        {"mode": "all", "tables": 7},
        {"source": SOURCE, "target": TARGET, "schedule": "0 9 * * *", "batch_size": 1000, "retry_count": 3},
        {
            "source": {"type": "postgresql", "host": "localhost", "database": "source_db"},
            "target": {"type": "s3", "bucket": "data-lake", "prefix": "processed/"},
            "schedule": "0 2 * * *",
            "retries": 3,
        },
        JOB | {"team": "sales", "steps": [{"any": "thing"}]},
    ],
    ids=["null", "empty", "source", "target", "no source", "blank", "task", "neither", "seed 1", "seed 2", "own keys"],
)
async def test_what_is_accepted(client: httpx.AsyncClient, owner: Account, config: Any) -> None:
    assert (await create(client, owner, config=config))["config"] is not False


async def test_an_object_of_unknown_fields_is_answered_in_short(client: httpx.AsyncClient, owner: Account) -> None:
    source = {"type": "postgresql", "conn_id": "w"} | {f"field {number}": 1 for number in range(5000)}
    answer = await client.post(
        "/api/data/", json={"name": "x", "config": JOB | {"source": source}}, headers=owner.headers
    )
    assert len(assert_problem(answer, 422, "validation_failed")["errors"]) == 32


async def test_what_was_sent_is_not_in_the_answer(client: httpx.AsyncClient, owner: Account) -> None:
    config = JOB | {"source": "postgresql://etl:s3cr3t-word@:no-port/"}
    answer = await client.post("/api/data/", json={"name": "x", "config": config}, headers=owner.headers)
    assert (answer.status_code, "s3cr3t-word" in answer.text) == (422, False)


# --- What was written past the API ------------------------------------------------------------------------------------

BY_SQL = '{"source": "nowhere", "target": "s3://bucket/path/", "schedule": "@daily"}'


async def test_what_sql_has_written_cannot_be_made_active(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    record_id = await insert(connection, BY_SQL, owner_id=owner.id)
    await connection.execute(
        text("UPDATE pyapi_data_records SET status = 'inactive' WHERE id = :id"), {"id": record_id}
    )
    answer = await client.patch(f"/api/data/{record_id}", json={"status": "active"}, headers=owner.headers)
    [error] = assert_problem(answer, 422, "validation_failed")["errors"]
    assert (error["pointer"], error["detail"].startswith("The stored config cannot be run; /source: Write a URL")) == (
        "/body/status",
        True,
    )


async def test_what_sql_has_written_does_not_stand_in_the_way_of_other_changes(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    record_id = await insert(connection, BY_SQL, owner_id=owner.id)
    answer = await client.patch(f"/api/data/{record_id}", json={"description": "x"}, headers=owner.headers)
    assert answer.status_code == 200


# --- Secrets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def seal(app: FastAPI) -> Iterator[Callable[..., None]]:
    """Gives the application keys, until the end of this test."""
    before = app.state.sealer

    def seal(*keys: str) -> None:
        app.state.sealer = Sealer(keys)

    yield seal
    app.state.sealer = before


SECRETS = [
    pytest.param({"source": "postgresql://user:pass@host:5432/db"}, id="in a url"),
    pytest.param({"source": {"type": "postgresql", "conn_id": "w", "password": "geheim"}}, id="under a key"),
    pytest.param(
        {"source": {"type": "rest", "url": "https://h/x?token=geheim-1234567"}, "tables": None}, id="in a query"
    ),
    pytest.param(
        {"target": {"type": "s3", "bucket": "bucket", "secret_access_key": "x" * 2000}}, id="as long as may be"
    ),
]


@pytest.mark.parametrize("changes", SECRETS)
@pytest.mark.parametrize("keys", [[], [KEY]], ids=["readable", "sealed"])
async def test_a_job_is_sent_back_as_it_was_read(
    client: httpx.AsyncClient, owner: Account, seal: Any, changes: dict[str, Any], keys: list[str]
) -> None:
    seal(*keys)
    record = await create(client, owner, config=JOB | changes)
    answer = await client.put(
        f"/api/data/{record['id']}", json={"config": record["config"] | {"mode": "append"}}, headers=owner.headers
    )
    assert (answer.status_code, answer.json().get("revision")) == (200, 2)


@pytest.mark.parametrize("changes", SECRETS)
async def test_what_no_key_opens_is_not_judged(
    client: httpx.AsyncClient, owner: Account, seal: Any, changes: dict[str, Any]
) -> None:
    seal(KEY)
    record = await create(client, owner, config=JOB | changes, status="inactive")
    seal(OTHER_KEY)
    body = {"config": record["config"], "status": "active"}
    answer = await client.put(f"/api/data/{record['id']}", json=body, headers=owner.headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("changes", SECRETS)
async def test_a_sealed_job_is_made_active(
    client: httpx.AsyncClient, owner: Account, seal: Any, changes: dict[str, Any]
) -> None:
    seal(KEY)
    record = await create(client, owner, config=JOB | changes, status="inactive")
    answer = await client.patch(f"/api/data/{record['id']}", json={"status": "active"}, headers=owner.headers)
    assert answer.status_code == 200, answer.text


async def test_what_can_be_read_is_judged_beside_what_no_key_opens(
    client: httpx.AsyncClient, owner: Account, seal: Any
) -> None:
    seal(KEY)
    record = await create(client, owner, config=JOB)
    seal(OTHER_KEY)
    body = {"config": record["config"] | {"mode": "all"}}
    assert_refused(await client.put(f"/api/data/{record['id']}", json=body, headers=owner.headers), ["/mode"], "append")


async def test_a_masked_secret_is_judged_as_what_it_hides(client: httpx.AsyncClient, owner: Account) -> None:
    """`***` in the place of a bucket's key is one; nothing is refused because of how it looks."""
    record = await create(client, owner, config=JOB)
    config = record["config"] | {"source": "postgresql://user:***@host:5432/other"}
    answer = await client.put(f"/api/data/{record['id']}", json={"config": config}, headers=owner.headers)
    assert (answer.status_code, answer.json()["config"]["source"]) == (200, "postgresql://user:***@host:5432/other")


async def test_one_mistake_is_told_once(client: httpx.AsyncClient, owner: Account) -> None:
    """A mask that hides nothing, in a URL of a type that nobody knows."""
    config = JOB | {"source": "db2://etl:***@host/db"}
    answer = await client.post("/api/data/", json={"name": "x", "config": config}, headers=owner.headers)
    assert_refused(answer, ["/source"], "***")
