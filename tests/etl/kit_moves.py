"""Runs in the environment of Airflow: moves what each line of its input asks for, in a process that may be killed.

A line is a question in JSON; so is each answer. Readers and writers are not those of the kit: psycopg, pyarrow, and
those of `kit_lakes`.
"""

import contextlib
import json
import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pymysql
from pyapi_airflow.etl import staging
from pyapi_airflow.etl.checks import check
from pyapi_airflow.etl.failures import MoveFailed, Refused
from pyapi_airflow.etl.moves import move
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.surroundings import Surroundings, alone_on
from pyapi_airflow.settings import KitSettings

from pyapi.etl.jobs import parse_job
from tests.etl.kit_lakes import make_bucket, objects, s3_client

LOGICAL_DATE = datetime(2026, 1, 31, 9, tzinfo=UTC)


@dataclass
class Connection:
    """As Airflow gives one."""

    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = None
    extra_dejson: dict[str, Any] = field(default_factory=dict)


def limit_files(most: int | None) -> None:
    """Python ignores the signal, so that a write fails as it does on a disk that is full."""
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def nobody_else(then: Callable[[], None]) -> Callable[[int], contextlib.AbstractContextManager[Callable[[], None]]]:
    """`then` is called before a table is written to the target."""
    return lambda _record_id: contextlib.nullcontext(then)


def moved(question: dict[str, Any]) -> Any:
    limit_files(question.get("limit_reading"))
    job, errors = parse_job(question["config"])
    if job is None:
        return {"errors": [error.pointer for error in errors]}
    connections = {name: Connection(**values) for name, values in question.get("connections", {}).items()}
    around = Surroundings(
        Path(question["folder"]),
        nobody_else(lambda: limit_files(question.get("limit_writing"))),
        local_dirs=tuple(map(Path, question.get("local_dirs", ()))),
        conn_ids=tuple(question.get("conn_ids", ("*",))),
        lookup=connections.__getitem__,
    )
    run = Run(question.get("record", 7), question.get("run", "run-1"), LOGICAL_DATE)
    try:
        return check(job, run, around) if question.get("check") else move(job, run, around)
    except Refused as error:
        return {"refused": str(error)}
    except MoveFailed as error:
        return {"failed": str(error)}


# --- What is there, read by others ------------------------------------------------------------------------------------


def files_of(place: dict[str, Any]) -> dict[str, Callable[[], bytes]]:
    """The data files that anybody sees, and how to read each."""
    if "folder" in place:
        root = Path(place["folder"])
        found = sorted(path for path in root.rglob("*") if path.is_file())
        return {
            str(path.relative_to(root)): path.read_bytes for path in found if path.suffix not in {".state", ".part"}
        }
    there = objects(place["lake"], place["bucket"], place.get("prefix", ""))
    return {name: read for name, read in there.items() if not name.endswith((".state", ".part"))}


