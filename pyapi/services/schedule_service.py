"""What people see of a schedule: of a stored record, and of a rule before it is saved."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog

from pyapi.db.dao import RecordRow
from pyapi.enums import RecordStatus
from pyapi.exceptions import FieldError, ValidationFailed
from pyapi.schedules.descriptions import describe
from pyapi.schedules.languages import LANGUAGES, Language
from pyapi.schedules.notes import notes
from pyapi.schedules.outlook import Outlook, outlook
from pyapi.schedules.rules import Rule, parse_rule
from pyapi.schedules.runs import HORIZON, gaps
from pyapi.schedules.zones import EPOCH
from pyapi.schemas.schedule_schemas import RunTime, SchedulePreview, SchedulePreviewed

READER: Final = "2 " + " ".join(version(package) for package in ("croniter", "cron-descriptor", "tzdata"))
"""Who has read a schedule: what another version has read is read again. Count up when `pyapi.schedules` changes."""

UNREADABLE: Final = "This config cannot be read."

_SHOWN_RUNS: Final = 5
_MINUTE: Final = timedelta(minutes=1)

log = structlog.get_logger(__name__)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


def outlook_of(status: str, config: object, since: datetime) -> Outlook:
    """What is to come of a record, as it is stored."""
    is_active = status == RecordStatus.ACTIVE
    try:
        return outlook(config, is_active=is_active, since=since)
    except Exception:
        # No row may be the reason that others cannot be read; a row may hold what nobody has thought of.
        log.exception("schedules.unreadable")
        return Outlook(None, [FieldError(UNREADABLE, "")], is_active)


def timing_of(status: str, config: object) -> object:
    """What decides when a record runs; None for one that cannot. `pyapi_timing` does the same for what SQL writes."""
    rule, _ = parse_rule(config)
    if rule is None or status != RecordStatus.ACTIVE:
        return None
    times = (rule.timezone, rule.start_date, rule.end_date, rule.catchup, rule.paused_until)
    return rule.kind, rule.cron, rule.interval_seconds, *times


def summary_of(found: Outlook, runs: Sequence[datetime]) -> dict[str, Any]:
    """What is kept beside a record, so that nobody has to read its schedule to show it; `runs` are the next five."""
    if found.rule is None:
        return {"reader": READER, "error": found.error}
    until = found.rule.paused_until
    return {
        "reader": READER,
        **{language: describe(found.rule, language) for language in LANGUAGES},
        **({"paused_until": until.isoformat()} if until is not None else {}),
        **({"runs": [run.local.isoformat() for run in run_times(found.rule, runs)]} if runs else {}),
    }


def derive(status: str, config: object, *, since: datetime, now: datetime) -> tuple[datetime | None, dict[str, Any]]:
    """The next run of a record, and its summary: the columns that follow from the others.

    They hold until that run: then the next five are others.
    """
    try:
        found = outlook_of(status, config, since)
        runs = found.next_runs(after=now, count=_SHOWN_RUNS)
        return next(iter(runs), None), summary_of(found, runs)
    except Exception:
        # As above: what cannot be computed for one row must not stop the list, or the keeper, for all.
        log.exception("schedules.unreadable")
        return None, {"reader": READER, "error": UNREADABLE}


def schedule_fields(row: RecordRow, *, now: datetime, language: Language) -> dict[str, Any]:
    """The `ScheduleFields` of a record: as they are kept or, when those are of yesterday, read again."""
    next_run_at, summary = _kept(row, now)
    until = datetime.fromisoformat(summary["paused_until"]) if "paused_until" in summary else None
    return {
        "schedule_description": summary.get(language),
        "schedule_error": summary.get("error"),
        "next_run_at": next_run_at,
        "paused_until": until if until is not None and until > now else None,
    }


def next_run_times(row: RecordRow, *, now: datetime) -> list[RunTime]:
    """The next five runs of a record."""
    next_run_at, summary = _kept(row, now)
    if next_run_at is not None and "runs" not in summary:  # kept by an earlier version
        _, summary = derive(row.status, row.config, since=row.scheduled_since, now=now)
    runs = map(datetime.fromisoformat, summary.get("runs", ()))
    return [RunTime(run.astimezone(UTC), run) for run in runs]


def _kept(row: RecordRow, now: datetime) -> tuple[datetime | None, dict[str, Any]]:
    """The next run and the summary of a row, as `derive` answers them."""
    summary, next_run_at = row.schedule_summary, row.next_run_at
    if summary is None or (next_run_at is not None and next_run_at <= now):
        return derive(row.status, row.config, since=row.scheduled_since, now=now)
    return next_run_at, summary


def run_times(rule: Rule | None, runs: Sequence[datetime]) -> list[RunTime]:
    """Moments as they are answered, with the clock of the rule's zone."""
    zone = ZoneInfo(rule.timezone if rule is not None else "UTC")
    return [RunTime(run, run.astimezone(zone)) for run in runs]


def require_foreseeable(moment: datetime, pointer: str) -> None:
    """Raise ValidationFailed at `pointer` for a time in which no run is computed."""
    if not EPOCH <= moment < HORIZON:
        text = f"Write a time from {EPOCH:%Y-%m-%d} on and before {HORIZON:%Y-%m-%d}."
        raise ValidationFailed([FieldError(text, pointer)])


def at_pointer(errors: Iterable[FieldError], pointer: str) -> list[FieldError]:
    """The same errors of a value that stands at `pointer`."""
    return [FieldError(error.detail, pointer + error.pointer) for error in errors]


class SchedulePreviewer:
    """Shows what a rule would do, in one language."""

    def __init__(self, *, language: Language, clock: Clock = utc_now) -> None:
        self._language = language
        self._clock = clock

    def preview(self, request: SchedulePreview) -> SchedulePreviewed:
        """What Airflow does with a rule. Raises ValidationFailed for one that a record may not have."""
        start = request.from_ or self._clock()
        require_foreseeable(start, "/body/from")
        found = outlook(request.config(), is_active=True, since=start)
        if found.rule is None:
            raise ValidationFailed(at_pointer(found.errors, "/body"))
        runs = found.next_runs(after=start, count=request.count)
        end = runs[-1] + _MINUTE if runs else start
        shortest, longest = gaps(runs) or (None, None)
        return SchedulePreviewed(
            description=describe(found.rule, self._language),
            next_runs=run_times(found.rule, runs),
            notes=notes(found.rule, start, end, self._language),
            min_gap_seconds=shortest,
            max_gap_seconds=longest,
        )
