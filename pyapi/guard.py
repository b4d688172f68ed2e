"""Runs one program for another process, and ends it with all it has started when that process ends or says so.

A script: `python -I guard.py SECONDS PROGRAM WORDS...`. Who starts it keeps the write end of its stdin open for as long
as the program may run: the kernel closes that end also after a kill -9. The exit status is that of the program.
"""

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

DEATH_SIGNAL, CHILD_SUBREAPER = 1, 36  # prctl(2)
TASK_SECONDS = 3.0


def main(seconds: float, command: list[str]) -> int:
    """Run `command` until it ends or nobody wants it any more; it has `seconds` to end in order."""
    news, bell = os.pipe()
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell)
    told: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: told.append(number))
    # What the program leaves behind becomes a child of this process, wherever in its family it stood.
    _control_process(CHILD_SUBREAPER, 1)
    program = _spawn(command)
    status = None
    while status is None and not told:
        ready, _, _ = select.select([sys.stdin.fileno(), news], [], [])
        if news in ready:
            os.read(news, 512)
        if sys.stdin.fileno() in ready:
            told.append(0)
        status = _bury(program)
    if status is None:
        os.kill(program, signal.SIGTERM)
        status = _wait(program, seconds)
    _end_family(program)
    return 128 + signal.SIGKILL if status is None else status


def _spawn(command: list[str]) -> int:
    """In a session of its own: Ctrl-C in a terminal is not for it."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _control_process(DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() == parent:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.execv(command[0], command)  # noqa: S606 - there is no shell in it, and none is wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _control_process(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _wait(program: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while (status := _bury(program)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return status


def _bury(program: int) -> int | None:
    """Reap all children that have ended; the exit status of the program if it is among them."""
    status = None
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == program:
                code = os.waitstatus_to_exitcode(found[1])
                status = 128 - code if code < 0 else code
    except ChildProcessError:
        pass
    return status


def _end_family(program: int) -> None:
    """Whoever is left: tasks get a moment to clean up behind themselves, and then no choice."""
    deadline = time.monotonic() + TASK_SECONDS
    _signal_family(program, signal.SIGTERM)
    while _family(program) and time.monotonic() < deadline:
        time.sleep(0.02)
        _bury(program)
    while _family(program):
        _signal_family(program, signal.SIGKILL)
        time.sleep(0.02)
        _bury(program)


def _signal_family(program: int, number: int) -> None:
    for member in _family(program):
        try:
            os.kill(member, number)
        except ProcessLookupError:
            continue


def _family(program: int) -> list[int]:
    """All processes below this one that live, the program first; without /proc only those of the program's group."""
    if sys.platform != "linux":
        try:
            os.killpg(program, 0)
        except (ProcessLookupError, PermissionError):
            return []
        return [-program]
    parents = dict(filter(None, map(_parent, Path("/proc").glob("[0-9]*"))))
    found = [os.getpid()]
    for ancestor in found:  # grows while it is walked
        found += sorted(child for child, parent in parents.items() if parent == ancestor)
    return found[1:]


def _parent(process: Path) -> tuple[int, int] | None:
    """A process and its parent; the name between them may hold spaces and parentheses. None for those that ended."""
    try:
        state, parent = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state in "ZX" else (int(process.name), int(parent))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
