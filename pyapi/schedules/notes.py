"""What changes of the clock do to a rule, in words: which times are skipped, moved or met twice."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from pyapi.schedules.expressions import DAY, Cron, parse_cron
from pyapi.schedules.languages import Language
from pyapi.schedules.rules import Kind, Rule
from pyapi.schedules.runs import cron_entry, whole_seconds, window
from pyapi.schedules.timetable import Stretch, instants, pieces
from pyapi.schedules.zones import EPOCH, Change, changes_between, offset_at

MOST_NOTES: Final = 20
_MOST_TIMES = 3
# A shifted run lies within a day of its change: Samoa left out a whole one.
_AROUND: Final = DAY + 2 * 3600


class _Texts(NamedTuple):
    """`{time}`, `{first}`, `{last}` and `{run}` are times of the zone's clock, `{day}` a day of its calendar."""

    moved: str
    many_moved: str
    left_out: str
    many_left_out: str
    later: str
    many_later: str
    skipped_hour: str
    repeated_hour: str
    elapsed: str
    at_once: str


_TEXTS: Final[Mapping[Language, _Texts]] = {
    "en": _Texts(
        moved="{first} does not exist on {day} in {zone}: runs at {run}",
        many_moved="{first} to {last} ({count} times) do not exist on {day} in {zone}: they run from {run} on",
        left_out="{first} does not exist on {day} in {zone}: does not run",
        many_left_out="{first} to {last} ({count} times) do not exist on {day} in {zone}: they do not run",
        later="{first} occurs twice on {day} in {zone}: runs once, at the later {first}",
        many_later="{first} to {last} ({count} times) occur twice on {day} in {zone}: each runs once, at the later one",
        skipped_hour="{first} to {last} does not exist on {day} in {zone}: the time between two runs stays the same",
        repeated_hour="{first} to {last} occurs twice on {day} in {zone}: runs both times",
        elapsed="{first} on {day} in {zone} runs at {run}: the clock has changed since the run before",
        at_once="Runs as soon as Airflow sees it",
    ),
    "zh_TW": _Texts(
        moved="{zone} 在 {day} 沒有 {first}：改在 {run} 執行",
        many_moved="{zone} 在 {day} 沒有 {first} 到 {last}（共 {count} 次）：改從 {run} 起執行",
        left_out="{zone} 在 {day} 沒有 {first}：不執行",
        many_left_out="{zone} 在 {day} 沒有 {first} 到 {last}（共 {count} 次）：不執行",
        later="{zone} 在 {day} 有兩次 {first}：只執行一次，在較晚的 {first}",
        many_later="{zone} 在 {day} 有兩次 {first} 到 {last}（共 {count} 個時間）：各執行一次，在較晚的那次",
        skipped_hour="{zone} 在 {day} 沒有 {first} 到 {last}：兩次執行的間隔不變",
        repeated_hour="{zone} 在 {day} 有兩次 {first} 到 {last}：兩次都執行",
        elapsed="{zone} 在 {day} {first} 的那次改在 {run} 執行：前一次執行後時鐘調整過",
        at_once="Airflow 一看到就執行",
    ),
    "zh_CN": _Texts(
        moved="{zone} 在 {day} 没有 {first}：改在 {run} 执行",
        many_moved="{zone} 在 {day} 没有 {first} 到 {last}（共 {count} 次）：改从 {run} 起执行",
        left_out="{zone} 在 {day} 没有 {first}：不执行",
        many_left_out="{zone} 在 {day} 没有 {first} 到 {last}（共 {count} 次）：不执行",
        later="{zone} 在 {day} 有两次 {first}：只执行一次，在较晚的 {first}",
        many_later="{zone} 在 {day} 有两次 {first} 到 {last}（共 {count} 个时间）：各执行一次，在较晚的那次",
        skipped_hour="{zone} 在 {day} 没有 {first} 到 {last}：两次执行的间隔不变",
        repeated_hour="{zone} 在 {day} 有两次 {first} 到 {last}：两次都执行",
        elapsed="{zone} 在 {day} {first} 的那次改在 {run} 执行：前一次执行后时钟调整过",
        at_once="Airflow 一看到就执行",
    ),
}