def parquet_rows(place: dict[str, Any], table: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    rows: list[dict[str, Any]] = []
    types: dict[str, str] = {}
    for name, read in files_of(place).items():
        if f"{table}/" in name:
            found = pq.read_table(BytesIO(read()))
            types |= {item.name: str(item.type) for item in found.schema}
            rows += found.to_pylist()
    return rows, types


def target_rows(target: Any, table: str) -> list[dict[str, Any]]:
    """A table of a target that is no place for files."""
    if isinstance(target, dict) or target.startswith("delta+"):
        from deltalake import DeltaTable

        url = target["url"] if isinstance(target, dict) else target.removeprefix("delta+file://")
        storage = {
            "AWS_ENDPOINT_URL": target["endpoint_url"],
            "AWS_ACCESS_KEY_ID": target["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": target["secret_access_key"],
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        } if isinstance(target, dict) else None  # fmt: skip
        rows: list[dict[str, Any]] = DeltaTable(f"{url}{table}", storage_options=storage).to_pyarrow_table().to_pylist()
        return rows
    if target.startswith("duckdb"):
        import duckdb

        with duckdb.connect(target.removeprefix("duckdb://"), read_only=True) as database:
            found: list[dict[str, Any]] = database.execute(f'SELECT * FROM "{table}"').to_arrow_table().to_pylist()
            return found
    with psycopg.connect(target) as connection:
        cursor = connection.execute(f'SELECT * FROM "{table}"')
        names = [item.name for item in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def cell(value: Any) -> str:
    """One text per value; a type that differs makes another one."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
        return f"instant {value.isoformat()}"
    if isinstance(value, Decimal):
        return f"decimal {value}"
    return f"{type(value).__name__} {value!r}"


def compared(question: dict[str, Any]) -> dict[str, Any]:
    """Rows of the target that the source has not, and the reverse; each as often as it is there."""
    if question["place"] is None:
        moved_rows = target_rows(question["target"], question["table"])
    else:
        moved_rows, _ = parquet_rows(question["place"], question["table"])
    with psycopg.connect(question["url"]) as connection:
        cursor = connection.execute(question["query"])
        names = [item.name for item in cursor.description or ()]
        there = Counter(tuple(map(cell, row)) for row in cursor)
    here = Counter(tuple(cell(row[name]) for name in names) for row in moved_rows)
    return {
        "rows": here.total(),
        "lost": list(map(list, (there - here)))[:3],
        "doubled": list(map(list, (here - there)))[:3],
    }


def watched(question: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with any file that is seen, again and again, until a file says stop."""
    wrong: list[str] = []
    looks = 0
    while not Path(question["until"]).exists():
        looks += 1
        for name, read in files_of(question["place"]).items():
            try:
                content = read()
            except FileNotFoundError:
                continue  # replaced since it was listed
            try:
                rows = pq.ParquetFile(BytesIO(content)).read().num_rows
            except Exception as error:  # noqa: BLE001  (whatever it is, somebody has seen it)
                wrong.append(f"{name}: {type(error).__name__}")
                continue
            if rows not in question["sizes"]:
                wrong.append(f"{name}: {rows} rows")
        time.sleep(0.005)
    return {"wrong": wrong[:5], "looks": looks}


def put(question: dict[str, Any]) -> None:
    make_bucket(question["lake"], question["put"])


def mysql(question: dict[str, Any]) -> Any:
    """Run statements as the owner of a MySQL server; the rows of the last."""
    with (
        pymysql.connect(
            unix_socket=question["socket"], user="root", database=question["database"], charset="utf8mb4"
        ) as connection,
        connection.cursor() as cursor,
    ):
        for statement in question["mysql"]:
            cursor.execute(statement)
        connection.commit()
        return cursor.fetchall()


def policy(question: dict[str, Any]) -> None:
    """What a bucket allows; None: everything."""
    client = s3_client(question["lake"])
    if question["policy"] is None:
        client.delete_bucket_policy(Bucket=question["bucket"])
    else:
        client.put_bucket_policy(Bucket=question["bucket"], Policy=question["policy"])


def filled(question: dict[str, Any]) -> None:
    """Leave `room` bytes on a disk; all of it, when that is None."""
    ballast = Path(question["disk"], ".ballast")
    ballast.unlink(missing_ok=True)
    if question["room"] is not None:
        status = os.statvfs(question["disk"])
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - question["room"])


def used(question: dict[str, Any]) -> int:
    """Bytes in the files of a folder."""
    return sum(path.stat().st_size for path in Path(question["used"]).rglob("*") if path.is_file())


def seen(question: dict[str, Any]) -> Any:
    rows, types = parquet_rows(question["place"], question["table"])
    return {"rows": [{name: cell(value) for name, value in row.items()} for row in rows], "types": types}


def locked(question: dict[str, Any]) -> list[Any]:
    """Whether another run is kept out, and what is said when the connection that does so is gone."""
    settings = KitSettings(database_url=question["lock"])
    with psycopg.connect(question["lock"], autocommit=True) as other, alone_on(settings, 7) as still_alone:
        still_alone()
        held = other.execute(
            "SELECT count(*), min(objid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND datname = current_database()"
        ).fetchone()
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pyapi-etl' AND datname = current_database()"
        )
        try:
            still_alone()
        except MoveFailed as error:
            return [*(held or ()), str(error)]
    return []


ANSWERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "config": moved,
    "query": compared,
    "until": watched,
    "lock": locked,
    "put": put,
    "policy": policy,
    "mysql": mysql,
    "disk": filled,
    "used": used,
    "table": seen,
    "everything": lambda question: sorted(
        objects(question["everything"]["lake"], question["everything"]["bucket"], "")
    ),
    "list": lambda question: sorted(files_of(question["list"])),
    "text": lambda question: {name: read().decode() for name, read in files_of(question["text"]).items()},
}


def answer(question: dict[str, Any]) -> Any:
    return next(ask(question) for name, ask in ANSWERS.items() if name in question)


def main() -> None:
    staging._prepare(Path(sys.argv[1]))
    import dlt  # noqa: F401  (once, for all the processes that are made of this one)

    for line in sys.stdin:
        question = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                told = json.dumps({"answer": answer(question)}, default=str)
                os.write(1, f"{told}\n".encode())
                status = 0
            except BaseException:  # noqa: BLE001  (this process ends here)
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        os.write(1, f"{json.dumps({'pid': child})}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(1, f"{json.dumps({'ended': status})}\n".encode())


if __name__ == "__main__":
    main()
