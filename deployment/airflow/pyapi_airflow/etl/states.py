"""What a target remembers of a table: who has written it last, up to where, and with which columns."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

_MOST_RUNS = 10_000


@dataclass(frozen=True)
class Done:
    """A run whose rows are in the target."""

    run: str
    rows: int
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TableState:
    """Kept in the target itself, so that it is never older or newer than the data; see `targets`.

    `watermark` is the greatest cursor so far, as text; `keys` are the primary keys of the rows that have it.
    `pending` is a run about to become visible, with the state that will hold then.
    """

    number: int = 0
    identity: str = ""
    watermark: str | None = None
    keys: list[list[str]] = field(default_factory=list)
    schema: list[list[str]] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    forgotten: int = 0
    """Runs that are no longer in `done`."""
    pending: dict[str, Any] | None = None

    def was_done(self, run: str) -> Done | None:
        """The run, when its rows are here already."""
        return next((done for done in self.done if done.run == run), None)

    @property
    def files(self) -> set[str]:
        """All files that hold the rows."""
        return {file for done in self.done for file in done.files}

    def then(self, done: Done, *, replaces: bool, **changes: Any) -> Self:
        """The state after another run. One that `replaces` leaves nothing of the runs before it."""
        before = [] if replaces else [item for item in self.done if item.run != done.run]
        kept = [*before, done][-_MOST_RUNS:]
        forgotten = 0 if replaces else self.forgotten + len(before) + 1 - len(kept)
        return replace(self, number=self.number + 1, done=kept, forgotten=forgotten, pending=None, **changes)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """What `to_json` has written, maybe by another release: what is not known is left."""
        values = json.loads(text)
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in values.items() if name in known}
        return cls(**values | {"done": [Done(**done) for done in values.get("done", [])]})
