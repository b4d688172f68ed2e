"""dlt: brings the rows of a source into Parquet files of a load package, which a later try of the run finds again.

Only extract and normalise are dlt's. Its filesystem destination makes the files of a package visible one after the
other and keeps its state apart from them, so what happens then is the target's own affair; see docs/decisions/0017.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pyapi_airflow.etl.failures import MoveFailed

_PLAN = "plan.json"


@dataclass(frozen=True)
class Package:
    """What a try of a run has brought in completely: what it knows of each table, and the files of each."""

    plan: list[dict[str, Any]]
    files: list[list[Path]]


@dataclass(frozen=True)
class Incoming:
    """The rows of a table; `schema` is None when only they tell the columns."""

    rows: Iterable[Any]
    schema: pa.Schema | None


class Workshop:
    """The folder of one run. Only complete packages are ever found in it."""

    def __init__(self, root: Path, owner: str, key: str) -> None:
        self._root = root
        self._owner = root / owner
        self.folder = self._owner / key

    def found(self, identity: str) -> Package | None:
        """What an earlier try has left, when it is complete and of the same job."""
        try:
            plan = json.loads((self.folder / _PLAN).read_text())
        except (FileNotFoundError, ValueError):
            return None
        if plan.get("identity") != identity:
            return None
        try:
            files = _normalized(self._pipeline(), len(plan["tables"]))
        except MoveFailed:
            return None
        return Package(plan["tables"], files)

    def clear(self) -> None:
        """Take away what earlier runs have left: they will not come again while this one runs."""
        shutil.rmtree(self._owner, ignore_errors=True)
        # Rows wait here in plain Parquet: they are for this account only.
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(parents=True)

    def bring_in(self, readings: list[Incoming], plan: Iterable[dict[str, Any]], identity: str) -> Package:
        """Read all tables, one after the other. `plan` is asked when all is read, and makes the package complete."""
        try:
            return self._bring_in(readings, plan, identity)
        except BaseException:
            # Half a package helps no later try, and a disk that is full needs its room.
            shutil.rmtree(self._owner, ignore_errors=True)
            raise

    def _bring_in(self, readings: list[Incoming], plan: Iterable[dict[str, Any]], identity: str) -> Package:
        with _original_error():
            pipeline = self._pipeline()
            import dlt

            pipeline.extract(
                [
                    dlt.resource(reading.rows, name=_name(at), columns=_hints(reading.schema))
                    for at, reading in enumerate(readings)
                ]
            )
            pipeline.normalize()
        tables = list(plan)
        files = _normalized(pipeline, len(tables))
        written = self.folder / f"{_PLAN}.part"
        written.write_text(json.dumps({"identity": identity, "tables": tables}))
        written.replace(self.folder / _PLAN)
        return Package(tables, files)

    def _pipeline(self) -> Any:
        _prepare(self._root)
        import dlt

        def never_called(_items: Any, _table: Any) -> None:
            """A destination, which dlt asks for before it normalises."""

        target = dlt.destination(
            never_called,
            name="pyapi",
            batch_size=0,
            loader_file_format="parquet",
            naming_convention="direct",
            skip_dlt_columns_and_tables=True,
            max_table_nesting=0,
        )
        return dlt.pipeline("record", pipelines_dir=str(self.folder / "dlt"), destination=target)


def _normalized(pipeline: Any, tables: int) -> list[list[Path]]:
    """The files of each table."""
    found: dict[str, list[Path]] = {_name(at): [] for at in range(tables)}
    if pipeline.list_extracted_load_packages():
        raise MoveFailed("dlt has not finished its package.")
    for load_id in pipeline.list_normalized_load_packages():
        for job in pipeline.get_load_package_info(load_id).jobs["new_jobs"]:
            if job.job_file_info.table_name in found:
                found[job.job_file_info.table_name].append(Path(job.file_path))
    return [sorted(files) for files in found.values()]


def _name(at: int) -> str:
    """A table's name within dlt, which would change others."""
    return f"t{at}"


def _hints(schema: pa.Schema | None) -> Any:
    """Without a hint, dlt makes an instant in UTC of a local time."""
    local = [item.name for item in schema or () if pa.types.is_timestamp(item.type) and item.type.tz is None]
    return {name: {"name": name, "data_type": "timestamp", "timezone": False} for name in local}


@contextmanager
def _original_error() -> Iterator[None]:
    """What a source or a disk has raised: dlt wraps it several times, with its own words around it."""
    try:
        yield
    except (MoveFailed, OSError):
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, MoveFailed | OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from None
        raise


def _prepare(root: Path) -> None:
    """Tell dlt, before its first import, to ask nobody and to keep what it writes below `root`."""
    home = root / ".dlt"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    os.environ.update(_settings(str(home)))


def _settings(home: str) -> Mapping[str, str]:
    return {
        "DLT_DATA_DIR": home,
        "DLT_PROJECT_DIR": home,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        # Or it asks Airflow for a Variable for each of its own settings.
        "PROVIDERS__ENABLE_AIRFLOW_SECRETS": "false",
        "PROVIDERS__ENABLE_GOOGLE_SECRETS": "false",
        # One table after the other: one connection, one writer.
        "EXTRACT__NEXT_ITEM_MODE": "fifo",
        "DATA_WRITER__COMPRESSION": "zstd",
    }
