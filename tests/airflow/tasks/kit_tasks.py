"""What records of the tests run inside Airflow."""

import logging
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote


def write(config: dict[str, Any], context: Any) -> None:
    """Tell a test with which secret the run has been started; and the task's log, in the ways that people do."""
    with Path(config["file"]).open("a") as file:
        file.write(f"{config['password']} {context['dag_run'].run_type.value}\n")
    print("printed:", config, config["password"], unquote(config.get("source", "")))
    logging.getLogger(__name__).warning("logged: %s", config)


def fail(config: dict[str, Any], context: Any) -> None:
    """Say in the error what must not be said."""
    raise RuntimeError(f"failed: nobody may come in with {config['password']}")


def wait(config: dict[str, Any], context: Any) -> None:
    """Say which process this is, and stay."""
    Path(config["file"]).write_text(str(os.getpid()))
    time.sleep(600)
