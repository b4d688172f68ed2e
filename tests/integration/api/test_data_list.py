"""The list of data records: what is in it, in which order, and how to walk through all of it."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import SignUp, assert_problem

ROWS = 60
# Few different values in each column: every order has ties, also over the borders of pages.
FILL = f"""
    INSERT INTO pyapi_data_records (name, description, status, created_at, updated_at)
    SELECT (ARRAY['每日同步', 'daily', 'Daily', '100%_done', 'a\\b'])[1 + n % 5],
           CASE WHEN n % 3 = 0 THEN '說明 ' || n END,
           (ARRAY['active', 'inactive', 'pending', 'completed'])[1 + n % 4],
           '2026-01-01T00:00:00Z'::timestamptz + (n % 7) * interval '1 day',
           '2026-02-01T00:00:00Z'::timestamptz + (n % 6) * interval '1 microsecond'
    FROM generate_series(1, {ROWS}) n ORDER BY md5(n::text)
"""
SORTABLE = ["id", "name", "status", "created_at", "updated_at"]

Page = dict[str, Any]


@pytest.fixture
async def filled(connection: AsyncConnection) -> None:
    await connection.execute(text(FILL))


async def ids(
    connection: AsyncConnection, condition: str = "true", order: str = "created_at DESC, id DESC"
) -> list[int]:
    """What the list must be, in SQL."""
    statement = text(f"SELECT id FROM pyapi_data_records WHERE {condition} ORDER BY {order}")
    return list((await connection.execute(statement)).scalars())


async def get(client: httpx.AsyncClient, **query: Any) -> Page:
    answer = await client.get("/api/data/", params=query)
    assert answer.status_code == 200, answer.text
    page: Page = answer.json()
    return page


async def listed(client: httpx.AsyncClient, **query: Any) -> list[int]:
    return [record["id"] for record in (await get(client, limit=1000, **query))["data"]]


async def assert_refused(client: httpx.AsyncClient, query: str, field: str) -> dict[str, Any]:
    """A 422 that points to this parameter and no other."""
    document = assert_problem(await client.get(f"/api/data/?{query}"), 422, "validation_failed")
    assert {error["pointer"] for error in document["errors"]} == {f"/query/{field}"}
    return document


# --- Pages ------------------------------------------------------------------------------------------------------------


async def test_an_empty_list(client: httpx.AsyncClient) -> None:
    place = {"skip": 0, "limit": 10, "next_cursor": None}
    assert await get(client) == {"data": [], "total": 0, "total_is_exact": True, **place}


@pytest.mark.usefixtures("filled")
async def test_the_newest_ten_come_first(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    page = await get(client)
    assert [record["id"] for record in page["data"]] == (await ids(connection))[:10]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("skip", "limit"), [(0, 1), (0, 60), (0, 1000), (5, 10), (50, 10), (55, 10), (60, 10), (2**31 - 1, 1000)]
)
async def test_skip_and_limit(client: httpx.AsyncClient, connection: AsyncConnection, skip: int, limit: int) -> None:
    page = await get(client, skip=skip, limit=limit)
    assert [record["id"] for record in page["data"]] == (await ids(connection))[skip : skip + limit]


@pytest.mark.usefixtures("filled")
async def test_a_page_says_which_one_it_is(client: httpx.AsyncClient) -> None:
    page = await get(client, skip=5, limit=20, status="active")
    assert (page["total"], page["skip"], page["limit"]) == (15, 5, 20)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("include_total", "total"), [("true", ROWS), ("false", None), ("0", None), ("1", ROWS)])
async def test_the_total_can_be_left_out(client: httpx.AsyncClient, include_total: str, total: int | None) -> None:
    page = await get(client, include_total=include_total)
    assert (page["total"], page["total_is_exact"]) == (total, None if total is None else True)


MANY = "INSERT INTO pyapi_data_records (name) SELECT 'many' FROM generate_series(1, 1001)"


@pytest.mark.parametrize(
    ("query", "total", "is_exact"),
    [({}, 1001, True), ({"status": "active"}, 1001, True), ({"q": "many"}, 1000, False), ({"q": "x"}, 0, True)],
)
async def test_a_total_says_whether_it_is_exact(
    client: httpx.AsyncClient, connection: AsyncConnection, query: dict[str, str], total: int, is_exact: bool
) -> None:
    """And only then there is a last page to go to."""
    await connection.execute(text(MANY))
    answer = await client.get("/api/data/", params=query)
    page = answer.json()
    assert (page["total"], page["total_is_exact"]) == (total, is_exact)
    assert ('rel="last"' in answer.headers["link"]) == is_exact


@pytest.mark.parametrize(
    "value", ["0", "-1", "1001", "1" + "0" * 30, "9" * 5000, "abc", "", "1.5", "1e2", "NaN", "%00"]
)
async def test_a_limit_that_cannot_be(client: httpx.AsyncClient, value: str) -> None:
    await assert_refused(client, f"limit={value}", "limit")


@pytest.mark.parametrize("value", ["-1", "2147483648", "1" + "0" * 30, "9" * 5000, "abc", "", "0.5", "%00"])
async def test_a_skip_that_cannot_be(client: httpx.AsyncClient, value: str) -> None:
    await assert_refused(client, f"skip={value}", "skip")


@pytest.mark.parametrize("name", ["unknown", "Limit", "page", "config", "limit[]", "q%5B%5D", "order_by_", "_"])
async def test_a_parameter_that_is_not_known_is_refused(client: httpx.AsyncClient, name: str) -> None:
    await assert_refused(client, f"{name}=1", name.replace("%5B%5D", "[]"))


@pytest.mark.parametrize("value", ["maybe", "", "2", "%00"])
async def test_include_total_is_true_or_false(client: httpx.AsyncClient, value: str) -> None:
    await assert_refused(client, f"include_total={value}", "include_total")


# --- Filters ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("status", ["active", "inactive", "pending", "completed"])
async def test_by_status(client: httpx.AsyncClient, connection: AsyncConnection, status: str) -> None:
    assert await listed(client, status=status) == await ids(connection, f"status = '{status}'")


@pytest.mark.parametrize("status", ["paused", "ACTIVE", "", "active,pending", "%00", "%F0%9F%9A%80"])
async def test_by_a_status_that_is_none(client: httpx.AsyncClient, status: str) -> None:
    await assert_refused(client, f"status={status}", "status")


@pytest.mark.parametrize(
    ("q", "name", "description", "found"),
    [
        ("同步", "每日同步", None, True),
        ("每日同步", "每日同步", None, True),
        ("每週", "每日同步", None, False),
        ("說明", "x", "一段說明文字", True),
        ("sync", "Daily SYNC", None, True),
        ("SYNC", "daily sync", None, True),
        ("ÉTÉ", "été", None, True),
        ("%", "100%", None, True),
        ("%", "100", None, False),
        ("1%0", "100", None, False),
        ("_", "a_b", None, True),
        ("_", "ab", None, False),
        ("a_c", "abc", None, False),
        ("\\", "C:\\data", None, True),
        ("\\", "C:/data", None, False),
        ("\\%", "a%", None, False),
        ("\\%", "a\\%", None, True),
        ("/", "a/b", None, True),
        ("/%", "a/b", None, False),
        ("'", "it's", None, True),
        ("' OR 'x'='x", "x", None, False),
        (" ", "a b", None, True),
        ("🚀", "to the 🚀", None, True),
        ("x" * 255, "x" * 255, None, True),
        ("name", "x", None, False),
        ("null", "x", None, False),
    ],
)
async def test_by_words(
    client: httpx.AsyncClient, connection: AsyncConnection, q: str, name: str, description: str | None, found: bool
) -> None:
    insert = text("INSERT INTO pyapi_data_records (name, description) VALUES (:name, :description)")
    await connection.execute(insert, {"name": name, "description": description})
    assert (await get(client, q=q))["total"] == int(found)


@pytest.mark.parametrize("value", ["", "x" * 256, "%00", "a%00b", "%E8%B3%87" * 256])
async def test_by_words_that_cannot_be(client: httpx.AsyncClient, value: str) -> None:
    await assert_refused(client, f"q={value}", "q")


async def test_by_bytes_that_are_no_text(client: httpx.AsyncClient) -> None:
    """Servers decode a query with replacement characters, which are text."""
    assert (await client.get("/api/data/?q=%ff%ed%a0%80")).json()["total"] == 0


async def test_by_owner(client: httpx.AsyncClient, connection: AsyncConnection, sign_up: SignUp) -> None:
    owner, other = await sign_up(), await sign_up()
    for account in (owner, other, owner):
        await client.post("/api/data/", json={"name": "x"}, headers=account.headers)
    answer = await client.get("/api/data/", params={"owner_id": owner.id}, headers=other.headers)
    assert {record["id"] for record in answer.json()["data"]} == set(await ids(connection, f"owner_id = {owner.id}"))


@pytest.mark.parametrize("value", ["0", "-1", "2147483648", "1" + "0" * 30, "me", "", "%00"])
async def test_by_an_owner_that_cannot_be(client: httpx.AsyncClient, value: str) -> None:
    await assert_refused(client, f"owner_id={value}", "owner_id")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ({"created_after": "2026-01-03T00:00:00Z"}, "created_at > '2026-01-03T00:00:00Z'"),
        ({"created_before": "2026-01-03T00:00:00Z"}, "created_at < '2026-01-03T00:00:00Z'"),
        ({"updated_after": "2026-02-01T00:00:00.000003Z"}, "updated_at > '2026-02-01T00:00:00.000003Z'"),
        ({"updated_before": "2026-02-01T00:00:00.000003Z"}, "updated_at < '2026-02-01T00:00:00.000003Z'"),
        (
            {"created_after": "2026-01-02T00:00:00Z", "created_before": "2026-01-05T00:00:00Z"},
            "created_at IN ('2026-01-03T00:00:00Z', '2026-01-04T00:00:00Z')",
        ),
        ({"created_after": "2026-01-05T00:00:00Z", "created_before": "2026-01-02T00:00:00Z"}, "false"),
        ({"created_after": "2026-01-03T00:00:00"}, "created_at > '2026-01-03T00:00:00Z'"),
        ({"created_after": "2026-01-03 00:00:00"}, "created_at > '2026-01-03T00:00:00Z'"),
        ({"created_after": "2026-01-03"}, "created_at > '2026-01-03T00:00:00Z'"),
        ({"created_after": "2026-01-03T08:00:00+08:00"}, "created_at > '2026-01-03T00:00:00Z'"),
        ({"created_after": "2026-01-03T07:59:59+08:00"}, "created_at >= '2026-01-03T00:00:00Z'"),
        ({"created_before": "2026-01-02T19:00:00-05:00"}, "created_at < '2026-01-03T00:00:00Z'"),
        ({"created_after": "0001-01-01T00:00:00Z"}, "true"),
        ({"created_before": "0001-01-01T00:00:00Z"}, "false"),
        ({"created_before": "9999-12-31T23:59:59.999999Z"}, "true"),
        ({"updated_after": "9999-12-31T23:59:59.999999Z"}, "false"),
        ({"created_after": "0001-01-01T00:00:00-14:00"}, "true"),
        ({"created_before": "9999-12-31T23:59:59+14:00"}, "true"),
        ({"q": "daily", "status": "active", "created_after": "2026-01-03T00:00:00Z"}, "name ILIKE 'daily'"),
    ],
)
async def test_by_time(
    client: httpx.AsyncClient, connection: AsyncConnection, query: dict[str, str], condition: str
) -> None:
    if "status" in query:
        condition += " AND status = 'active' AND created_at > '2026-01-03T00:00:00Z'"
    assert await listed(client, **query) == await ids(connection, condition)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "now",
        "infinity",
        "0",
        "1767398400",
        "-1",
        "1e400",
        "NaN",
        "2026-02-30",
        "2026-13-01",
        "2026-01-01T24:00:01Z",
        "2026-01-01T00:00:00+25:00",
        "2026-01-01T00:00:00 08:00",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "+12026-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-01-01T00:00:00Z\x00",
        "2026-01-01\n",
        "二〇二六-01-01",
    ],
)
@pytest.mark.parametrize("field", ["created_after", "created_before", "updated_after", "updated_before"])
async def test_by_a_time_that_cannot_be(client: httpx.AsyncClient, field: str, value: str) -> None:
    await assert_refused(client, urlencode({field: value}), field)


# --- Orders -----------------------------------------------------------------------------------------------------------

# What is asked for, and the same in SQL. Rows that are equal keep one order, by their ids.
ORDERS = {
    **{key: f"{key} ASC, id ASC" for key in SORTABLE},
    **{f"-{key}": f"{key} DESC, id DESC" for key in SORTABLE},
    "status,-created_at": "status ASC, created_at DESC, id DESC",
    "-created_at,name": "created_at DESC, name ASC, id ASC",
    "-name,status,-updated_at": "name DESC, status ASC, updated_at DESC, id DESC",
    "status,id": "status ASC, id ASC",
    "status,-id,name": "status ASC, id DESC",
    "name,status,created_at,updated_at,-id": "name, status, created_at, updated_at, id DESC",
    "name,-name": "name ASC, id DESC",
    "-status,-status": "status DESC, id DESC",
    "id,status,-id": "id ASC",
}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("order_by", ORDERS)
async def test_order(client: httpx.AsyncClient, connection: AsyncConnection, order_by: str) -> None:
    assert await listed(client, order_by=order_by) == await ids(connection, order=ORDERS[order_by])


@pytest.mark.parametrize(
    "order_by",
    [
        "unknown",
        "config",
        "description",
        "owner_id",
        "revision",
        "",
        "-",
        "--name",
        "+name",
        "name,",
        ",name",
        "name,,status",
        "name, status",
        " name",
        "name\n",
        "Name",
        "name desc",
        "name;--",
        "name\x00",
        "name,unknown",
        "姓名",
        "__class__",
        "name,status,created_at,updated_at,id,name",
        "name," * 1000 + "id",
    ],
)
async def test_an_order_that_is_not_known_names_those_that_are(client: httpx.AsyncClient, order_by: str) -> None:
    document = await assert_refused(client, urlencode({"order_by": order_by}), "order_by")
    assert "id, name, status, created_at, updated_at" in document["errors"][0]["detail"]


# --- Walking with a cursor --------------------------------------------------------------------------------------------


async def walk(client: httpx.AsyncClient, between: Callable[[list[int]], Any] | None = None, **query: Any) -> list[int]:
    """The ids on all pages, following `next_cursor`; `between` is called after each page with what was seen so far."""
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(client, limit=7, **query, **cursor)
        seen += [record["id"] for record in page["data"]]
        if page["next_cursor"] is None:
            return seen
        cursor = {"cursor": page["next_cursor"]}
        assert len(seen) < 10 * ROWS, "this walk never ends"
        if between is not None:
            await between(seen)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("order_by", ORDERS)
async def test_a_walk_sees_every_record_once_and_in_order(
    client: httpx.AsyncClient, connection: AsyncConnection, order_by: str
) -> None:
    assert await walk(client, order_by=order_by) == await ids(connection, order=ORDERS[order_by])


@pytest.mark.usefixtures("filled")
async def test_a_walk_keeps_to_the_filters(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    condition = "status = 'active' AND description LIKE '%說明%'"
    assert await walk(client, status="active", q="說明") == await ids(connection, condition)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("order_by", ORDERS)
async def test_a_walk_while_rows_come_and_go(
    client: httpx.AsyncClient, connection: AsyncConnection, order_by: str
) -> None:
    """What is there all the time is seen exactly once, wherever rows are put in or taken away meanwhile."""
    before = set(await ids(connection))

    async def disturb(seen: list[int]) -> None:
        waiting = [one for one in await ids(connection, order=ORDERS[order_by]) if one not in seen]
        gone = [seen[-1], waiting[len(waiting) // 2]]
        await connection.execute(text("DELETE FROM pyapi_data_records WHERE id = ANY(:ids)"), {"ids": gone})
        await connection.execute(text(FILL.replace(f"generate_series(1, {ROWS})", "generate_series(1, 3)")))

    seen = await walk(client, disturb, order_by=order_by)
    stayed = before & set(await ids(connection))
    assert sorted(one for one in seen if one in stayed) == sorted(stayed)


@pytest.mark.usefixtures("filled")
async def test_the_last_page_has_no_cursor(client: httpx.AsyncClient) -> None:
    assert (await get(client, limit=ROWS))["next_cursor"] is None


@pytest.mark.usefixtures("filled")
async def test_a_page_that_is_full_has_a_cursor_while_there_is_more(client: httpx.AsyncClient) -> None:
    assert (await get(client, limit=ROWS - 1))["next_cursor"] is not None


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("other", ["created_at", "-created_at,name", "-updated_at", "id"])
async def test_a_cursor_of_another_order_is_refused(client: httpx.AsyncClient, other: str) -> None:
    cursor = (await get(client, order_by="-created_at"))["next_cursor"]
    await assert_refused(client, urlencode({"cursor": cursor, "order_by": other}), "cursor")


@pytest.mark.usefixtures("filled")
async def test_a_cursor_and_a_skip_are_refused(client: httpx.AsyncClient) -> None:
    cursor = (await get(client))["next_cursor"]
    await assert_refused(client, urlencode({"cursor": cursor, "skip": 10}), "skip")


@pytest.mark.usefixtures("filled")
async def test_a_cursor_may_come_with_a_skip_of_zero(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    cursor = (await get(client))["next_cursor"]
    page = await get(client, cursor=cursor, skip=0)
    assert [record["id"] for record in page["data"]] == (await ids(connection))[10:20]


def packed(value: Any) -> str:
    """Any JSON as a cursor."""
    text_ = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text_.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


TIME = "2026-01-01T00:00:00+00:00"
HOSTILE_CURSORS = {
    "empty": "",
    "a word": "next",
    "not base64": "***",
    "not ASCII": "游標",
    "NUL": "\x00",
    "padding only": "====",
    "bytes that are no text": base64.urlsafe_b64encode(b"\xff\xfe\xfd").decode(),
    "no JSON": packed("x"),
    "null": packed("null"),
    "a number": packed("1"),
    "a text": packed('"-created_at"'),
    "an empty list": packed([]),
    "an object": packed({"-created_at": 1}),
    "no values": packed(["-created_at"]),
    "too few values": packed(["-created_at", TIME]),
    "too many values": packed(["-created_at", TIME, 1, 1]),
    "an unknown order": packed(["secret", TIME, 1]),
    "a list for an order": packed([["-created_at"], TIME, 1]),
    "null for a time": packed(["-created_at", None, 1]),
    "a number for a time": packed(["-created_at", 1, 1]),
    "words for a time": packed(["-created_at", "yesterday", 1]),
    "a time without a zone": packed(["-created_at", "2026-01-01T00:00:00", 1]),
    "a time of another zone": packed(["-created_at", "2026-01-01T00:00:00+08:00", 1]),
    "a time with NUL": packed(["-created_at", TIME + "\x00", 1]),
    "the year 10000": packed(["-created_at", "10000-01-01T00:00:00+00:00", 1]),
    "infinity": packed(["-created_at", "infinity", 1]),
    "a text for an id": packed(["-created_at", TIME, "1"]),
    "a float for an id": packed(["-created_at", TIME, 1.0]),
    "true for an id": packed(["-created_at", TIME, True]),
    "null for an id": packed(["-created_at", TIME, None]),
    "a large id": packed(["-created_at", TIME, 2**31]),
    "a huge id": packed(f'["-created_at","{TIME}",{"9" * 2500}]'),
    "a negative id": packed(["-created_at", TIME, -1]),
    "NaN for an id": packed(f'["-created_at","{TIME}",NaN]'),
    "1e400 for an id": packed(f'["-created_at","{TIME}",1e400]'),
    "nested deeply": packed("[" * 3000),
    "a surrogate": packed('["-created_at","\\ud800",1]'),
    "4,097 characters": "A" * 4097,
}


@pytest.mark.parametrize("cursor", HOSTILE_CURSORS.values(), ids=HOSTILE_CURSORS)
async def test_a_cursor_that_is_none_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    await assert_refused(client, urlencode({"cursor": cursor}), "cursor")


@pytest.mark.parametrize(
    "name", ["a\x00", "\ud800", 1, None, ["a"]], ids=["NUL", "surrogate", "number", "null", "list"]
)
async def test_a_cursor_with_a_name_that_cannot_be_is_refused(client: httpx.AsyncClient, name: object) -> None:
    await assert_refused(client, urlencode({"cursor": packed(["name", name, 1]), "order_by": "name"}), "cursor")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"])
async def test_a_cursor_may_name_the_first_and_the_last_moment(client: httpx.AsyncClient, moment: str) -> None:
    assert (await get(client, cursor=packed(["-created_at", moment, 1])))["data"] == []


# --- Links ------------------------------------------------------------------------------------------------------------


def links(answer: httpx.Response) -> dict[str, str]:
    """The `Link` header: target by relation (RFC 8288, 3)."""
    found = re.findall(r'<([^<>]*)>; rel="(\w+)"(?:, |$)', answer.headers["link"])
    assert answer.headers["link"] == ", ".join(f'<{target}>; rel="{relation}"' for target, relation in found)
    return {relation: target for target, relation in found}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("query", "relations"),
    [
        ("", ["first", "next", "last"]),
        ("?skip=10", ["first", "prev", "next", "last"]),
        ("?skip=50", ["first", "prev", "last"]),
        ("?limit=60", ["first", "last"]),
        ("?skip=3&limit=60", ["first", "prev", "last"]),
        ("?skip=1000", ["first", "prev", "last"]),
        ("?include_total=false", ["first", "next"]),
        ("?include_total=false&skip=50", ["first", "prev"]),
        ("?q=nothing-like-this", ["first", "last"]),
    ],
)
async def test_a_page_names_its_neighbours(client: httpx.AsyncClient, query: str, relations: list[str]) -> None:
    assert list(links(await client.get(f"/api/data/{query}"))) == relations


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("query", "relation", "skip"),
    [
        ("", "first", 0),
        ("?skip=30", "first", 0),
        ("?skip=30", "prev", 20),
        ("?skip=30", "next", 40),
        ("?skip=30", "last", 50),
        ("?skip=3", "prev", 0),
        ("?limit=25", "last", 50),
        ("?limit=20", "last", 40),
        ("?limit=1", "last", 59),
        ("?limit=1000", "last", 0),
        ("?skip=7&limit=7&status=active", "next", 14),
    ],
)
async def test_a_link_leads_to_the_page_it_names(
    client: httpx.AsyncClient, query: str, relation: str, skip: int
) -> None:
    here = await client.get(f"/api/data/{query}")
    there = (await client.get(links(here)[relation])).json()
    assert (there["skip"], there["limit"]) == (skip, here.json()["limit"])


async def follow(client: httpx.AsyncClient, start: str, relation: str) -> list[int]:
    """The ids on all pages, in the order in which the links of `relation` lead through them."""
    seen: list[int] = []
    target: str | None = start
    while target is not None:
        answer = await client.get(target)
        seen += [record["id"] for record in answer.json()["data"]]
        target = links(answer).get(relation)
        assert len(seen) <= ROWS, "these links never end"
    return seen


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("path", ["/api/data", "/api/data/"])
async def test_the_next_links_lead_through_everything(
    client: httpx.AsyncClient, connection: AsyncConnection, path: str
) -> None:
    assert await follow(client, f"{path}?limit=7", "next") == await ids(connection)


@pytest.mark.usefixtures("filled")
async def test_the_next_links_keep_filters_and_order(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    query = urlencode({"q": "說明", "created_after": "2026-01-02T08:00:00+08:00", "order_by": "name,-id", "limit": 3})
    condition = "description LIKE '%說明%' AND created_at > '2026-01-02T00:00:00Z'"
    assert await follow(client, f"/api/data/?{query}", "next") == await ids(connection, condition, "name, id DESC")


@pytest.mark.usefixtures("filled")
async def test_the_prev_links_lead_back_to_the_start(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    seen = await follow(client, "/api/data/?skip=50", "prev")
    assert sorted(seen) == sorted(await ids(connection))


@pytest.mark.usefixtures("filled")
async def test_the_next_links_of_a_cursor_lead_through_the_rest(
    client: httpx.AsyncClient, connection: AsyncConnection
) -> None:
    cursor = (await get(client, limit=7))["next_cursor"]
    seen = await follow(client, f"/api/data/?{urlencode({'cursor': cursor, 'limit': 7})}", "next")
    assert seen == (await ids(connection))[7:]


@pytest.mark.usefixtures("filled")
async def test_a_page_of_a_cursor_names_what_it_can(client: httpx.AsyncClient) -> None:
    cursor = (await get(client))["next_cursor"]
    assert list(links(await client.get(f"/api/data/?cursor={cursor}"))) == ["first", "next"]
