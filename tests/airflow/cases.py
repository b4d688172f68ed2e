"""Schedules, zones and moments at which PyAPI and Airflow could disagree: the same ones at each run."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pyapi.schedules.rules import PRESETS, Rule, parse_rule
from pyapi.schedules.runs import runs_between
from pyapi.schedules.zones import changes_between

# Three years with changes of the clock; two zones have given them up.
ZONES = {
    "UTC": (2026, 2028),
    "America/New_York": (2026, 2028),
    "Europe/Paris": (2026, 2028),
    "Asia/Taipei": (2026, 2028),
    "Australia/Lord_Howe": (2026, 2028),  # half an hour
    "Africa/Casablanca": (2026, 2028),  # the pause for Ramadan
    "America/Sao_Paulo": (2016, 2018),  # at midnight
    "Pacific/Apia": (2010, 2012),  # a whole day
    "Europe/Dublin": (2026, 2028),  # winter time is the exception
    "Pacific/Chatham": (2026, 2028),  # a quarter of an hour off
    "Antarctica/Troll": (2026, 2028),  # two hours
    "Antarctica/Casey": (2018, 2022),  # three hours, and back
    "Africa/Cairo": (2026, 2028),
    "Asia/Beirut": (2026, 2028),
}
MOMENTS = (
    *(-40 * 86_400, -86_400, -10_800, -7200, -3660, -3600, -1860, -1800, -900, -60, -1),
    *(0, 1, 60, 600, 1740, 1800, 3540, 3600, 3660, 7200, 10_800, 86_400),
)
LOOKS_BACK = (3600, 86_400, 5 * 86_400, 40 * 86_400, 400 * 86_400)
CASES_PER_MOMENT = 3
MOST_RUNS_BEFORE = 12

MINUTES = (
    *("0", "30", "15", "45", "59", "1", "*/5", "*/15", "*/20", "*/30", "*/7", "0,30", "7,37", "10-20", "5/20", "*"),
    *("0-59", "58-3"),
)
HOURS = (
    *(
        "*",
        "*",
        "*/1",
        "0-23",
        "0",
        "1",
        "2",
        "3",
        "4",
        "12",
        "23",
        "1,2",
        "2,3",
        "0-3",
        "*/2",
        "*/3",
        "1-23/2",
        "22-2",
    ),
    *("*,5", "0-22", "*/6", "2-2"),
)
DAYS = (
    *("*",) * 12,
    *(
        "1",
        "15",
        "31",
        "30",
        "29",
        "L",
        "1,15",
        "28-31",
        "*/2",
        "15W",
        "1W",
        "31W",
        "1-31",
        "*,3",
        "L,3",
        "5-5",
        "25-5",
    ),
)
MONTHS = (*("*",) * 14, "3", "10", "3,10", "*/3", "2", "11-2", "JAN", "1-12", "4", "3-4", "OCT-MAR/2")
WEEKDAYS = (
    *("*",) * 12,
    *(
        "0",
        "7",
        "1-5",
        "SUN",
        "6,0",
        "*/2",
        "0-6",
        "1#1",
        "0#2",
        "L0",
        "L5",
        "fri-mon",
        "?",
        "1,3",
        "sun#5",
        "mon-fri#2",
    ),
    *("5/2", "1#2,3#4"),
)


@dataclass(frozen=True)
class Case:
    """The runs of `config` after a moment (seconds since 1970) are wanted."""

    config: dict[str, Any]
    after: int
    count: int = 3

    @property
    def rule(self) -> Rule:
        """As PyAPI reads it."""
        rule, errors = parse_rule(self.config)
        assert rule is not None, errors
        return rule

    def question(self) -> dict[str, Any]:
        """As Airflow is asked; a record that exists for a day before its start."""
        rule = self.rule
        assert rule.start_date is not None
        start = rule.start_date.timestamp()
        return {
            "schedule": self.config["schedule"],
            "timezone": rule.timezone,
            "start": start,
            "end": None if rule.end_date is None else rule.end_date.timestamp(),
            "catchup": rule.catchup,
            "now": start - 86_400,
            "after": self.after,
            "count": self.count,
        }


def cron_cases() -> Iterator[Case]:
    """Around each change of the clock, and on a few days of zones that have none."""
    draw = random.Random(3)
    for zone in ZONES:
        for change in changes(zone) or [draw.randrange(*_years(zone)) for _ in range(6)]:
            for moment in MOMENTS:
                for _ in range(CASES_PER_MOMENT):
                    yield _cron_case(draw, zone, change + moment)


def preset_cases() -> Iterator[Case]:
    """Every preset in every zone, also the ones that are no cron text."""
    for zone in ZONES:
        for preset in (*PRESETS, "@once"):
            for start in (_years(zone)[0] + 100 * 86_400, _years(zone)[0] + 200 * 86_400 + 1):
                for look_back in (0, 3600):
                    yield Case(_config(preset, zone, start, catchup=True), start - 1 + look_back)


def interval_cases() -> Iterator[Case]:
    """Grids that begin at a start_date."""
    draw = random.Random(4)
    for zone in ZONES:
        for seconds in (60, 61, 90.5, 300, 3600, 3600.25, 86_400, 100_000, 31_622_400):
            start = draw.randrange(*_years(zone))
            passed = draw.randrange(0, 5) * seconds + draw.randrange(0, 60)
            config = _config(seconds, zone, start, catchup=draw.random() < 0.5)
            if draw.random() < 0.3:
                config["end_date"] = _iso(start + int(6 * seconds))
            yield Case(config, int(start - 1 + passed))


def changes(zone: str) -> list[int]:
    """The instants at which the zone's clock changes in its three years."""
    return [change.at for change in changes_between(zone, *_years(zone))]


