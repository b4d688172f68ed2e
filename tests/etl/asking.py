"""Asks `kit_moves.py`, which runs in the environment of Airflow."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyapi.airflow_environment import project_environment
from tests.airflow.running import PROJECT

ROOT = Path(__file__).resolve().parents[2]


class Kit:
    """One process that makes another for each question; `inside` is a command that runs it somewhere else."""

    def __init__(self, folder: Path, *, inside: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "kit.log"
        self._lines: list[dict[str, Any]] = []
        environment = project_environment(os.environ, folder) | {
            "PYTHONPATH": f"{PROJECT}:{ROOT}",
            # No credentials of whoever runs the tests.
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *inside,
                    str(PROJECT / ".venv" / "bin" / "python"),
                    str(Path(__file__).with_name("kit_moves.py")),
                    str(folder),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    def ask(self, **question: Any) -> Any:
        """The answer. Raises AssertionError when the process that should give it has ended without one."""
        self.begin(question)
        return self.answer()

    def begin(self, question: dict[str, Any]) -> int:
        """Ask, and go on; the process that works on it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question, default=str).encode() + b"\n")
        self._process.stdin.flush()
        self._lines = []
        return int(self._until("pid"))

    def answer(self) -> Any:
        """What the question of `begin` comes to."""
        status = self._until("ended")
        answers = [line["answer"] for line in self._lines if "answer" in line]
        assert answers, f"ended with {status}: {self.log.read_text()[-4000:]}"
        return answers[0]

    def killed_after(
        self, question: dict[str, Any], seconds: float, *, when: Callable[[], bool] = lambda: True
    ) -> bool:
        """Ask, and kill -9 the process so long after something holds; False when it had ended by then."""
        pid = self.begin(question)
        while not when() and Path(f"/proc/{pid}").exists():
            time.sleep(0.001)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.has_ended() == signal.SIGKILL

    def has_ended(self) -> int:
        """Wait for the end of the process that works on the question; the signal that has ended it."""
        return int(self._until("ended"))

    def stop(self) -> None:
        """End it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _until(self, name: str) -> Any:
        """The value of the line with this name; an answer may come before it."""
        while True:
            for line in self._lines:
                if name in line:
                    return line[name]
            self._lines.append(self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Airflow logs to standard output as well.
        while line := self._process.stdout.readline():
            if line.startswith(b"{"):
                found: dict[str, Any] = json.loads(line)
                if found.keys() <= {"pid", "answer", "ended"}:
                    return found
        raise AssertionError(self.log.read_text()[-4000:])


def moments(seed: int, count: int, longest: float) -> list[float]:
    """When to kill: spread over the whole run, the same at every run of the tests."""
    chance = random.Random(seed)
    return [chance.uniform(0, longest) for _ in range(count)]
