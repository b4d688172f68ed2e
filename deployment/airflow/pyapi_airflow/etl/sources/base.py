"""What the engine asks of every source."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from pyapi.etl.jobs import Table


@dataclass(frozen=True)
class Found:
    """A table that is there. `schema` is None when only its rows tell; `plan` is the source's own."""

    table: Table
    schema: pa.Schema | None
    plan: Any = field(default=None, repr=False)


class Source(Protocol):
    """Opened for one run. All texts that it raises are MoveFailed."""

    def tables(self) -> list[Found]:
        """What is to be moved. Raises Refused for a table or column that is not there."""

    def rows(self, found: Found, *, since: str | None) -> Iterator[Any]:
        """Batches of Arrow or, when only rows tell the columns, lists of objects.

        Those whose cursor is `since` come with those above it when the table has a primary key. A source may give more;
        `Progress` takes out what is old.
        """

    def close(self) -> None:
        """Let go of it."""
