"""Text that PostgreSQL cannot hold and numbers beyond its types are a 422, never a 500, and nothing of them is stored
(ASVS 5.0, 2.2.1, 16.5.1).

The same for bodies of routes that anybody may call: tests/integration/test_problems.py.
"""

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import count_records, post, with_config

NUL, SURROGATE = "\\u0000", "\\ud800"


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


# --- Without signing in -----------------------------------------------------------------------------------------------

ANYBODY = {
    "NUL in a name": ("/api/auth/login", f'{{"username": "a{NUL}", "password": "x"}}'),
    "surrogate in a name": ("/api/auth/login", f'{{"username": "{SURROGATE}", "password": "x"}}'),
    "NaN": ("/api/auth/login", '{"username": NaN, "password": "x"}'),
    "1e400": ("/api/auth/login", '{"username": 1e400, "password": "x"}'),
    "NUL in a new account": (
        "/api/auth/register",
        f'{{"username": "a{NUL}", "email": "a@example.com", "password": 1}}',
    ),
    "256 characters": ("/api/auth/register", f'{{"username": "{"a" * 256}", "email": "a@example.com", "password": 1}}'),
    "NUL in a token": ("/api/auth/refresh", f'{{"refresh_token": "{NUL}", "more": 1}}'),
}


@pytest.mark.parametrize("case", ANYBODY)
async def test_nobody_breaks_a_route_without_signing_in(client: httpx.AsyncClient, case: str) -> None:
    path, body = ANYBODY[case]
    answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "validation_failed")


QUERIES = [
    "skip=-1", "skip=2147483648", "skip=9223372036854775808", "limit=-1", "limit=0", "limit=1001", "limit=1000000000",
    "limit=1e3", "limit=%00", "status=%00", "status=%ff", "q=%00", "owner_id=2147483648", "cursor=%00",
    "created_after=%00", "order_by=%00",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
async def test_nobody_breaks_a_list_by_its_query(client: httpx.AsyncClient, query: str) -> None:
    [error] = assert_problem(await client.get(f"/api/data/?{query}"), 422, "validation_failed")["errors"]
    assert error["pointer"] == f"/query/{query.partition('=')[0]}"


# --- Configs ----------------------------------------------------------------------------------------------------------

NOT_STORABLE = {
    "NUL in a value": f'"{NUL}"',
    "NUL in a longer value": f'"a{NUL}b"',
    "high surrogate": f'"{SURROGATE}"',
    "low surrogate": '"\\udfff"',
    "surrogates in the wrong order": '"\\udc00\\ud800"',
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "1e400": "1e400",
    "-1e400": "-1e400",
    "1.8e308": "1.8e308",
    "1e308": "1e308",
    "largest double": "1.7976931348623157e308",
    "309 digits": str(10**308),
    "-309 digits": str(-(10**308)),
    "5000 digits": "9" * 5000,
    "100000 digits": "9" * 100_000,
}
AROUND = {
    "value": '{{"a": {}}}',
    "value in a list": '{{"a": [1, [{}]]}}',
    "value in an object": '{{"a": {{"b": {{"c": {}}}}}}}',
    "under a sensitive key": '{{"password": {}}}',
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("value", NOT_STORABLE.values(), ids=NOT_STORABLE)
async def test_what_cannot_be_stored_is_refused(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, around: str, value: str
) -> None:
    assert_problem(await post(client, owner, with_config(around.format(value))), 422, "validation_failed")
    assert await count_records(connection) == 0


@pytest.mark.parametrize("key", [NUL, f"a{NUL}", SURROGATE, "\\udc00"])
@pytest.mark.parametrize("around", ['{{"{}": 1}}', '{{"a": [{{"{}": 1}}]}}', '{{"a": {{"{}": {{}}}}}}'])
async def test_a_key_that_cannot_be_stored_is_refused(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, around: str, key: str
) -> None:
    assert_problem(await post(client, owner, with_config(around.format(key))), 422, "validation_failed")
    assert await count_records(connection) == 0


# --- Ids --------------------------------------------------------------------------------------------------------------

METHODS = pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])


async def with_id(client: httpx.AsyncClient, owner: Account, method: str, record_id: str) -> httpx.Response:
    body = {"name": "x"} if method in {"PUT", "PATCH"} else None
    return await client.request(method, f"/api/data/{record_id}", json=body, headers=owner.headers)


@METHODS
@pytest.mark.parametrize(
    "record_id",
    [
        "0",
        "-1",
        "2147483648",
        "9223372036854775808",
        "9" * 5000,
        "abc",
        "1.5",
        "1e3",
        "0x1",
        "%00",
        "%20",
        "null",
        "1,2",
    ],
)
async def test_an_id_that_cannot_be_is_refused(
    client: httpx.AsyncClient, owner: Account, method: str, record_id: str
) -> None:
    errors = assert_problem(await with_id(client, owner, method, record_id), 422, "validation_failed")["errors"]
    assert [error["pointer"] for error in errors] == ["/path/data_id"]


@METHODS
async def test_the_largest_id_is_one_that_may_be(client: httpx.AsyncClient, owner: Account, method: str) -> None:
    assert_problem(await with_id(client, owner, method, "2147483647"), 404, "not_found")
