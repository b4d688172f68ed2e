"""One run of a record, as the engine sees it."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pyapi.etl.templates import run_values

_UNSAFE = re.compile(r"[^A-Za-z0-9_=-]+")
_LONGEST = 100


@dataclass(frozen=True)
class Run:
    """A DAG run. Every try of it is the same run."""

    record_id: int
    run_id: str
    logical_date: datetime
    interval: tuple[datetime, datetime] | None = None
    values: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = run_values(
            record_id=self.record_id, run_id=self.run_id, logical_date=self.logical_date, interval=self.interval
        )
        object.__setattr__(self, "values", values)

    @property
    def owner(self) -> str:
        """The record, in the names of folders and of what a target remembers."""
        return f"pyapi_{self.record_id}"

    @property
    def key(self) -> str:
        """A name for files: the same for every try, another for every other run."""
        digest = hashlib.sha256(self.run_id.encode()).hexdigest()[:8]
        return f"{self.owner}-{_UNSAFE.sub('-', self.run_id)[:_LONGEST]}-{digest}"
