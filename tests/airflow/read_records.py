"""Uses the kit as an author of DAGs does, in Airflow's environment; answers what it found."""

import json
import sys
from pathlib import Path
from typing import Any

import pyapi_airflow
from pyapi_airflow.decryption import decrypt
from pyapi_airflow.settings import KitSettings, NotConfigured


def ids_of_dags(snapshot: Path) -> list[str]:
    """The DAGs that the file for the DAGs folder makes."""
    from pyapi_airflow.folder import make_all_dags

    found: dict[str, Any] = {}
    make_all_dags(found, snapshot=snapshot)
    return sorted(name for name in found if name.startswith("pyapi_"))


def decrypted(value: Any, environ: dict[str, str], levels: int) -> Any:
    """The value in as many lists, decrypted with the keys of an environment."""
    settings = KitSettings.load({"PYAPI_DATABASE_URL": "postgresql://h/d", **environ})
    for _ in range(levels):
        value = [value]
    found, secrets = decrypt(value, settings.fernet_keys, record_id=5)
    for _ in range(levels):
        (found,) = found
    return [found, secrets, repr(settings)]


def answer(question: dict[str, Any]) -> Any:
    """What is asked for."""
    if "snapshot" in question:
        return ids_of_dags(Path(question["snapshot"]))
    if "decrypt" in question:
        return decrypted(question["decrypt"], question["environ"], question.get("levels", 0))
    if "id" not in question:
        return [found.name for found in pyapi_airflow.records(status=question["status"])]
    found = pyapi_airflow.record(question["id"])
    return [found.name, found.config, found.owner, repr(found)]


def answer_or_error(question: dict[str, Any]) -> Any:
    """The same, or what is wrong."""
    try:
        return answer(question)
    except (pyapi_airflow.RecordNotFound, pyapi_airflow.SecretUnreadable, NotConfigured) as error:
        return str(error)


if __name__ == "__main__":
    json.dump([answer_or_error(question) for question in json.load(sys.stdin)], sys.stdout)
