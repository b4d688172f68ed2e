"""What a run of a record does."""

import logging
from importlib import import_module
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from pyapi.dag_conventions import only_looks
from pyapi.etl.jobs import moves_data
from pyapi_airflow import database
from pyapi_airflow.configs import open_configs
from pyapi_airflow.decryption import SecretUnreadable
from pyapi_airflow.settings import KitSettings

log = logging.getLogger(__name__)

_STARTED_BY_PEOPLE = {"manual"}


class RecordOperator(BaseOperator):
    """Runs one record as a revision has it, credentials read at this moment and kept nowhere.

    A record that was switched off a second ago is skipped when Airflow started the run by itself; one that was deleted
    fails, without another try.
    """

    template_fields = ()

    def __init__(self, *, record_id: int, revision: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.record_id = record_id
        self.revision = revision

    def execute(self, context: Any) -> dict[str, Any] | None:
        """Check that it may run, and run it; what data it has moved is the answer."""
        settings = KitSettings.load()
        status, config = database.patiently(settings, self._look)
        if status is None:
            raise AirflowFailException(f"Record {self.record_id} was deleted.")
        if status != "active" and context["dag_run"].run_type not in _STARTED_BY_PEOPLE:
            raise AirflowSkipException(f"Record {self.record_id} is {status}.")
        config = open_configs({self.record_id: config}, settings)[self.record_id]
        if isinstance(config, SecretUnreadable):
            raise AirflowFailException(str(config))
        return run_config(config if isinstance(config, dict) else {}, context, self.record_id, settings)

    def _look(self, connection: Any) -> tuple[str | None, Any]:
        """The status of right now, and the config that this run has."""
        return (
            database.current_status(connection, self.record_id),
            database.config_of(connection, self.record_id, self.revision),
        )


def run_config(config: dict[str, Any], context: Any, record_id: int, settings: KitSettings) -> dict[str, Any] | None:
    """Call what `task` names, or move data. Raises AirflowFailException for what cannot run."""
    looks = only_looks(context["dag_run"].conf)
    if looks and not moves_data(config):
        return {"version": 1, "ok": True, "problems": [], "tables": []}
    task = config.get("task")
    if task is not None:
        _callable(task, settings.task_prefixes)(config, context)
        return None
    if not moves_data(config):
        log.warning("There is nothing to move: the record names no source and target, and no task.")
        return None
    try:
        # Only here: Airflow parses DAGs often, and none of them moves anything.
        from pyapi_airflow.etl.task import run_job
    except ImportError as error:
        raise AirflowFailException(
            f"Install pyapi-airflow[etl] in Airflow's environment: {error.name} is missing."
        ) from None
    return run_job(config, context, record_id=record_id, settings=settings, only_looks=looks)


def _callable(task: object, prefixes: tuple[str, ...]) -> Any:
    """The function behind `package.module:function`, when its module is in the allow-list."""
    module, separator, name = str(task).partition(":")
    if not isinstance(task, str) or not separator or not name.isidentifier():
        raise AirflowFailException("`task` must read package.module:function.")
    if not any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes):
        raise AirflowFailException("The module of `task` is not in PYAPI_TASK_PREFIXES of Airflow's environment.")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise AirflowFailException(
            f"`task` cannot be found in Airflow's environment ({type(error).__name__})."
        ) from None
