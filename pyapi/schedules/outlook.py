"""What the config of one record means from a moment on: its rule, or what is wrong with it, and its next runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyapi.exceptions import FieldError
from pyapi.schedules.rules import Rule, parse_rule
from pyapi.schedules.runs import next_runs


@dataclass(frozen=True, slots=True)
class Outlook:
    """A record as Airflow gets it. `rule` is None when `errors` say what is wrong; pointers begin at the config."""

    rule: Rule | None
    errors: Sequence[FieldError]
    is_active: bool

    @property
    def error(self) -> str | None:
        """All errors in one text, for people; None when there is none."""
        return " ".join(f"{error.pointer}: {error.detail}" for error in self.errors) or None

    def next_runs(self, *, after: datetime, count: int) -> list[datetime]:
        """The first `count` runs strictly after `after`, in UTC; none for what Airflow does not schedule."""
        if self.rule is None or not self.is_active:
            return []
        return next_runs(self.rule, after=after, count=count)

    def next_run(self, *, after: datetime) -> datetime | None:
        """The first run strictly after `after`."""
        return next(iter(self.next_runs(after=after, count=1)), None)

    def paused_until(self, *, now: datetime) -> datetime | None:
        """Until when it is not scheduled; None when it is, or when that is not a question of time."""
        until = self.rule.paused_until if self.rule is not None else None
        return until if until is not None and until > now else None


def outlook(config: object, *, is_active: bool, since: datetime) -> Outlook:
    """Read the config of a record that is scheduled by it since `since`."""
    rule, errors = parse_rule(config)
    return Outlook(rule.known_since(since) if rule is not None else None, errors, is_active)
