"""Looks whether a job could move what it says, and moves nothing."""

from collections.abc import Callable
from typing import Any

from pyapi.etl.jobs import Job
from pyapi_airflow.etl.columns import check_cursor
from pyapi_airflow.etl.failures import MoveFailed
from pyapi_airflow.etl.openers import open_source, open_target
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.surroundings import Surroundings

CHECK_VERSION = 1


def check(job: Job, run: Run, around: Surroundings) -> dict[str, Any]:
    """What was found, and what failed: `problems` name `source` or `target`, and are empty when all is well."""
    tables: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []

    def look(place: str, at: Callable[[], None]) -> None:
        try:
            at()
        except MoveFailed as error:
            problems.append({"place": place, "detail": str(error)})

    look("source", lambda: tables.extend(_tables(job, run, around)))
    look("target", lambda: _write_nothing(job, run, around))
    return {"version": CHECK_VERSION, "ok": not problems, "problems": problems, "tables": tables}


def _tables(job: Job, run: Run, around: Surroundings) -> list[dict[str, Any]]:
    source = open_source(job, run, around)
    try:
        found = source.tables()
        for item in found:
            if item.schema is not None:
                check_cursor(item.table, item.schema)
        return [
            {"table": item.table.name, "columns": None if item.schema is None else len(item.schema)} for item in found
        ]
    finally:
        source.close()


def _write_nothing(job: Job, run: Run, around: Surroundings) -> None:
    target = open_target(job, run, around)
    try:
        target.check()
    finally:
        target.close()
