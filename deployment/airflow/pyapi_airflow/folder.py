"""For an Airflow whose configuration cannot be changed: one file in its DAGs folder makes the DAGs of all records.

The same guarantees as the bundle's, only slower: Airflow reads the file again every `min_file_process_interval`
seconds (30 by default), and runs have the configuration of the moment, not of their start.
"""

import json
import logging
from collections.abc import MutableMapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyapi_airflow import database
from pyapi_airflow.dags import put_dags, wanted_record
from pyapi_airflow.definitions import DagDefinition, define
from pyapi_airflow.files import replace_file
from pyapi_airflow.settings import KitSettings, NotConfigured

log = logging.getLogger(__name__)

LEAVING = timedelta(days=1)
"""How long a record that left keeps a DAG without schedule: a run whose DAG is gone never ends."""

_LAST_ID = 2**31 - 1


def make_all_dags(namespace: MutableMapping[str, Any], *, snapshot: Path) -> None:
    """Put the DAGs of all records into a file's namespace; as they last were while the database is away."""
    wanted = wanted_record()
    first, last = (0, _LAST_ID) if wanted is None else (wanted, wanted)
    try:
        definitions = _read(first, last)
    except (NotConfigured, database.DatabaseError) as error:
        log.warning("The data records cannot be read, so their DAGs stay as they are: %s", str(error).strip())
        definitions = _load(snapshot)
    else:
        if wanted is None:
            _save(snapshot, definitions)
    put_dags(namespace, definitions)


def _save(snapshot: Path, definitions: list[DagDefinition]) -> None:
    """Keep them for later. A folder that cannot be written must not be the end of all DAGs."""
    try:
        replace_file(snapshot, json.dumps([asdict(definition) for definition in definitions]))
    except OSError as error:
        log.warning("The snapshot of the data records cannot be written: %s", error)


def _read(first: int, last: int) -> list[DagDefinition]:
    settings = KitSettings.load()
    with database.connect(settings) as connection:
        found = database.states(connection, first, last, version=database.change_counter(connection))
    oldest = datetime.now(UTC) - LEAVING
    definitions = [(stored, define(stored, web_url=settings.web_url)) for stored in found]
    return [item for stored, item in definitions if not item.has_left or stored.changed_at > oldest]


def _load(snapshot: Path) -> list[DagDefinition]:
    try:
        return [DagDefinition.from_values(values) for values in json.loads(snapshot.read_text())]
    except (OSError, ValueError, TypeError):
        return []
