"""Opens the source and the target that a job names."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from pyapi.etl.jobs import Endpoint, Job
from pyapi.etl.kinds import FORMATS
from pyapi.etl.templates import fill, literal_part
from pyapi_airflow.etl.addresses import check_host
from pyapi_airflow.etl.connections import options_of
from pyapi_airflow.etl.failures import Refused
from pyapi_airflow.etl.places import open_place, path_of
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.sources.base import Source
from pyapi_airflow.etl.surroundings import Surroundings
from pyapi_airflow.etl.targets.base import Target


def open_source(job: Job, run: Run, around: Surroundings) -> Source:
    """The source; each is imported only when it is asked for. Raises MoveFailed."""
    options = _options(job.source, around)
    query = None if job.query is None else fill(job.query, run.values)
    try:
        match job.source.type:
            case "postgresql":
                from pyapi_airflow.etl.sources.postgresql import PostgresSource

                return PostgresSource(job, options, query)
            case "mysql":
                from pyapi_airflow.etl.sources.mysql import MysqlSource

                return MysqlSource(job, options, query)
            case "sqlite":
                from pyapi_airflow.etl.sources.sqlite import SqliteSource

                return SqliteSource(job, fill(options["path"], run.values), query, allowed=around.local_dirs)
            case "rest":
                from pyapi_airflow.etl.sources.rest import RestSource

                return RestSource(job, options, run)
            case kind:
                from pyapi_airflow.etl.sources.files import FileSource

                path = fill(path_of(kind, options), run.values)
                return FileSource(job, kind, options, path, allowed=around.local_dirs)
    except ImportError as error:
        raise _missing(job.source.type, error) from None


def open_target(job: Job, run: Run, around: Surroundings) -> Target:
    """The target. Raises MoveFailed."""
    options = _options(job.target, around)
    try:
        match job.target.type:
            case "postgresql":
                from pyapi_airflow.etl.targets.postgresql import PostgresTarget

                return PostgresTarget(options, run)
            case "duckdb":
                from pyapi_airflow.etl.targets.duckdb import DuckdbTarget

                return DuckdbTarget(options, run, allowed=around.local_dirs)
            case "delta":
                from pyapi_airflow.etl.targets.delta import DeltaTarget

                return DeltaTarget(options, run, allowed=around.local_dirs)
            case kind:
                from pyapi_airflow.etl.targets.files import FileTarget

                path = path_of(kind, options)
                place = open_place(kind, options, literal_part(path), allowed=around.local_dirs)
                return FileTarget(place, path, options.get("format") or FORMATS[0], run)
    except ImportError as error:
        raise _missing(job.target.type, error) from None


def _options(endpoint: Endpoint, around: Surroundings) -> dict[str, Any]:
    options = options_of(endpoint, lookup=around.lookup, allowed=around.conn_ids)
    host = options.get("host") or urlsplit(options.get("endpoint_url") or "").hostname
    if host:
        # One without an address is told by whoever connects: a proxy may know it.
        with suppress(OSError):
            check_host(host, shown=host)
    return options


def _missing(kind: str, error: ImportError) -> Refused:
    return Refused(f"Airflow's environment lacks {error.name} for {kind}: install pyapi-airflow with its extra for it.")
