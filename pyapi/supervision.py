"""Runs a program for as long as it is wanted: what it says goes to a file, and it can be started again."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pyapi import guard

_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_PROVEN_SECONDS: Final = 60.0
_TAIL_BYTES: Final = 20_000


class Program:
    """One program, at most once at a time; it and all it has started end with this process, however that ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        stop_seconds: float,
        lock: int,
    ) -> None:
        self.name = name
        self.log = log
        self.deaths = 0
        """Times that it has ended by itself, since it last ran for a minute."""
        self._command = [str(word) for word in command]
        self._environment = environment
        self._folder = folder
        self._stop_seconds = stop_seconds
        self._lock = lock
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._next_start = 0.0

    def start(self) -> None:
        """Start it; what it said in the life of another process is kept beside, as `.1`."""
        if self._process is None and self.log.exists():
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the words are our own
                [sys.executable, "-I", str(guard.__file__), str(self._stop_seconds), *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                pass_fds=(self._lock,),  # locked until the last of them has ended
                start_new_session=True,  # Ctrl-C in the terminal is for us; we then stop it in order
            )
        self._started, self._next_start = time.monotonic(), 0.0

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs, or has not begun to."""
        return self._process.poll() if self._process is not None else None

    def start_again(self) -> bool:
        """Call it often when it has ended: it starts after a pause that grows with each death. True: it ended now."""
        now = time.monotonic()
        if not self._next_start:
            self.deaths = 1 if now - self._started > _PROVEN_SECONDS else self.deaths + 1
            self._next_start = now + min(_SHORTEST_PAUSE * 2 ** (self.deaths - 1), _LONGEST_PAUSE)
            return True
        if now >= self._next_start:
            self.start()
        return False

    def tell_to_stop(self) -> None:
        """Ask for its end; `wait` waits for it. Harmless when repeated."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self) -> None:
        """Wait until it and all it has started are gone."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """End it, with all it has started."""
        self.tell_to_stop()
        self.wait()

    def last_words(self) -> str:
        """The last line of its log, in parentheses, when it is written for people."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            return f" ({lines[-1]})" if lines and not lines[-1].startswith("{") else ""
        return ""
