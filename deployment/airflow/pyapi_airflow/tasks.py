"""What a run of a record does."""

from importlib import import_module
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from pyapi_airflow import database
from pyapi_airflow.configs import open_configs
from pyapi_airflow.decryption import SecretUnreadable
from pyapi_airflow.settings import KitSettings

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

    def execute(self, context: Any) -> None:
        """Check that it may run, and run it."""
        settings = KitSettings.load()
        status, config = database.patiently(settings, self._look)
        if status is None:
            raise AirflowFailException(f"Record {self.record_id} was deleted.")
        if status != "active" and context["dag_run"].run_type not in _STARTED_BY_PEOPLE:
            raise AirflowSkipException(f"Record {self.record_id} is {status}.")
        config = open_configs({self.record_id: config}, settings)[self.record_id]
        if isinstance(config, SecretUnreadable):
            raise AirflowFailException(str(config))
        run_config(config if isinstance(config, dict) else {}, context, prefixes=settings.task_prefixes)

    def _look(self, connection: Any) -> tuple[str | None, Any]:
        """The status of right now, and the config that this run has."""
        return (
            database.current_status(connection, self.record_id),
            database.config_of(connection, self.record_id, self.revision),
        )


def run_config(config: dict[str, Any], context: Any, *, prefixes: tuple[str, ...]) -> None:
    """Call what `task` names, or nothing. Raises AirflowFailException for what cannot run."""
    task = config.get("task")
    if task is not None:
        _callable(task, prefixes)(config, context)
    elif config.get("source") and config.get("target"):
        raise AirflowFailException("There is no executor for `source` and `target` yet.")


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
