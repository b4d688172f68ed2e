"""Answers what Airflow itself does with schedules. Runs in Airflow's environment, not in ours; touches no database.

Reads `{"chains": [...], "texts": [...], "timetables": [...]}`. A chain is a DAG with `schedule`, `timezone`, `start`,
`end` and `catchup` (times in seconds since 1970); its answer are the runs after `after`, at most `count`, as a punctual
scheduler creates them. A text is a cron expression; its answer is the error that Airflow raises for it, or null. A
timetable is named for each schedule.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pendulum
from airflow.sdk import DAG
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables import simple, trigger
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

MOST_STEPS = 2_000


class Clock:
    """Stands in for Airflow's `utcnow`."""

    now = datetime(2000, 1, 1, tzinfo=UTC)

    def utcnow(self) -> datetime:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(REAL_TIMEZONE, name)


REAL_TIMEZONE = simple.timezone
CLOCK = Clock()
trigger.utcnow = CLOCK.utcnow
simple.timezone = CLOCK


@cache
def timetable(schedule: str | float | None, zone: str) -> Any:
    """What a DAG with this schedule is given, as the scheduler sees it."""
    value = timedelta(seconds=schedule) if isinstance(schedule, int | float) else schedule
    start_date = datetime(2000, 1, 1, tzinfo=pendulum.timezone(zone))
    dag = DAG("agreement", schedule=value, start_date=start_date, max_active_runs=1)
    return coerce_to_core_timetable(dag.timetable)


def moment(seconds: float | None) -> Any:
    return None if seconds is None else pendulum.from_timestamp(seconds)


def runs(chain: dict[str, Any]) -> list[float]:
    """The chain of runs, each asked for one second after the last one was created."""
    restriction = TimeRestriction(moment(chain["start"]), moment(chain["end"]), chain["catchup"])
    found: list[float] = []
    last = None
    CLOCK.now = moment(chain["now"])
    for _ in range(MOST_STEPS):
        info = timetable(chain["schedule"], chain["timezone"]).next_dagrun_info(
            last_automated_data_interval=last, restriction=restriction
        )
        if info is None:
            return found
        last = info.data_interval
        CLOCK.now = max(CLOCK.now, info.run_after + timedelta(seconds=1))
        if info.run_after.timestamp() > chain["after"]:
            found.append(info.run_after.timestamp())
        if len(found) == chain["count"]:
            return found
    raise RuntimeError(f"too many steps: {chain}")


def refusal(text: str) -> str | None:
    """Whether Airflow can take the expression and find a run."""
    try:
        made = CronTriggerTimetable(text, timezone="UTC")
        made.validate()
        made._get_next(pendulum.datetime(2026, 1, 1))
        made._get_prev(pendulum.datetime(2026, 1, 1))
    except Exception as error:  # noqa: BLE001  (whatever it is, Airflow cannot take the text)
        return type(error).__name__
    return None


def main() -> None:
    questions = json.load(sys.stdin)
    answers = {
        "chains": [runs(chain) for chain in questions["chains"]],
        "texts": [refusal(text) for text in questions["texts"]],
        "timetables": [type(timetable(schedule, "UTC")).__name__ for schedule in questions["timetables"]],
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
