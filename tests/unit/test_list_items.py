"""What is remembered of a list is what would be made anew, for as long as that is so."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyapi.db.dao import RecordRow, record_of
from pyapi.services.list_items import LONGEST, MOST_PAGES, ListItems, ListTexts
from pyapi.services.record_views import RecordViews

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = {"schedule": "0 13 * * *", "password": "hunter2", "名": "銷售", "float": 1.5, "large": 10**40}
LINK = {"failing_since": None, "reached_at": NOON.isoformat(), "reason": None}
ROW = RecordRow(
    id=7,
    name="每日同步",
    description=None,
    config=json.dumps(SECRET, ensure_ascii=False),
    status="active",
    owner_id=1,
    visibility="public",
    revision=3,
    created_at=NOON,
    updated_at=NOON,
    scheduled_since=NOON,
    next_run_at=NOON + timedelta(hours=1),
    schedule_summary='{"en": "At 13:00", "zh_TW": "在 13:00", "reader": "1"}',  # type: ignore[arg-type]
    seen_in_airflow=json.dumps({"link": LINK, "dag": None, "run": None}),  # type: ignore[arg-type]
)


def views(now: datetime = NOON, *, linked: bool = False, language: Any = "en") -> RecordViews:
    return RecordViews(now, language, linked)


def page_row(row: RecordRow, *, version: bytes | None = None) -> tuple[Any, ...]:
    """As `page_of` answers it; the version is another one for another row."""
    return (False, version or repr(row[:-1]).encode(), row.seen_in_airflow, *row[:-1])


async def body_of(texts: ListTexts, rows: list[tuple[Any, ...]], seen: RecordViews, *, is_stranger: bool) -> bytes:
    """The JSON of a page; what is known comes without content, as PostgreSQL sends it then."""
    listed = ListItems(seen, texts, is_stranger=is_stranger, question="all")
    known = listed.known
    sent = [(*row[:3], *(None for _ in row[3:])) if row[1] in known else row for row in rows]
    return listed.json_of(sent, await listed.read(sent))


async def listed(texts: ListTexts, row: RecordRow, seen: RecordViews, *, is_stranger: bool = False) -> Any:
    return json.loads(await body_of(texts, [page_row(row)], seen, is_stranger=is_stranger))


@pytest.mark.parametrize("is_stranger", [False, True])
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("number", [0, 1, 3])
async def test_an_item_is_what_its_model_says(linked: bool, is_stranger: bool, number: int) -> None:
    """Made, and then remembered."""
    texts, seen = ListTexts(), views(linked=linked)
    rows = [ROW._replace(id=place) for place in range(number)]
    items = [(seen.summary_item if is_stranger else seen.item)(record_of(tuple(row))) for row in rows]
    expected = f"[{','.join(item.model_dump_json() for item in items)}]".encode()
    page = [page_row(row) for row in rows]
    assert [await body_of(texts, page, seen, is_stranger=is_stranger) for _ in range(2)] == [expected, expected]


async def test_what_stood_on_the_page_is_known_and_nothing_else() -> None:
    texts = ListTexts()
    await listed(texts, ROW, views())
    versions = page_row(ROW)[1:2]
    asked = [
        ("all", views(), False),
        ("others", views(), False),
        ("all", views(), True),
        ("all", views(language="zh_TW"), False),
    ]
    known = [tuple(ListItems(seen, texts, is_stranger=who, question=what).known) for what, seen, who in asked]
    assert known == [versions, (), (), ()]


async def test_what_stood_on_another_page_is_not_made_again() -> None:
    texts, seen = ListTexts(), views()
    await listed(texts, ROW, seen)
    other = ListItems(seen, texts, is_stranger=False, question="others")
    (item,) = await other.read([page_row(ROW._replace(name="never looked at"), version=page_row(ROW)[1])])
    assert item.row.name == ROW.name


async def test_a_page_is_forgotten_when_many_others_were_asked_for() -> None:
    texts, seen = ListTexts(), views()
    for question in range(MOST_PAGES + 1):
        await ListItems(seen, texts, is_stranger=False, question=question).read([page_row(ROW)])
    assert [len(ListItems(seen, texts, is_stranger=False, question=each).known) for each in (0, 1)] == [0, 1]


CHANGES: dict[str, dict[str, Any]] = {
    "another name": {"name": "x"},
    "another config": {"config": '{"schedule": "@daily"}'},
    "another owner": {"owner_id": 2},
    "another revision": {"revision": 4},
    "another next run": {"next_run_at": NOON + timedelta(hours=2)},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_seen_at_once(change: str) -> None:
    texts, changed = ListTexts(), ROW._replace(**CHANGES[change])
    before = await listed(texts, ROW, views())
    assert await listed(texts, changed, views()) == await listed(ListTexts(), changed, views()) != before


async def test_another_language_is_another_text() -> None:
    texts = ListTexts()
    await listed(texts, ROW, views())
    assert (await listed(texts, ROW, views(language="zh_TW")))[0]["schedule_description"] == "在 13:00"


async def test_a_stranger_is_not_shown_what_others_are() -> None:
    texts = ListTexts()
    await listed(texts, ROW, views())
    assert "config" not in (await listed(texts, ROW, views(), is_stranger=True))[0]


async def test_a_run_that_is_over_is_not_the_next_one() -> None:
    texts = ListTexts()
    await listed(texts, ROW, views())
    later = NOON + timedelta(hours=1)
    assert (await listed(texts, ROW, views(later)))[0]["next_run_at"] == "2026-03-02T13:00:00Z"


async def test_what_airflow_has_is_not_remembered() -> None:
    texts = ListTexts()
    await listed(texts, ROW, views(linked=True))
    run = {"run_id": "r", "state": "success", "run_type": "manual", "start_date": None, "end_date": None}
    seen = ROW._replace(seen_in_airflow=json.dumps({"link": LINK, "dag": None, "run": run}))  # type: ignore[arg-type]
    assert (await listed(texts, seen, views(linked=True)))[0]["last_run"]["run_id"] == "r"


async def test_it_keeps_no_more_than_it_may() -> None:
    texts = ListTexts(most_bytes=20_000)
    for number in range(500):
        await listed(texts, ROW._replace(id=number), views())
    kept = [*texts._young.values(), *texts._old.values()]
    assert 10_000 - 1000 < sum(len(text.json) for text in kept) <= 20_000


async def test_what_is_asked_for_again_stays() -> None:
    texts = ListTexts(most_bytes=20_000)
    for number in range(500):
        await listed(texts, ROW, views())
        await listed(texts, ROW._replace(id=number + 1000), views())
    assert any(item.row.id == ROW.id for item in texts._young.values())


async def test_a_long_text_is_not_kept() -> None:
    texts = ListTexts()
    await listed(texts, ROW._replace(description="x" * LONGEST), views())
    assert texts._young == {}
