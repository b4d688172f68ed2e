"""Data records as teams write them, the same ones at each run."""

import random
from typing import Any

_ZONES = ("UTC", "Asia/Taipei", "Europe/Paris", "America/New_York")


def schedules(number: int) -> list[dict[str, Any]]:
    """Rules: daily ones for the most part, some that run every few minutes; most are written by nobody else."""
    draw = random.Random(6)
    return [{"schedule": _cron(draw), "timezone": draw.choice(_ZONES)} for _ in range(number)]


def configs(number: int) -> list[dict[str, Any]]:
    """Whole configs around those rules."""
    return [
        {
            "source": f"postgresql://etl:secret@warehouse:5432/銷售_{place % 97}",
            "target": f"s3://data-lake/銷售/{place}/",
            "batch_size": 1000,
            "retry_count": 3,
            "tags": ["每日", f"team-{place % 7}"],
            **rule,
        }
        for place, rule in enumerate(schedules(number))
    ]


def _cron(draw: random.Random) -> str:
    minute, hour = draw.randrange(60), draw.randrange(24)
    kind = draw.random()
    if kind < 0.6:
        return f"{minute} {hour} * * {draw.choice(['*', '1-5', '0'])}"
    if kind < 0.75:
        return f"{minute} */{draw.choice([2, 3, 4, 6])} * * *"
    if kind < 0.9:
        return f"{draw.randrange(15)}-59/{draw.choice([5, 10, 15])} * * * *"
    return f"{minute} {hour} {draw.randrange(1, 29)} * *"
