"""Templates of a run in paths and queries: `${run.logical_date}`; the list of names is closed."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

NAMES: Final = (
    "run.logical_date",
    "run.date",
    "run.year",
    "run.month",
    "run.day",
    "run.hour",
    "run.interval_start",
    "run.interval_end",
    "run.id",
    "record.id",
)
"""`run.date` and the parts of it are those of the logical date in UTC; `run.id` is safe in a path and in quotes."""

_TEMPLATE = re.compile(r"\$\{([^{}]*)\}?")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.=-]")
TEMPLATED: Final = rf"^(?:[^$]|\$(?!\{{)|\$\{{(?:{'|'.join(map(re.escape, NAMES))})\}})*$"
"""What JSON Schema says about a text with templates."""


def unknown_names(text: str) -> list[str]:
    """The names in templates of `text` that nothing fills in; a template that never closes is one of them."""
    return [found[1] for found in _TEMPLATE.finditer(text) if found[1] not in NAMES or not found[0].endswith("}")]


def has_template(text: str) -> bool:
    """Whether something will be filled in."""
    return _TEMPLATE.search(text) is not None


def literal_part(path: str) -> str:
    """The folder of `path` down to its first template: the same for every run."""
    found = _TEMPLATE.search(path)
    return path if found is None else path[: path.rfind("/", 0, found.start()) + 1]


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with its templates filled in."""
    return _TEMPLATE.sub(lambda found: values[found[1]], text)


def run_values(
    *, record_id: int, run_id: str, logical_date: datetime, interval: tuple[datetime, datetime] | None = None
) -> dict[str, str]:
    """What stands for each name in one run. Times are ISO 8601 in UTC, to the second."""
    date = logical_date.astimezone(UTC)
    start, end = interval or (date, date)
    return {
        "run.logical_date": _iso(date),
        "run.date": f"{date:%Y-%m-%d}",
        "run.year": f"{date:%Y}",
        "run.month": f"{date:%m}",
        "run.day": f"{date:%d}",
        "run.hour": f"{date:%H}",
        "run.interval_start": _iso(start),
        "run.interval_end": _iso(end),
        "run.id": _UNSAFE.sub("-", run_id),
        "record.id": str(record_id),
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
