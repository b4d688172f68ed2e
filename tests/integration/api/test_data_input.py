"""What people send as a data record: all that PostgreSQL and other readers can hold is kept, all else is a 4xx."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import count_records, create, post, with_config

MIB = 1024 * 1024
JSON = "application/json"
NUL, SURROGATE = "\\u0000", "\\ud800"


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


# --- Names and descriptions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "ETL 資料處理任務",
        "a" * 255,
        "資" * 255,
        "🚀" * 255,
        "👩‍👩‍👧‍👦 família مرحبا नमस्ते",
        " padded ",
        "two\nlines\ttab",
        "<script>alert(1)</script>",
        "'; DROP TABLE pyapi_data_records; --",
        "%s {0} ${x} \\",
        "\u200b",
        "\U0010ffff",
    ],
)
async def test_a_name_is_kept_as_it_was_sent(client: httpx.AsyncClient, owner: Account, name: str) -> None:
    record = await create(client, owner, name=name)
    assert (await client.get(f"/api/data/{record['id']}", headers=owner.headers)).json()["name"] == name


@pytest.mark.parametrize("description", ["", "說明 🚀\n第二行", "x" * 100_000])
async def test_a_description_is_kept_as_it_was_sent(
    client: httpx.AsyncClient, owner: Account, description: str
) -> None:
    record = await create(client, owner, description=description)
    assert (await client.get(f"/api/data/{record['id']}", headers=owner.headers)).json()["description"] == description


@pytest.mark.parametrize("status", ["active", "inactive", "pending", "completed"])
async def test_a_status_is_one_of_four_words(client: httpx.AsyncClient, owner: Account, status: str) -> None:
    assert (await create(client, owner, status=status))["status"] == status


FIELDS = [
    ("name", '""'),
    ("name", '" "'),
    ("name", '"\\t\\r\\n"'),
    ("name", '"\\u3000\\u00a0"'),
    ("name", json.dumps("a" * 256)),
    ("name", json.dumps("資" * 256)),
    ("name", json.dumps("🚀" * 256, ensure_ascii=False)),
    ("name", f'"a{NUL}"'),
    ("name", f'"{NUL}"'),
    ("name", f'"a{SURROGATE}"'),
    ("name", '"\\udc00\\ud800"'),
    ("name", "null"),
    ("name", "1"),
    ("name", "true"),
    ("name", '["x"]'),
    ("name", '{"x": 1}'),
    ("description", f'"a{NUL}"'),
    ("description", f'"{SURROGATE}"'),
    ("description", "1"),
    ("description", "[]"),
    ("status", '"paused"'),
    ("status", '"Active"'),
    ("status", '" active"'),
    ("status", '""'),
    ("status", f'"active{NUL}"'),
    ("status", f'"{SURROGATE}"'),
    ("status", "null"),
    ("status", "1"),
    ("status", "[]"),
    ("config", "[]"),
    ("config", "[{}]"),
    ("config", '"{}"'),
    ("config", "1"),
    ("config", "true"),
]


@pytest.mark.parametrize(("field", "value"), FIELDS)
async def test_a_value_that_does_not_fit_is_named_and_not_stored(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, field: str, value: str
) -> None:
    others = "" if field == "name" else '"name": "x", '
    answer = await post(client, owner, f'{{{others}"{field}": {value}}}')
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    found = {"/".join(error["pointer"].split("/")[:3]) for error in errors}
    assert (found, await count_records(connection)) == ({f"/body/{field}"}, 0)


@pytest.mark.parametrize(("field", "value"), FIELDS)
async def test_a_value_that_does_not_fit_is_not_taken_for_a_change(
    client: httpx.AsyncClient, owner: Account, field: str, value: str
) -> None:
    record = await create(client, owner, description="說明", config={"a": 1})
    path, headers = f"/api/data/{record['id']}", {**owner.headers, "Content-Type": JSON}
    assert_problem(await client.put(path, content=f'{{"{field}": {value}}}', headers=headers), 422, "validation_failed")
    assert (await client.get(path, headers=owner.headers)).json() == record


# --- Configs ----------------------------------------------------------------------------------------------------------

LARGEST_WHOLE_NUMBER = 10**308 - 1


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"source": "s3://bucket/來源", "時區": "Asia/Taipei", "🚀": ["🚀"]},
        {"": "", " ": " ", "\t": "\t", "a.b": 1, "a/b~c": 2, "$ref": "#/x", "__proto__": {}, "\u007f": "\u007f"},
        {"null": None, "true": True, "false": False, "zero": 0, "negative": -1, "float": 0.1, "list": [], "object": {}},
        {"mixed": [1, "1", [None, {"a": [[]]}], {"b": {}}]},
        {"large": 2**63, "larger": 2**64 + 1, "largest": LARGEST_WHOLE_NUMBER, "smallest": -LARGEST_WHOLE_NUMBER},
        {"double": 123456789012345680.0, "tiny": 5e-324, "precise": 0.30000000000000004, "minus": -1.5e-10},
        {"text": "x" * 200_000},
        {"backslash": "\\u0000 \\ud800", "quotes": "\"'`", "control": "\u0001\u001f", "line": "\u2028\u2029"},
        {"keys": {str(number): number for number in range(2000)}},
        {"status": "active", "id": 7, "name": None, "config": {"config": {}}},
    ],
)
async def test_a_config_is_kept_as_it_was_sent(
    client: httpx.AsyncClient, owner: Account, config: dict[str, Any]
) -> None:
    record = await create(client, owner, config=config)
    assert (await client.get(f"/api/data/{record['id']}", headers=owner.headers)).json()["config"] == config


async def test_a_config_of_null_is_no_config(client: httpx.AsyncClient, owner: Account) -> None:
    assert (await create(client, owner, config=None))["config"] is None


async def test_a_large_float_is_the_same_double_when_it_is_read(client: httpx.AsyncClient, owner: Account) -> None:
    """PostgreSQL writes all its digits; to a reader of JSON that is the same number."""
    record = await create(client, owner, config={"a": 9.999999999999999e307})
    assert float(record["config"]["a"]) == 9.999999999999999e307


async def test_a_large_float_can_be_sent_back_as_it_was_answered(client: httpx.AsyncClient, owner: Account) -> None:
    record = await create(client, owner, config={"a": -9.999999999999999e307})
    path = f"/api/data/{record['id']}"
    answer = await client.put(path, json={"config": record["config"]}, headers=owner.headers)
    assert answer.json() == record


@pytest.mark.parametrize(("values", "status"), [(10_000, 201), (10_001, 422)])
async def test_a_config_may_hold_ten_thousand_values(
    client: httpx.AsyncClient, owner: Account, values: int, status: int
) -> None:
    answer = await post(client, owner, with_config(json.dumps({"list": [1] * (values - 1)})))
    assert answer.status_code == status


# --- Bodies -----------------------------------------------------------------------------------------------------------


def padded(length: int) -> bytes:
    """A valid body of this length."""
    head, tail = b'{"name": "x", "description": "', b'"}'
    return head + b"y" * (length - len(head) - len(tail)) + tail


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), 65_536):
        yield body[begin : begin + 65_536]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_may_be_one_mebibyte(client: httpx.AsyncClient, owner: Account, chunked: bool) -> None:
    content = in_chunks(padded(MIB)) if chunked else padded(MIB)
    headers = {**owner.headers, "Content-Type": JSON}
    assert (await client.post("/api/data/", content=content, headers=headers)).status_code == 201


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("length", [MIB + 1, 20 * MIB])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_larger_body_is_refused(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, method: str, length: int, chunked: bool
) -> None:
    content = in_chunks(padded(length)) if chunked else padded(length)
    headers = {**owner.headers, "Content-Type": JSON}
    path = "/api/data/" if method == "POST" else "/api/data/1"
    assert_problem(await client.request(method, path, content=content, headers=headers), 413, "payload_too_large")
    assert await count_records(connection) == 0


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "{",
        '{"name": "x"',
        '{"name": "x"}}',
        '{"name": "x",}',
        "{'name': 'x'}",
        '{"name": "x"} // comment',
        '{"name": "a\nb"}',
        "name=x",
        "null",
        "[]",
        '[{"name": "x"}]',
        '"x"',
        "1",
        '{"name": "x", "unknown": NaN}',
        '{"name": "x", "\\ud800": 1}',
        '{"name": "x", "\\u0000": 1}',
        '{"name": "x", "' + "k" * 100_000 + '": 1}',
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b"\xef\xbb\xbf" + b'{"name": "x"}',
        '{"name": "x"}'.encode("utf-16"),
        b"\x00",
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_record_is_refused(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, body: str | bytes
) -> None:
    assert_problem(await post(client, owner, body), 422, "validation_failed")
    assert await count_records(connection) == 0


@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"]
)
async def test_types_that_are_json(client: httpx.AsyncClient, owner: Account, content_type: str) -> None:
    assert (await post(client, owner, '{"name": "x"}', content_type)).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
        "*/*",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_other_types_are_refused(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, method: str, content_type: str
) -> None:
    path = "/api/data/" if method == "POST" else "/api/data/1"
    headers = {**owner.headers, "Content-Type": content_type}
    answer = await client.request(method, path, content='{"name": "x"}', headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")
    assert await count_records(connection) == 0
