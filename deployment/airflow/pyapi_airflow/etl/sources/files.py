"""Files: CSV, JSON Lines and Parquet, in a folder of the worker or in a bucket."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pyapi.etl.jobs import Job
from pyapi_airflow.etl.columns import chosen, fitted
from pyapi_airflow.etl.failures import Refused, telling
from pyapi_airflow.etl.places import allowed_path, open_place
from pyapi_airflow.etl.sources.base import Found

_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_WILD = frozenset("*?[")


class FileSource:
    """`path` is a file, a folder, or a pattern such as `in/*.csv`, templates filled in."""

    def __init__(
        self, job: Job, kind: str, options: Mapping[str, Any], path: str, *, allowed: tuple[Path, ...]
    ) -> None:
        self._job = job
        self._allowed = allowed if kind == "local" else None
        folder, self._pattern = _split(path)
        self._place = open_place(kind, options, folder, allowed=allowed)
        self._format = options.get("format")

    def tables(self) -> list[Found]:
        """One table of all files. CSV knows only texts, and JSON Lines tells its columns row by row."""
        table = self._job.defaults
        with telling(f"Looking at {self._place.describe()}", OSError, pa.ArrowException):
            paths = self._paths()
            format_ = self._format or _format_of(paths)
            if format_ == "jsonl":
                return [Found(table, None, (format_, paths))]
            schemas = [self._schema(path, format_) for path in paths]
        try:
            schema = pa.unify_schemas(schemas)
        except pa.ArrowException as error:
            raise Refused(f"The files in {self._place.describe()} have columns of different types: {error}.") from None
        names = chosen(table, schema.names)
        return [Found(table, pa.schema([schema.field(name) for name in names]), (format_, paths))]

    def rows(self, found: Found, *, since: str | None) -> Iterator[Any]:
        """All rows: files have no index. `Progress` takes out what is old."""
        del since
        format_, paths = found.plan
        for path in paths:
            with telling(f"Reading {path}", OSError, pa.ArrowException, ValueError):
                if format_ == "jsonl":
                    yield from self._objects(path, found)
                else:
                    for batch in self._batches(path, format_, found.schema):
                        yield fitted(batch, found.schema)

    def close(self) -> None:
        """Nothing stays open."""

    def _paths(self) -> list[str]:
        system, base = self._place.files()
        whole = system.get_file_info(base)
        selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
        listed = [whole] if whole.is_file else system.get_file_info(selector)
        files = [info.path for info in listed if info.is_file]
        found = sorted(path for path in files if self._is_wanted(path[len(base) :].lstrip("/")))
        if not found:
            raise Refused(f"{self._place.describe()} has no file that fits {self._pattern or 'a known format'}.")
        if self._allowed is not None:
            found = [str(allowed_path(path, allowed=self._allowed)) for path in found]
        return found

    def _is_wanted(self, path: str) -> bool:
        parts = path.split("/")
        if any(part.startswith(("_", ".")) for part in parts if part):
            return False
        if self._pattern:
            return fnmatchcase(path, self._pattern)
        return not path or self._format is not None or _suffix(path) in _SUFFIXES

    def _open(self, path: str) -> Any:
        system, _ = self._place.files()
        return system.open_input_stream(path, compression=_COMPRESSED.get(Path(path).suffix))

    def _schema(self, path: str, format_: str) -> pa.Schema:
        system, _ = self._place.files()
        if format_ == "parquet":
            return pq.read_schema(path, filesystem=system).remove_metadata()
        with self._open(path) as stream, pacsv.open_csv(stream) as reader:
            return pa.schema([pa.field(name, pa.string()) for name in reader.schema.names])

    def _batches(self, path: str, format_: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        system, _ = self._place.files()
        if format_ == "parquet":
            with pq.ParquetFile(path, filesystem=system) as file:
                names = [name for name in schema.names if name in file.schema_arrow.names]
                yield from file.iter_batches(columns=names)
            return
        # Only texts: a number would lose its leading zeros, and an empty text is not NULL.
        convert = pacsv.ConvertOptions(
            column_types={name: pa.string() for name in self._schema(path, format_).names},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        parse = pacsv.ParseOptions(newlines_in_values=True)
        with self._open(path) as stream, pacsv.open_csv(stream, parse_options=parse, convert_options=convert) as reader:
            yield from reader

    def _objects(self, path: str, found: Found) -> Iterator[list[dict[str, Any]]]:
        page: list[dict[str, Any]] = []
        wanted, unwanted = set(found.table.columns), set(found.table.exclude)
        wanted |= (
            set(found.table.primary_key) | ({found.table.cursor} if found.table.cursor else set()) if wanted else wanted
        )
        with self._open(path) as stream, TextIOWrapper(stream, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    page.append(_object(line, path, number, wanted, unwanted))
                if len(page) == self._job.batch_size:
                    yield page
                    page = []
        if page:
            yield page


def _object(line: str, path: str, number: int, wanted: set[Any], unwanted: set[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise Refused(f"Line {number} of {path} is no JSON object.")
    return {name: value for name, value in row.items() if (not wanted or name in wanted) and name not in unwanted}


def _split(path: str) -> tuple[str, str]:
    """The folder before the first part with a wildcard, and the pattern from there."""
    parts = path.split("/")
    at = next((index for index, part in enumerate(parts) if _WILD & set(part)), len(parts))
    return "/".join(parts[:at]) or ("/" if path.startswith("/") else ""), "/".join(parts[at:])


def _suffix(path: str) -> str:
    name = Path(path)
    return Path(name.stem).suffix if name.suffix in _COMPRESSED else name.suffix


def _format_of(paths: list[str]) -> str:
    found = {_SUFFIXES.get(_suffix(path), "parquet") for path in paths}
    if len(found) > 1:
        raise Refused(
            f"There are files of several formats: write `format`, or a pattern. Found: {', '.join(sorted(found))}."
        )
    return found.pop()
