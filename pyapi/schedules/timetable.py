"""When Airflow 3.3 runs a cron expression in a zone, without stepping through croniter.

Ported from CronTriggerTimetable (`airflow/timetables/_cron.py`, `trigger.py`), which a DAG with a cron text gets while
`[scheduler] create_cron_data_intervals` is False, its default. Airflow goes from one run to the next: it reads the
local time of the last run, lets croniter find the local time that is due next, and

- takes that time on the zone's clock: the later one where the clock shows it twice; as much after the gap where the
  clock skips it, and what the gap has moved past is left out;
- but when the expression means every hour, adds the *elapsed* time between the two: a change of the clock shifts a run.

Away from a change of the clock both are the same as reading the expression. So the times between two changes are taken
as they stand, and only the crossing of a change is computed. Instants and local times are those of `zones`.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from pyapi.schedules.expressions import DAY, Cron
from pyapi.schedules.zones import Change, changes_between, instant_of, offset_at

# Longer than any change of an offset: Samoa left out a whole day in 2011.
_FAR: Final = 26 * 3600
_WIDEST_SHIFT: Final = 4 * 3600
_MOST_STEPS_BACK: Final = 32


class Stretch(NamedTuple):
    """The local times of an expression with first <= time < stop; each runs at time - offset (all in seconds)."""

    first: int
    stop: int
    offset: int


class Crossing(NamedTuple):
    """One run next to a change of the clock: due at the local time `due`, it runs at the instant `at`."""

    due: int
    at: int


Piece: TypeAlias = Stretch | Crossing


def instants(found: Iterable[Piece], cron: Cron) -> Iterator[int]:
    """The runs of `pieces`, in order."""
    for piece in found:
        if isinstance(piece, Crossing):
            yield piece.at
        else:
            for local in cron.between(piece.first, piece.stop):
                yield local - piece.offset


class Entry(NamedTuple):
    """Where a chain of runs is taken up: behind the instant `at`, whose local time is `local`.

    `is_run`: a run lies at `at` itself and has still to be answered.
    """

    local: int
    at: int
    is_run: bool


def is_unchanged(zone: str, start: int, stop: int) -> bool:
    """Whether no change of the clock has a part in what a chain that begins at `start` runs until `stop`."""
    return next(changes_between(zone, start - _FAR, stop + _FAR), None) is None


def entry(cron: Cron, zone: str, start: int, *, since: int | None, exact: bool = True) -> Entry:
    """A run before `start` that is in the chain wherever that began; or its begin, which is `since`.

    `since` is the start_date, rounded down; not `exact` when that left something off. Next to a change of the clock a
    chain that begins there can be told from one that has always been.
    """
    local = start + offset_at(zone, start)
    run = cron.before(_midnight(local) if cron.every_hour else local)
    steps = 0
    while run is not None and (since is None or instant_of(zone, run) > since):
        following = min(cron.after(run) or local, local)
        if not cron.every_hour and following - run > 2 * _FAR:
            return _quiet(zone, following - _FAR)
        at = instant_of(zone, run)
        # Runs that come only on days with a change never get steady; hourly ones fall into step within that day.
        if _is_steady(cron, zone, run, at) or steps == _MOST_STEPS_BACK:
            return Entry(run, at, is_run=False)
        run = cron.before(_midnight(run) if cron.every_hour else run - _FAR)
        steps += 1
    if since is None:
        return Entry(local - 1, start - 1, is_run=False)
    return Entry(since + offset_at(zone, since), since, is_run=exact and _is_first_run(cron, zone, since))


def _quiet(zone: str, local: int) -> Entry:
    """A moment with no run near it: whatever was before has no part in what comes."""
    at = instant_of(zone, local)
    return Entry(at + offset_at(zone, at), at, is_run=False)


def pieces(cron: Cron, zone: str, start: int, stop: int, begin: Entry, *, catchup: bool = False) -> Iterator[Piece]:
    """What runs with start <= run < stop, in order; `begin` is the `entry` for this start."""
    if begin.is_run and start <= begin.at < stop:
        yield Crossing(begin.local, begin.at)
    for piece in _chain(cron, zone, begin.local, begin.at, stop, catchup=catchup):
        if isinstance(piece, Crossing):
            if start <= piece.at < stop:
                yield piece
        elif (first := max(piece.first, start + piece.offset)) < piece.stop:
            yield piece._replace(first=first)


def _chain(cron: Cron, zone: str, local: int, at: int, stop: int, *, catchup: bool) -> Iterator[Piece]:
    """What follows the run (or start_date) at the instant `at`, whose local time is `local`, until `stop`."""
    # A change after `stop` counts as well: of a time that the clock will show twice, the one before `stop` is not it.
    while (due := cron.after(local)) is not None:
        if not cron.every_hour and due - local > 4 * _FAR:
            # A time without runs, maybe decades: the changes of the clock in it have no part in what follows.
            begin = _quiet(zone, due - _FAR)
            local, at = begin.local, begin.at
        offset = offset_at(zone, at)
        change = next(changes_between(zone, at, stop + _FAR), None)
        if change is None:
            yield Stretch(local + 1, stop + offset, offset)
            return
        read_until = change.at + (change.before if cron.every_hour else min(change.before, change.after))
        yield Stretch(local + 1, min(read_until, stop + offset), offset)
        local, at = max(local, read_until - 1), change.at
        crossing = _crossing(cron, local, change)
        while crossing:
            yield crossing
            at = crossing.at
            local = at + offset_at(zone, at)
            if at >= stop:
                return
            crossing = None if cron.every_hour or catchup else _jump(cron, zone, local, at)


def _crossing(cron: Cron, local: int, change: Change) -> Crossing | None:
    """The run that is due after `local` and that the change of the clock moves."""
    due = cron.after(local)
    if due is None or not (cron.every_hour or due < change.at + change.after):
        return None
    return Crossing(due, due - change.before)


def _jump(cron: Cron, zone: str, local: int, at: int) -> Crossing | None:
    """Without catchup Airflow goes on from the last time that was due when that runs later than what is due next.

    So it does after a gap of half an hour: Lord Howe's 02:05 runs at 02:35, then 02:25 at 02:55, and 02:45 is left out.
    """
    due, following = cron.before(local + 1), cron.after(local)
    if due is None or following is None:
        return None
    late = instant_of(zone, due)
    return Crossing(due, late) if at < instant_of(zone, following) < late else None


def _is_steady(cron: Cron, zone: str, run: int, at: int) -> bool:
    """Whether no change of the clock can have moved this run, or left it out.

    Every-hour expressions are asked for the last run of a day only: what is shifted by a change since the last day that
    is meant lands hours before that.
    """
    if any(changes_between(zone, at - _FAR, at + _FAR)):
        return False
    if cron.every_hour and (earlier := cron.before(_midnight(run))) is not None:
        return abs(offset_at(zone, instant_of(zone, earlier)) - offset_at(zone, at)) <= _WIDEST_SHIFT
    return True


def _is_first_run(cron: Cron, zone: str, since: int) -> bool:
    """Whether Airflow's `_align_to_next` keeps a start_date: the run before the next one must be that very moment."""
    following = _next(cron, zone, since)
    if following is None:
        return False
    local = following + offset_at(zone, following)
    due = cron.before(local)
    if due is None:
        return False
    return since == (following - (local - due) if cron.every_hour else instant_of(zone, due))


def _next(cron: Cron, zone: str, at: int) -> int | None:
    """Airflow's `_get_next`: the run that follows the instant `at`."""
    local = at + offset_at(zone, at)
    due = cron.after(local)
    if due is None:
        return None
    return at + (due - local) if cron.every_hour else instant_of(zone, due)


def _midnight(local: int) -> int:
    return local - local % DAY
