"""What a record moves, before it is saved: the JSON Schema for everybody, and a check that stores nothing."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.etl.job_schema import job_schema
from tests.fixtures.application import SignUp, assert_problem
from tests.fixtures.callers import HeadersOf
from tests.integration.api.records import count_records

SCHEMA = "/api/etl/schema"
VALIDATE = "/api/data/validate"
SECRET = "p4ssw0rd-七"
JOB: dict[str, Any] = {
    "source": f"postgresql://etl:{SECRET}@warehouse:5432/sales",
    "target": {"type": "s3", "bucket": "lake", "prefix": "sales/", "conn_id": "lake"},
    "tables": ["orders", {"name": "customers", "primary_key": "id"}],
    "mode": "incremental",
    "cursor": "updated_at",
    "schedule": "0 9 * * *",
}


def table(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "cursor": None, "primary_key": [], "columns": [], "exclude": []} | fields


# --- The schema -------------------------------------------------------------------------------------------------------


async def test_everybody_reads_the_schema_that_the_parser_has(client: httpx.AsyncClient) -> None:
    answer = await client.get(SCHEMA)
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (
        200,
        "application/schema+json",
        job_schema(),
    )


async def test_the_schema_is_one(client: httpx.AsyncClient) -> None:
    schema = (await client.get(SCHEMA)).json()
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(JOB)


async def test_the_schema_may_be_kept(client: httpx.AsyncClient) -> None:
    assert (await client.get(SCHEMA)).headers["cache-control"] == "public, max-age=3600"


@pytest.mark.parametrize("known", ["{tag}", "W/{tag}", '"other", {tag}', "*"])
async def test_who_has_the_schema_gets_no_second_one(client: httpx.AsyncClient, known: str) -> None:
    tag = (await client.get(SCHEMA)).headers["etag"]
    answer = await client.get(SCHEMA, headers={"If-None-Match": known.format(tag=tag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)


async def test_who_has_another_schema_gets_this_one(client: httpx.AsyncClient) -> None:
    assert (await client.get(SCHEMA, headers={"If-None-Match": '"other"'})).status_code == 200


# --- A record that is not saved ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "body", "status", "code"),
    [
        ("nobody", {"name": "x"}, 401, "not_authenticated"),
        ("a forger", {"name": "x"}, 401, "invalid_token"),
        ("owner", {}, 422, "validation_failed"),
        ("owner", {"name": ""}, 422, "validation_failed"),
        ("owner", {"name": "x", "unknown": 1}, 422, "validation_failed"),
        ("owner", {"name": "x", "config": {"schedule": "never"}}, 422, "validation_failed"),
        ("owner", {"name": "x", "config": {"password": "***"}}, 422, "validation_failed"),
    ],
)
async def test_status(
    client: httpx.AsyncClient, headers_of: HeadersOf, caller: str, body: Any, status: int, code: str
) -> None:
    assert_problem(await client.post(VALIDATE, json=body, headers=await headers_of(caller)), status, code)


@pytest.fixture
async def validated(client: httpx.AsyncClient, sign_up: SignUp) -> Any:
    """What is answered to a config."""
    caller = await sign_up()

    async def validated(config: Any, *, language: str = "en", status: str = "active") -> dict[str, Any]:
        body = {"name": "x", "config": config, "status": status}
        answer = await client.post(VALIDATE, json=body, headers=caller.headers | {"Accept-Language": language})
        assert answer.status_code == 200, answer.text
        assert SECRET not in answer.text
        found: dict[str, Any] = answer.json()
        return found

    return validated


async def test_the_job_is_shown_as_it_is_understood(validated: Any) -> None:
    assert (await validated(JOB))["job"] == {
        "source": {
            "type": "postgresql",
            "options": {"user": "etl", "password": "***", "host": "warehouse", "port": 5432, "database": "sales"},
        },
        "target": {"type": "s3", "options": {"bucket": "lake", "prefix": "sales/", "conn_id": "lake"}},
        "mode": "incremental",
        "schema_contract": "evolve",
        "batch_size": 10_000,
        "query": None,
        "tables": [
            table("orders", cursor="updated_at"),
            table("customers", cursor="updated_at", primary_key=["id"]),
        ],
    }


@pytest.mark.parametrize(
    ("changes", "tables"),
    [
        ({"tables": None}, None),
        ({"tables": None, "query": "SELECT 1 AS updated_at"}, [table("query", cursor="updated_at")]),
        ({"source": "https://host/items", "tables": None}, [table("items", cursor="updated_at")]),
    ],
)
async def test_what_is_moved_without_a_list_of_tables(validated: Any, changes: Any, tables: Any) -> None:
    assert (await validated(JOB | changes))["job"]["tables"] == tables


@pytest.mark.parametrize("config", [None, {}, {"schedule": "@daily"}, {"task": "package.module:function"}])
async def test_what_moves_nothing_has_no_job(validated: Any, config: Any) -> None:
    assert (await validated(config))["job"] is None


@pytest.mark.parametrize(("language", "words"), [("en", "At 09:00"), ("zh-TW", "每天 09:00")])
async def test_the_schedule_is_told(validated: Any, language: str, words: str) -> None:
    assert (await validated(JOB, language=language))["schedule_description"].startswith(words)


@pytest.mark.parametrize(("status", "runs"), [("active", 5), ("inactive", 0), ("pending", 0)])
async def test_the_next_runs_are_those_of_the_record(validated: Any, status: str, runs: int) -> None:
    assert len((await validated(JOB, status=status))["next_runs"]) == runs


@pytest.mark.parametrize(
    ("config", "pointers"),
    [
        (JOB, ["/config/source", "/config/source"]),
        (JOB | {"source": {"type": "postgresql", "conn_id": "warehouse"}}, []),
        (JOB | {"source": {"type": "postgresql", "conn_id": "warehouse"}, "tables": None}, ["/config/source"]),
        (JOB | {"source": {"type": "postgresql", "conn_id": "w"}, "batchsize": 1, "team": "x"}, ["/config/batchsize"]),
        (JOB | {"task": "package.module:function"}, ["/config/task"]),
        ({"source": "postgresql://host/db"}, ["/config"]),
        ({"schedule": "@daily"}, ["/config"]),
        ({"task": "package.module:function"}, []),
    ],
    ids=["credentials", "none", "all tables", "misspelled", "task and job", "no target", "nothing", "only a task"],
)
async def test_what_may_not_be_meant(validated: Any, config: Any, pointers: list[str]) -> None:
    assert [warning["pointer"] for warning in (await validated(config))["warnings"]] == pointers


async def test_nothing_is_stored(validated: Any, connection: AsyncConnection) -> None:
    await validated(JOB)
    assert await count_records(connection) == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_it_is_no_record(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, VALIDATE)
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("rest", ["x", "validated", "0", "-1"])
async def test_what_else_is_no_id_is_said_to_be_none(client: httpx.AsyncClient, rest: str) -> None:
    assert_problem(await client.get(f"/api/data/{rest}"), 422, "validation_failed")
