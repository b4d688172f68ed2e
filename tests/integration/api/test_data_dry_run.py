"""A change is shown before it is made: the same answer, what differs, and nothing stored."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import by_sql, create, insert

Answer = dict[str, Any]

CONFIG: Answer = {
    "schedule": "0 9 * * *",
    "password": "first secret",
    "source": "postgresql://etl:first-secret@host/db",
    "columns": ["a", "b"],
    "nested": {"kept": 1, "gone": 2},
}
EVERYTHING: Answer = {
    "name": "new",
    "description": "說明",
    "status": "inactive",
    "config": {"schedule": "0 6 * * *", "password": "another secret", "columns": ["b", "a"]},
}
ONLY_DRY = {"changes", "next_runs_before", "next_runs_after"}
MISSING_ID = 2**31 - 1


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up("owner")


@pytest.fixture
async def record(client: httpx.AsyncClient, owner: Account) -> Answer:
    return await create(client, owner, config=CONFIG)


async def ask(
    client: httpx.AsyncClient,
    owner: Account,
    record_id: int,
    body: Answer,
    *,
    dry_run: str | None = "true",
    method: str = "PATCH",
    **headers: str,
) -> httpx.Response:
    query = {} if dry_run is None else {"dry_run": dry_run}
    return await client.request(
        method, f"/api/data/{record_id}", params=query, json=body, headers={**owner.headers, **headers}
    )


async def tried(client: httpx.AsyncClient, owner: Account, record_id: int, body: Answer, **headers: str) -> Answer:
    answer = await ask(client, owner, record_id, body, **headers)
    assert answer.status_code == 200, answer.text
    found: Answer = answer.json()
    return found


async def changes(client: httpx.AsyncClient, owner: Account, record_id: int, **body: Any) -> list[Answer]:
    found: list[Answer] = (await tried(client, owner, record_id, body))["changes"]
    return found


async def everything(connection: AsyncConnection) -> list[Any]:
    """All rows, all revisions, and the number of the newest change."""
    statement = text(
        "SELECT r::text FROM pyapi_data_records r UNION ALL SELECT v::text FROM pyapi_data_revisions v"
        " UNION ALL SELECT pyapi_change_counter()::text"
    )
    return sorted((await connection.execute(statement)).scalars())


# --- The same answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "body",
    [
        EVERYTHING,
        {"name": "new"},
        {"description": None},
        {"status": "inactive"},
        {"config": None},
        {"config": {"schedule": "@hourly", "timezone": "Asia/Taipei", "password": "***"}},
        {"config": {"schedule": "@daily", "paused_until": "2031-01-01"}},
        {"config": CONFIG},
        {},
    ],
)
async def test_the_answer_is_that_of_the_change(
    client: httpx.AsyncClient, owner: Account, record: Answer, method: str, body: Answer
) -> None:
    before = (await ask(client, owner, record["id"], body, method=method)).json()
    after = (await ask(client, owner, record["id"], body, method=method, dry_run=None)).json()
    same = {field: value for field, value in before.items() if field not in ONLY_DRY | {"updated_at"}}
    assert same == {field: value for field, value in after.items() if field != "updated_at"}


async def test_a_dry_run_has_more_fields(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    assert set(await tried(client, owner, record["id"], EVERYTHING)) == set(record) | ONLY_DRY


async def test_the_words_are_in_the_wanted_language(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    body = {"config": {"schedule": "0 6 * * *"}}
    found = await tried(client, owner, record["id"], body, **{"Accept-Language": "zh-TW"})
    assert found["schedule_description"] == "每天 06:00"


@pytest.mark.parametrize("value", ["false", "0"])
async def test_no_dry_run_is_a_change(client: httpx.AsyncClient, owner: Account, record: Answer, value: str) -> None:
    answer = await ask(client, owner, record["id"], {"name": "new"}, dry_run=value)
    assert (answer.json()["revision"], "changes" in answer.json()) == (2, False)


async def test_a_dry_run_is_yes_or_no(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    answer = await ask(client, owner, record["id"], {"name": "new"}, dry_run="maybe")
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert error["pointer"] == "/query/dry_run"


# --- What differs -----------------------------------------------------------------------------------------------------


async def test_all_changes_of_a_record(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    def change(op: str, pointer: str, before: object, after: object) -> Answer:
        return {"op": op, "pointer": pointer, "before": before, "after": after}

    assert await changes(client, owner, record["id"], **EVERYTHING) == [
        change("replace", "/name", "每日同步", "new"),
        change("replace", "/description", None, "說明"),
        change("remove", "/config/nested", CONFIG["nested"], None),
        change("remove", "/config/source", "postgresql://etl:***@host/db", None),
        change("replace", "/config/columns", ["a", "b"], ["b", "a"]),
        change("replace", "/config/password", "***", "***"),
        change("replace", "/config/schedule", "0 9 * * *", "0 6 * * *"),
        change("replace", "/status", "active", "inactive"),
    ]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({**CONFIG, "new": 1}, ("add", "/config/new", None, 1)),
        ({**CONFIG, "a/b~c": True}, ("add", "/config/a~1b~0c", None, True)),
        ({**CONFIG, "nested": {"kept": 1}}, ("remove", "/config/nested/gone", 2, None)),
        ({**CONFIG, "nested": {"kept": True, "gone": 2}}, ("replace", "/config/nested/kept", 1, True)),
        ({**CONFIG, "nested": [1]}, ("replace", "/config/nested", CONFIG["nested"], [1])),
        ({**CONFIG, "password": "another"}, ("replace", "/config/password", "***", "***")),
        (
            {**CONFIG, "source": "postgresql://etl:another@host/db"},
            ("replace", "/config/source", *["postgresql://etl:***@host/db"] * 2),
        ),
        ({**CONFIG, "token": "secret"}, ("add", "/config/token", None, "***")),
    ],
)
async def test_one_change(
    client: httpx.AsyncClient, owner: Account, record: Answer, config: Answer, expected: tuple[Any, ...]
) -> None:
    found = [tuple(change.values()) for change in await changes(client, owner, record["id"], config=config)]
    assert found == [expected]


async def test_a_config_that_is_taken_away(client: httpx.AsyncClient, owner: Account) -> None:
    record = await create(client, owner, config={"batch_size": 10})
    (change,) = await changes(client, owner, record["id"], config=None)
    assert change == {"op": "replace", "pointer": "/config", "before": {"batch_size": 10}, "after": None}


@pytest.mark.parametrize("body", [{}, {"name": "每日同步"}, {"status": "active"}, {"config": CONFIG}])
async def test_nothing_differs(client: httpx.AsyncClient, owner: Account, record: Answer, body: Answer) -> None:
    assert await changes(client, owner, record["id"], **body) == []


async def test_a_masked_credential_does_not_differ(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    assert await changes(client, owner, record["id"], config=record["config"]) == []


async def test_no_credential_is_told(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    answer = await ask(client, owner, record["id"], EVERYTHING)
    assert "secret" not in answer.text


async def test_a_row_that_is_no_object(client: httpx.AsyncClient, connection: AsyncConnection, owner: Account) -> None:
    record_id = await insert(connection, '["secret-less"]', owner_id=owner.id)
    (change,) = await changes(client, owner, record_id, config={"schedule": None})
    assert change == {
        "op": "replace",
        "pointer": "/config",
        "before": ["secret-less"],
        "after": {"schedule": None},
    }


# --- Runs before and after --------------------------------------------------------------------------------------------


async def test_runs_before_are_those_of_the_record(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    assert (await tried(client, owner, record["id"], EVERYTHING))["next_runs_before"] == record["next_runs"]


async def test_runs_after_are_those_of_the_change(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    body = {"config": {"schedule": "@daily", "timezone": "Asia/Taipei", "start_date": "2031-01-01"}}
    found = await tried(client, owner, record["id"], body)
    assert found["next_runs_after"] == [
        {"utc": f"{day}T16:00:00Z", "local": f"{local}T00:00:00+08:00"}
        for day, local in [
            ("2030-12-31", "2031-01-01"),
            ("2031-01-01", "2031-01-02"),
            ("2031-01-02", "2031-01-03"),
            ("2031-01-03", "2031-01-04"),
            ("2031-01-04", "2031-01-05"),
        ]
    ]


async def test_an_inactive_record_will_not_run(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    found = await tried(client, owner, record["id"], {"status": "inactive"})
    assert (len(found["next_runs_before"]), found["next_runs_after"]) == (5, [])


# --- Nothing is stored ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("body", [EVERYTHING, {"config": None}, {"status": "completed"}, {}])
async def test_nothing_is_stored(
    client: httpx.AsyncClient,
    connection: AsyncConnection,
    owner: Account,
    record: Answer,
    method: str,
    body: Answer,
) -> None:
    before = await everything(connection)
    await ask(client, owner, record["id"], body, method=method)
    assert await everything(connection) == before


async def test_the_revision_is_the_one_to_come(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    assert (await tried(client, owner, record["id"], EVERYTHING))["revision"] == 2


@pytest.mark.parametrize("body", [EVERYTHING, {}])
async def test_the_tag_is_that_of_the_stored_revision(
    client: httpx.AsyncClient, owner: Account, record: Answer, body: Answer
) -> None:
    assert (await ask(client, owner, record["id"], body)).headers["etag"] == '"rev-1"'


async def test_the_tag_admits_the_change(client: httpx.AsyncClient, owner: Account, record: Answer) -> None:
    tag = (await ask(client, owner, record["id"], EVERYTHING)).headers["etag"]
    changed = await ask(client, owner, record["id"], EVERYTHING, dry_run=None, **{"If-Match": tag})
    assert changed.status_code == 200


# --- Refused as the change is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "missing", "headers", "body", "status", "code"),
    [
        ("nobody", False, {}, {"name": "x"}, 401, "not_authenticated"),
        ("a forger", False, {}, {"name": "x"}, 401, "invalid_token"),
        ("nobody", True, {}, {"name": "x"}, 401, "not_authenticated"),
        ("somebody else", False, {}, {"name": "x"}, 403, "permission_denied"),
        ("owner", True, {}, {"name": "x"}, 404, "not_found"),
        ("owner", False, {"If-Match": '"rev-7"'}, {"name": "x"}, 412, "precondition_failed"),
        ("owner", False, {"If-Match": '"rev-1", "rev-2"'}, {"name": "x"}, 400, "bad_request"),
        ("owner", False, {}, {"name": ""}, 422, "validation_failed"),
        ("owner", False, {}, {"config": {"schedule": "0 0 12 * * *"}}, 422, "validation_failed"),
        ("owner", False, {}, {"config": {"new_password": "***"}}, 422, "validation_failed"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_refused_as_the_change_is(
    client: httpx.AsyncClient,
    sign_up: SignUp,
    owner: Account,
    record: Answer,
    method: str,
    caller: str,
    missing: bool,
    headers: dict[str, str],
    body: Answer,
    status: int,
    code: str,
) -> None:
    known = {"owner": owner.headers, "nobody": {}, "a forger": {"Authorization": "Bearer a.b.c"}}
    headers = {**(known[caller] if caller in known else (await sign_up("else")).headers), **headers}
    path = f"/api/data/{MISSING_ID if missing else record['id']}"
    dry = assert_problem(
        await client.request(method, path, params={"dry_run": "true"}, json=body, headers=headers), status, code
    )
    real = assert_problem(await client.request(method, path, json=body, headers=headers), status, code)
    assert dry | {"request_id": None} == real | {"request_id": None}


async def test_a_superuser_may_try_as_well(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, record: Answer
) -> None:
    before = await everything(connection)
    superuser = await sign_up("root_user", superuser=True)
    answer = await ask(client, superuser, record["id"], EVERYTHING)
    assert (answer.status_code, await everything(connection)) == (200, before)


async def test_a_wrong_row_is_not_activated(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    record_id = await insert(connection, '{"schedule": "x"}', owner_id=owner.id)
    await by_sql(connection, text("UPDATE pyapi_data_records SET status = 'inactive'"))
    answer = await ask(client, owner, record_id, {"status": "active"})
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert error["pointer"] == "/body/status"


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("PATCH", "/api/data/{id}?dryrun=true", "dryrun"),
        ("PUT", "/api/data/{id}?dry_run=true&DRY_RUN=1", "DRY_RUN"),
        ("POST", "/api/data/?dry_run=true", "dry_run"),
        ("DELETE", "/api/data/{id}?dry_run=true", "dry_run"),
    ],
)
async def test_a_parameter_that_is_not_known_changes_nothing(
    client: httpx.AsyncClient, owner: Account, record: Answer, method: str, path: str, field: str
) -> None:
    body = None if method == "DELETE" else {"name": "oops"}
    answer = await client.request(method, path.format(**record), json=body, headers=owner.headers)
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert error["pointer"] == f"/query/{field}"
    names = [item["name"] for item in (await client.get("/api/data/", headers=owner.headers)).json()["data"]]
    assert names == [record["name"]]
