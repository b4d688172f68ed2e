"""Data records for authors of their own DAGs: read-only, typed, with short timeouts.

from pyapi_airflow import records

for found in records(status="active"):
    print(found.name, found.config)
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyapi_airflow import database
from pyapi_airflow.settings import KitSettings


class RecordNotFound(LookupError):
    """There is no record with this id."""


@dataclass(frozen=True)
class Record:
    """A row of the view `pyapi_records_v1`; `config` holds credentials, and is not shown by `repr`."""

    id: int
    name: str
    description: str | None
    status: str
    config: Any = field(repr=False)
    owner: str | None
    revision: int
    created_at: datetime
    updated_at: datetime
    next_run_at: datetime | None


def records(*, status: str | None = None) -> list[Record]:
    """All records, or those with a status, by id."""
    with database.connect(KitSettings.load()) as connection:
        return [Record(*row) for row in database.view_rows(connection, status=status)]


def record(record_id: int) -> Record:
    """One record. Raises RecordNotFound."""
    with database.connect(KitSettings.load()) as connection:
        for row in database.view_rows(connection, record_id=record_id):
            return Record(*row)
    raise RecordNotFound(f"There is no data record {record_id}.")
