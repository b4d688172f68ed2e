"""Records before they are saved: whether they could be, what they would move and when, and what may not be meant."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pyapi.etl.jobs import Endpoint, Job, Table, parse_job
from pyapi.etl.kinds import JOB_FIELDS
from pyapi.schedules.descriptions import describe
from pyapi.schedules.languages import Language
from pyapi.schemas.data_schemas import DataCreate
from pyapi.schemas.etl_schemas import ConfigWarning, DataValidated, EndpointRead, JobRead, TableRead
from pyapi.services.schedule_service import Clock, outlook_of, run_times, utc_now
from pyapi.services.stored_config import storable_config
from pyapi.utils.credentials import credentials_in
from pyapi.utils.masking import mask_secrets
from pyapi.utils.pointers import escape
from pyapi.utils.sealing import Sealer

_SHOWN_RUNS: Final = 5
_LOOKED_AT: Final = 50
_LONGEST_KEY: Final = 40
"""Comparing words takes time; who writes more and longer ones means something else."""

NOTHING: Final = "Nothing is moved: write both `source` and `target`, or a `task`."
TASK_ONLY: Final = "The `task` does all the work: PyAPI moves nothing for this record."
ALL_TABLES: Final = "All tables of the schema are moved: write `tables` to choose."
CREDENTIALS: Final = "It holds credentials: better name an Airflow Connection in `conn_id`."
READABLE: Final = "Whoever reads the database can read these credentials: set PYAPI_FERNET_KEYS."


class RecordValidator:
    """Looks at records in one language, and stores nothing."""

    def __init__(self, *, sealer: Sealer, language: Language, clock: Clock = utc_now) -> None:
        self._sealer = sealer
        self._language: Language = language
        self._clock = clock

    def validate(self, request: DataCreate) -> DataValidated:
        """What a record would be. Raises ValidationFailed, as creating it does."""
        storable_config(request.config, stored=None, sealer=self._sealer, is_own=True)
        now = self._clock()
        found = outlook_of(request.status, request.config, now)
        assert found.rule is not None, "refused above"
        config = request.config or {}
        job, _ = parse_job(config)
        return DataValidated(
            job=None if job is None else job_read(job),
            schedule_description=describe(found.rule, self._language),
            next_runs=run_times(found.rule, found.next_runs(after=now, count=_SHOWN_RUNS)),
            warnings=[ConfigWarning(pointer=f"/config{at}", detail=text) for at, text in self._warnings(config, job)],
        )

    def _warnings(self, config: Mapping[str, Any], job: Job | None) -> Iterator[tuple[str, str]]:
        if job is None:
            named = config.get("source") or config.get("target")
            if config.get("task") is None or named:
                yield ("", NOTHING) if config.get("task") is None else ("/task", TASK_ONLY)
            return
        for place in ("source", "target"):
            if next(credentials_in(config[place]), None):
                yield f"/{place}", CREDENTIALS
                if not self._sealer.has_keys:
                    yield f"/{place}", READABLE
        if not (job.tables or job.gives_one_table):
            yield "/source", ALL_TABLES
        yield from _misspelled(config)


def _misspelled(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys that are almost one of ours; all others are for whoever reads them."""
    known = [field.name for field in JOB_FIELDS]
    for key in list(config)[:_LOOKED_AT]:
        close = get_close_matches(key, known, n=1, cutoff=0.8) if len(key) <= _LONGEST_KEY else []
        if close and key not in known:
            yield f"/{escape(key)}", f"Nobody reads it: is `{close[0]}` meant?"


def job_read(job: Job) -> JobRead:
    """The job as it is answered, without credentials."""
    one = [job.defaults] if job.gives_one_table else None
    tables = job.tables or one
    return JobRead(
        source=_endpoint(job.source),
        target=_endpoint(job.target),
        mode=job.mode,
        schema_contract=job.schema_contract,
        batch_size=job.batch_size,
        query=None if job.query is None else str(mask_secrets(job.query)),
        tables=None if tables is None else list(map(_table, tables)),
    )


def _endpoint(endpoint: Endpoint) -> EndpointRead:
    return EndpointRead(type=endpoint.type, options=mask_secrets(dict(endpoint.options)))


def _table(table: Table) -> TableRead:
    return TableRead(
        name=table.name,
        cursor=table.cursor,
        primary_key=table.primary_key,
        columns=table.columns,
        exclude=table.exclude,
    )
