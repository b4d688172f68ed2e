"""What must be known to connect to the embedded PostgreSQL, kept in its data folder."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class State:
    """What a client must know to connect; kept in `server.json`."""

    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """The password is in it."""
        return f"postgresql+asyncpg://pyapi:{self.password}@127.0.0.1:{self.port}/pyapi"

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """None when the file is missing or damaged."""
        try:
            found = json.loads((folder / "server.json").read_text())
            return cls(port=int(found["port"]), password=str(found["password"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, folder: Path) -> None:
        """Write beside and rename, so that a reader or a power cut never sees half a file."""
        draft = folder / "server.json.new"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump({"port": self.port, "password": self.password}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / "server.json")
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make a rename in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
