"""Uses the kit as an author of DAGs does, in Airflow's environment; answers what it found."""

import json
import sys
from pathlib import Path
from typing import Any

import pyapi_airflow


def ids_of_dags(snapshot: Path) -> list[str]:
    """The DAGs that the file for the DAGs folder makes."""
    from pyapi_airflow.folder import make_all_dags

    found: dict[str, Any] = {}
    make_all_dags(found, snapshot=snapshot)
    return sorted(name for name in found if name.startswith("pyapi_"))


def answer(question: dict[str, Any]) -> Any:
    """What is asked for."""
    if "snapshot" in question:
        return ids_of_dags(Path(question["snapshot"]))
    if "id" not in question:
        return [found.name for found in pyapi_airflow.records(status=question["status"])]
    try:
        found = pyapi_airflow.record(question["id"])
    except pyapi_airflow.RecordNotFound as error:
        return str(error)
    return [found.name, found.config, found.owner, repr(found)]


if __name__ == "__main__":
    json.dump([answer(question) for question in json.load(sys.stdin)], sys.stdout)
