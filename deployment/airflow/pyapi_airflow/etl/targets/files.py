"""Files as a target: one of a table per run, whose name only that run has; `full` has one name for all runs."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pyapi.etl.kinds import Mode
from pyapi.etl.templates import fill, has_template, literal_part
from pyapi_airflow.etl.failures import MoveFailed, Refused
from pyapi_airflow.etl.places import Place
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.states import Done, TableState
from pyapi_airflow.etl.targets.base import Staged


class FileTarget:
    """`place` begins where the path of the record has its first template; state has to be found whatever the run."""

    def __init__(self, place: Place, path: str, format_: str, run: Run) -> None:
        self._place = place
        self._is_templated = has_template(path)
        self._folder = fill(path[len(literal_part(path)) :], run.values).strip("/")
        self._format = format_
        self._run = run

    def state(self, table: str) -> TableState:
        """What `_pyapi/` says. A file that was about to appear has appeared whole or not at all, so its size tells."""
        content = self._place.read(self._state_path(table))
        if content is None:
            return TableState()
        state = TableState.from_json(content)
        if state.pending is None:
            return state
        if self._place.size(state.pending["file"]) == state.pending["size"]:
            after = TableState.from_json(json.dumps(state.pending["then"]))
            self._finish(table, state, after)
            return after
        return replace(state, pending=None)

    def commit(self, staged: Staged, before: TableState, done: Done, changes: Mapping[str, Any]) -> int:
        """Say what is about to appear, let it appear, say that it has."""
        table = staged.table.name
        if self.state(table).number != before.number:
            raise MoveFailed(f"Another run has written `{table}` meanwhile.")
        # With a template in its path, each run of `full` has a folder of its own, and all of them stay.
        replaces = staged.starts_anew and not (staged.mode is Mode.FULL and self._is_templated)
        if replaces and before.forgotten:
            raise Refused(f"`{table}` has more files than are remembered: empty its folder, or choose another one.")
        if not staged.rows and not staged.starts_anew:
            self._save(table, before.then(done, replaces=False, **changes))
            return 0
        with _in_format(staged, self._format) as written:
            path = self._path(staged)
            size = written.stat().st_size
            after = before.then(replace(done, files=[path]), replaces=replaces, **changes)
            # A file that is replaced may be as long as the new one: then this one is taken for it, and that is `full`.
            self._save(table, replace(before, pending={"file": path, "size": size, "then": asdict(after)}))
            self._place.put(written, path)
        self._finish(table, before, after)
        return size

    def check(self) -> None:
        """Write a file that nobody looks for, and take it away."""
        path = f"_pyapi/{self._run.owner}/check-{self._run.key}.part"
        self._place.write(path, b"")
        self._place.delete(path)

    def close(self) -> None:
        """Nothing stays open."""

    def _finish(self, table: str, before: TableState, after: TableState) -> None:
        """What the new file replaces goes after it: a reader may find rows twice, but never misses any."""
        if after.forgotten == before.forgotten:
            for path in sorted(before.files - after.files):
                self._place.delete(path)
        self._save(table, after)

    def _save(self, table: str, state: TableState) -> None:
        self._place.write(self._state_path(table), state.to_json().encode())

    def _state_path(self, table: str) -> str:
        return f"_pyapi/{self._run.owner}/{_safe(table)}.state"

    def _path(self, staged: Staged) -> str:
        name = _safe(staged.table.name)
        file = name if staged.mode is Mode.FULL else self._run.key
        return "/".join(filter(None, (self._folder, name, f"{file}.{self._format}")))


def _safe(name: str) -> str:
    """A table's name as part of a path; `quote` leaves the dot, and a hidden or private file is nothing to read."""
    quoted = quote(name, safe=" ")
    return f"%{ord(quoted[0]):02X}{quoted[1:]}" if quoted[0] in "._" else quoted


@contextmanager
def _in_format(staged: Staged, format_: str) -> Iterator[Path]:
    """The staged file, or another beside it in the format that is wanted."""
    if format_ == "parquet":
        yield staged.path
        return
    path = staged.path.with_suffix(f".{format_}")
    try:
        with pq.ParquetFile(staged.path) as file:
            (_write_csv if format_ == "csv" else _write_jsonl)(file, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write_csv(file: pq.ParquetFile, path: Path) -> None:
    """RFC 4180 in UTF-8. NULL is an empty field, an empty text is two quotes."""
    schema = pa.schema([pa.field(item.name, _csv_type(item.type)) for item in file.schema_arrow])
    with pacsv.CSVWriter(path, schema) as writer:
        for batch in file.iter_batches():
            arrays = [
                column if column.type == item.type else _as_texts(column)
                for column, item in zip(batch.columns, schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _csv_type(kind: pa.DataType) -> pa.DataType:
    return (
        pa.string() if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else kind
    )


def _as_texts(column: pa.Array) -> pa.Array:
    """Bytes as base64, lists as JSON."""
    texts = [
        _plain(value) if isinstance(value, bytes) else None if value is None else _json(value)
        for value in column.to_pylist()
    ]
    return pa.array(texts, pa.string())


def _write_jsonl(file: pq.ParquetFile, path: Path) -> None:
    """One object a line. Decimals are texts, for a number of JSON is a float to most who read it; bytes are base64."""
    with path.open("w", encoding="utf-8") as lines:
        for batch in file.iter_batches(batch_size=5_000):
            lines.writelines(f"{_json(row)}\n" for row in batch.to_pylist())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)
