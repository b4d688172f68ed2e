"""Runs in the environment of Airflow: one way to move one table, and what it took. Imports are not counted for any."""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi

COLUMNS = "id, customer, amount, score, name, note, flag, updated_at, day, extra"
ACCOUNT = {"access_key_id": "key", "secret_access_key": "secret"}


def bare(question: dict[str, Any]) -> dict[str, Any]:
    """ADBC and pyarrow, as short as it can be written; the decimals are cast, or they would be texts."""
    path = f"{question['folder']}/bare.parquet"
    Path(path).parent.mkdir(exist_ok=True)
    return timed(lambda: write(question, path, None)) | {"bytes": Path(path).stat().st_size}


def bare_s3(question: dict[str, Any]) -> dict[str, Any]:
    """The same into a stream of Arrow's own S3 client."""
    make_bucket(question)
    system = pafs.S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=question["s3"], region="us-east-1"
    )
    found = timed(lambda: write(question, "speed/bare.parquet", system))
    return found | {"bytes": system.get_file_info("speed/bare.parquet").size}


def write(question: dict[str, Any], path: str, system: Any) -> int:
    """Rows written."""
    rows = 0
    with dbapi.connect(question["url"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {COLUMNS} FROM {question['table']}")
        writer = None
        for batch in cursor.fetch_record_batch():
            amount = batch.column(2).cast(pa.string()).cast(pa.decimal128(12, 2))
            batch = batch.set_column(2, "amount", amount)
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd", filesystem=system)
            writer.write_batch(batch)
            rows += batch.num_rows
        if writer is not None:
            writer.close()
    return rows


def alone(question: dict[str, Any]) -> dict[str, Any]:
    """Dlt by itself, as its documentation shows it: its backend `pyarrow`, its destination `filesystem`."""
    prepare(question)
    import dlt
    from dlt.sources.sql_database import sql_table

    pipeline = dlt.pipeline(
        "alone",
        pipelines_dir=f"{question['folder']}/alone",
        destination=dlt.destinations.filesystem(f"file://{question['folder']}/alone-lake"),
        dataset_name="d",
    )
    url = question["url"].replace("postgresql://", "postgresql+psycopg2://")
    table = sql_table(url, question["table"], backend="pyarrow", chunk_size=100_000)
    rows = int(question["rows"])

    def run() -> int:
        pipeline.run(table, loader_file_format="parquet", write_disposition="replace")
        return rows

    return timed(run) | {"bytes": 0}


def kit(question: dict[str, Any]) -> dict[str, Any]:
    """What a task of Airflow does."""
    target = f"file://{question['folder']}/kit/"
    return moved(question, target)


def kit_s3(question: dict[str, Any]) -> dict[str, Any]:
    """The same to S3."""
    make_bucket(question)
    return moved(
        question, {"type": "s3", "bucket": "speed", "prefix": "kit/", "endpoint_url": question["s3"], **ACCOUNT}
    )


def moved(question: dict[str, Any], target: Any) -> dict[str, Any]:
    """A run of the kit, with the plan of its statement."""
    prepare(question)
    import dlt.sources.helpers.requests  # noqa: F401
    from pyapi_airflow.etl.moves import move
    from pyapi_airflow.etl.openers import open_target
    from pyapi_airflow.etl.runs import Run
    from pyapi_airflow.etl.sources.postgresql import PostgresSource
    from pyapi_airflow.etl.surroundings import Surroundings

    from pyapi.etl.jobs import parse_job

    @contextlib.contextmanager
    def nobody_else(_record_id: int) -> Iterator[Callable[[], None]]:
        yield lambda: None

    config = dict(question["config"])
    run = Run(7, config.pop("run", "run-1"), datetime(2026, 1, 31, tzinfo=UTC))
    job, errors = parse_job({"source": question["url"], "target": target, "tables": question["table"], **config})
    assert job is not None, errors
    around = Surroundings(Path(question["folder"]) / "etl", nobody_else, local_dirs=(Path(question["folder"]),))
    since = open_target(job, run, around).state(question["table"]).watermark
    result: dict[str, Any] = {}

    def run_once() -> int:
        result.update(move(job, run, around))
        return int(result["rows"])

    found = timed(run_once)
    source = PostgresSource(job, job.source.options, None)
    statement = source.statement(source.tables()[0], since=since)
    plan = source._catalogue.execute(f"EXPLAIN {statement}").fetchall()
    source.close()
    return found | {"bytes": result["bytes"], "plan": "\n".join(row[0] for row in plan)}


def prepare(question: dict[str, Any]) -> None:
    """Import dlt as the kit does: it asks nobody."""
    from pyapi_airflow.etl import staging

    staging._prepare(Path(question["folder"]) / "etl")


def make_bucket(question: dict[str, Any]) -> None:
    """For all ways the same."""
    client = boto3.client(
        "s3",
        endpoint_url=question["s3"],
        region_name="us-east-1",
        **{f"aws_{name}": value for name, value in ACCOUNT.items()},
    )
    client.create_bucket(Bucket="speed")


def timed(do: Callable[[], int]) -> dict[str, Any]:
    """Seconds of `do`, which answers rows."""
    started = time.monotonic()
    rows = do()
    return {"rows": rows, "seconds": time.monotonic() - started}


WAYS = {"bare": bare, "bare-s3": bare_s3, "dlt": alone, "kit": kit, "kit-s3": kit_s3}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    answer = WAYS[asked["way"]](asked)
    print(json.dumps(answer | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
