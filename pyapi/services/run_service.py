"""What people may do with the runs of data records; Airflow keeps them, and is asked each time."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NoReturn

import httpx

from pyapi.dag_conventions import RESERVED_CONF
from pyapi.db.run_dao import RunDAO
from pyapi.exceptions import (
    AirflowNotReady,
    Conflict,
    FieldError,
    NotFound,
    RecordNotActive,
    RunEnded,
    RunNotEnded,
    ValidationFailed,
)
from pyapi.gateways.airflow import Airflow, Refused, RunFilter
from pyapi.gateways.answers import Run, TaskTry
from pyapi.schemas.etl_schemas import DataStats
from pyapi.schemas.run_schemas import (
    RecordRun,
    RecordRunList,
    RunDetail,
    RunList,
    RunListParams,
    RunRead,
    RunRetry,
    RunStart,
    TaskRead,
    TryRead,
)
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.auth_service import Caller
from pyapi.services.run_log import LogMasker
from pyapi.services.run_results import RunResults
from pyapi.services.runnable_records import RunnableRecords
from pyapi.services.schedule_service import Clock, at_pointer, utc_now
from pyapi.services.stored_config import secret_names
from pyapi.services.turns import Turns
from pyapi.utils.credentials import mask_text
from pyapi.utils.masking import mask_secrets
from pyapi.utils.opaque import Opaque
from pyapi.utils.sealing import Sealer

NEWEST_FIRST = "-run_after"
MOST_PAGES: Final = 10
"""How many pages of Airflow are looked through for one run that the caller may see."""


class RunService:
    """Runs, as one caller may see and start them. All of it raises AirflowUnavailable."""

    def __init__(
        self,
        airflow: Airflow,
        runs: Callable[[], AbstractAsyncContextManager[RunDAO]],
        caller: Caller,
        audit: AuditTrail,
        *,
        sealer: Sealer,
        cursors: Opaque,
        clock: Clock = utc_now,
    ) -> None:
        """`runs`, and `audit`, open sessions of their own, so that no connection to the database waits for Airflow.

        `cursors` hides those of Airflow: they hold the time and the id of a run that the caller perhaps may not see.
        """
        self._airflow = airflow
        self._runs = runs
        self._caller = caller
        self._audit = audit
        self._sealer = sealer
        self._cursors = cursors
        self._clock = clock
        self._records = RunnableRecords(airflow, runs, clock=clock)
        self._results = RunResults(airflow, runs, self._records, sealer=sealer)

    async def page(self, record_id: int, params: RunListParams) -> RunList:
        """Runs of a record. Raises NotFound, ValidationFailed."""
        await self._records.get(record_id)
        found, next_cursor = await self._page(record_id, params, cursor=self._opened(params.cursor))
        return RunList.model_construct(data=await self._read_all(found), next_cursor=self._closed(next_cursor))

    async def page_of_all(self, params: RunListParams) -> RecordRunList:
        """Runs of all records that the caller may see; of deleted ones for admins. Raises ValidationFailed.

        Airflow does not know who may see what, so a page may have fewer runs than were asked for.
        """
        next_cursor: str | None = self._opened(params.cursor)
        for _ in range(MOST_PAGES):
            found, next_cursor = await self._page(None, params, cursor=next_cursor or "")
            shown, names = await self._shown(found)
            if shown or next_cursor is None:
                break
        reads = await self._read_all(run for run, _ in shown)
        data = [
            RecordRun.model_construct(**dict(read), record_id=record_id, record_name=names.get(record_id))
            for read, (_, record_id) in zip(reads, shown, strict=True)
        ]
        return RecordRunList.model_construct(data=data, next_cursor=self._closed(next_cursor))

    async def _shown(self, found: Iterable[Run]) -> tuple[list[tuple[Run, int]], dict[int, str]]:
        """Those runs that the caller may see, each with the id of its record, and the names of these records."""
        # The first letters of an id are all that Airflow can be asked for; DAGs of others may begin with the same.
        owned = [(run, run.record_id) for run in found if run.record_id is not None]
        async with self._runs() as dao:
            found_names = await dao.names({record_id for _, record_id in owned})
        names = {record_id: mask_text(name) for record_id, name in found_names.items()}
        if self._caller.is_superuser:
            return owned, names
        return [(run, record_id) for run, record_id in owned if record_id in names], names

    async def get(self, record_id: int, run_id: str) -> RunDetail:
        """One run, with its tasks and all their tries, and what it has told. Raises NotFound."""
        await self._records.get(record_id)
        run = _found(await self._airflow.run(record_id, run_id))
        newest = await self._airflow.tasks(record_id, run_id)
        tasks = [await self._task(record_id, run_id, task) for task in newest]
        result = await self._results.of(record_id, run, newest)
        return RunDetail.model_construct(**dict(await self._read(run)), tasks=tasks, result=result)

    async def stats(self, record_id: int) -> DataStats:
        """The newest runs of a record that have ended, in numbers. Raises NotFound."""
        return await self._results.stats(record_id)

    async def start(self, record_id: int, request: RunStart, *, key: str | None) -> tuple[RunRead, bool]:
        """Start a run; the same `key` starts it once, and answers it ever after. Beside it, whether it is new.

        Raises NotFound, PermissionDenied, RecordNotActive, AirflowNotReady, ValidationFailed.
        """
        _refuse_conf(request)
        run_id = self._run_id(record_id, key)
        try:
            await self._records.ready(record_id)
        except (RecordNotActive, AirflowNotReady):
            # What was started before is answered, whatever has become of the record since.
            if key is not None and (run := await self._airflow.run(record_id, run_id)):
                return await self._read(_same(run, request)), False
            raise
        # Looked for before the row of the audit log is written: a request that is repeated starts nothing.
        if key is not None and (run := await self._airflow.run(record_id, run_id)):
            return await self._read(_same(run, request)), False
        async with self._audit.order("run.started", Target("record", record_id), run_id=run_id):
            run, is_new = await self._start(record_id, run_id, request)
        return await self._read(run), is_new

    async def _start(self, record_id: int, run_id: str, request: RunStart) -> tuple[Run, bool]:
        try:
            run = await self._airflow.start_run(record_id, run_id, conf=request.conf, note=request.note or None)
        except Refused as error:
            if error.status_code != httpx.codes.CONFLICT:
                raise Conflict("Airflow refuses to start a run of this record; its page there says why.") from None
            return _same(_found(await self._airflow.run(record_id, run_id)), request), False  # started meanwhile
        if run is None:
            raise AirflowNotReady
        return run, True

    async def cancel(self, record_id: int, run_id: str) -> RunRead:
        """Let a run fail now. Raises NotFound, PermissionDenied, RunEnded."""
        await self._records.to_change(record_id)
        if _found(await self._airflow.run(record_id, run_id)).has_ended:
            raise RunEnded
        async with self._audit.order("run.cancelled", Target("record", record_id), run_id=run_id):
            try:
                run = _found(await self._airflow.end_run(record_id, run_id))
            except Refused:
                raise RunEnded from None  # meanwhile
        return await self._read(run)

    async def retry(self, record_id: int, run_id: str, request: RunRetry) -> RunRead:
        """Run all tasks of a run again. Raises NotFound, PermissionDenied, RecordNotActive, RunNotEnded."""
        await self._records.ready(record_id)
        if not _found(await self._airflow.run(record_id, run_id)).has_ended:
            raise RunNotEnded
        target = Target("record", record_id)
        async with self._audit.order("run.retried", target, run_id=run_id, latest=request.latest):
            try:
                run = _found(await self._airflow.retry_run(record_id, run_id, latest=request.latest))
            except Refused:
                raise RunNotEnded from None  # any more
        return await self._read(run)

    @asynccontextmanager
    async def log(
        self, record_id: int, run_id: str, *, task_id: str, try_number: int | None
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The entries of a task's log while they are read, credentials masked; of the newest try by default.

        Raises NotFound.
        """
        await self._records.get(record_id)
        run = _found(await self._airflow.run(record_id, run_id))
        if try_number is None:
            tasks = {task.task_id: task for task in await self._airflow.tasks(record_id, run_id)}
            try_number = tasks[task_id].try_number if task_id in tasks else 0
        async with self._runs() as dao:
            configs = await dao.configs(record_id, version=run.version)
        async with self._airflow.log_lines(record_id, run_id, task_id, try_number=try_number) as lines:
            if lines is None:
                raise NotFound("This run has no such task, or the task no such try.")
            yield LogMasker(configs, conf=run.conf, sealer=self._sealer).entries(lines)

    def _opened(self, cursor: str | None) -> str:
        """Airflow's cursor; empty for the first page. Raises ValidationFailed for one that this caller did not get."""
        if not cursor:
            return ""
        opened = self._cursors.open(cursor, user_id=self._caller.user_id)
        return opened if opened is not None else _refuse_cursor()

    def _closed(self, cursor: str | None) -> str | None:
        return None if cursor is None else self._cursors.close(cursor, user_id=self._caller.user_id)

    async def _page(self, record_id: int | None, params: RunListParams, *, cursor: str) -> tuple[list[Run], str | None]:
        wanted = RunFilter(state=params.state, run_type=params.type, after=params.from_, before=params.to)
        try:
            page = await self._airflow.runs(record_id, wanted, order_by=NEWEST_FIRST, limit=params.limit, cursor=cursor)
        except Refused:
            _refuse_cursor()
        return page.runs, page.next_cursor

    async def _task(self, record_id: int, run_id: str, task: TaskTry) -> TaskRead:
        tries = await self._airflow.tries(record_id, run_id, task.task_id)
        return TaskRead.model_construct(
            task_id=task.task_id,
            state=task.state,
            max_tries=task.max_tries,
            tries=[TryRead.model_construct(**dict(one)) for one in tries],
        )

    async def _read(self, run: Run) -> RunRead:
        return (await self._read_all([run]))[0]

    async def _read_all(self, runs: Iterable[Run]) -> list[RunRead]:
        runs = list(runs)
        pairs = {(run.record_id or 0, run.version) for run in runs if run.version is not None}
        revisions: dict[tuple[int, int], int | None] = {}
        if pairs:
            async with self._runs() as dao:
                revisions = await dao.revisions_at([(record_id, version) for record_id, version in pairs if version])
        turns = Turns()
        read = []
        for run in runs:
            shown = dict(run) | {"conf": mask_secrets(run.conf or {}), "note": mask_secrets(run.note)}
            revision = revisions.get((run.record_id or 0, run.version or 0))
            read.append(RunRead.model_construct(**shown, revision=revision))
            await turns.give()
        return read

    def _run_id(self, record_id: int, key: str | None) -> str:
        """The same for the same person, record and key; Airflow has a run id once, so it starts one run."""
        if key is None:
            return f"pyapi__{self._clock():%Y%m%dT%H%M%S}_{secrets.token_hex(8)}"
        digest = hashlib.sha256(f"{record_id} {self._caller.user_id} {key}".encode()).hexdigest()
        return f"pyapi__{digest[:40]}"


def _found(run: Run | None) -> Run:
    if run is None:
        raise NotFound("This record has no run with this id.")
    return run


def _same(run: Run, request: RunStart) -> Run:
    """The run, when this request would have started the same. Raises ValidationFailed."""
    if (run.conf or {}, run.note) != (request.conf or {}, request.note or None):
        text = "This key has started a run with another conf or note."
        raise ValidationFailed([FieldError(text, "/header/Idempotency-Key")])
    return run


def _refuse_conf(request: RunStart) -> None:
    conf = request.conf or {}
    if RESERVED_CONF in conf:
        text = "PyAPI keeps this key for itself; a check is POST /api/data/{data_id}/check."
        raise ValidationFailed([FieldError(text, f"/body/conf/{RESERVED_CONF}")])
    if errors := secret_names(conf):
        raise ValidationFailed(at_pointer(errors, "/body/conf"))


def _refuse_cursor() -> NoReturn:
    text = "This is not a cursor of this list; use next_cursor of the page before."
    raise ValidationFailed([FieldError(text, "/query/cursor")]) from None
