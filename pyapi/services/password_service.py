"""Hashing and judging passwords without stopping the event loop."""

from collections.abc import Sequence
from typing import Final

from pyapi.exceptions import FieldError, ValidationFailed
from pyapi.services.worker_threads import WorkerThreads
from pyapi.utils.auth import PasswordHasher, password_weakness

_NICENESS: Final = 10
"""A tenth of the processor, when others want it too: reads took 14 ms (p99) beside logins, and 7 with this."""


class PasswordService:
    """A hasher behind a bounded queue.

    bcrypt takes a quarter of a second of one core and frees the GIL meanwhile, so as many threads as cores may work on
    it, with what other requests leave to them; a flood of logins then waits here and not in their way. Raises Busy when
    the queue is full.
    """

    def __init__(self, hasher: PasswordHasher, *, threads: int, queue: int = 32) -> None:
        self._hasher = hasher
        self._threads = WorkerThreads("password", threads=threads, queue=queue, niceness=_NICENESS)

    def require_room(self) -> None:
        """Raise Busy when the queue is full."""
        self._threads.require_room()

    async def hash(self, password: str) -> str:
        """A new hash for a password that has been accepted."""
        return await self._threads.run(self._hasher.hash, password)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password fits; None stands for "no such user" and costs the same."""
        return await self._threads.run(self._hasher.verify, password, hashed)

    async def require_strong(self, password: str, *, pointer: str, user_inputs: Sequence[str]) -> None:
        """Raise ValidationFailed at `pointer` when the password is short, common or easily guessed."""
        weakness = await self._threads.run(password_weakness, password, user_inputs=user_inputs)
        if weakness is not None:
            raise ValidationFailed([FieldError(weakness, pointer)])

    def needs_rehash(self, hashed: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.needs_rehash(hashed)

    def close(self) -> None:
        """Stop the threads; work in progress ends first."""
        self._threads.close()
