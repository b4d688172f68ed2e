"""Airflow's own environment, as a subprocess."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The first call downloads and installs Airflow.
PATIENCE_SECONDS = 1800
# Ours must not reach it: not our environment, and no setting of an Airflow that runs here.
NOT_INHERITED = ("VIRTUAL_ENV", "PYTHON", "UV_PROJECT", "UV_PYTHON", "AIRFLOW", "COV")


class Question:
    """A script of this folder at work in `deployment/airflow`, with a question and an answer in JSON."""

    def __init__(self, script: str, question: Any, home: Path) -> None:
        uv = os.environ.get("UV") or shutil.which("uv")
        assert uv is not None, "uv is missing: Airflow's environment could not be made"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        self._files = {name: home / name for name in ("question", "answer", "errors")}
        self._files["question"].write_text(json.dumps(question))
        command = [uv, "run", "--quiet", "--locked", "--project", str(ROOT / "deployment" / "airflow"), "python"]
        with (
            self._files["question"].open("rb") as stdin,
            self._files["answer"].open("wb") as stdout,
            self._files["errors"].open("wb") as stderr,
        ):
            # Nobody waits for it but the last tests: the others go first.
            self._process = subprocess.Popen(
                ["nice", *command, str(Path(__file__).with_name(script))],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=home,
                env=environment,
                start_new_session=True,
            )

    @property
    def is_asked(self) -> bool:
        """It is at work, or has answered."""
        return self._process.poll() in {None, 0}

    def answer(self) -> Any:
        """What the script says."""
        assert self._process.wait(PATIENCE_SECONDS) == 0, self._files["errors"].read_text()[-4000:]
        return json.loads(self._files["answer"].read_text())

    def stop(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # uv and what it runs
        self._process.wait()


AskAirflow = Callable[[str, Any], Question]


@pytest.fixture(scope="session")
def ask_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AskAirflow]:
    """Asks, and does not wait for the answer."""
    asked: list[Question] = []

    def ask(script: str, question: Any) -> Question:
        asked.append(Question(script, question, tmp_path_factory.mktemp("airflow_home")))
        return asked[-1]

    yield ask
    for question in asked:
        question.stop()
