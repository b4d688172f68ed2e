"""What runs have told: what they have moved, or what they have found when they only looked."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from pyapi.db.run_dao import RunDAO
from pyapi.gateways.airflow import RESULT_TASK, Airflow
from pyapi.gateways.answers import Looked, Run, TaskTry
from pyapi.schemas.etl_schemas import CheckProblem, CheckResult, DataStats, RunFigures, RunResult
from pyapi.services.run_log import LogMasker
from pyapi.services.runnable_records import RunnableRecords
from pyapi.utils.sealing import Sealer


class RunResults:
    """Results of the runs that a caller may see. `runs` opens sessions of its own."""

    def __init__(
        self,
        airflow: Airflow,
        runs: Callable[[], AbstractAsyncContextManager[RunDAO]],
        records: RunnableRecords,
        *,
        sealer: Sealer,
    ) -> None:
        self._airflow = airflow
        self._runs = runs
        self._records = records
        self._sealer = sealer

    async def of(self, record_id: int, run: Run, tasks: Sequence[TaskTry]) -> RunResult | CheckResult | None:
        """What a run has told; only what has ended well has told something. Raises AirflowUnavailable."""
        if all((task.task_id, task.state) != (RESULT_TASK, "success") for task in tasks):
            return None
        found = await self._airflow.result(record_id, run.run_id)
        if isinstance(found, Looked):
            return await self._looked(record_id, run, found)
        return None if found is None else RunResult.model_validate(found, from_attributes=True)

    async def _looked(self, record_id: int, run: Run, found: Looked) -> CheckResult:
        """A driver may have said more than it should, as in a log."""
        async with self._runs() as dao:
            configs = await dao.configs(record_id, version=run.version)
        masker = LogMasker(configs, sealer=self._sealer)
        result = CheckResult.model_validate(found, from_attributes=True)
        problems = [
            CheckProblem.model_construct(place=problem.place, detail=masker.hide(problem.detail))
            for problem in result.problems
        ]
        return result.model_copy(update={"problems": problems})

    async def stats(self, record_id: int) -> DataStats:
        """The newest runs of a record that have ended. Raises NotFound. Airflow is not asked."""
        await self._records.get(record_id)
        async with self._runs() as dao:
            rows = await dao.results(record_id)
        return DataStats.model_construct(runs=[RunFigures.model_construct(**row._asdict()) for row in rows[::-1]])