def notes(rule: Rule, start: datetime, end: datetime, language: Language = "en") -> list[str]:
    """One line for each run or group of runs with start <= run < end that a change of the clock touches, at most 20.

    Intervals are elapsed time: no change touches them.
    """
    if rule.kind is Kind.ONCE and rule.starts_at is not None and rule.starts_at <= start:
        return [_TEXTS[language].at_once]
    if rule.kind is not Kind.CRON or rule.cron is None:
        return []
    cron = parse_cron(rule.cron)
    first, stop = (whole_seconds(moment) for moment in window(rule, start, end))
    if first >= stop:
        return []
    lines = _every_hour_notes if cron.every_hour else _time_of_day_notes
    return list(islice(lines(rule, cron, first, stop, _TEXTS[language]), MOST_NOTES))


def _time_of_day_notes(rule: Rule, cron: Cron, first: int, stop: int, texts: _Texts) -> Iterator[str]:
    for change in changes_between(rule.timezone, first - _AROUND, stop + _AROUND):
        due = list(cron.between(*_doubtful(change)))
        if not due:
            continue
        runs = _runs_around(rule, cron, change, first, stop)
        if change.after < change.before:
            later = [time for time in due if time - change.after in runs]
            yield from _lines(rule.timezone, later, 0, texts.later, texts.many_later)
            continue
        due = [time for time in due if first <= time - change.before < stop]
        shift = change.after - change.before
        moved = [time for time in due if time - change.before in runs]
        yield from _lines(rule.timezone, moved, shift, texts.moved, texts.many_moved)
        left_out = [time for time in due if time not in moved]
        yield from _lines(rule.timezone, left_out, shift, texts.left_out, texts.many_left_out)


def _every_hour_notes(rule: Rule, cron: Cron, first: int, stop: int, texts: _Texts) -> Iterator[str]:
    zone = rule.timezone
    for piece in pieces(cron, zone, first, stop, cron_entry(rule, cron, first), catchup=rule.catchup):
        if isinstance(piece, Stretch) or (local := piece.at + offset_at(zone, piece.at)) == piece.due:
            continue
        change = max(changes_between(zone, piece.at - _AROUND, piece.at), default=None)
        low, high = (0, 0) if change is None else _doubtful(change)
        if cron.after(local - 1) == local and low <= min(piece.due, local) < high:
            text = texts.skipped_hour if local > piece.due else texts.repeated_hour
            yield text.format(first=_clock(low), last=_clock(high), day=_day(low), zone=zone)
        else:
            yield from _lines(zone, [piece.due], local - piece.due, texts.elapsed, texts.elapsed)


def _doubtful(change: Change) -> tuple[int, int]:
    """The local times first <= time < stop that the clock skips or shows twice."""
    return change.at + min(change.before, change.after), change.at + max(change.before, change.after)


def _runs_around(rule: Rule, cron: Cron, change: Change, first: int, stop: int) -> frozenset[int]:
    first, stop = max(first, change.at - _AROUND), min(stop, change.at + _AROUND)
    begin = cron_entry(rule, cron, first)
    return frozenset(instants(pieces(cron, rule.timezone, first, stop, begin, catchup=rule.catchup), cron))


def _lines(zone: str, due: list[int], shift: int, one: str, many: str) -> Iterator[str]:
    """A line for each of a few times, or one for all of many. `shift`: seconds until the run, on the clock."""
    if len(due) > _MOST_TIMES:
        due, one = [due[0]], many.replace("{last}", _clock(due[-1])).replace("{count}", str(len(due)))
    for time in due:
        run = _clock(time + shift)
        if _day(time + shift) != _day(time):
            run = f"{_day(time + shift)} {run}"
        yield one.format(first=_clock(time), run=run, day=_day(time), zone=zone)


def _clock(local: int) -> str:
    return f"{EPOCH + timedelta(seconds=local):%H:%M}"


def _day(local: int) -> str:
    return f"{EPOCH + timedelta(seconds=local):%Y-%m-%d}"