def texts() -> list[str]:
    """Good, bad and odd expressions."""
    draw = random.Random(5)
    fields = (MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS)
    good = [" ".join(draw.choice(values) for values in fields) for _ in range(400)]
    alphabet = "0123456789**//,,--LWlw#?RrHh  "
    odd = ["".join(draw.choice(alphabet) for _ in range(draw.randrange(1, 4))) for _ in range(4000)]
    by_field = []
    for _ in range(1200):
        values = ["*"] * 5
        values[draw.randrange(5)] = draw.choice(odd)
        by_field.append(" ".join(values))
    written = [
        "",
        "@midnight",
        "@annually",
        "@DAILY",
        "@reboot",
        " 0 9 * * * ",
        "0\t9 * *\n*",
        "\u3000 0 9 * * *",
        "0 9 * * 5L",
    ]
    return [*good, *by_field, *written, "0 0 31 2 *", "0 9 15W * 0", "0 9 31 * 1#1", "0 0 12 * * *", "R * * * *"]


def _cron_case(draw: random.Random, zone: str, moment: int) -> Case:
    while True:
        text = " ".join(draw.choice(values) for values in (MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS))
        look_back = draw.choice((0, *LOOKS_BACK))
        config = _config(text, zone, moment - look_back, catchup=draw.random() < 0.5)
        if draw.random() < 0.1:
            config["end_date"] = _iso(moment + draw.choice((0, 3600, 7200, 86_400)))
        rule, _ = parse_rule(config)
        if rule is not None and _runs_before(rule, moment) <= MOST_RUNS_BEFORE:
            return Case(config, moment if look_back else moment - 1)


def _runs_before(rule: Rule, moment: int) -> int:
    """How many steps Airflow needs to get there, or one more than it should."""
    assert rule.start_date is not None
    runs = runs_between(rule, rule.start_date, datetime.fromtimestamp(moment, UTC))
    return sum(1 for _ in islice(runs, MOST_RUNS_BEFORE + 1))


def _config(schedule: str | float, zone: str, start: int, *, catchup: bool) -> dict[str, Any]:
    return {"schedule": schedule, "timezone": zone, "start_date": _iso(start), "catchup": catchup}


def _years(zone: str) -> tuple[int, int]:
    first, last = ZONES[zone]
    return tuple(int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (first, last + 1))  # type: ignore[return-value]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
