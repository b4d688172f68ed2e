"""What the engine asks of every target."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pyapi.etl.jobs import Table
from pyapi.etl.kinds import Mode
from pyapi_airflow.etl.states import Done, TableState


@dataclass(frozen=True)
class Staged:
    """All rows of a table that a run has brought in, as one Parquet file. `starts_anew`: what is there already goes."""

    table: Table
    path: Path
    schema: pa.Schema
    rows: int
    mode: Mode
    starts_anew: bool


class Target(Protocol):
    """Rows and state become visible together, or what is between them is undone by the next run."""

    def state(self, table: str) -> TableState:
        """What it remembers, after it has undone or finished what a killed run has left."""

    def commit(self, staged: Staged, before: TableState, done: Done, changes: Mapping[str, object]) -> int:
        """Make the rows visible, with the state that follows; `changes` are its fields. Answers bytes written.

        Raises MoveFailed when another run has come between.
        """

    def check(self) -> None:
        """Raises MoveFailed when it cannot be written to. Leaves nothing there."""

    def close(self) -> None:
        """Let go of it."""
