"""File locks for the embedded PostgreSQL that the kernel ends together with the last process that holds them."""

import os
import sys
import time
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_open_locks: set[int] = set()


def _drop_locks_in_child() -> None:
    """Keep a forked worker from holding the locks of its parent when that is dead."""
    for lock in _open_locks:
        os.close(lock)
    _open_locks.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_drop_locks_in_child)


def take_lock(path: Path, *, patience: float) -> int | None:
    """Return the descriptor that holds the lock; None when somebody else still has it after `patience` seconds."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _open_locks.add(lock)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                close_lock(lock)
                return None
            time.sleep(0.01)
        else:
            return lock


def close_lock(lock: int) -> None:
    """Close, never LOCK_UN: that would also take the lock from the server, which shares it."""
    _open_locks.discard(lock)
    os.close(lock)


def is_locked(path: Path) -> bool:
    """Look without taking it. FileNotFoundError when nobody ever did."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
