"""The rule of a data record: what its `config` says about when and how Airflow runs it, checked and typed.

Whatever a row holds is answered, never raised: a row may have been written past the API.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeAlias

from pyapi.exceptions import FieldError
from pyapi.schedules.expressions import LAST_YEAR, CronError, normalized, parse_cron
from pyapi.schedules.zones import EPOCH, instant_of, zone_names

PRESETS: Final[Mapping[str, str]] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""What Airflow and croniter replace them with."""

SHORTEST_INTERVAL: Final = 60

TIME_KEYS: Final = ("schedule", "timezone", "start_date", "end_date", "catchup", "paused_until")
"""The keys of a config that decide when a record runs; `pyapi_timing` in the database has the same."""

RULE_KEYS: Final = (
    *TIME_KEYS,
    *("max_active_runs", "retry_count", "retries", "retry_delay_seconds", "execution_timeout_seconds", "tags"),
)
"""All keys of a config that are part of its rule."""

HEAD_START: Final = timedelta(seconds=SHORTEST_INTERVAL)
"""Airflow has seen a change by then, at the latest."""

LONGEST_INTERVAL: Final = 366 * 86_400
MOST_ACTIVE_RUNS: Final = 100
MOST_RETRIES: Final = 100
LONGEST_RETRY_DELAY: Final = 7 * 86_400
LONGEST_EXECUTION: Final = 31 * 86_400
MOST_TAGS: Final = 50
LONGEST_TAG: Final = 100
"""Characters of Airflow's column `dag_tag.name`."""
_LONGEST_REMEMBERED = 128
_NUMBERS = frozenset({bool, int, float})
FIRST_TIME_YEAR: Final = 1970
LAST_START_YEAR: Final = 2099
"""croniter looks 50 years ahead."""

_ISO_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ][0-9:.,]+(Z|[+-]\d{2}(:?\d{2})?)?)?", re.ASCII | re.IGNORECASE)
_LONGEST_TIME = 40
_LONGEST_HINTED = 64
_NUMBER = re.compile(r"[+-]?\d+([.]\d+)?", re.ASCII)
_SCHEDULE = "Write a cron text of five fields, a preset such as @daily, a number of seconds (at least 60), or null."


