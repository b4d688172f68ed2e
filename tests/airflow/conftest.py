"""Airflow's own environment, as a subprocess."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The first call downloads and installs Airflow.
PATIENCE_SECONDS = 1800
# Ours must not reach it: not our environment, and no setting of an Airflow that runs here.
NOT_INHERITED = ("VIRTUAL_ENV", "PYTHON", "UV_PROJECT", "UV_PYTHON", "AIRFLOW", "COV")

AskAirflow = Callable[[str, Any], Any]


@pytest.fixture(scope="session")
def ask_airflow(tmp_path_factory: pytest.TempPathFactory) -> AskAirflow:
    """Runs a script of this folder in `deployment/airflow`, with a question and an answer in JSON."""
    home = tmp_path_factory.mktemp("airflow_home")
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv is not None, "uv is missing: Airflow's environment could not be made"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    project = str(ROOT / "deployment" / "airflow")

    def ask(script: str, question: Any) -> Any:
        answer = subprocess.run(
            [uv, "run", "--quiet", "--locked", "--project", project, "python", str(Path(__file__).with_name(script))],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            cwd=home,
            env=environment,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr[-4000:]
        return json.loads(answer.stdout)

    return ask
