"""What a task of Airflow does for a record that moves data."""

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from pyapi.etl.jobs import Job, parse_job
from pyapi_airflow.etl.checks import check
from pyapi_airflow.etl.failures import Refused
from pyapi_airflow.etl.moves import move
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.surroundings import Surroundings
from pyapi_airflow.settings import KitSettings

log = logging.getLogger(__name__)


def run_job(
    config: dict[str, Any], context: Any, *, record_id: int, settings: KitSettings, only_looks: bool
) -> dict[str, Any]:
    """Move what the config says, or only look whether that could be done.

    The answer goes to XCom as `return_value`, where PyAPI finds it. Raises AirflowFailException for what another try
    cannot help.
    """
    job, errors = parse_job(config)
    if errors:
        raise AirflowFailException("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
    assert job is not None, "asked only for a config that moves data"
    run, around = _run(context, record_id), Surroundings.load(settings)
    try:
        return _checked(job, run, around) if only_looks else move(job, run, around)
    except Refused as error:
        raise AirflowFailException(str(error)) from None


def _checked(job: Job, run: Run, around: Surroundings) -> dict[str, Any]:
    result = check(job, run, around)
    for problem in result["problems"]:
        log.error("%s: %s", problem["place"], problem["detail"])
    return result


def _run(context: Any, record_id: int) -> Run:
    dag_run = context["dag_run"]
    # A run that somebody has started has no logical date of its own.
    date = dag_run.logical_date or dag_run.run_after or datetime.now(UTC)
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    return Run(record_id, dag_run.run_id, date, interval=(start, end) if start and end else None)
