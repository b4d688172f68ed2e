"""The folder that Airflow reads its DAGs from: one file for each shard of records, and a note of what it holds.

A file is replaced by a rename, and only when its text differs: Airflow reads again what has a new time, and a reader
never sees half a file.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from pyapi_airflow.definitions import DagDefinition

# Airflow looks into files only that have the words "dag" and "airflow" in them.
_SHARD: Final = '''"""Data records of PyAPI as DAGs; written by pyapi_airflow, which overwrites what is changed here."""

from pyapi_airflow.dags import make_dags

make_dags(
    globals(),
    [
{lines}    ],
)
'''
_STUB: Final = '''"""Data records of PyAPI as DAGs, as they were at change {version}; written by pyapi_airflow."""

from pyapi_airflow.dags import make_dags_of_version

make_dags_of_version(globals(), shard={shard}, size={size}, version={version})
'''


@dataclass
class Note:
    """What a folder holds: all changes up to `version`, written by `writer`; `leaving` have lost their schedule."""

    version: int = 0
    writer: str = ""
    leaving: list[int] = field(default_factory=list)


class ShardFolder:
    """One folder of DAG files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_note(self) -> Note:
        """The note; an empty one when there is none, or a damaged one."""
        try:
            return Note(**json.loads((self.path / ".pyapi.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Note()

    def write_note(self, note: Note) -> None:
        """Keep the note; after the files, so that a crash in between leads to writing them again."""
        replace_file(self.path / ".pyapi.json", json.dumps(asdict(note)))

    def write_shard(self, shard: int, definitions: Sequence[DagDefinition]) -> bool:
        """Write the file of a shard, or remove that of an empty one; answers whether anything changed."""
        path = self.path / shard_name(shard)
        if not definitions:
            existed = path.exists()
            path.unlink(missing_ok=True)
            return existed
        lines = "".join(f"        {definition.to_json()!r},\n" for definition in definitions)
        return replace_file(path, _SHARD.replace("{lines}", lines))

    def holds(self, shard: int, record_id: int) -> bool:
        """Whether the file of a shard has this record."""
        try:
            return f'"record_id": {record_id},' in (self.path / shard_name(shard)).read_text()
        except FileNotFoundError:
            return False

    def write_stub(self, shard: int, *, size: int, version: int) -> None:
        """Write a file that asks the database for its records when it is read."""
        replace_file(self.path / shard_name(shard), _STUB.format(shard=shard, size=size, version=version))

    def keep_only(self, shards: Iterable[int]) -> None:
        """Remove the files of all other shards."""
        kept = {shard_name(shard) for shard in shards}
        for path in self.path.glob("pyapi_*.py"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def shard_name(shard: int) -> str:
    """`pyapi_00012.py`: the same shard has the same name in every version."""
    return f"pyapi_{shard:05}.py"


def replace_file(path: Path, text: str) -> bool:
    """Write a file beside and rename it; answers whether its text was another one."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
    return True
