"""A target that says no: the reason is told, readers see what was there before, and the next try is right."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from pyapi.db.engine import parse_database_url
from tests.conftest import NewDatabase, PostgresServer
from tests.etl.asking import Kit
from tests.etl.conftest import MIXED, Move
from tests.etl.lakes import Lake

pytestmark = pytest.mark.airflow

FEW, MANY = 10, 5_000
NOTHING_WRONG: dict[str, Any] = {"lost": [], "doubled": []}


@pytest.fixture
async def orders(source: asyncpg.Connection) -> asyncpg.Connection:
    """A table with few rows; `grow` gives it more."""
    await source.execute(MIXED.format(name="orders", rows=FEW))
    return source


async def grow(orders: asyncpg.Connection) -> None:
    await orders.execute("DROP TABLE orders")
    await orders.execute(MIXED.format(name="orders", rows=MANY))


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def warehouse(
    postgres_server: PostgresServer, empty_databases: NewDatabase
) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """A database for somebody who owns nothing but what he makes in it: his URL, and a connection of its owner."""
    url = (await empty_databases()).replace("+asyncpg", "")
    owner = await asyncpg.connect(url)
    name = f"loader_{parse_database_url(url).database}"
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'word-4711'; GRANT CREATE ON SCHEMA public TO {name}")
    theirs = parse_database_url(url).set(drivername="postgresql", username=name, password="word-4711")
    yield theirs.render_as_string(hide_password=False), owner
    await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await owner.close()


NO_RIGHT = ("REVOKE INSERT ON orders FROM {role}", "GRANT INSERT ON orders TO {role}")
READ_ONLY = (
    'ALTER ROLE {role} SET default_transaction_read_only = on',
    'ALTER ROLE {role} RESET default_transaction_read_only',
)  # fmt: skip
NO_SCHEMA = ("REVOKE USAGE ON SCHEMA public FROM {role}, public", "GRANT USAGE ON SCHEMA public TO {role}, public")
# Of all that ends a transaction when its rows are in already, what needs no disk that is full.
NO_ROOM = (
    "ALTER ROLE {role} SET temp_file_limit = '64kB'; ALTER ROLE {role} SET work_mem = '64kB'",
    "ALTER ROLE {role} RESET temp_file_limit; ALTER ROLE {role} RESET work_mem",
)


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (NO_RIGHT, "UNAUTHORIZED: ERROR: permission denied for table orders"),
        (READ_ONLY, "cannot execute CREATE TABLE in a read-only transaction"),
        (NO_SCHEMA, "permission denied for schema public"),
        (NO_ROOM, 'ERROR: temporary file size exceeds "temp_file_limit"'),
    ],
    ids=["no right to insert", "read-only", "no right to the schema", "no room"],
)
async def test_postgresql_that_refuses(
    orders: asyncpg.Connection,
    source_url: str,
    move: Move,
    kit: Kit,
    warehouse: tuple[str, asyncpg.Connection],
    statements: tuple[str, str],
    told: str,
) -> None:
    target, owner = warehouse
    role = parse_database_url(target).username
    config = {"target": target, "mode": "merge", "primary_key": "id"}
    move(**config)
    await grow(orders)
    refuse, relent = (statement.format(role=role) for statement in statements)
    await owner.execute(refuse)
    failed = move(**config, run="run-2")["failed"]
    seen = await owner.fetchval("SELECT count(*) FROM orders")
    await owner.execute(relent)
    again = move(**config, run="run-2")
    compared = kit.ask(url=source_url, query="SELECT * FROM orders", table="orders", target=target, place=None)
    assert (told in failed, "4711" in failed, seen, again["rows"], compared) == (
        True,
        False,
        FEW,
        MANY,
        {"rows": MANY, **NOTHING_WRONG},
    )


# --- S3 ---------------------------------------------------------------------------------------------------------------

Policy = Callable[[str, str], None]


@pytest.fixture
def deny(kit: Kit, s3: Lake, bucket: str) -> Policy:
    """Let nobody do something with some keys of the bucket; with "" anybody everything again."""

    def put(action: str, keys: str) -> None:
        statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": f"arn:aws:s3:::{bucket}/{keys}"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}) if action else None
        kit.ask(policy=policy, lake=s3.place(bucket)["lake"], bucket=bucket)

    return put


@pytest.mark.parametrize(
    ("action", "keys", "told"),
    [
        ("s3:PutObject", "*", "_pyapi/pyapi_7/orders.state: "),
        ("s3:PutObject", "orders/*", "orders/orders.parquet: An error occurred"),
        ("s3:GetObject", "*", "_pyapi/pyapi_7/orders.state: "),
    ],
    ids=["no right to write", "no right to write data", "no right to read"],
)
async def test_s3_that_refuses(
    orders: asyncpg.Connection,
    source_url: str,
    move: Move,
    kit: Kit,
    s3: Lake,
    bucket: str,
    deny: Policy,
    action: str,
    keys: str,
    told: str,
) -> None:
    config, place = {"target": s3.target(bucket)}, s3.place(bucket)
    move(**config)
    before = kit.ask(table="orders", place=place)
    await grow(orders)
    deny(action, keys)
    failed = move(**config, run="run-2")["failed"]
    deny("", "")
    seen = kit.ask(table="orders", place=place)
    again = move(**config, run="run-2")
    compared = kit.ask(url=source_url, query="SELECT * FROM orders", table="orders", place=place)
    assert (f"s3://{bucket}/{told}" in failed, "403" in failed or "AccessDenied" in failed, seen == before) == (
        True,
        True,
        True,
    )
    assert (again["rows"], compared) == (MANY, {"rows": MANY, **NOTHING_WRONG})
