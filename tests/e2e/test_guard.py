"""The guard of `pyapi standalone`: a program and all it has started end together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyapi import guard
from tests.fixtures.servers import children, clean_environment, state

# Leaves a process with a session of its own that no SIGTERM ends, says its pid, and goes on.
FAMILY = """
import subprocess, sys, time
code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
"""
PATIENT = "import signal, time; signal.signal(15, signal.SIG_IGN); print(0, flush=True); time.sleep(60)"

Guard = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Guard]:
    """Starts `python -c code` behind a guard."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *, seconds: float = 5) -> "subprocess.Popen[str]":
        command = [sys.executable, "-I", str(guard.__file__), str(seconds), sys.executable, "-c", code]
        process = subprocess.Popen(
            command, env=clean_environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.communicate(timeout=20)


def first_number(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def let_go(process: "subprocess.Popen[str]") -> float:
    """As the kernel does when the owner has died; seconds until the guard has ended."""
    assert process.stdin is not None
    told = time.monotonic()
    process.stdin.close()
    process.wait(20)
    process.stdin = None
    return time.monotonic() - told


@pytest.mark.parametrize(
    ("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 128 + 9)]
)
def test_its_status_is_that_of_the_program(start: Guard, code: str, status: int) -> None:
    assert start(code).wait(20) == status


def test_the_program_may_end_in_order(start: Guard, tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = f"""
import pathlib, signal, sys, time
def end(*_):
    time.sleep(0.3)
    pathlib.Path({str(told)!r}).write_text("in order")
    sys.exit()
signal.signal(15, end)
print(0, flush=True)
time.sleep(60)
"""
    process = start(code)
    first_number(process)
    assert let_go(process) < guard.TASK_SECONDS
    assert told.read_text() == "in order"


def test_a_program_that_does_not_want_to_end_is_killed(start: Guard) -> None:
    process = start(PATIENT, seconds=0.2)
    first_number(process)
    program = children(process.pid)
    let_go(process)
    assert (len(program), state(program[0])) == (1, "gone")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process with a session of its own is not found")
@pytest.mark.parametrize("goes_on", [True, False], ids=["let go", "ended by itself"])
def test_nothing_of_its_family_is_left(start: Guard, goes_on: bool) -> None:
    process = start(FAMILY + "time.sleep(60)" * goes_on)
    member = first_number(process)
    if goes_on:
        let_go(process)
    assert process.wait(20) == (128 + 15 if goes_on else 0)
    assert state(member) == "gone"


@pytest.mark.skipif(sys.platform != "linux", reason="nobody else sends a signal when a parent dies")
def test_the_program_outlives_no_killed_guard(start: Guard) -> None:
    process = start("import time; print(0, flush=True); time.sleep(60)")
    first_number(process)
    program = children(process.pid)[0]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while state(program) != "gone" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state(program) == "gone"


def test_ctrl_c_in_the_terminal_is_not_for_the_program(start: Guard) -> None:
    process = start("import time; print(0, flush=True); time.sleep(60)")
    first_number(process)
    program = children(process.pid)[0]
    assert os.getsid(program) == program != os.getsid(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
