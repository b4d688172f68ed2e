"""Data records for authors of their own DAGs: read-only, typed, with short timeouts.

from pyapi_airflow import records

for found in records(status="active"):
    print(found.name, found.config)
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pyapi_airflow import database
from pyapi_airflow.configs import open_configs
from pyapi_airflow.decryption import SecretUnreadable
from pyapi_airflow.settings import KitSettings


class RecordNotFound(LookupError):
    """There is no record with this id."""


@dataclass(frozen=True)
class Record:
    """A row of the view `pyapi_records_v1`."""

    id: int
    name: str
    description: str | None
    status: str
    _config: Any = field(repr=False)
    owner: str | None
    revision: int
    created_at: datetime
    updated_at: datetime
    next_run_at: datetime | None

    @property
    def config(self) -> Any:
        """The job, with its credentials decrypted. Raises SecretUnreadable when one of them cannot be."""
        if isinstance(self._config, SecretUnreadable):
            raise self._config
        return self._config


def records(*, status: str | None = None) -> list[Record]:
    """All records, or those with a status, by id."""
    return _read(status=status)


def record(record_id: int) -> Record:
    """One record. Raises RecordNotFound."""
    for found in _read(record_id=record_id):
        return found
    raise RecordNotFound(f"There is no data record {record_id}.")


def _read(*, record_id: int | None = None, status: str | None = None) -> list[Record]:
    settings = KitSettings.load()
    with database.connect(settings) as connection:
        found = [Record(*row) for row in database.view_rows(connection, record_id=record_id, status=status)]
    configs = open_configs({item.id: item._config for item in found}, settings)
    return [replace(item, _config=configs[item.id]) for item in found]
