"""What a run finds around it: settings, Connections, and the promise that no other run of its record moves data."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from pyapi_airflow.etl.connections import Lookup, airflow_connection
from pyapi_airflow.etl.failures import MoveFailed
from pyapi_airflow.settings import KitSettings

StillAlone = Callable[[], None]
"""Raises MoveFailed when another run may have begun meanwhile."""

# Of the advisory locks of the database, those of records that move data.
_LOCK_SPACE = 0x45544C


@dataclass(frozen=True)
class Surroundings:
    """`alone` is entered with the id of a record, and waits until no other run of it moves data."""

    folder: Path
    alone: Callable[[int], AbstractContextManager[StillAlone]]
    local_dirs: tuple[Path, ...] = ()
    conn_ids: tuple[str, ...] = ("*",)
    lookup: Lookup = airflow_connection

    @classmethod
    def load(cls, settings: KitSettings, environ: Mapping[str, str] = os.environ) -> Self:
        """Read `PYAPI_ETL_DIR`, `PYAPI_ETL_LOCAL_DIRS` and `PYAPI_ETL_CONN_IDS`."""
        home = environ.get("AIRFLOW_HOME") or str(Path.home() / "airflow")
        return cls(
            folder=Path(environ.get("PYAPI_ETL_DIR") or f"{home}/pyapi_etl"),
            alone=lambda record_id: alone_on(settings, record_id),
            local_dirs=tuple(map(Path, _listed(environ, "PYAPI_ETL_LOCAL_DIRS"))),
            conn_ids=_listed(environ, "PYAPI_ETL_CONN_IDS") or ("*",),
        )


def _listed(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())


@contextlib.contextmanager
def alone_on(settings: KitSettings, record_id: int) -> Iterator[StillAlone]:
    """Hold an advisory lock of PyAPI's database: it ends with this process, on whatever machine it runs."""
    with psycopg.connect(
        settings.database_url,
        connect_timeout=settings.connect_seconds,
        autocommit=True,
        application_name="pyapi-etl",
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    ) as connection:
        while not _locked(connection, "SELECT pg_try_advisory_lock(%s, %s)", record_id):
            time.sleep(2)

        def still_alone() -> None:
            held = (
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                " AND classid = %s AND objid = %s AND granted)"
            )
            try:
                if _locked(connection, held, record_id):
                    return
            except psycopg.Error:
                pass
            raise MoveFailed("The connection to PyAPI's database was lost: another run may have begun meanwhile.")

        yield still_alone


def _locked(connection: "psycopg.Connection[Any]", question: str, record_id: int) -> bool:
    row = connection.execute(question, (_LOCK_SPACE, record_id)).fetchone()
    return bool(row is not None and row[0])
