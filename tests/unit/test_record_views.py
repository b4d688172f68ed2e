"""The JSON of one record is made of its fields, and is what its model says."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyapi.db.dao import RecordRow
from pyapi.schemas.data_schemas import DataSummary
from pyapi.services.record_views import RecordViews
from pyapi.services.schedule_service import derive

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINK = {"failing_since": None, "reached_at": NOON.isoformat(), "reason": None}
RUN = {"run_id": "r", "state": "success", "run_type": "manual", "start_date": NOON.isoformat(), "end_date": None}
CONFIGS: dict[str, Any] = {
    "daily": {"schedule": "0 13 * * *", "timezone": "Asia/Taipei"},
    "by the clock of London": {"schedule": "0 13 * * *", "timezone": "Europe/London"},
    "a secret": {"schedule": 3600, "password": "hunter2", "source": "postgresql://u:p@h/d"},
    "numbers and scripts": {"schedule": "@daily", "float": 1.5, "large": 10**40, "名": "銷售", "deep": [[{"a": None}]]},
    "wrong": {"schedule": "never"},
    "no object": [1, 2],
    "nothing": None,
}


def row_of(config: Any) -> RecordRow:
    next_run_at, summary = derive("active", config, since=NOON, now=NOON)
    return RecordRow(
        id=7,
        name='每日 "同步"',
        description=None,
        config=config,
        status="active",
        owner_id=None,
        visibility="internal",
        revision=3,
        created_at=NOON + timedelta(microseconds=5),
        updated_at=NOON,
        scheduled_since=NOON,
        next_run_at=next_run_at,
        schedule_summary=summary,
        seen_in_airflow={"link": LINK, "dag": None, "run": RUN},
    )


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_record_is_what_its_model_says(config: Any, linked: bool) -> None:
    views, row = RecordViews(NOON, "zh_TW", linked), row_of(config)
    assert views.record(row).body == views.read(row).model_dump_json().encode()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_summary_is_what_its_model_says(config: Any) -> None:
    body = RecordViews(NOON, "en", is_linked=False).summary(row_of(config)).body
    assert json.loads(body) == json.loads(DataSummary.model_validate_json(body).model_dump_json())
    assert list(json.loads(body)) == list(DataSummary.model_fields)
