"""What follows from the schedule of a record: what may be stored, and what everybody sees of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import Account, SignUp, assert_problem
from tests.integration.api.records import by_sql, count_records, create, insert, stored_config

Answer = dict[str, Any]

DAILY = {"schedule": "0 9 * * *"}


class Derived(NamedTuple):
    scheduled_since: datetime
    next_run_at: datetime | None
    schedule_summary: Answer | None


@pytest.fixture
async def owner(sign_up: SignUp) -> Account:
    return await sign_up()


async def stored(connection: AsyncConnection, record_id: int) -> Derived:
    statement = text(
        "SELECT scheduled_since, next_run_at, schedule_summary::text FROM pyapi_data_records WHERE id = :id"
    )
    since, run, summary = (await connection.execute(statement, {"id": record_id})).one()
    return Derived(since, run, json.loads(summary) if summary else None)


async def keep(connection: AsyncConnection, next_run_at: datetime) -> None:
    """Write a next run as PyAPI does."""
    await connection.execute(text("SELECT set_config('pyapi.schedules_computed', 'true', true)"))
    await connection.execute(text("UPDATE pyapi_data_records SET next_run_at = :run"), {"run": next_run_at})


async def read(client: httpx.AsyncClient, record_id: int, **headers: str) -> Answer:
    answer = await client.get(f"/api/data/{record_id}", headers=headers)
    assert answer.status_code == 200, answer.text
    record: Answer = answer.json()
    return record


async def patch(client: httpx.AsyncClient, owner: Account, record_id: int, **fields: Any) -> Answer:
    answer = await client.patch(f"/api/data/{record_id}", json=fields, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    record: Answer = answer.json()
    return record


async def listed(client: httpx.AsyncClient, **query: Any) -> list[int]:
    answer = await client.get("/api/data/", params=query)
    assert answer.status_code == 200, answer.text
    return [record["id"] for record in answer.json()["data"]]


def moments(runs: list[dict[str, str]]) -> list[datetime]:
    return [datetime.fromisoformat(run["utc"]) for run in runs]


# --- What may be stored -----------------------------------------------------------------------------------------------

WRONG = [
    ({"schedule": "0 0 12 * * *"}, "schedule", "did you mean `0 12 * * *`?"),
    ({"schedule": "R * * * *"}, "schedule", "instead of `R`"),
    ({"schedule": "0 0 30 2 *"}, "schedule", "This day never comes"),
    ({"schedule": "every day"}, "schedule", "Write five fields"),
    ({"schedule": "@every"}, "schedule", "Write one of @hourly"),
    ({"schedule": 59.9}, "schedule", "from 60 to"),
    ({"schedule": False}, "schedule", "Write a cron text of five fields"),
    ({"timezone": "CEST"}, "timezone", "Write an IANA name"),
    ({"start_date": "2027-02-30"}, "start_date", "Write an ISO 8601 time"),
    ({"end_date": "soon"}, "end_date", "Write an ISO 8601 time"),
    ({"start_date": "2027-02-01", "end_date": "2027-01-31"}, "end_date", "not before start_date"),
    ({"catchup": 1}, "catchup", "Write true or false"),
    ({"max_active_runs": 0}, "max_active_runs", "from 1 to 100"),
    ({"max_active_runs": 101}, "max_active_runs", "from 1 to 100"),
    ({"schedule": "@continuous", "max_active_runs": 2}, "max_active_runs", "Write 1"),
    ({"retry_count": -1}, "retry_count", "from 0 to 100"),
    ({"retries": 1.5}, "retries", "from 0 to 100"),
    ({"retries": 1, "retry_count": 2}, "retries", "Write only one of"),
    ({"retry_delay_seconds": "60"}, "retry_delay_seconds", "without quotes"),
    ({"execution_timeout_seconds": 0}, "execution_timeout_seconds", "from 1 to"),
    ({"tags": "etl"}, "tags", "Write a list"),
    ({"tags": ["etl", ""]}, "tags/1", "Write a text"),
    ({"paused_until": 0}, "paused_until", "Write an ISO 8601 time"),
]


@pytest.mark.parametrize(
    ("method", "config", "key", "instead"),
    [("POST", *wrong) for wrong in WRONG] + [(method, *wrong) for method in ("PUT", "PATCH") for wrong in WRONG[:3]],
)
async def test_a_wrong_config_is_refused(
    client: httpx.AsyncClient, owner: Account, method: str, config: Answer, key: str, instead: str
) -> None:
    path = "/api/data/" if method == "POST" else f"/api/data/{(await create(client, owner, config=DAILY))['id']}"
    answer = await client.request(method, path, json={"name": "x", "config": config}, headers=owner.headers)
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert (error["pointer"], instead in error["detail"]) == (f"/body/config/{key}", True), error


async def test_a_refused_record_is_not_stored(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    await client.post("/api/data/", json={"name": "x", "config": {"schedule": "x"}}, headers=owner.headers)
    assert await count_records(connection) == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_refused_change_is_not_stored(client: httpx.AsyncClient, owner: Account, method: str) -> None:
    record = await create(client, owner, config=DAILY)
    body = {"name": "new", "config": {"schedule": "x"}}
    await client.request(method, f"/api/data/{record['id']}", json=body, headers=owner.headers)
    assert await read(client, record["id"], **owner.headers) == record


async def test_a_config_that_is_not_active_is_checked_as_well(client: httpx.AsyncClient, owner: Account) -> None:
    body = {"name": "x", "status": "inactive", "config": {"schedule": "x"}}
    assert_problem(await client.post("/api/data/", json=body, headers=owner.headers), 422, "validation_failed")


async def test_credentials_and_rules_are_refused_together(client: httpx.AsyncClient, owner: Account) -> None:
    body = {"name": "x", "config": {"password": "***", "schedule": "x", "timezone": "y"}}
    answer = await client.post("/api/data/", json=body, headers=owner.headers)
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert [error["pointer"] for error in errors] == [
        f"/body/config/{key}" for key in ("password", "timezone", "schedule")
    ]


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"schedule": None},
        {"source": "s3://x", "batch_size": 10},
        {"Schedule": "never", "cron": "x", "nested": {"schedule": "x", "timezone": 1}},
        {"schedule": "  0  9 * * * ", "retries": 3, "retry_count": 3, "tags": ["a", "a"], "note": [1.50, None]},
        {"schedule": 60.5, "timezone": None, "catchup": None, "max_active_runs": None, "tags": []},
    ],
)
async def test_a_right_config_is_stored_as_it_was_sent(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: Answer | None
) -> None:
    record = await create(client, owner, config=config)
    raw = await stored_config(connection, record["id"])
    assert (None if raw == "None" else json.loads(raw)) == config


@pytest.mark.parametrize("config", ['{"schedule": "x", "timezone": "y"}', "[]", '"@daily"'])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_wrong_config_is_not_activated(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, method: str, config: str
) -> None:
    record_id = await insert(connection, config, owner_id=owner.id)
    await by_sql(connection, text("UPDATE pyapi_data_records SET status = 'inactive'"))
    answer = await client.request(method, f"/api/data/{record_id}", json={"status": "active"}, headers=owner.headers)
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert (error["pointer"], "The stored config cannot be scheduled" in error["detail"]) == ("/body/status", True)


async def test_a_wrong_config_and_its_cure_are_activated_together(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    record_id = await insert(connection, '{"schedule": "x"}', owner_id=owner.id)
    await by_sql(connection, text("UPDATE pyapi_data_records SET status = 'inactive'"))
    assert (await patch(client, owner, record_id, status="active", config=DAILY))["next_run_at"] is not None


@pytest.mark.parametrize("change", [{"name": "new"}, {"status": "inactive"}, {"config": None}])
async def test_other_changes_of_a_wrong_record_are_taken(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, change: Answer
) -> None:
    record_id = await insert(connection, '{"schedule": "x"}', owner_id=owner.id)
    assert (await patch(client, owner, record_id, **change))["revision"] == 2


# --- What is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "language", "description"),
    [
        ("en", "en", "At 09:00"),
        ("zh-TW", "zh-TW", "每天 09:00"),
        ("zh-CN", "zh-CN", "每天 09:00"),
    ],
)
@pytest.mark.parametrize("path", ["/api/data/{id}", "/api/data/"])
async def test_a_schedule_in_words(
    client: httpx.AsyncClient, owner: Account, path: str, wanted: str, language: str, description: str
) -> None:
    record = await create(client, owner, config=DAILY)
    answer = await client.get(path.format(**record), headers={"Accept-Language": wanted})
    found = answer.json().get("data", [answer.json()])[0]
    assert (answer.headers["content-language"], found["schedule_description"]) == (language, description)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_change_answers_in_the_wanted_language(client: httpx.AsyncClient, owner: Account, method: str) -> None:
    path = "/api/data/" if method == "POST" else f"/api/data/{(await create(client, owner))['id']}"
    headers = {**owner.headers, "Accept-Language": "zh-TW"}
    body = {"name": "x", "config": {"schedule": 3600}}
    assert (await client.request(method, path, json=body, headers=headers)).json()["schedule_description"] == "每小時"


async def test_a_record_without_a_config_is_started_by_hand(client: httpx.AsyncClient, owner: Account) -> None:
    assert (await create(client, owner))["schedule_description"] == "Only when it is started by hand"


async def test_the_next_five_runs(client: httpx.AsyncClient, owner: Account) -> None:
    config = {"schedule": "0 9 * * *", "timezone": "Asia/Taipei", "start_date": "2031-05-01"}
    record = await create(client, owner, config=config)
    assert record["next_runs"] == [
        {"utc": f"2031-05-0{day}T01:00:00Z", "local": f"2031-05-0{day}T09:00:00+08:00"} for day in range(1, 6)
    ]


@pytest.mark.parametrize(
    "config", [DAILY, {"schedule": 900}, {"schedule": "@once"}, {"schedule": "@once", "start_date": "2031-05-01"}]
)
async def test_the_next_run_is_the_first_of_the_next_runs(
    client: httpx.AsyncClient, owner: Account, config: Answer
) -> None:
    record = await create(client, owner, config=config)
    first = record["next_runs"][0]["utc"] if record["next_runs"] else None
    assert record["next_run_at"] == first


@pytest.mark.parametrize("path", ["/api/data/{id}", "/api/data/"])
async def test_anonymous_readers_see_the_next_run(client: httpx.AsyncClient, owner: Account, path: str) -> None:
    record = await create(client, owner, config={"schedule": "@daily", "start_date": "2031-05-01"})
    body = (await client.get(path.format(**record))).json()
    assert body.get("data", [body])[0]["next_run_at"] == "2031-05-01T00:00:00Z"


@pytest.mark.parametrize("status", ["inactive", "pending", "completed"])
async def test_only_active_records_have_runs(client: httpx.AsyncClient, owner: Account, status: str) -> None:
    record = await create(client, owner, config=DAILY, status=status)
    seen = (record["next_run_at"], record["next_runs"], record["schedule_description"])
    assert seen == (None, [], "At 09:00")


async def test_activating_a_record_gives_it_runs(client: httpx.AsyncClient, owner: Account) -> None:
    record = await create(client, owner, config=DAILY, status="inactive")
    assert len((await patch(client, owner, record["id"], status="active"))["next_runs"]) == 5


async def test_a_pause_is_shown(client: httpx.AsyncClient, owner: Account) -> None:
    config = {"schedule": "0 9 * * *", "timezone": "Asia/Taipei", "paused_until": "2031-05-01T12:00:00"}
    record = await create(client, owner, config=config)
    assert (record["paused_until"], record["next_run_at"]) == ("2031-05-01T04:00:00Z", "2031-05-02T01:00:00Z")


async def test_a_pause_is_shown_in_lists(client: httpx.AsyncClient, owner: Account) -> None:
    await create(client, owner, config={**DAILY, "paused_until": "2031-05-01"})
    answer = await client.get("/api/data/")
    assert answer.json()["data"][0]["paused_until"] == "2031-05-01T00:00:00Z"


async def test_a_pause_that_has_passed_is_none(client: httpx.AsyncClient, owner: Account) -> None:
    record = await create(client, owner, config={**DAILY, "paused_until": "2020-01-01"})
    assert (record["paused_until"], len(record["next_runs"])) == (None, 5)


async def test_an_interval_counts_from_the_change(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    record = await create(client, owner, config={"schedule": 5400})
    since = (await stored(connection, record["id"])).scheduled_since
    assert moments(record["next_runs"]) == [since + number * timedelta(seconds=5400) for number in range(1, 6)]


async def test_an_interval_keeps_the_grid_of_a_past_start(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    record = await create(client, owner, config={"schedule": 5400, "start_date": "2026-01-01T00:20:00Z"})
    start = datetime(2026, 1, 1, 0, 20, tzinfo=UTC)
    places = [divmod(run - start, timedelta(seconds=5400)) for run in moments(record["next_runs"])]
    since = (await stored(connection, record["id"])).scheduled_since
    first = -(-(since + timedelta(seconds=60) - start) // timedelta(seconds=5400))
    assert places == [(first + number, timedelta(0)) for number in range(5)]


async def test_an_interval_stays_on_its_grid(client: httpx.AsyncClient, owner: Account) -> None:
    record = await create(client, owner, config={"schedule": 5400})
    assert (await read(client, record["id"]))["next_runs"] == record["next_runs"]


# --- Rows that were written by SQL ------------------------------------------------------------------------------------

HOSTILE = {
    "six fields": ('{"schedule": "0 0 12 * * *"}', "/schedule: Write five fields"),
    "a number as text": ('{"schedule": "3600"}', "/schedule: Write the number of seconds without quotes"),
    "a schedule that is an object": ('{"schedule": {"cron": "@daily"}}', "/schedule: Write a cron text"),
    "a zone that is a path": ('{"schedule": "@daily", "timezone": "../../etc/passwd"}', "/timezone: Write an IANA"),
    "two errors": ('{"schedule": "x", "catchup": "y"}', "/catchup: Write true or false, without quotes."),
    "a list": ('["@daily"]', 'Write an object, as in {"schedule"'),
    "a text": ('"@daily"', 'Write an object, as in {"schedule"'),
    "a number of 40 digits": (f'{{"schedule": {"9" * 40}}}', "/schedule: Write a number of seconds"),
    "a huge text": (f'{{"schedule": "{"* " * 100_000}"}}', "/schedule: Write a cron text of at most 500"),
    "a time before all times": ('{"schedule": "@daily", "start_date": "0001-01-01T00:00:00+14:00"}', "/start_date: W"),
}


@pytest.mark.parametrize(("config", "error"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("path", ["/api/data/{id}", "/api/data/"])
async def test_a_wrong_row_says_what_is_wrong(
    client: httpx.AsyncClient, connection: AsyncConnection, path: str, config: str, error: str
) -> None:
    record_id = await insert(connection, config)
    body = (await client.get(path.format(id=record_id))).json()
    found = body.get("data", [body])[0]
    told = (error in found["schedule_error"], found["schedule_description"], found["next_run_at"])
    assert told == (True, None, None), found


@pytest.mark.parametrize("path", ["/api/data/{id}", "/api/data/"])
async def test_those_who_are_signed_in_see_what_is_wrong_too(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, path: str
) -> None:
    record_id = await insert(connection, '{"schedule": "0 9 * *"}')
    body = (await client.get(path.format(id=record_id), headers=owner.headers)).json()
    assert body.get("data", [body])[0]["schedule_error"].startswith("/schedule: Write five fields")


async def test_a_wrong_row_has_no_runs(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    record_id = await insert(connection, '{"schedule": "x"}')
    assert (await read(client, record_id))["next_runs"] == []


async def test_a_right_row_has_no_error(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    record = await read(client, await insert(connection, '{"schedule": "@daily"}'))
    assert (record["schedule_error"], record["schedule_description"]) == (None, "At 00:00")


async def test_an_unread_row_has_its_runs(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    record_id = await insert(connection, '{"schedule": "@daily", "start_date": "2031-05-01"}')
    answer = await client.get("/api/data/")
    assert [(item["id"], item["next_run_at"]) for item in answer.json()["data"]] == [
        (record_id, "2031-05-01T00:00:00Z")
    ]


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("schedule", ['"@daily"', '"@hourly"', "900", '"@once"'])
@pytest.mark.parametrize("path", ["/api/data/{id}", "/api/data/", "/api/schedules/calendar"])
async def test_a_row_of_another_age_is_answered(
    client: httpx.AsyncClient, connection: AsyncConnection, path: str, since: str, schedule: str
) -> None:
    record_id = await insert(connection, f'{{"schedule": {schedule}}}')
    statement = text("UPDATE pyapi_data_records SET scheduled_since = CAST(:since AS text)::timestamptz")
    await by_sql(connection, statement, since=since)
    assert (await client.get(path.format(id=record_id))).status_code == 200


# --- As time passes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/data/{id}", "/api/data/"])
async def test_a_kept_run_that_has_passed_is_not_shown(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, path: str
) -> None:
    record = await create(client, owner, config={"schedule": "0 0 1 1 *"})
    await keep(connection, datetime.now(UTC) - timedelta(seconds=1))
    body = (await client.get(path.format(**record))).json()
    assert body.get("data", [body])[0]["next_run_at"] == record["next_run_at"]


async def test_a_kept_run_is_what_lists_show(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account
) -> None:
    """No schedule is read for a list: the row itself says when."""
    await create(client, owner, config={"schedule": "0 0 1 1 *"})
    await keep(connection, datetime(2050, 1, 1, tzinfo=UTC))
    assert (await client.get("/api/data/")).json()["data"][0]["next_run_at"] == "2050-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "new"},
        {"description": "new"},
        {"status": "active"},
        {"config": {**DAILY, "tags": ["new"], "retries": 2, "source": "new"}},
        {"config": {"schedule": "0 9 * * *", "timezone": None}},
        {},
    ],
)
async def test_another_change_keeps_since_when_it_is_scheduled(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, change: Answer
) -> None:
    record = await create(client, owner, config=DAILY)
    before = await stored(connection, record["id"])
    await patch(client, owner, record["id"], **change)
    assert await stored(connection, record["id"]) == before


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"schedule": "0 10 * * *"}},
        {"config": {**DAILY, "timezone": "Asia/Taipei"}},
        {"config": {**DAILY, "start_date": "2026-01-01"}},
        {"config": {**DAILY, "end_date": "2036-01-01"}},
        {"config": {**DAILY, "catchup": True}},
        {"config": {**DAILY, "paused_until": "2026-01-01"}},
        {"config": None},
        {"status": "inactive"},
    ],
)
async def test_a_change_of_the_schedule_begins_anew(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, change: Answer
) -> None:
    record = await create(client, owner, config=DAILY)
    before = await stored(connection, record["id"])
    await patch(client, owner, record["id"], **change)
    assert (await stored(connection, record["id"])).scheduled_since > before.scheduled_since


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ("name = 'new'", False),
        ('config = config || \'{"source": "new"}\'', False),
        ('config = config || \'{"timezone": "Asia/Taipei"}\'', True),
        ("config = '\"x\"'", True),
        ("config = NULL", True),
        ("status = 'inactive'", True),
    ],
)
async def test_changes_by_sql_begin_anew_as_well(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, change: str, moved: bool
) -> None:
    record = await create(client, owner, config=DAILY)
    before = await stored(connection, record["id"])
    await by_sql(connection, text(f"UPDATE pyapi_data_records SET {change}"))
    assert ((await stored(connection, record["id"])).scheduled_since > before.scheduled_since) is moved


@pytest.mark.parametrize(
    ("change", "unread"),
    [
        ("name = 'new'", False),
        ("config = '{}'", True),
        ("status = 'inactive'", True),
        ("scheduled_since = now() - interval '1 day'", True),
    ],
)
async def test_what_sql_has_written_is_unread(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, change: str, unread: bool
) -> None:
    record = await create(client, owner, config=DAILY)
    await by_sql(connection, text(f"UPDATE pyapi_data_records SET {change}"))
    assert ((await stored(connection, record["id"])).schedule_summary is None) is unread


@pytest.mark.parametrize(
    "change",
    [
        "next_run_at = 'infinity'",
        "next_run_at = '20000-01-01'",
        "next_run_at = NULL",
        "schedule_summary = '[]'",
        "schedule_summary = NULL",
        "schedule_summary = '{\"en\": 1, \"paused_until\": 5}', name = 'new'",
    ],
)
async def test_nobody_else_writes_what_follows_from_a_schedule(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, change: str
) -> None:
    record = await create(client, owner, config=DAILY)
    before = await stored(connection, record["id"])
    await by_sql(connection, text(f"UPDATE pyapi_data_records SET {change}"))
    assert await stored(connection, record["id"]) == before


# --- Filters and order ------------------------------------------------------------------------------------------------

STARTS = ("2031-05-03", "2031-05-01", None, "2031-05-02", "2031-05-01", None, "2031-05-04")


@pytest.fixture
async def starting(client: httpx.AsyncClient, owner: Account) -> list[int]:
    """Records that run for the first time on the days of `STARTS`, or never."""
    return [
        (await create(client, owner, config={"schedule": "@daily", "start_date": start} if start else None))["id"]
        for start in STARTS
    ]


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ({"next_run_before": "2031-05-02T00:00:00Z"}, [1, 4]),
        ({"next_run_after": "2031-05-02T00:00:00Z"}, [0, 6]),
        ({"next_run_after": "2031-05-01T00:00:00Z", "next_run_before": "2031-05-03T08:00:00+08:00"}, [3]),
        ({"next_run_before": "9999-12-31T23:59:59.999999Z"}, [0, 1, 3, 4, 6]),
        ({"next_run_after": "0001-01-01T00:00:00Z"}, [0, 1, 3, 4, 6]),
        ({"next_run_after": "2031-05-04T00:00:00Z"}, []),
    ],
)
async def test_filters_by_the_next_run(
    client: httpx.AsyncClient, starting: list[int], query: dict[str, str], places: list[int]
) -> None:
    assert await listed(client, order_by="id", **query) == [starting[place] for place in places]


@pytest.mark.parametrize("field", ["next_run_before", "next_run_after"])
async def test_a_filter_that_is_no_time(client: httpx.AsyncClient, field: str) -> None:
    document = assert_problem(await client.get(f"/api/data/?{field}=soon"), 422, "validation_failed")
    assert [error["pointer"] for error in document["errors"]] == [f"/query/{field}"]


ORDERS = [
    ("next_run_at", [1, 4, 3, 0, 6, 2, 5]),
    ("-next_run_at", [5, 2, 6, 0, 3, 4, 1]),
    ("next_run_at,-id", [4, 1, 3, 0, 6, 5, 2]),
    ("-next_run_at,id", [2, 5, 6, 0, 3, 1, 4]),
]


@pytest.mark.parametrize(("order_by", "places"), ORDERS)
async def test_order_by_the_next_run(
    client: httpx.AsyncClient, starting: list[int], order_by: str, places: list[int]
) -> None:
    assert await listed(client, order_by=order_by) == [starting[place] for place in places]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize(("order_by", "places"), ORDERS)
async def test_a_cursor_meets_every_record_once(
    client: httpx.AsyncClient, starting: list[int], order_by: str, places: list[int], limit: int
) -> None:
    seen: list[int] = []
    query: dict[str, Any] = {"order_by": order_by, "limit": limit}
    while len(seen) <= len(STARTS):
        page = (await client.get("/api/data/", params=query)).json()
        seen += [record["id"] for record in page["data"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [starting[place] for place in places]


# --- The preview and the record ---------------------------------------------------------------------------------------


async def previewed(client: httpx.AsyncClient, config: Answer, start: datetime) -> list[dict[str, str]]:
    answer = await client.post("/api/schedules/preview", json={**config, "from": start.isoformat()})
    assert answer.status_code == 200, answer.text
    runs: list[dict[str, str]] = answer.json()["next_runs"]
    return runs


@pytest.mark.parametrize(
    "config",
    [
        {"schedule": 5400},
        {"schedule": 86_400.5, "start_date": "2026-01-01T00:20:00+08:00"},
        {"schedule": 900, "start_date": "2031-01-01", "end_date": "2031-01-01T00:20:00"},
        {"schedule": "@once"},
        {"schedule": "@once", "start_date": "2031-01-01", "timezone": "Asia/Taipei"},
        {"schedule": "@continuous"},
        {"schedule": "@yearly", "catchup": True, "start_date": "2020-01-01"},
        {"schedule": 3600, "catchup": True, "start_date": "2020-01-01T00:12:00Z"},
        {"schedule": 3600, "paused_until": "2031-01-01T00:07:00Z"},
        {"schedule": None},
    ],
)
async def test_a_record_does_what_the_preview_said(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, config: Answer
) -> None:
    record = await create(client, owner, config=config)
    since = (await stored(connection, record["id"])).scheduled_since
    assert record["next_runs"] == await previewed(client, config, since)


FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/15", "5,50"]),
    st.sampled_from(["*", "2", "1-3", "*/6", "0,23"]),
    st.sampled_from(["*", "1", "L", "15W"]),
    st.sampled_from(["*", "3", "10-11"]),
    st.just("*"),
)
ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Taipei"])


@given(cron=FIELDS.map(" ".join), zone=ZONES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_record_does_what_the_preview_said(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, cron: str, zone: str
) -> None:
    config = {"schedule": cron, "timezone": zone}
    record = await create(client, owner, config=config)
    since = (await stored(connection, record["id"])).scheduled_since
    assert record["next_runs"] == await previewed(client, config, since)


@pytest.mark.parametrize("wrong", [{"catchup": 0}, {"retry_count": "x"}, {"timezone": "Nowhere"}])
async def test_the_repair_of_a_wrong_record_begins_anew(
    client: httpx.AsyncClient, connection: AsyncConnection, owner: Account, wrong: dict[str, Any]
) -> None:
    """Airflow has never run it: from its `created_at` on, a run in the past would be due at once."""
    record_id = await insert(connection, json.dumps({"schedule": "0 * * * *", **wrong}), owner_id=owner.id)
    since = "SELECT scheduled_since FROM pyapi_data_records"
    before = (await connection.execute(text(since))).scalar_one()
    body = {"config": {"schedule": "0 * * * *"}}
    assert (await client.patch(f"/api/data/{record_id}", json=body, headers=owner.headers)).status_code == 200
    assert (await connection.execute(text(since))).scalar_one() > before
