"""The bundle: Airflow's way to bring DAGs from somewhere else than a folder of files.

In Airflow's configuration, `[dag_processor] dag_bundle_config_list`:
`[{"name": "pyapi", "classpath": "pyapi_airflow.bundle.PyapiDagBundle", "kwargs": {"refresh_interval": 1}}]`.
"""

import logging
import shutil
import time
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion

from pyapi_airflow import database
from pyapi_airflow.definitions import define
from pyapi_airflow.files import Note, ShardFolder
from pyapi_airflow.flight import in_flight
from pyapi_airflow.settings import KitSettings, NotConfigured

log = logging.getLogger(__name__)

_REST_AFTER_FAILURE_SECONDS = 5.0
_LOOK_AFTER_LEAVING_SECONDS = 10.0
_KEPT_VERSIONS = 50


class PyapiDagBundle(BaseDagBundle):
    """Data records of PyAPI as DAG files.

    Without a version it follows the records: each refresh asks the database for the number of the newest change, and
    writes the files of the shards in which something changed. While the database is away the last good files stay. With
    a version, which is such a number, it holds the records as they were then: a run keeps what it started with.
    """

    supports_versioning = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings: KitSettings | None = None
        self._folder = ShardFolder(self.path)
        self._rests_until = 0.0
        self._looked_at = 0.0

    @property
    def path(self) -> Path:
        """Where the files are."""
        return Path(self.base_dir, "current") if self.version is None else Path(self.versions_dir, self.version)

    def initialize(self) -> None:
        """Write the files. For a version that takes one question to the database, for the first task that needs it."""
        if self.version is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self.refresh()
        elif not self.path.exists():
            self._write_version(int(self.version))
        super().initialize()

    def get_current_version(self) -> BundleVersion | None:
        """The number of the newest change that the files have."""
        if self.version is not None:
            return BundleVersion(version=self.version)
        version = self._folder.read_note().version
        return BundleVersion(version=str(version)) if version else None

    def view_url_template(self) -> str | None:
        """The records in PyAPI, for Airflow's pages."""
        try:
            web_url = KitSettings.load().web_url
        except NotConfigured:
            web_url = None
        return super().view_url_template() or (web_url and f"{web_url}/api/data/?order_by=-updated_at")

    def refresh(self) -> None:
        """Bring the files up to date. Never raises: Airflow would stop looking after every other DAG."""
        if self.version is not None or time.monotonic() < self._rests_until:
            return
        try:
            with self.lock():
                self._refresh()
        except (NotConfigured, database.DatabaseError, OSError) as error:
            # The text of a database error may name the host, never the password.
            log.warning("The data records cannot be read, so their DAGs stay as they are: %s", str(error).strip())
            self._rests_until = time.monotonic() + _REST_AFTER_FAILURE_SECONDS
        except Exception:
            log.exception("The data records could not be made into DAGs; the DAGs stay as they are")
            self._rests_until = time.monotonic() + _REST_AFTER_FAILURE_SECONDS

    def _refresh(self) -> None:
        settings = self._settings = self._settings or KitSettings.load()
        folder = self._folder
        folder.touch_written()
        note = folder.read_note()
        writer = f"{installed('pyapi-airflow')} {settings.shard_size} {settings.web_url}"
        leaving_due = bool(note.leaving) and time.monotonic() > self._looked_at + _LOOK_AFTER_LEAVING_SECONDS
        with database.connect(settings) as connection:
            version = database.change_counter(connection)
            if version == note.version and writer == note.writer and not leaving_due:
                return
            everything = writer != note.writer or version < note.version
            shards = set(
                database.changed_shards(
                    connection, after=0 if everything else note.version, version=version, size=settings.shard_size
                )
            )
            if leaving_due:
                self._looked_at = time.monotonic()
                shards |= {record_id // settings.shard_size for record_id in note.leaving}
            leaving = {place for place in note.leaving if place // settings.shard_size not in shards}
            for shard in sorted(shards):
                leaving |= self._write_shard(folder, connection, shard, version=version, known=set(note.leaving))
        if everything:
            folder.keep_only(shards)
        self._keep_version(folder, version)
        folder.write_note(Note(version, writer, sorted(leaving)))

    def _write_shard(
        self, folder: ShardFolder, connection: Any, shard: int, *, version: int, known: set[int]
    ) -> set[int]:
        """Write one file; answers the records in it that have no schedule any more, and go when nothing runs."""
        assert self._settings is not None
        first = shard * self._settings.shard_size
        last = first + self._settings.shard_size - 1
        definitions = [
            define(stored, web_url=self._settings.web_url)
            for stored in database.states(connection, first, last, version=version)
        ]
        idle = {definition.record_id for definition in definitions if definition.has_left}
        # Who has left just now gets a DAG without schedule first: Airflow stops starting runs at once, and finishes
        # those it has. A record that was never active needs no DAG at all.
        gone = idle - in_flight(idle) if idle else set()
        gone = {record_id for record_id in gone if record_id in known or not folder.holds(shard, record_id)}
        folder.write_shard(shard, [item for item in definitions if item.record_id not in gone])
        return idle - gone

    def _keep_version(self, folder: ShardFolder, version: int) -> None:
        """Keep the files as they are now: the runs that start with them need no database to find their DAG.

        Older ones make room. A task has read its file by then; and what is missing is written again as stubs.
        """
        folder.copy_to(self.versions_dir / str(version))
        kept = sorted((int(path.name) for path in self.versions_dir.iterdir() if path.name.isdecimal()), reverse=True)
        for old in kept[_KEPT_VERSIONS:]:
            shutil.rmtree(self.versions_dir / str(old), ignore_errors=True)

    def _write_version(self, version: int) -> None:
        """The files of all shards that there were, each of which asks for its records when it is read."""
        settings = KitSettings.load()
        ask = partial(database.changed_shards, after=0, version=version, size=settings.shard_size)
        self._folder.write_stubs(database.patiently(settings, ask), size=settings.shard_size, version=version)
