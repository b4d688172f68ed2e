"""The folder that Airflow reads its DAGs from: one file for each shard of records, and a note of what it holds.

A file is replaced by a rename, and only when its text differs: Airflow reads again what has a new time, and a reader
never sees half a file.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
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


TOUCH_AFTER_SECONDS: Final = (2.0, 10.0, 60.0)
"""Airflow takes a file for changed when its time is later than the *end* of its last reading, and so overlooks one that
was written meanwhile. A file is given a new time some seconds later, until no reading can have lasted so long."""


class ShardFolder:
    """One folder of DAG files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[Path, list[float]] = {}

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
        changed = replace_file(path, _SHARD.replace("{lines}", lines))
        if changed:
            now = time.monotonic()
            self._written[path] = [now + seconds for seconds in TOUCH_AFTER_SECONDS]
        return changed

    def touch_written(self) -> None:
        """Give files a new time that were written a while ago; see TOUCH_AFTER_SECONDS."""
        now = time.monotonic()
        for path, moments in list(self._written.items()):
            later = [moment for moment in moments if moment > now]
            if len(later) < len(moments):
                with suppress(FileNotFoundError):
                    os.utime(path)
                self._written[path] = later
            if not later:
                del self._written[path]

    def holds(self, shard: int, record_id: int) -> bool:
        """Whether the file of a shard has this record."""
        try:
            return f'"record_id": {record_id},' in (self.path / shard_name(shard)).read_text()
        except FileNotFoundError:
            return False

    def write_stubs(self, shards: Iterable[int], *, size: int, version: int) -> None:
        """Make the folder, with files that ask the database for their records when they are read."""
        with self._made_at_once() as draft:
            for shard in shards:
                (draft / shard_name(shard)).write_text(_STUB.format(shard=shard, size=size, version=version))

    def copy_to(self, target: Path) -> None:
        """Make a folder with the same files; nothing happens when it is there already."""
        if target.exists():
            return
        with ShardFolder(target)._made_at_once() as draft:
            for path in self.path.glob("pyapi_*.py"):
                try:
                    os.link(path, draft / path.name)  # a file is only ever replaced, never changed
                except OSError:  # not every file system has links
                    shutil.copy2(path, draft / path.name)

    @contextmanager
    def _made_at_once(self) -> Iterator[Path]:
        """A draft that becomes this folder when it is complete; unless somebody was quicker."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        try:
            draft.chmod(0o755)
            yield draft
            with suppress(OSError):
                draft.rename(self.path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

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
