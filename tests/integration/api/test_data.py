"""Data records: who may do what, what a change changes, and how two writers stay out of each other's way."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import SignUp, assert_outcome, assert_problem
from tests.fixtures.callers import HeadersOf
from tests.integration.api.records import count_records, create, insert

CONFIG: dict[str, Any] = {
    "source": "s3://bucket/來源",
    "schedule": "0 9 * * *",
    "batch_size": 1000,
    "columns": ["a", None],
}
SCHEDULE_FIELDS = {"schedule_description", "schedule_error", "next_run_at", "paused_until"}
ITEM_FIELDS = {"id", "name", "description", "config", "status", "owner_id", "revision", "created_at", "updated_at"}
ITEM_FIELDS |= SCHEDULE_FIELDS | {"airflow", "last_run", "visibility"}
RECORD_FIELDS = ITEM_FIELDS | {"next_runs"}
SUMMARY_ITEM_FIELDS = {"id", "name", "description", "status", "schedule", "created_at", "updated_at"} | SCHEDULE_FIELDS
SUMMARY_FIELDS = SUMMARY_ITEM_FIELDS | {"next_runs"}
MISSING_ID = 2**31 - 1


@pytest.fixture
async def record(client: httpx.AsyncClient, headers_of: HeadersOf) -> dict[str, Any]:
    """A record of the caller "owner", as it was answered."""
    body = {"name": "每日同步", "description": "說明", "config": CONFIG, "status": "pending"}
    answer = await client.post("/api/data/", json=body, headers=await headers_of("owner"))
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


async def state(connection: AsyncConnection) -> list[str]:
    """Every record as it is stored."""
    return list((await connection.execute(text("SELECT r::text FROM pyapi_data_records r ORDER BY id"))).scalars())


# --- Who gets which status --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "body", "status", "code"),
    [
        ("owner", {"name": "x"}, 201, None),
        ("superuser", {"name": "x"}, 201, None),
        ("nobody", {"name": "x"}, 401, "not_authenticated"),
        ("a forger", {"name": "x"}, 401, "invalid_token"),
        ("a late comer", {"name": "x"}, 401, "invalid_token"),
        ("owner", {}, 422, "validation_failed"),
        ("owner", {"name": "x", "status": "paused"}, 422, "validation_failed"),
        ("nobody", {}, 401, "not_authenticated"),
    ],
)
@pytest.mark.parametrize("path", ["/api/data", "/api/data/"])
async def test_status_of_creating(
    client: httpx.AsyncClient, headers_of: HeadersOf, path: str, caller: str, body: Any, status: int, code: str | None
) -> None:
    answer = await client.post(path, json=body, headers=await headers_of(caller))
    assert_outcome(answer, status, code)


@pytest.mark.parametrize(
    ("caller", "query", "status", "code"),
    [
        ("owner", "", 200, None),
        ("somebody else", "", 200, None),
        ("superuser", "", 200, None),
        ("nobody", "", 200, None),
        ("a forger", "", 401, "invalid_token"),
        ("a late comer", "", 401, "invalid_token"),
        ("nobody", "?owner_id=1", 401, "not_authenticated"),
        ("owner", "?limit=0", 422, "validation_failed"),
        ("nobody", "?limit=0", 422, "validation_failed"),
    ],
)
@pytest.mark.parametrize("path", ["/api/data", "/api/data/"])
async def test_status_of_listing(
    client: httpx.AsyncClient, headers_of: HeadersOf, path: str, caller: str, query: str, status: int, code: str | None
) -> None:
    assert_outcome(await client.get(path + query, headers=await headers_of(caller)), status, code)


@pytest.mark.parametrize(
    ("caller", "record_id", "status", "code"),
    [
        ("owner", None, 200, None),
        ("somebody else", None, 200, None),
        ("superuser", None, 200, None),
        ("nobody", None, 200, None),
        ("a forger", None, 401, "invalid_token"),
        ("a late comer", None, 401, "invalid_token"),
        ("owner", MISSING_ID, 404, "not_found"),
        ("nobody", MISSING_ID, 404, "not_found"),
        ("owner", 0, 422, "validation_failed"),
    ],
)
async def test_status_of_reading(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    record: dict[str, Any],
    caller: str,
    record_id: int | None,
    status: int,
    code: str | None,
) -> None:
    path = f"/api/data/{record['id'] if record_id is None else record_id}"
    assert_outcome(await client.get(path, headers=await headers_of(caller)), status, code)


STALE = {"If-Match": '"rev-7"'}
# Caller, id (None: of the record), more headers, status, code. What is asked first decides: a caller who is not known
# learns nothing about records, and the precondition comes last (RFC 9110, 13.2.1).
CHANGING = [
    ("owner", None, {}, 200, None),
    ("superuser", None, {}, 200, None),
    ("owner", None, {"If-Match": '"rev-1"'}, 200, None),
    ("somebody else", None, {}, 403, "permission_denied"),
    ("somebody else", None, STALE, 403, "permission_denied"),
    ("nobody", None, {}, 401, "not_authenticated"),
    ("nobody", MISSING_ID, {}, 401, "not_authenticated"),
    ("a forger", None, {}, 401, "invalid_token"),
    ("a late comer", None, {}, 401, "invalid_token"),
    ("owner", MISSING_ID, {}, 404, "not_found"),
    ("owner", MISSING_ID, STALE, 404, "not_found"),
    ("superuser", MISSING_ID, {}, 404, "not_found"),
    ("owner", None, STALE, 412, "precondition_failed"),
    ("superuser", None, STALE, 412, "precondition_failed"),
    ("owner", None, {"If-Match": '"rev-1", "rev-2"'}, 400, "bad_request"),
    ("owner", 0, {}, 422, "validation_failed"),
]


@pytest.mark.parametrize(("caller", "record_id", "headers", "status", "code"), CHANGING)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_status_of_changing(
    client: httpx.AsyncClient,
    headers_of: HeadersOf,
    record: dict[str, Any],
    method: str,
    caller: str,
    record_id: int | None,
    headers: dict[str, str],
    status: int,
    code: str | None,
) -> None:
    path = f"/api/data/{record['id'] if record_id is None else record_id}"
    body = None if method == "DELETE" else {"status": "inactive"}
    answer = await client.request(method, path, json=body, headers={**await headers_of(caller), **headers})
    assert_outcome(answer, status, code)


REFUSED = [(caller, headers) for caller, record_id, headers, _, code in CHANGING if code and record_id is None]


@pytest.mark.parametrize(("caller", "headers"), REFUSED)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_what_is_refused_changes_nothing(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    headers_of: HeadersOf,
    record: dict[str, Any],
    method: str,
    caller: str,
    headers: dict[str, str],
) -> None:
    before = await state(connection)
    body = None if method == "DELETE" else {"status": "inactive"}
    await client.request(
        method, f"/api/data/{record['id']}", json=body, headers={**await headers_of(caller), **headers}
    )
    assert await state(connection) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_record_without_owner_is_for_superusers(
    client: httpx.AsyncClient, connection: AsyncConnection, headers_of: HeadersOf, method: str
) -> None:
    record_id = await insert(connection)
    body = None if method == "DELETE" else {"status": "inactive"}
    answer = await client.request(method, f"/api/data/{record_id}", json=body, headers=await headers_of("owner"))
    assert_problem(answer, 403, "permission_denied")


# --- Creating ---------------------------------------------------------------------------------------------------------


async def test_created_record_has_what_was_sent(record: dict[str, Any]) -> None:
    sent = {name: record[name] for name in ("name", "description", "config", "status")}
    assert sent == {"name": "每日同步", "description": "說明", "config": CONFIG, "status": "pending"}


async def test_created_record_has_all_fields(record: dict[str, Any]) -> None:
    assert set(record) == RECORD_FIELDS


async def test_created_record_belongs_to_its_creator(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    creator = await sign_up()
    assert (await create(client, creator))["owner_id"] == creator.id


async def test_created_record_is_revision_one(record: dict[str, Any]) -> None:
    assert record["revision"] == 1


async def test_created_record_has_times_in_utc(record: dict[str, Any]) -> None:
    assert datetime.fromisoformat(record["created_at"]).utcoffset() == timedelta(0)


async def test_what_is_not_sent_has_defaults(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    record = await create(client, await sign_up())
    assert (record["description"], record["config"], record["status"]) == (None, None, "active")


async def test_location_leads_to_the_created_record(client: httpx.AsyncClient, headers_of: HeadersOf) -> None:
    created = await client.post("/api/data/", json={"name": "x"}, headers=await headers_of("owner"))
    found = await client.get(created.headers["location"], headers=await headers_of("owner"))
    assert found.json() == created.json()


async def test_a_name_may_occur_twice(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    owner = await sign_up()
    first, second = await create(client, owner, name="同名"), await create(client, owner, name="同名")
    assert first["id"] != second["id"]


# --- Reading ----------------------------------------------------------------------------------------------------------


async def test_reading_answers_what_creating_did(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    answer = await client.get(f"/api/data/{record['id']}", headers=await headers_of("owner"))
    assert answer.json() == record


async def test_everybody_who_is_signed_in_reads_the_whole_record(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    answer = await client.get(f"/api/data/{record['id']}", headers=await headers_of("somebody else"))
    assert answer.json() == record


async def test_the_list_has_the_whole_record(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    answer = await client.get("/api/data/", headers=await headers_of("somebody else"))
    assert answer.json()["data"] == [{name: record[name] for name in ITEM_FIELDS}]


async def test_anonymous_reader_gets_a_summary(client: httpx.AsyncClient, record: dict[str, Any]) -> None:
    answer = await client.get(f"/api/data/{record['id']}")
    same = {name: record[name] for name in SUMMARY_FIELDS - {"schedule"}}
    assert answer.json() == {**same, "schedule": "0 9 * * *"}


async def test_anonymous_list_has_summaries(client: httpx.AsyncClient, record: dict[str, Any]) -> None:
    assert [set(item) for item in (await client.get("/api/data/")).json()["data"]] == [SUMMARY_ITEM_FIELDS]


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_anonymous_answers_hold_nothing_else_of_the_config(
    client: httpx.AsyncClient, record: dict[str, Any], path: str
) -> None:
    assert "bucket" not in (await client.get(path.format(**record))).text


@pytest.mark.parametrize(
    ("config", "schedule"),
    [
        ('{"schedule": "@daily"}', "@daily"),
        ('{"schedule": 3600}', 3600),
        ('{"schedule": 1.5}', 1.5),
        ('{"schedule": ""}', ""),
        ('{"schedule": null}', None),
        ('{"schedule": true}', None),
        ('{"schedule": {"cron": "0 9 * * *"}}', None),
        ('{"schedule": ["0 9 * * *"]}', None),
        ('{"schedule": 1e400}', None),
        ('{"schedule": "https://u:pass@host/cron"}', "https://u:***@host/cron"),
        ('{"Schedule": "@daily"}', None),
        ("{}", None),
        (None, None),
        ('"@daily"', None),
        ('["schedule"]', None),
    ],
)
async def test_schedule_of_a_summary(
    client: httpx.AsyncClient, connection: AsyncConnection, config: str | None, schedule: object
) -> None:
    record_id = await insert(connection, config)
    assert (await client.get(f"/api/data/{record_id}")).json()["schedule"] == schedule


async def test_anonymous_answer_has_no_entity_tag(client: httpx.AsyncClient, record: dict[str, Any]) -> None:
    assert "etag" not in (await client.get(f"/api/data/{record['id']}")).headers


@pytest.fixture
def no_anonymous_read(app: FastAPI) -> Iterator[None]:
    """PYAPI_ANONYMOUS_READ=false."""
    app.state.anonymous_read = False
    yield
    app.state.anonymous_read = True


@pytest.mark.usefixtures("no_anonymous_read")
@pytest.mark.parametrize("path", ["/api/data", "/api/data/", "/api/data/{id}", f"/api/data/{MISSING_ID}"])
async def test_anonymous_reading_can_be_switched_off(
    client: httpx.AsyncClient, record: dict[str, Any], path: str
) -> None:
    assert_problem(await client.get(path.format(**record)), 401, "not_authenticated")


@pytest.mark.usefixtures("no_anonymous_read")
@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_who_is_signed_in_reads_then_too(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], path: str
) -> None:
    answer = await client.get(path.format(**record), headers=await headers_of("somebody else"))
    assert answer.status_code == 200


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Bearer x", "Basic Og==", "Bearer \xe9", "Token x"])
@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_a_bad_token_is_not_an_anonymous_reader(
    client: httpx.AsyncClient, record: dict[str, Any], path: str, authorization: str
) -> None:
    headers = {b"Authorization": authorization.encode("latin-1")}
    assert_problem(await client.get(path.format(**record), headers=headers), 401, "invalid_token")


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{id}"])
async def test_a_token_of_an_ended_session_is_not_an_anonymous_reader(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], path: str
) -> None:
    headers = await headers_of("owner")
    await client.post("/api/auth/logout", headers=headers)
    assert_problem(await client.get(path.format(**record), headers=headers), 401, "invalid_token")


# --- Changing ---------------------------------------------------------------------------------------------------------

BOTH_METHODS = pytest.mark.parametrize("method", ["PUT", "PATCH"])
CHANGES: list[dict[str, Any]] = [
    {"name": "新名稱 🚀"},
    {"description": "更新後的描述"},
    {"description": None},
    {"description": ""},
    {"config": {"target": "s3://b"}},
    {"config": {}},
    {"config": None},
    {"status": "completed"},
    {"description": "更新後的描述", "status": "inactive"},
    {},
]


@BOTH_METHODS
@pytest.mark.parametrize("body", CHANGES)
async def test_a_change_changes_what_was_sent_and_nothing_else(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str, body: dict[str, Any]
) -> None:
    answer = await client.request(method, f"/api/data/{record['id']}", json=body, headers=await headers_of("owner"))
    kept = {name: record[name] for name in ITEM_FIELDS - SCHEDULE_FIELDS - {"revision", "updated_at"}}
    assert {name: answer.json()[name] for name in kept} == {**kept, **body}


@BOTH_METHODS
async def test_a_change_is_stored(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str
) -> None:
    headers = await headers_of("owner")
    changed = await client.request(method, f"/api/data/{record['id']}", json={"name": "x"}, headers=headers)
    assert (await client.get(f"/api/data/{record['id']}", headers=headers)).json() == changed.json()


@BOTH_METHODS
async def test_a_change_by_a_superuser_leaves_the_owner(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str
) -> None:
    headers = await headers_of("superuser")
    changed = await client.request(method, f"/api/data/{record['id']}", json={"name": "x"}, headers=headers)
    assert changed.json()["owner_id"] == record["owner_id"]


@pytest.mark.parametrize(("body", "revision"), [({"name": "x"}, 2), ({"name": "每日同步"}, 1), ({}, 1)])
async def test_revision_counts_what_really_changed(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], body: dict[str, Any], revision: int
) -> None:
    answer = await client.put(f"/api/data/{record['id']}", json=body, headers=await headers_of("owner"))
    assert answer.json()["revision"] == revision


async def test_updated_at_moves_with_a_change(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    answer = await client.put(f"/api/data/{record['id']}", json={"name": "x"}, headers=await headers_of("owner"))
    assert datetime.fromisoformat(answer.json()["updated_at"]) > datetime.fromisoformat(record["updated_at"])


@BOTH_METHODS
@pytest.mark.parametrize("field", ["name", "status"])
async def test_what_a_record_must_have_cannot_be_cleared(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str, field: str
) -> None:
    headers = await headers_of("owner")
    answer = await client.request(method, f"/api/data/{record['id']}", json={field: None}, headers=headers)
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert {error["pointer"].split("/")[2] for error in errors} == {field}


@pytest.mark.parametrize("field", ["id", "owner_id", "revision", "created_at", "updated_at", "schedule", "Name", ""])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_field_that_nobody_may_send_is_refused(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str, field: str
) -> None:
    path = "/api/data/" if method == "POST" else f"/api/data/{record['id']}"
    body = {"name": "x", field: record.get(field, 1)}
    answer = await client.request(method, path, json=body, headers=await headers_of("owner"))
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert [error["pointer"] for error in errors] == [f"/body/{field}"]


# --- Deleting ---------------------------------------------------------------------------------------------------------


async def test_deleting_says_what_was_deleted(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    answer = await client.delete(f"/api/data/{record['id']}", headers=await headers_of("owner"))
    assert answer.json() == {"message": "Deleted '每日同步'.", "deleted_id": record["id"]}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_a_deleted_record_is_gone(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str
) -> None:
    path, headers = f"/api/data/{record['id']}", await headers_of("owner")
    await client.delete(path, headers=headers)
    body = {"name": "x"} if method in {"PUT", "PATCH"} else None
    assert_problem(await client.request(method, path, json=body, headers=headers), 404, "not_found")


async def test_deleting_one_leaves_the_others(
    client: httpx.AsyncClient, connection: AsyncConnection, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    await insert(connection)
    await client.delete(f"/api/data/{record['id']}", headers=await headers_of("owner"))
    assert await count_records(connection) == 1


# --- Two writers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "PATCH"])
async def test_entity_tag_names_the_revision(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str
) -> None:
    path = "/api/data/" if method == "POST" else f"/api/data/{record['id']}"
    body = None if method == "GET" else {"name": "x"}
    answer = await client.request(method, path, json=body, headers=await headers_of("owner"))
    assert answer.headers["etag"] == f'"rev-{answer.json()["revision"]}"'


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"rev-1"', 200),
        ("*", 200),
        (' "rev-1" ', 200),
        ('"rev-2"', 412),
        ('"rev-0"', 412),
        ('"rev-01"', 412),
        ('"rev-9999999999"', 412),
        ('"rev-99999999999999999999"', 412),
        ('W/"rev-1"', 412),
        ("rev-1", 412),
        ('"1"', 412),
        ('"rev-١"', 412),
        ("", 412),
        ('"', 412),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_if_match(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str, tag: str, status: int
) -> None:
    headers = {**await headers_of("owner"), "If-Match": tag.encode()}
    body = None if method == "DELETE" else {"name": "x"}
    answer = await client.request(method, f"/api/data/{record['id']}", json=body, headers=headers)  # type: ignore[arg-type]
    assert_outcome(answer, status, "precondition_failed" if status == 412 else None)


@pytest.mark.parametrize("tags", [['"rev-1", "rev-2"'], ['*, "rev-1"'], ['"rev-1"', '"rev-2"'], [","]])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_one_tag_at_a_time(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any], method: str, tags: list[str]
) -> None:
    headers = [*(await headers_of("owner")).items(), *(("If-Match", tag) for tag in tags)]
    body = None if method == "DELETE" else {"name": "x"}
    answer = await client.request(method, f"/api/data/{record['id']}", json=body, headers=headers)
    assert_problem(answer, 400, "bad_request")


async def test_of_two_writers_with_the_same_tag_the_second_is_refused(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    path, headers = f"/api/data/{record['id']}", {**await headers_of("owner"), "If-Match": '"rev-1"'}
    await client.put(path, json={"name": "first"}, headers=headers)
    assert_problem(await client.put(path, json={"name": "second"}, headers=headers), 412, "precondition_failed")


async def test_without_a_tag_the_last_writer_wins(
    client: httpx.AsyncClient, headers_of: HeadersOf, record: dict[str, Any]
) -> None:
    path, headers = f"/api/data/{record['id']}", await headers_of("owner")
    await client.put(path, json={"name": "first"}, headers=headers)
    assert (await client.put(path, json={"name": "second"}, headers=headers)).json()["name"] == "second"
