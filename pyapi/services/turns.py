"""Gives other requests their turn while a long answer is made: all of a worker's requests share one thread."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

LONGEST_TURN: Final = 0.02
"""Seconds; giving a turn costs a hundredth of a millisecond, so it is not given after each small record."""


class Turns:
    """The turns of one answer, from when it begins to be made."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._began = clock()

    async def give(self) -> None:
        """Let all others go first who wait, when this turn has been a long one."""
        if self._clock() - self._began >= LONGEST_TURN:
            await asyncio.sleep(0)
            self._began = self._clock()
