"""Arrow: what changed between two schemas, the greatest value of a column, one file of several."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pyapi.etl.jobs import Table
from pyapi_airflow.etl.failures import Refused

_MOST_KEYS = 50_000


def described(schema: pa.Schema) -> list[list[str]]:
    """Names and types, as a state keeps them. Arrow and Parquet give the items of a list different names."""
    return [[item.name, str(item.type).replace("<item: ", "<element: ")] for item in schema]


def changes(before: list[list[str]], now: list[list[str]]) -> list[dict[str, str]]:
    """What is different: `{"column": ..., "change": "added" | "dropped" | "type", "from": ..., "to": ...}`."""
    old, new = ({column[0]: column[1] for column in columns} for columns in (before, now))
    return [
        *({"column": name, "change": "added", "to": kind} for name, kind in new.items() if name not in old),
        *({"column": name, "change": "dropped", "from": kind} for name, kind in old.items() if name not in new),
        *(
            {"column": name, "change": "type", "from": old[name], "to": kind}
            for name, kind in new.items()
            if name in old and old[name] != kind
        ),
    ]


def chosen(table: Table, names: list[str]) -> list[str]:
    """The columns to move, in the order of the source. Raises Refused for one that is not there."""
    wanted = {*table.columns, *table.primary_key, *([table.cursor] if table.cursor else [])}
    if missing := sorted(wanted - set(names)):
        raise Refused(f"`{table.name}` has no column {', '.join(missing)}; it has {', '.join(names)}.")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise Refused(f"`{table.name}` has several columns {', '.join(doubled)}; give each a name of its own.")
    found = [name for name in names if (not table.columns or name in wanted) and name not in table.exclude]
    if not found:
        raise Refused(f"No column of `{table.name}` is left to move.")
    if lost := sorted({*table.primary_key, *([table.cursor] if table.cursor else [])} & set(table.exclude)):
        raise Refused(f"`{table.name}` needs the columns {', '.join(lost)}: do not exclude them.")
    return found


@dataclass
class Progress:
    """Rows of a table as they go by: counts them, and remembers the greatest cursor with the keys that have it.

    `since` and `skip` are those of the run before. With a primary key a row at `since` is new unless its key is in
    `skip`: rows that share a timestamp may become visible one after the other.
    """

    table: Table
    since: str | None = None
    skip: frozenset[tuple[str, ...]] = frozenset()
    rows: int = 0
    until: pa.Scalar | None = None
    keys: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def is_inclusive(self) -> bool:
        """Whether rows at `since` have to be read again."""
        return bool(self.table.primary_key)

    def admit(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Only the rows that are new."""
        for batch in batches:
            admitted = self._new(batch) if self.table.cursor and self.since is not None else batch
            if self.table.cursor:
                self._remember(admitted, self.table.cursor)
            self.rows += admitted.num_rows
            if admitted.num_rows:
                yield admitted

    def admit_objects(self, pages: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """The same for objects, whose cursors are texts or numbers."""
        for page in pages:
            admitted = [row for row in page if self._is_new(row)] if self.table.cursor else page
            self.rows += len(admitted)
            if admitted:
                yield admitted

    def watermark(self) -> tuple[str | None, list[list[str]]]:
        """What the next run starts from."""
        if self.until is None:
            return self.since, [list(key) for key in sorted(self.skip)]
        if _text(self.until) == self.since:
            self.keys |= self.skip
        return _text(self.until), [list(key) for key in sorted(self.keys)]

    def _new(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column(batch.schema.get_field_index(self.table.cursor))
        since = pa.scalar(self.since).cast(column.type)
        mask = pc.fill_null(pc.greater(column, since), False)
        if self.is_inclusive:
            at = pc.fill_null(pc.equal(column, since), False)
            if pc.any(at).as_py():
                keys = self._keys(batch)
                again = [bool(same) and key not in self.skip for same, key in zip(at.to_pylist(), keys, strict=True)]
                mask = pc.or_(mask, pa.array(again))
        return batch if pc.all(mask).as_py() else batch.filter(mask)

    def _is_new(self, row: dict[str, Any]) -> bool:
        value = row.get(self.table.cursor or "")
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise Refused(f"A row of `{self.table.name}` has no text or number at its cursor {self.table.cursor}.")
        scalar = pa.scalar(value)
        key = tuple(str(row.get(name)) for name in self.table.primary_key)
        if self.since is not None:
            since = pa.scalar(self.since).cast(scalar.type)
            if pc.less(scalar, since).as_py() or (scalar == since and (not self.is_inclusive or key in self.skip)):
                return False
        if self.until is None or pc.greater(scalar, self.until).as_py():
            self.until, self.keys = scalar, set()
        if self.is_inclusive and scalar == self.until:
            self.keys.add(key)
        return True

    def _remember(self, batch: pa.RecordBatch, cursor: str) -> None:
        column = batch.column(batch.schema.get_field_index(cursor))
        greatest = pc.max(column)
        if not greatest.is_valid or (self.until is not None and pc.less(greatest, self.until).as_py()):
            return
        if self.until is None or pc.greater(greatest, self.until).as_py():
            self.until, self.keys = greatest, set()
        if self.table.primary_key:
            self.keys.update(self._keys(batch.filter(pc.fill_null(pc.equal(column, greatest), False))))
            if len(self.keys) > _MOST_KEYS:
                raise Refused(
                    f"More than {_MOST_KEYS} rows of `{self.table.name}` share one cursor: choose a finer one."
                )

    def _keys(self, batch: pa.RecordBatch) -> list[tuple[str, ...]]:
        columns = [batch.column(batch.schema.get_field_index(name)) for name in self.table.primary_key]
        return list(zip(*([str(value) for value in column.to_pylist()] for column in columns), strict=True))


def _text(scalar: pa.Scalar) -> str:
    return str(scalar.cast(pa.string()).as_py())


def check_cursor(table: Table, schema: pa.Schema) -> None:
    """Raises Refused for a cursor whose values have no order that source and engine share."""
    kind = schema.field(table.cursor).type if table.cursor else pa.int64()
    ordered = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_temporal, pa.types.is_floating, _is_text)
    if not any(is_kind(kind) for is_kind in ordered) or pa.types.is_duration(kind):
        raise Refused(f"Column {table.cursor} of `{table.name}` cannot be a cursor: it is {kind}.")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def one_file(paths: list[Path], into: Path, *, is_made_by_dlt: bool) -> Path:
    """The rows of several Parquet files, whose columns may differ, in one.

    Of columns that dlt has made out of objects, its own ids are left out: they differ from one try to the next.
    """
    schema = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")
    if is_made_by_dlt:
        schema = pa.schema([item for item in schema if not item.name.startswith("_dlt_")])
    elif len(paths) == 1:
        return paths[0]
    with pq.ParquetWriter(into, schema, compression="zstd") as writer:
        for path in paths:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    writer.write_batch(fitted(batch, schema))
    return into


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns of `schema`: those that it lacks are null.

    Raises ArrowInvalid where a value does not fit.
    """
    arrays: list[Any] = []
    for item in schema:
        index = batch.schema.get_field_index(item.name)
        arrays.append(pa.nulls(batch.num_rows, item.type) if index < 0 else batch.column(index).cast(item.type))
    return pa.record_batch(arrays, schema=schema)


def empty_file(path: Path, schema: pa.Schema) -> Path:
    """A Parquet file with columns and no row."""
    with pq.ParquetWriter(path, schema):
        return path
