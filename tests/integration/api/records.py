"""What the tests of data records share: making records over the API and by SQL, and looking at what is stored."""

import json
from typing import Any

import httpx
from sqlalchemy import CursorResult, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account


async def create(client: httpx.AsyncClient, owner: Account, **fields: Any) -> dict[str, Any]:
    """A record that `owner` has posted, as it was answered."""
    answer = await client.post("/api/data/", json={"name": "每日同步", **fields}, headers=owner.headers)
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


async def insert(connection: AsyncConnection, config: str | None = None, *, owner_id: int | None = None) -> int:
    """The id of a record that plain SQL has written, with JSON text that may be anything PostgreSQL takes."""
    statement = text(
        "INSERT INTO pyapi_data_records (name, config, owner_id) VALUES ('by SQL', CAST(:config AS jsonb), :owner_id)"
        " RETURNING id"
    )
    return int((await by_sql(connection, statement, config=config, owner_id=owner_id)).scalar_one())


async def by_sql(connection: AsyncConnection, statement: TextClause, **parameters: Any) -> CursorResult[Any]:
    """What a statement answers that somebody else runs.

    What PyAPI says about its own writes ends with its transaction, and a test has only one.
    """
    await connection.execute(text("SELECT set_config('pyapi.schedules_computed', '', true)"))
    return await connection.execute(statement, parameters)


async def stored_config(connection: AsyncConnection, record_id: int) -> str:
    """The config as PostgreSQL writes it, so that two can be compared byte for byte."""
    statement = text("SELECT config::text FROM pyapi_data_records WHERE id = :id")
    return str((await connection.execute(statement, {"id": record_id})).scalar_one())


async def count_records(connection: AsyncConnection) -> int:
    """How many records there are."""
    return int((await connection.execute(text("SELECT count(*) FROM pyapi_data_records"))).scalar_one())


def strict_json(answer: httpx.Response) -> Any:
    """The body, read as a strict reader of JSON would: without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(answer.content, parse_constant=refuse)


async def post(
    client: httpx.AsyncClient, owner: Account, body: str | bytes, content_type: str = "application/json"
) -> httpx.Response:
    """Send a body just as it is."""
    return await client.post("/api/data/", content=body, headers={**owner.headers, "Content-Type": content_type})


def with_config(config: str) -> str:
    """A record with this text as its config."""
    return f'{{"name": "x", "config": {config}}}'
