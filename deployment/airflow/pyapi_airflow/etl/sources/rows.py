"""Rows of a driver as Arrow."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from pyapi_airflow.etl.failures import Refused


def as_batch(rows: Sequence[Sequence[Any]], schema: pa.Schema, table: str) -> pa.RecordBatch:
    """A batch. Raises Refused for a value that its column cannot hold."""
    arrays = []
    for item, values in zip(schema, zip(*rows, strict=True), strict=True):
        try:
            arrays.append(pa.array(values, item.type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            raise Refused(
                f"Column {item.name} of `{table}` holds a value that is no {item.type}: use a query that casts it."
            ) from None
    return pa.record_batch(arrays, schema=schema)


def inferred(values: Iterable[Any]) -> pa.DataType:
    """What the values are; text when they are nothing, or several things."""
    try:
        found = pa.infer_type(list(values))
    except pa.ArrowException:
        return pa.string()
    return pa.string() if pa.types.is_null(found) else found


def plain_cursor(since: str, kind: pa.DataType) -> str | int | float:
    """The last cursor as a parameter: a database compares a number with a text in its own way."""
    if pa.types.is_integer(kind):
        return int(since)
    return float(since) if pa.types.is_floating(kind) else since
