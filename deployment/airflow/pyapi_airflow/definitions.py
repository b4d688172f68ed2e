"""What Airflow needs to know of a record to make its DAG: plain values, and no credential among them."""

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self

from pyapi.dag_conventions import INVALID_TAG
from pyapi.schedules.outlook import outlook
from pyapi.schedules.rules import Rule
from pyapi_airflow.database import StoredState

_LONGEST_TEXT = 2000
_ACTIVE = "active"


@dataclass(frozen=True)
class DagDefinition:
    """One DAG. Without `kind` it has no schedule; times are ISO 8601 in UTC, numbers are seconds.

    It is written into a file that people may read: never put a source, a target or anything else of a config here.
    """

    record_id: int
    revision: int
    name: str
    description: str
    status: str
    owner: str | None
    web_url: str | None
    tags: list[str]
    error: str | None = None
    kind: str = "manual"
    cron: str | None = None
    interval_seconds: float | None = None
    timezone: str = "UTC"
    start_date: str | None = None
    end_date: str | None = None
    catchup: bool = False
    max_active_runs: int | None = None
    retries: int | None = None
    retry_delay_seconds: float | None = None
    execution_timeout_seconds: float | None = None

    @property
    def has_left(self) -> bool:
        """Airflow schedules it no more, and its DAG may go when no run is left."""
        return self.status != _ACTIVE

    def to_json(self) -> str:
        """One line, the same for the same definition."""
        return json.dumps(asdict(self), ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` has written."""
        return cls.from_values(json.loads(text))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """The values of the fields, maybe as another release of the kit has written them: what is not known is left."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def define(stored: StoredState, *, web_url: str | None = None) -> DagDefinition:
    """The definition of a record. Never raises: what cannot be scheduled has an `error` and no schedule."""
    state = stored.state
    status = str(state.get("status", ""))
    since = _moment(state.get("scheduled_since")) or stored.changed_at
    is_active = status == _ACTIVE and stored.change_kind != "deleted"
    try:
        found = outlook(stored.rule, is_active=is_active, since=since)
        rule, error = found.rule, found.error
    except Exception as problem:  # noqa: BLE001  (one record must never be the reason that another has no DAG)
        rule, error = None, f"It cannot be read ({type(problem).__name__})."
    common: dict[str, Any] = {
        "record_id": stored.record_id,
        "revision": stored.revision,
        "name": _text(state.get("name")),
        "description": _text(state.get("description")),
        "status": "deleted" if stored.change_kind == "deleted" else status,
        "owner": stored.owner,
        "web_url": web_url,
    }
    if rule is None:
        return DagDefinition(**common, tags=[INVALID_TAG], error=error)
    return DagDefinition(**common, **_of_rule(rule, is_active=is_active))


def _of_rule(rule: Rule, *, is_active: bool) -> dict[str, Any]:
    limits = {
        "tags": list(rule.tags),
        "timezone": rule.timezone,
        "max_active_runs": rule.max_active_runs,
        "retries": rule.retries,
        "retry_delay_seconds": rule.retry_delay_seconds,
        "execution_timeout_seconds": rule.execution_timeout_seconds,
    }
    if not is_active:
        return limits
    return limits | {
        "kind": rule.kind.value,
        "cron": rule.cron,
        "interval_seconds": rule.interval_seconds,
        "start_date": _iso(rule.starts_at),
        "end_date": _iso(rule.end_date),
        "catchup": rule.catchup,
    }


def _text(value: object) -> str:
    """Text that a file, a column and a page can show."""
    text = value if isinstance(value, str) else ""
    return text[:_LONGEST_TEXT].encode(errors="replace").decode().replace("\x00", "")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: object) -> datetime | None:
    """A time as `to_jsonb` writes it."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
