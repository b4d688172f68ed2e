"""Who sees a record and who changes it: its visibility, whom it is shared with, and the role of an account."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.enums import Visibility
from tests.fake_airflow import FakeAirflow
from tests.fixtures.application import Account, SignUp, assert_outcome, assert_problem
from tests.fixtures.callers import HeadersOf
from tests.integration.api.records import create, insert

DAY = {"from": "2027-03-01T00:00:00Z", "to": "2027-03-02T00:00:00Z"}
MISSING_ID = 2**31 - 1
CONFIG = {"schedule": "@daily"}
VISIBILITIES = ["public", "internal", "private"]


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.fixture
async def mei(sign_up: SignUp) -> Account:
    return await sign_up("Mei")


@pytest.fixture
async def records(client: httpx.AsyncClient, owner: Account) -> dict[str, int]:
    """A record of each visibility, by that word."""
    return {
        visibility: (await create(client, owner, name=visibility, visibility=visibility, config=CONFIG))["id"]
        for visibility in VISIBILITIES
    }


async def share(client: httpx.AsyncClient, owner: Account, record_id: int, **body: Any) -> dict[str, Any]:
    path = f"/api/data/{record_id}/access"
    answer = await client.put(path, json={"grants": []} | body, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    access: dict[str, Any] = answer.json()
    return access


def grant(username: str, permission: str = "read") -> dict[str, str]:
    return {"username": username, "permission": permission}


# --- Who sees what ----------------------------------------------------------------------------------------------------


SEEN = [
    ("nobody", ["public"]),
    ("somebody", ["public", "internal"]),
    ("owner", VISIBILITIES),
    ("superuser", VISIBILITIES),
]
EACH_CALLER = pytest.mark.parametrize(("caller", "seen"), SEEN)


@EACH_CALLER
async def test_the_list_has_what_the_caller_may_see(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, headers_of: HeadersOf, caller: str, seen: Any
) -> None:
    headers = owner.headers if caller == "owner" else await headers_of(caller)
    found = (await client.get("/api/data/", params={"order_by": "id"}, headers=headers)).json()
    assert ([record["name"] for record in found["data"]], found["total"]) == (seen, len(seen))


@pytest.mark.parametrize(
    "query",
    [
        {"q": "private"},
        {"visibility": "private"},
        {"owner_id": "{owner}", "q": "priv"},
        {"status": "active", "q": "priv"},
    ],
    ids=str,
)
async def test_no_filter_finds_what_the_caller_may_not_see(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account, query: dict[str, str]
) -> None:
    params = {name: value.format(owner=owner.id) for name, value in query.items()}
    found = (await client.get("/api/data/", params=params, headers=mei.headers)).json()
    assert (found["data"], found["total"], found["next_cursor"]) == ([], 0, None)


async def test_pages_are_counted_without_what_the_caller_may_not_see(
    client: httpx.AsyncClient, records: dict[str, int], mei: Account
) -> None:
    names: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "1", "order_by": "-id"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/data/", params=params, headers=mei.headers)).json()
        names += [record["name"] for record in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == ["internal", "public"]


@pytest.mark.parametrize("visibility", VISIBILITIES)
async def test_the_list_filters_by_visibility(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, visibility: str
) -> None:
    found = await client.get("/api/data/", params={"visibility": visibility}, headers=owner.headers)
    assert [record["name"] for record in found.json()["data"]] == [visibility]


async def test_an_unknown_visibility_is_refused(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/api/data/?visibility=secret"), 422, "validation_failed")


async def test_what_nobody_may_see_is_like_what_is_not_there(
    client: httpx.AsyncClient, records: dict[str, int], mei: Account
) -> None:
    hidden = await client.get(f"/api/data/{records['private']}", headers=mei.headers)
    missing = await client.get(f"/api/data/{MISSING_ID}", headers=mei.headers)
    first, second = (assert_problem(answer, 404, "not_found") for answer in (hidden, missing))
    assert (first["title"], first["detail"]) == (second["title"], second["detail"])


@EACH_CALLER
async def test_the_calendar_has_what_the_caller_may_see(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, headers_of: HeadersOf, caller: str, seen: Any
) -> None:
    """Also right after somebody else has asked for the same calendar: it is kept for equals only."""
    await client.get("/api/schedules/calendar", params=DAY, headers=await headers_of("superuser"))
    headers = owner.headers if caller == "owner" else await headers_of(caller)
    found = (await client.get("/api/schedules/calendar", params=DAY, headers=headers)).json()
    assert ([record["name"] for record in found["records"]], found["runs"]) == (seen, len(seen))


@pytest.mark.parametrize("grants", [[], [grant("Mei")]], ids=["taken back", "given"])
async def test_the_calendar_follows_grants_at_once(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account, grants: list[dict[str, str]]
) -> None:
    """A grant is no change of a record, by which calendars are kept."""
    await share(client, owner, records["private"], grants=[] if grants else [grant("Mei")])
    await client.get("/api/schedules/calendar", params=DAY, headers=mei.headers)
    await share(client, owner, records["private"], grants=grants)
    found = (await client.get("/api/schedules/calendar", params=DAY, headers=mei.headers)).json()
    assert [record["name"] for record in found["records"]] == ["public", "internal", *(["private"] if grants else [])]


async def test_those_who_see_the_same_share_a_calendar(
    client: httpx.AsyncClient, records: dict[str, int], mei: Account, app: FastAPI, sign_up: SignUp
) -> None:
    other = await sign_up()
    await client.get("/api/schedules/calendar", params=DAY, headers=mei.headers)
    kept = len(app.state.calendar_desk._made)
    await client.get("/api/schedules/calendar", params=DAY, headers=other.headers)
    assert len(app.state.calendar_desk._made) == kept


@pytest.mark.parametrize(("caller", "seen"), SEEN[1:])
async def test_the_runs_of_all_are_those_the_caller_may_see(
    client: httpx.AsyncClient,
    records: dict[str, int],
    owner: Account,
    fake_airflow: FakeAirflow,
    headers_of: HeadersOf,
    caller: str,
    seen: list[str],
) -> None:
    for record_id in records.values():
        fake_airflow.add_run(record_id, "r")
    headers = owner.headers if caller == "owner" else await headers_of(caller)
    found = (await client.get("/api/runs", headers=headers)).json()
    assert {run["record_name"] for run in found["data"]} == set(seen)


async def test_pages_of_runs_that_the_caller_may_not_see_are_passed_over(
    client: httpx.AsyncClient, records: dict[str, int], mei: Account, fake_airflow: FakeAirflow
) -> None:
    for number in range(3):
        fake_airflow.add_run(records["private"], f"hidden {number}", run_after="2027-03-02T00:00:00Z")
    fake_airflow.add_run(records["public"], "seen", run_after="2027-03-01T00:00:00Z")
    found = (await client.get("/api/runs", params={"limit": 1}, headers=mei.headers)).json()
    assert [run["run_id"] for run in found["data"]] == ["seen"]


async def test_a_record_without_an_owner_that_is_private_is_for_superusers(
    client: httpx.AsyncClient, connection: AsyncConnection, mei: Account, headers_of: HeadersOf
) -> None:
    record_id = await insert(connection)
    await connection.execute(text("UPDATE pyapi_data_records SET visibility = 'private'"))
    answers = [
        (await client.get(f"/api/data/{record_id}", headers=headers)).status_code
        for headers in ({}, mei.headers, await headers_of("superuser"))
    ]
    assert answers == [404, 404, 200]


# --- The visibility of a record ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", VISIBILITIES)
async def test_a_record_has_the_visibility_it_was_made_with(
    client: httpx.AsyncClient, owner: Account, visibility: str
) -> None:
    assert (await create(client, owner, visibility=visibility))["visibility"] == visibility


@pytest.fixture(params=list(Visibility))
def default(app: FastAPI, request: pytest.FixtureRequest) -> Iterator[Visibility]:
    """PYAPI_DEFAULT_VISIBILITY."""
    app.state.default_visibility = request.param
    yield request.param
    app.state.default_visibility = Visibility.PUBLIC


async def test_records_that_name_none_have_that_of_the_settings(
    client: httpx.AsyncClient, owner: Account, default: Visibility
) -> None:
    assert (await create(client, owner))["visibility"] == default


async def test_rows_written_by_sql_are_public(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    assert (await client.get(f"/api/data/{await insert(connection)}")).status_code == 200


@pytest.mark.parametrize("visibility", ["secret", None, 1, "", "Public"])
async def test_other_visibilities_are_refused(client: httpx.AsyncClient, owner: Account, visibility: Any) -> None:
    answer = await client.post("/api/data/", json={"name": "x", "visibility": visibility}, headers=owner.headers)
    assert_problem(answer, 422, "validation_failed")


async def test_another_visibility_is_a_change_of_the_record(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account
) -> None:
    path = f"/api/data/{records['public']}"
    answer = await client.patch(path, json={"visibility": "private"}, headers=owner.headers)
    assert (answer.json()["visibility"], answer.json()["revision"]) == ("private", 2)
    assert answer.headers["etag"] == '"rev-2"'


async def test_another_visibility_is_shown_before_it_is_stored(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account
) -> None:
    path = f"/api/data/{records['public']}?dry_run=true"
    answer = await client.patch(path, json={"visibility": "private"}, headers=owner.headers)
    expected = {"op": "replace", "pointer": "/visibility", "before": "public", "after": "private"}
    assert answer.json()["changes"] == [expected]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"visibility": "public"}, 403, "permission_denied"),
        ({"visibility": "private", "description": "更新"}, 200, None),
        ({"description": "更新"}, 200, None),
    ],
)
async def test_who_may_write_decides_not_who_may_see(
    client: httpx.AsyncClient,
    records: dict[str, int],
    owner: Account,
    mei: Account,
    body: dict[str, str],
    status: int,
    code: str | None,
) -> None:
    """What stays as it is may be sent back."""
    await share(client, owner, records["private"], grants=[grant("Mei", "write")])
    path = f"/api/data/{records['private']}"
    assert_outcome(await client.put(path, json=body, headers=mei.headers), status, code)


# --- Sharing ----------------------------------------------------------------------------------------------------------


async def test_whom_a_record_is_shared_with(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account
) -> None:
    await share(client, owner, records["public"], visibility="private", grants=[grant("Mei", "write")])
    found = (await client.get(f"/api/data/{records['public']}/access", headers=owner.headers)).json()
    (given,) = found.pop("grants")
    assert found == {"visibility": "private", "owner": "owner", "revision": 2}
    del given["granted_at"]
    assert given == {"user_id": mei.id, "username": "Mei", "permission": "write", "granted_by": "owner"}


async def test_a_grant_is_no_change_of_the_record(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account
) -> None:
    assert (await share(client, owner, records["private"], grants=[grant("Mei")]))["revision"] == 1


async def test_sharing_again_replaces_all_grants(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account, sign_up: SignUp
) -> None:
    await sign_up("lin")
    await share(client, owner, records["private"], grants=[grant("Mei"), grant("lin")])
    access = await share(client, owner, records["private"], grants=[grant("lin", "write")])
    assert [(one["username"], one["permission"]) for one in access["grants"]] == [("lin", "write")]


async def test_a_grant_that_stays_keeps_who_gave_it(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account, sign_up: SignUp
) -> None:
    root = await sign_up("root", superuser=True)
    await share(client, owner, records["private"], grants=[grant("Mei")])
    access = await share(client, root, records["private"], grants=[grant("mei")])
    assert [one["granted_by"] for one in access["grants"]] == ["owner"]


async def test_who_was_shared_with_sees_it_in_lists(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account
) -> None:
    await share(client, owner, records["private"], grants=[grant("Mei")])
    assert (await client.get("/api/data/?q=private", headers=mei.headers)).json()["total"] == 1


async def test_what_was_taken_back_is_gone(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account
) -> None:
    await share(client, owner, records["private"], grants=[grant("Mei")])
    await share(client, owner, records["private"])
    assert_problem(await client.get(f"/api/data/{records['private']}", headers=mei.headers), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/body/grants"),
        ({"grants": None}, "/body/grants"),
        ({"grants": [grant("nobody-here")]}, "/body/grants/0/username"),
        ({"grants": [grant("Mei"), grant("mei", "write")]}, "/body/grants/1/username"),
        ({"grants": [grant("Mei"), grant("OWNER")]}, "/body/grants/1/username"),
        ({"grants": [grant("Mei", "own")]}, "/body/grants/0/permission"),
        ({"grants": [grant("Mei") | {"user_id": 1}]}, "/body/grants/0/user_id"),
        ({"grants": [grant("\x00")]}, "/body/grants/0/username"),
        ({"grants": [grant("Mei")] * 101}, "/body/grants"),
        ({"grants": [], "visibility": None}, "/body/visibility"),
        ({"grants": [], "visibility": "secret"}, "/body/visibility"),
        ({"grants": [], "owner": "Mei"}, "/body/owner"),
    ],
    ids=ascii,
)
async def test_what_cannot_be_meant_is_refused(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account, body: Any, pointer: str
) -> None:
    answer = await client.put(f"/api/data/{records['private']}/access", json=body, headers=owner.headers)
    problem = assert_problem(answer, 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_what_is_refused_shares_with_nobody(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, mei: Account, connection: AsyncConnection
) -> None:
    body = {"visibility": "public", "grants": [grant("Mei"), grant("nobody-here")]}
    await client.put(f"/api/data/{records['private']}/access", json=body, headers=owner.headers)
    found = await connection.execute(text("SELECT count(*) FROM pyapi_data_grants"))
    assert found.scalar_one() == 0


@pytest.mark.parametrize("statement", ["DELETE FROM pyapi_data_records", "DELETE FROM pyapi_users WHERE id = :mei"])
async def test_grants_go_with_what_they_are_about(
    client: httpx.AsyncClient,
    records: dict[str, int],
    owner: Account,
    mei: Account,
    connection: AsyncConnection,
    statement: str,
) -> None:
    await share(client, owner, records["private"], grants=[grant("Mei")])
    parameters = {"mei": mei.id} if ":mei" in statement else {}
    await connection.execute(text(statement), parameters)
    assert (await connection.execute(text("SELECT count(*) FROM pyapi_data_grants"))).scalar_one() == 0


# --- Roles ------------------------------------------------------------------------------------------------------------


USERS = "/api/auth/users"


@pytest.mark.parametrize(
    ("before", "body", "role", "is_superuser"),
    [
        ({}, {}, "editor", False),
        ({}, {"role": "viewer"}, "viewer", False),
        ({}, {"role": "admin"}, "admin", True),
        ({}, {"role": "admin", "is_superuser": True}, "admin", True),
        ({}, {"is_superuser": True}, "admin", True),
        ({"role": "admin"}, {"role": "viewer"}, "viewer", False),
        ({"role": "admin"}, {"role": "editor", "is_superuser": False}, "editor", False),
        ({"role": "viewer"}, {"is_superuser": True}, "admin", True),
        ({"role": "viewer"}, {"role": "editor"}, "editor", False),
        ({"role": "viewer"}, {"full_name": "x"}, "viewer", False),
    ],
    ids=str,
)
async def test_a_superuser_gives_roles(
    client: httpx.AsyncClient, mei: Account, sign_up: SignUp, before: Any, body: Any, role: str, is_superuser: bool
) -> None:
    root = await sign_up("root", superuser=True)
    await client.put(f"{USERS}/{mei.id}", json=before, headers=root.headers)
    answer = await client.put(f"{USERS}/{mei.id}", json=body, headers=root.headers)
    assert (answer.json()["role"], answer.json()["is_superuser"]) == (role, is_superuser)


@pytest.mark.parametrize(
    "body",
    [
        {"role": "admin", "is_superuser": False},
        {"role": "viewer", "is_superuser": True},
        {"role": "owner"},
        {"role": None},
    ],
    ids=str,
)
async def test_what_contradicts_itself_is_refused(
    client: httpx.AsyncClient, mei: Account, sign_up: SignUp, body: Any
) -> None:
    root = await sign_up("root", superuser=True)
    answer = await client.put(f"{USERS}/{mei.id}", json=body, headers=root.headers)
    assert_problem(answer, 422, "validation_failed")


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_the_last_superuser_keeps_the_role(client: httpx.AsyncClient, sign_up: SignUp, role: str) -> None:
    root = await sign_up("root", superuser=True)
    answer = await client.put(f"{USERS}/{root.id}", json={"role": role}, headers=root.headers)
    assert_problem(answer, 409, "conflict")


async def test_nobody_gives_themselves_a_role(client: httpx.AsyncClient, mei: Account) -> None:
    answer = await client.put("/api/auth/me", json={"role": "admin"}, headers=mei.headers)
    assert_problem(answer, 422, "validation_failed")


async def test_a_new_role_holds_at_once(client: httpx.AsyncClient, mei: Account, sign_up: SignUp) -> None:
    root = await sign_up("root", superuser=True)
    await client.put(f"{USERS}/{mei.id}", json={"role": "viewer"}, headers=root.headers)
    answer = await client.post("/api/data/", json={"name": "x"}, headers=mei.headers)
    assert_problem(answer, 403, "permission_denied")


async def test_viewers_change_not_even_their_own_records(
    client: httpx.AsyncClient, records: dict[str, int], owner: Account, connection: AsyncConnection
) -> None:
    await connection.execute(text("UPDATE pyapi_users SET role = 'viewer'"))
    path = f"/api/data/{records['private']}"
    assert (await client.get(path, headers=owner.headers)).status_code == 200
    assert_problem(await client.put(path, json={"name": "x"}, headers=owner.headers), 403, "permission_denied")