class Kind(StrEnum):
    """How the runs of a rule follow each other."""

    CRON = "cron"
    INTERVAL = "interval"
    ONCE = "once"
    CONTINUOUS = "continuous"  # the next run starts when the last one ends
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Rule:
    """When and how a record runs. Times are UTC; None means that the config leaves it to Airflow.

    `cron` (kind cron) has five fields, presets replaced: Airflow's CronTriggerTimetable takes it as it is.
    `interval_seconds` (kind interval) is for its DeltaTriggerTimetable.
    """

    kind: Kind = Kind.MANUAL
    cron: str | None = None
    interval_seconds: float | None = None
    timezone: str = "UTC"
    start_date: datetime | None = None
    end_date: datetime | None = None
    catchup: bool = False
    max_active_runs: int | None = None
    retries: int | None = None
    retry_delay_seconds: float | None = None
    execution_timeout_seconds: float | None = None
    tags: tuple[str, ...] = ()
    paused_until: datetime | None = None

    @property
    def starts_at(self) -> datetime | None:
        """No run is due before this: the later of `start_date` and `paused_until`."""
        return max((time for time in (self.start_date, self.paused_until) if time is not None), default=None)

    def known_since(self, moment: datetime) -> "Rule":
        """The rule of a record that is scheduled by it since `moment`: without catchup nothing is due before that.

        Airflow starts the last run before now when a start_date lies in the past, so its DAG must get this start_date.
        An interval needs one that lies ahead when Airflow first sees it, or its grid would begin at that moment, which
        nobody knows before: the first run comes one interval later, or on the grid of a past start_date.
        """
        # After the last year no run comes, and the sums may not fit into a datetime.
        is_plain = self.interval_seconds is None or moment.year > LAST_YEAR
        if self.start_date is not None and (
            self.catchup or self.start_date >= (moment if is_plain else moment + HEAD_START)
        ):
            return self
        if self.interval_seconds is None or is_plain:
            return replace(self, start_date=moment)
        interval = timedelta(seconds=self.interval_seconds)
        if self.start_date is None:
            return replace(self, start_date=moment + interval)
        passed = -((self.start_date - moment - HEAD_START) // interval)
        return replace(self, start_date=self.start_date + passed * interval)


def parse_rule(config: object) -> tuple[Rule | None, list[FieldError]]:
    """Read a rule out of `config`, None included; keys that are no part of a rule may hold anything.

    With errors there is no rule. Their pointers begin at config: `/schedule`.
    """
    if config is None:
        return Rule(), []
    if not isinstance(config, Mapping):
        return None, [FieldError('Write an object, as in {"schedule": "0 9 * * *"}.', "")]
    values = tuple(map(config.get, RULE_KEYS))
    if (known := _to_remember(values)) is None:
        return _read(values)
    rule, errors = _read_again(known)
    return rule, list(errors)


_Key: TypeAlias = tuple[tuple[int, type, Any], ...]


def _to_remember(values: tuple[Any, ...]) -> _Key | None:
    """The values that are there as a key, with places and types, for True equals 1.

    None when one is long, or of a kind that no rule has.
    """
    known: list[tuple[int, type, Any]] = []
    for place, value in enumerate(values):
        if value is None:
            continue
        kind, kept = type(value), value
        if kind is str:
            is_short = len(value) <= _LONGEST_REMEMBERED
        elif kind is list:
            is_short = len(value) <= MOST_TAGS and all(map(_is_short_text, value))
            kept = tuple(value)
        else:
            is_short = kind in _NUMBERS
        if not is_short:
            return None
        known.append((place, kind, kept))
    return tuple(known)


def _is_short_text(value: object) -> bool:
    return type(value) is str and len(value) <= _LONGEST_REMEMBERED


# Many records share a rule, and each is read again and again.
@lru_cache(1024)
def _read_again(known: _Key) -> tuple[Rule | None, list[FieldError]]:
    values: list[Any] = [None] * len(RULE_KEYS)
    for place, kind, kept in known:
        values[place] = list(kept) if kind is list else kept
    return _read(tuple(values))


def _read(values: tuple[Any, ...]) -> tuple[Rule | None, list[FieldError]]:
    fields = _Fields(dict(zip(RULE_KEYS, values, strict=True)))
    timezone = fields.timezone("timezone") or "UTC"
    kind, cron, interval = fields.schedule("schedule")
    rule = Rule(
        kind=kind,
        cron=cron,
        interval_seconds=interval,
        timezone=timezone,
        start_date=fields.time("start_date", timezone, last_year=LAST_START_YEAR),
        end_date=fields.time("end_date", timezone),
        catchup=fields.flag("catchup"),
        max_active_runs=fields.whole("max_active_runs", 1, MOST_ACTIVE_RUNS),
        retries=fields.retries("retry_count", "retries"),
        retry_delay_seconds=fields.seconds("retry_delay_seconds", 0, LONGEST_RETRY_DELAY),
        execution_timeout_seconds=fields.seconds("execution_timeout_seconds", 1, LONGEST_EXECUTION),
        tags=fields.tags("tags"),
        paused_until=fields.time("paused_until", timezone),
    )
    rule = _together(rule, fields)
    return (None, fields.errors) if fields.errors else (rule, [])


def _together(rule: Rule, fields: "_Fields") -> Rule:
    """What several fields must agree on."""
    if rule.start_date is not None and rule.end_date is not None and rule.end_date < rule.start_date:
        fields.refuse("end_date", "Write an end_date that is not before start_date.")
    if rule.kind is Kind.CONTINUOUS:
        if rule.max_active_runs not in {None, 1}:
            fields.refuse("max_active_runs", "Write 1: Airflow runs a @continuous record once at a time.")
        # Airflow refuses a DAG whose default of 16 stands beside @continuous.
        return replace(rule, max_active_runs=1)
    return rule


class _Fields:
    """Reads one value after the other and collects what is wrong; a missing or null value is None."""

    def __init__(self, config: Mapping[Any, Any]) -> None:
        self._config = config
        self.errors: list[FieldError] = []

    def refuse(self, name: str, detail: str) -> None:
        """Remember that the value of `name` cannot be used."""
        self.errors.append(FieldError(detail, f"/{name}"))

    def schedule(self, name: str) -> tuple[Kind, str | None, float | None]:
        """The kind, with its cron text or its seconds."""
        value = self._config.get(name)
        if isinstance(value, bool) or (value is not None and not isinstance(value, str | int | float)):
            self.refuse(name, _SCHEDULE)
        elif isinstance(value, str):
            return self._text_schedule(name, value)
        elif value is not None:
            interval = self.seconds(name, SHORTEST_INTERVAL, LONGEST_INTERVAL)
            return Kind.INTERVAL, None, interval
        return Kind.MANUAL, None, None

    def _text_schedule(self, name: str, text: str) -> tuple[Kind, str | None, float | None]:
        if text == "@once":
            return Kind.ONCE, None, None
        if text == "@continuous":
            return Kind.CONTINUOUS, None, None
        if text in PRESETS:
            return Kind.CRON, PRESETS[text], None
        try:
            parse_cron(text)
        except CronError as error:
            self.refuse(name, _text_hint(text) or str(error))
            return Kind.MANUAL, None, None
        return Kind.CRON, normalized(text), None

    def timezone(self, name: str) -> str | None:
        """An IANA name."""
        value = self._config.get(name)
        if value is None or (isinstance(value, str) and value in zone_names()):
            return value
        self.refuse(name, "Write an IANA name such as Asia/Taipei, Europe/Paris or UTC" + _zone_hint(value))
        return None

    def time(self, name: str, timezone: str, *, last_year: int = 9999) -> datetime | None:
        """An ISO 8601 time as UTC; without an offset it is a time of the rule's zone."""
        value = self._config.get(name)
        if value is None:
            return None
        time = _parse_time(value, timezone)
        if time is None:
            self.refuse(name, "Write an ISO 8601 time such as 2026-01-31T09:00:00+08:00 or 2026-01-31.")
        elif not FIRST_TIME_YEAR <= time.year <= last_year:
            self.refuse(name, f"Write a time between the years {FIRST_TIME_YEAR} and {last_year} in UTC.")
            return None
        return time

    def flag(self, name: str) -> bool:
        """True or false; false when missing."""
        value = self._config.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.refuse(name, "Write true or false, without quotes.")
        return False

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number."""
        value = self._config.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.refuse(name, f"Write a whole number from {least} to {most}, without quotes.")
        return None

    def seconds(self, name: str, least: int, most: int) -> float | None:
        """A number of seconds."""
        value = self._config.get(name)
        if value is None:
            return None
        # The comparison is false for NaN, and exact for numbers that no float can hold.
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.refuse(name, f"Write a number of seconds from {least} to {most}, without quotes.")
        return None

    def retries(self, *names: str) -> int | None:
        """One number that has two names."""
        numbers = [self.whole(name, 0, MOST_RETRIES) for name in names]
        given = [number for number in numbers if number is not None]
        if len(set(given)) > 1:
            self.refuse(names[1], f"Write only one of {names[0]} and {names[1]}, or the same number twice.")
        return given[0] if given else None

    def tags(self, name: str) -> tuple[str, ...]:
        """Short texts, each once."""
        value = self._config.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > MOST_TAGS:
            self.refuse(name, f"Write a list of at most {MOST_TAGS} texts.")
            return ()
        for index, tag in enumerate(value):
            if not _is_tag(tag):
                self.refuse(f"{name}/{index}", f"Write a text of 1 to {LONGEST_TAG} visible characters.")
        return tuple(dict.fromkeys(tag for tag in value if _is_tag(tag)))


def _is_tag(tag: object) -> bool:
    return isinstance(tag, str) and 0 < len(tag) <= LONGEST_TAG and tag.isprintable() and not tag.isspace()


def _parse_time(value: object, timezone: str) -> datetime | None:
    if not isinstance(value, str) or len(value) > _LONGEST_TIME or not _ISO_TIME.fullmatch(value):
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
        local = (time.replace(microsecond=0, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
        return EPOCH + timedelta(seconds=instant_of(timezone, local), microseconds=time.microsecond)
    except (ValueError, OverflowError):
        return None


def _text_hint(text: str) -> str | None:
    """What somebody meant with a text that is no cron text; None when a cron text was meant."""
    short = text[:_LONGEST_HINTED].strip().lower()
    if short in {"", "null", "none", "manual"}:
        return "Write null, without quotes, for a record that is only started by hand."
    if _NUMBER.fullmatch(short):
        return "Write the number of seconds without quotes, or a cron text of five fields."
    if short.startswith("@"):
        return f"Write one of {', '.join(PRESETS)}, @once, @continuous, in small letters."
    return None


def _zone_hint(value: object) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST_HINTED:
        name = _zones_by_word().get(value.strip().lower().replace(" ", "_"))
        if name is not None:
            return f"; did you mean `{name}`?"
    return "."


@lru_cache(1)
def _zones_by_word() -> Mapping[str, str]:
    """Zones by their name and by the last part of it, in small letters."""
    names = sorted(zone_names())
    return {name.rpartition("/")[2].lower(): name for name in names} | {name.lower(): name for name in names}
