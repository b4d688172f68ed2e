"""Schedules before they are saved, and the runs of all records at once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import SignUp, assert_problem
from tests.integration.api.records import create, insert

Answer = dict[str, Any]

SPRING = {"schedule": "30 2 * * *", "timezone": "Europe/Paris", "from": "2027-03-26T12:00:00Z", "count": 3}
AUTUMN = {"schedule": "30 2 * * *", "timezone": "Europe/Paris", "from": "2027-10-29T12:00:00Z", "count": 3}


async def preview(client: httpx.AsyncClient, body: Answer, **headers: str) -> Answer:
    answer = await client.post("/api/schedules/preview", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    found: Answer = answer.json()
    return found


async def utc_runs(client: httpx.AsyncClient, **body: Any) -> list[str]:
    return [run["utc"] for run in (await preview(client, body))["next_runs"]]


# --- Preview ----------------------------------------------------------------------------------------------------------


async def test_a_preview_is_complete(client: httpx.AsyncClient) -> None:
    assert await preview(client, SPRING) == {
        "description": "At 02:30",
        "next_runs": [
            {"utc": "2027-03-27T01:30:00Z", "local": "2027-03-27T02:30:00+01:00"},
            {"utc": "2027-03-28T01:30:00Z", "local": "2027-03-28T03:30:00+02:00"},
            {"utc": "2027-03-29T00:30:00Z", "local": "2027-03-29T02:30:00+02:00"},
        ],
        "notes": ["02:30 does not exist on 2027-03-28 in Europe/Paris: runs at 03:30"],
        "min_gap_seconds": 23 * 3600,
        "max_gap_seconds": 24 * 3600,
    }


async def test_a_preview_of_nothing_to_come(client: httpx.AsyncClient) -> None:
    assert await preview(client, {"schedule": None}) == {
        "description": "Only when it is started by hand",
        "next_runs": [],
        "notes": [],
        "min_gap_seconds": None,
        "max_gap_seconds": None,
    }


async def test_one_run_has_no_gap(client: httpx.AsyncClient) -> None:
    found = await preview(client, {"schedule": "@daily", "count": 1})
    assert (found["min_gap_seconds"], found["max_gap_seconds"]) == (None, None)


async def test_what_is_not_sent_has_defaults(client: httpx.AsyncClient) -> None:
    before = datetime.now(UTC)
    (first, *_), number = (runs := await utc_runs(client, schedule="* * * * *")), len(runs)
    soon = before < datetime.fromisoformat(first) <= datetime.now(UTC) + timedelta(minutes=1)
    assert (number, soon) == (5, True)


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("2027-01-01T08:59:59Z", "2027-01-01T09:00:00Z"),
        ("2027-01-01T08:59:59.999999Z", "2027-01-01T09:00:00Z"),
        ("2027-01-01T09:00:00Z", "2027-01-02T09:00:00Z"),
        ("2027-01-01T17:00:00+08:00", "2027-01-02T09:00:00Z"),
        ("2027-01-01T09:00:00", "2027-01-02T09:00:00Z"),
    ],
)
async def test_runs_come_strictly_after_from(client: httpx.AsyncClient, start: str, first: str) -> None:
    assert await utc_runs(client, schedule="0 9 * * *", count=1, **{"from": start}) == [first]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"schedule": "0 9 * * *", "timezone": "Asia/Taipei"}, ["2027-01-01T01:00:00Z", "2027-01-02T01:00:00Z"]),
        ({"schedule": "@monthly"}, ["2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z"]),
        ({"schedule": 900}, ["2027-01-01T00:15:00Z", "2027-01-01T00:30:00Z"]),
        (
            {"schedule": 3600, "start_date": "2026-12-31T23:20:00Z"},
            ["2027-01-01T00:20:00Z", "2027-01-01T01:20:00Z"],
        ),
        ({"schedule": "@once", "start_date": "2027-01-05"}, ["2027-01-05T00:00:00Z"]),
        ({"schedule": "@continuous"}, []),
        ({"schedule": "@daily", "end_date": "2027-01-02"}, ["2027-01-02T00:00:00Z"]),
        ({"schedule": "@daily", "end_date": "2026-01-01"}, []),
        (
            {"schedule": "@daily", "start_date": "2027-02-01T00:00:01"},
            ["2027-02-02T00:00:00Z", "2027-02-03T00:00:00Z"],
        ),
        (
            {"schedule": "@daily", "paused_until": "2027-03-01"},
            ["2027-03-01T00:00:00Z", "2027-03-02T00:00:00Z"],
        ),
    ],
)
async def test_each_kind_of_rule(client: httpx.AsyncClient, rule: Answer, expected: list[str]) -> None:
    assert await utc_runs(client, **rule, count=2, **{"from": "2027-01-01T00:00:00Z"}) == expected


@pytest.mark.parametrize(
    ("body", "language", "note"),
    [
        (SPRING, "en", "02:30 does not exist on 2027-03-28 in Europe/Paris: runs at 03:30"),
        (SPRING, "zh-TW", "Europe/Paris 在 2027-03-28 沒有 02:30：改在 03:30 執行"),
        (SPRING, "zh-CN", "Europe/Paris 在 2027-03-28 没有 02:30：改在 03:30 执行"),
        (AUTUMN, "en", "02:30 occurs twice on 2027-10-31 in Europe/Paris: runs once, at the later 02:30"),
        (AUTUMN, "zh-TW", "Europe/Paris 在 2027-10-31 有兩次 02:30：只執行一次，在較晚的 02:30"),
        (AUTUMN, "zh-CN", "Europe/Paris 在 2027-10-31 有两次 02:30：只执行一次，在较晚的 02:30"),
    ],
)
async def test_notes_of_changes_of_the_clock(client: httpx.AsyncClient, body: Answer, language: str, note: str) -> None:
    assert (await preview(client, body, **{"Accept-Language": language}))["notes"] == [note]


async def test_a_change_of_the_clock_after_the_last_run_is_not_noted(client: httpx.AsyncClient) -> None:
    assert (await preview(client, {**SPRING, "count": 1}))["notes"] == []


async def test_the_later_time_is_the_one_that_runs(client: httpx.AsyncClient) -> None:
    runs = (await preview(client, AUTUMN))["next_runs"]
    assert runs[1] == {"utc": "2027-10-31T01:30:00Z", "local": "2027-10-31T02:30:00+01:00"}


@pytest.mark.parametrize(
    ("wanted", "language", "description"),
    [
        (None, "en", "At 09:00, only on Monday"),
        ("zh-TW", "zh-TW", "每星期一 09:00"),
        ("zh-Hans-CN, en;q=0.5", "zh-CN", "每星期一 09:00"),
        ("fr, de;q=0.5", "en", "At 09:00, only on Monday"),
    ],
)
async def test_the_language_is_negotiated(
    client: httpx.AsyncClient, wanted: str | None, language: str, description: str
) -> None:
    headers = {"Accept-Language": wanted} if wanted else {}
    answer = await client.post("/api/schedules/preview", json={"schedule": "0 9 * * 1"}, headers=headers)
    assert (answer.headers["content-language"], answer.json()["description"]) == (language, description)


@pytest.mark.parametrize("origin", ["", "https://frontend.example"])
async def test_caches_are_told_about_the_language(client: httpx.AsyncClient, origin: str) -> None:
    headers = {"Origin": origin} if origin else {}
    answer = await client.post("/api/schedules/preview", json={"schedule": None}, headers=headers)
    assert "Accept-Language" in answer.headers["vary"].split(", ")


@pytest.mark.parametrize("count", [1, 100])
async def test_as_many_runs_as_wanted(client: httpx.AsyncClient, count: int) -> None:
    assert len(await utc_runs(client, schedule="@hourly", count=count)) == count


@pytest.mark.parametrize(
    ("fields", "pointer", "instead"),
    [
        ({"schedule": "0 0 12 * * *"}, "/body/schedule", "did you mean `0 12 * * *`?"),
        ({"schedule": "0 0 12 * * ? 2027"}, "/body/schedule", "did you mean `0 12 * * ?`?"),
        ({"schedule": "0 9 * *"}, "/body/schedule", "Write five fields"),
        ({"schedule": "99 * * * *"}, "/body/schedule", "write 0 to 59"),
        ({"schedule": "R * * * *"}, "/body/schedule", "instead of `R`"),
        ({"schedule": "0 0 30 2 *"}, "/body/schedule", "write `L`: `0 0 L 2 *`"),
        ({"schedule": "@Daily"}, "/body/schedule", "in small letters"),
        ({"schedule": ""}, "/body/schedule", "Write null, without quotes"),
        ({"schedule": "3600"}, "/body/schedule", "without quotes"),
        ({"schedule": 59}, "/body/schedule", "from 60 to"),
        ({"schedule": True}, "/body/schedule", "Write a cron text of five fields"),
        ({"schedule": ["@daily"]}, "/body/schedule", "Write a cron text of five fields"),
        ({"timezone": "Taipei"}, "/body/timezone", "did you mean `Asia/Taipei`?"),
        ({"timezone": 8}, "/body/timezone", "Write an IANA name"),
        ({"start_date": "tomorrow"}, "/body/start_date", "Write an ISO 8601 time"),
        ({"start_date": "2100-01-01"}, "/body/start_date", "between the years 1970 and 2099"),
        ({"end_date": 2027}, "/body/end_date", "Write an ISO 8601 time"),
        ({"start_date": "2027-02-01", "end_date": "2027-01-01"}, "/body/end_date", "not before start_date"),
        ({"catchup": "false"}, "/body/catchup", "Write true or false"),
        ({"paused_until": "2027-13-01"}, "/body/paused_until", "Write an ISO 8601 time"),
        ({"count": 0}, "/body/count", "greater than or equal to 1"),
        ({"count": 101}, "/body/count", "less than or equal to 100"),
        ({"count": "many"}, "/body/count", "integer"),
        ({"from": "now"}, "/body/from", ""),
        ({"retries": 3}, "/body/retries", "There is no such field"),
        ({"cron": "@daily"}, "/body/cron", "There is no such field"),
        ({"from_": "2027-01-01T00:00:00Z"}, "/body/from_", "There is no such field"),
    ],
)
async def test_what_cannot_be_previewed(client: httpx.AsyncClient, fields: Answer, pointer: str, instead: str) -> None:
    answer = await client.post("/api/schedules/preview", json={"schedule": "@daily", **fields})
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert (error["pointer"], instead in error["detail"]) == (pointer, True), error


async def test_a_preview_needs_a_schedule(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/schedules/preview", json={"timezone": "UTC"})
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert error["pointer"] == "/body/schedule"


async def test_all_errors_are_told_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/schedules/preview", json={"schedule": "x", "timezone": "y", "catchup": "z"})
    errors = assert_problem(answer, 422, "validation_failed")["errors"]
    assert {error["pointer"] for error in errors} == {"/body/schedule", "/body/timezone", "/body/catchup"}


UNFORESEEABLE = "Write a time from 1970-01-01 on and before 2199-12-01."


@pytest.mark.parametrize("schedule", ["@daily", "@once", 900])
@pytest.mark.parametrize("start", ["9999-12-31T23:59:59Z", "2199-12-01T00:00:00Z", "1969-12-31T23:59:59Z"])
async def test_nothing_is_foretold_for_all_years(client: httpx.AsyncClient, schedule: object, start: str) -> None:
    answer = await client.post("/api/schedules/preview", json={"schedule": schedule, "from": start})
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert error == {"pointer": "/body/from", "detail": UNFORESEEABLE}


async def test_once_says_when_it_runs(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/schedules/preview", json={"schedule": "@once"})
    assert (answer.json()["next_runs"], answer.json()["notes"]) == ([], ["Runs as soon as Airflow sees it"])


async def test_a_preview_reads_no_record(app: FastAPI, client: httpx.AsyncClient) -> None:
    app.state.database = None  # `client` puts it back
    assert len(await utc_runs(client, schedule="@daily")) == 5


# --- Calendar ---------------------------------------------------------------------------------------------------------

DAY = {"from": "2027-03-01T00:00:00Z", "to": "2027-03-02T00:00:00Z"}


async def calendar(client: httpx.AsyncClient, **query: Any) -> Answer:
    answer = await client.get("/api/schedules/calendar", params=query)
    assert answer.status_code == 200, answer.text
    found: Answer = answer.json()
    return found


@pytest.fixture
async def three(client: httpx.AsyncClient, sign_up: SignUp) -> list[int]:
    """Records that run at 01:00 and 03:00, every hour at :30, and at 09:00 in Taipei."""
    owner = await sign_up()
    configs = [
        {"schedule": "0 1,3 * * *"},
        {"schedule": "30 * * * *"},
        {"schedule": "0 9 * * *", "timezone": "Asia/Taipei"},
    ]
    return [
        (await create(client, owner, name=f"record {number}", config=config))["id"]
        for number, config in enumerate(configs)
    ]


async def test_hours_of_a_calendar(client: httpx.AsyncClient, three: list[int]) -> None:
    buckets = (await calendar(client, **DAY))["buckets"]
    first, second, third = three
    assert buckets[:4] == [
        {"start": "2027-03-01T00:00:00Z", "runs": 1, "record_ids": [second]},
        {"start": "2027-03-01T01:00:00Z", "runs": 3, "record_ids": [first, second, third]},
        {"start": "2027-03-01T02:00:00Z", "runs": 1, "record_ids": [second]},
        {"start": "2027-03-01T03:00:00Z", "runs": 2, "record_ids": [first, second]},
    ]


async def test_days_of_a_calendar(client: httpx.AsyncClient, three: list[int]) -> None:
    found = await calendar(client, **DAY | {"to": "2027-03-02T12:00:00Z"}, bucket="day")
    assert found["buckets"] == [
        {"start": "2027-03-01T00:00:00Z", "runs": 27, "record_ids": three},
        {"start": "2027-03-02T00:00:00Z", "runs": 15, "record_ids": three},
    ]


@pytest.mark.usefixtures("three")
async def test_all_runs_of_a_calendar(client: httpx.AsyncClient) -> None:
    assert (await calendar(client, **DAY))["runs"] == 27


@pytest.mark.usefixtures("three")
async def test_the_end_of_a_calendar_is_not_in_it(client: httpx.AsyncClient) -> None:
    assert (await calendar(client, **DAY | {"to": "2027-03-01T01:00:00Z"}))["runs"] == 1


@pytest.mark.usefixtures("three")
async def test_the_busiest_hour(client: httpx.AsyncClient) -> None:
    assert (await calendar(client, **DAY))["busiest"] == {"start": "2027-03-01T01:00:00Z", "runs": 3}


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("minutes", "start", "end", "runs"),
    [
        (30, "2027-03-01T00:00:00Z", "2027-03-01T00:30:00Z", 0),
        (59, "2027-03-01T01:31:00Z", "2027-03-01T02:30:00Z", 0),
        (60, "2027-03-01T00:00:00Z", "2027-03-01T01:00:00Z", 1),
        (180, "2027-03-01T03:01:00Z", "2027-03-01T06:01:00Z", 3),
    ],
)
async def test_the_quietest_window(client: httpx.AsyncClient, minutes: int, start: str, end: str, runs: int) -> None:
    found = await calendar(client, **DAY, window_minutes=minutes)
    assert found["quietest"] == {"start": start, "end": end, "runs": runs}


@pytest.mark.usefixtures("three")
async def test_the_quietest_window_is_an_hour_long_by_default(client: httpx.AsyncClient) -> None:
    assert (await calendar(client, **DAY))["quietest"]["end"] == "2027-03-01T01:00:00Z"


async def test_no_window_is_longer_than_the_calendar(client: httpx.AsyncClient) -> None:
    assert (await calendar(client, **DAY, window_minutes=1441))["quietest"] is None


async def test_records_that_run_are_named(client: httpx.AsyncClient, three: list[int]) -> None:
    found = await calendar(client, **DAY | {"to": "2027-03-01T01:00:00Z"})
    assert found["records"] == [{"id": three[1], "name": "record 1"}]


async def test_a_calendar_of_nothing(client: httpx.AsyncClient) -> None:
    found = await calendar(client, **DAY | {"to": "2027-03-01T01:00:00Z"})
    assert found == {
        "from": "2027-03-01T00:00:00Z",
        "to": "2027-03-01T01:00:00Z",
        "bucket": "hour",
        "runs": 0,
        "buckets": [{"start": "2027-03-01T00:00:00Z", "runs": 0, "record_ids": []}],
        "busiest": None,
        "quietest": {"start": "2027-03-01T00:00:00Z", "end": "2027-03-01T01:00:00Z", "runs": 0},
        "records": [],
        "not_foretold": [],
        "wrong": [],
    }


@pytest.mark.parametrize("status", ["inactive", "pending", "completed"])
async def test_only_active_records_run(client: httpx.AsyncClient, sign_up: SignUp, status: str) -> None:
    await create(client, await sign_up(), config={"schedule": "@hourly"}, status=status)
    assert (await calendar(client, **DAY))["runs"] == 0


async def test_a_paused_record_runs_after_its_pause(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    config = {"schedule": "@hourly", "paused_until": "2027-03-01T22:00:00Z"}
    await create(client, await sign_up(), config=config)
    assert (await calendar(client, **DAY))["runs"] == 2


async def test_an_interval_is_counted_on_its_grid(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    config = {"schedule": 12 * 3600, "start_date": "2026-01-01T05:10:00Z"}
    await create(client, await sign_up(), config=config)
    buckets = (await calendar(client, **DAY))["buckets"]
    assert [number for number, bucket in enumerate(buckets) if bucket["runs"]] == [5, 17]


async def test_continuous_is_not_foretold(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    record = await create(client, await sign_up(), config={"schedule": "@continuous"})
    assert (await calendar(client, **DAY))["not_foretold"] == [record["id"]]


@pytest.mark.parametrize(
    "config",
    [
        '{"schedule": "0 0 12 * * *"}',
        '{"schedule": true}',
        '{"schedule": {}}',
        '{"schedule": "@daily", "timezone": "Mars/Base"}',
        '{"timezone": "Mars/Base"}',
        '"@daily"',
        "[]",
    ],
)
async def test_wrong_rows_are_named(client: httpx.AsyncClient, connection: AsyncConnection, config: str) -> None:
    record_id = await insert(connection, config)
    assert (await calendar(client, **DAY))["wrong"] == [record_id]


@pytest.mark.parametrize("config", [None, "null", "{}", '{"schedule": null}'])
async def test_rows_without_a_schedule_are_not_wrong(
    client: httpx.AsyncClient, connection: AsyncConnection, config: str | None
) -> None:
    await insert(connection, config)
    assert (await calendar(client, **DAY))["wrong"] == []


async def test_a_wrong_row_that_is_not_active_is_nobody_s_concern(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection
) -> None:
    record_id = await insert(connection, '{"schedule": "x"}')
    superuser = await sign_up(superuser=True)
    await client.patch(f"/api/data/{record_id}", json={"status": "inactive"}, headers=superuser.headers)
    assert (await calendar(client, **DAY))["wrong"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2027-03-02T00:00:00Z", "to": "2027-03-01T00:00:00Z"},
        {"from": "2027-03-01T00:00:00Z", "to": "2027-03-01T00:00:00Z"},
        {"from": "2027-03-01T00:00:00Z", "to": "2027-05-02T00:00:01Z"},
        {"to": "2026-01-01T00:00:00Z"},
    ],
)
async def test_times_that_make_no_calendar(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get("/api/schedules/calendar", params=query)
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert (error["pointer"], "at most 31 days later" in error["detail"]) == ("/query/to", True)


@pytest.mark.parametrize("start", ["2199-12-01T00:00:00Z", "9999-12-31T23:59:00Z", "0001-01-01T00:00:00Z"])
async def test_no_calendar_begins_before_or_after_all_runs(client: httpx.AsyncClient, start: str) -> None:
    answer = await client.get("/api/schedules/calendar", params={"from": start})
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert error == {"pointer": "/query/from", "detail": UNFORESEEABLE}


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("start", "runs"), [("1970-01-01T00:00:00Z", 0), ("2199-11-30T00:00:00Z", 27)])
async def test_a_calendar_of_another_time(client: httpx.AsyncClient, start: str, runs: int) -> None:
    assert (await calendar(client, **{"from": start}))["runs"] == runs


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"bucket": "week"}, "bucket"),
        ({"window_minutes": "0"}, "window_minutes"),
        ({"window_minutes": "10081"}, "window_minutes"),
        ({"from": "yesterday"}, "from"),
        ({"to": "1"}, "to"),
        ({"status": "active"}, "status"),
    ],
)
async def test_parameters_that_cannot_be(client: httpx.AsyncClient, query: dict[str, str], field: str) -> None:
    answer = await client.get(f"/api/schedules/calendar?{urlencode(query)}")
    (error,) = assert_problem(answer, 422, "validation_failed")["errors"]
    assert error["pointer"] == f"/query/{field}"


async def test_sixty_two_days_make_a_calendar(client: httpx.AsyncClient) -> None:
    found = await calendar(client, **DAY | {"to": "2027-05-02T00:00:00Z"}, bucket="day")
    assert len(found["buckets"]) == 62


async def test_a_from_within_a_minute_is_rounded_down(client: httpx.AsyncClient) -> None:
    assert (await calendar(client, **DAY | {"from": "2027-03-01T00:10:59Z"}))["from"] == "2027-03-01T00:10:00Z"


@pytest.mark.parametrize(
    ("bucket", "whole"), [("hour", {"minute": 0}), ("day", {"hour": 0, "minute": 0}), (None, {"minute": 0})]
)
async def test_a_calendar_begins_with_a_whole_bucket(
    client: httpx.AsyncClient, bucket: str | None, whole: dict[str, int]
) -> None:
    before = datetime.now(UTC)
    found = await calendar(client, **({"bucket": bucket} if bucket else {}))
    now = before if before.hour == datetime.now(UTC).hour else datetime.now(UTC)
    expected = now.replace(second=0, microsecond=0, **whole)  # type: ignore[arg-type]
    assert datetime.fromisoformat(found["from"]) == expected


async def test_a_calendar_is_a_week_by_default(client: httpx.AsyncClient) -> None:
    found = await calendar(client, **{"from": DAY["from"]})
    assert (found["to"], len(found["buckets"])) == ("2027-03-08T00:00:00Z", 168)


@pytest.fixture
def no_anonymous_read(app: FastAPI) -> Iterator[None]:
    app.state.anonymous_read = False
    yield
    app.state.anonymous_read = True


@pytest.mark.usefixtures("no_anonymous_read")
async def test_a_calendar_is_for_those_who_may_read(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/api/schedules/calendar"), 401, "not_authenticated")


@pytest.mark.usefixtures("no_anonymous_read")
async def test_those_who_are_signed_in_read_the_calendar(client: httpx.AsyncClient, sign_up: SignUp) -> None:
    answer = await client.get("/api/schedules/calendar", headers=(await sign_up()).headers)
    assert answer.status_code == 200


@pytest.mark.usefixtures("no_anonymous_read")
async def test_a_preview_is_for_everybody(client: httpx.AsyncClient) -> None:
    assert len(await utc_runs(client, schedule="@daily")) == 5
