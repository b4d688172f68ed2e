"""Delta Lake as a target: each run is one commit, and the state is written in that commit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from pyapi.etl.kinds import Mode
from pyapi_airflow.etl import columns
from pyapi_airflow.etl.failures import MoveFailed, Refused, telling
from pyapi_airflow.etl.places import S3Place, allowed_path
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.states import Done, TableState
from pyapi_airflow.etl.targets.base import Staged


class DeltaTarget:
    """A folder or prefix with one Delta table for each table."""

    def __init__(self, options: Mapping[str, Any], run: Run, *, allowed: tuple[Path, ...]) -> None:
        self._run = run
        self._key = f"pyapi.{run.owner}"
        self._options = options
        self._folder: Path | None = None
        self._storage: dict[str, str] = {}
        scheme, _, rest = str(options["url"]).partition("://")
        if scheme == "file":
            self._folder = allowed_path(rest, allowed=allowed)
            self._url = str(self._folder)
        else:
            self._url = f"s3://{rest}".rstrip("/")
            self._storage = _storage(options)

    def state(self, table: str) -> TableState:
        """What the newest commit of this record says."""
        with telling(f"Looking at {self._address(table)}", DeltaError, OSError):
            found = self._table(table)
            for commit in found.history() if found is not None else ():
                if self._key in commit:
                    content = commit[self._key]
                    return TableState.from_json(content if isinstance(content, str) else json.dumps(content))
        return TableState()

    def commit(self, staged: Staged, before: TableState, done: Done, changes: Mapping[str, Any]) -> int:
        """One commit."""
        name = staged.table.name
        if self.state(name).number != before.number:
            raise MoveFailed(f"Another run has written `{name}` meanwhile.")
        if staged.mode is not Mode.FULL:
            _check_types(before, staged)
        after = before.then(done, replaces=staged.starts_anew, **changes)
        properties = CommitProperties(custom_metadata={self._key: after.to_json()})
        with (
            telling(f"Writing {self._address(name)}", DeltaError, OSError, ValueError),
            pq.ParquetFile(staged.path) as file,
        ):
            rows = pa.RecordBatchReader.from_batches(staged.schema, file.iter_batches())
            there = self._table(name)
            merges = staged.mode in {Mode.MERGE, Mode.INCREMENTAL} and bool(staged.table.primary_key)
            if there is not None and merges:
                self._merge(there, staged, rows, properties)
            else:
                replaces = staged.mode is Mode.FULL
                write_deltalake(
                    self._address(name),
                    rows,
                    mode="overwrite" if replaces else "append",
                    schema_mode="overwrite" if replaces else "merge",
                    storage_options=self._storage or None,
                    commit_properties=properties,
                )
        return staged.path.stat().st_size

    def check(self) -> None:
        """Write a small file beside the tables, and take it away."""
        if self._folder is not None:
            with telling(f"Writing to {self._url}", OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                path = self._folder / f"_pyapi-{self._run.key}.part"
                path.touch()
                path.unlink()
            return
        bucket, _, prefix = self._url.removeprefix("s3://").partition("/")
        place = S3Place(bucket, prefix, self._options)
        place.write(f"_pyapi-{self._run.key}.part", b"")
        place.delete(f"_pyapi-{self._run.key}.part")

    def close(self) -> None:
        """Nothing stays open."""

    def _merge(self, there: DeltaTable, staged: Staged, rows: Any, properties: CommitProperties) -> None:
        same = " AND ".join(f"t.`{name}` = s.`{name}`" for name in staged.table.primary_key)
        (
            there.merge(
                rows,
                same,
                source_alias="s",
                target_alias="t",
                merge_schema=True,
                commit_properties=properties,
            )
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )

    def _table(self, name: str) -> DeltaTable | None:
        try:
            return DeltaTable(self._address(name), storage_options=self._storage or None)
        except TableNotFoundError:
            return None

    def _address(self, table: str) -> str:
        return f"{self._url}/{quote(table, safe=' ')}"


def _check_types(before: TableState, staged: Staged) -> None:
    changed = [
        item["column"]
        for item in columns.changes(before.schema, columns.described(staged.schema))
        if item["change"] == "type"
    ]
    if before.schema and changed:
        raise Refused(
            f"Delta keeps the types of columns, and {', '.join(changed)} has another one: run it with mode full."
        )


def _storage(options: Mapping[str, Any]) -> dict[str, str]:
    names = {
        "access_key_id": "AWS_ACCESS_KEY_ID",
        "secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "session_token": "AWS_SESSION_TOKEN",
        "region": "AWS_REGION",
        "endpoint_url": "AWS_ENDPOINT_URL",
    }
    found = {name: str(options[key]) for key, name in names.items() if options.get(key)}
    if str(options.get("endpoint_url", "")).startswith("http://"):
        found["AWS_ALLOW_HTTP"] = "true"
    if "AWS_ENDPOINT_URL" in found:
        found.setdefault("AWS_REGION", "us-east-1")
    return found
