"""A disk that is full: a clear error, nothing half written to be seen or kept, and the next try is right."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.etl.asking import Kit

pytestmark = pytest.mark.airflow

MEGABYTE = 2**20
# A disk of its own, which needs no account that may mount one.
SMALL_DISK = (
    *("unshare", "--user", "--map-root-user", "--mount"),
    *("sh", "-c", 'mount -t tmpfs -o size=64m tmpfs "$0" && exec "$@"'),
)
HAS_SMALL_DISK = shutil.which("unshare") is not None and (
    subprocess.run([*SMALL_DISK, tempfile.gettempdir(), "true"], capture_output=True, check=False).returncode == 0
)
# Texts that no compression makes smaller.
ROWS = "SELECT i AS id, sha512(i::text::bytea) AS h FROM generate_series(1, {}) i"
FEW, MANY = 100, 100_000


@dataclass(frozen=True)
class Disk:
    """A folder of another disk than the one on which rows wait, and who sees it."""

    folder: Path
    kit: Kit
    is_small: bool

    def let_be_full(self, *, while_it: str) -> dict[str, int]:
        """What a question has to say so that it finds no room."""
        if not self.is_small:
            return {f"limit_{while_it}": 2 * MEGABYTE}
        self.kit.ask(disk=str(self.folder), room=2 * MEGABYTE)
        return {}

    def let_have_room(self) -> None:
        """Again."""
        if self.is_small:
            self.kit.ask(disk=str(self.folder), room=None)


@pytest.fixture(
    params=[
        "limited",
        pytest.param(
            "small",
            marks=pytest.mark.skipif(
                not HAS_SMALL_DISK,
                reason="This machine lets nobody mount a disk of his own: no write was tried on a full one.",
            ),
        ),
    ]
)
def disk(request: pytest.FixtureRequest, kit: Kit, tmp_path: Path) -> Iterator[Disk]:
    """One that is full in earnest, and one on which no file may grow, which works on every machine."""
    if request.param == "limited":
        with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
            yield Disk(Path(name), kit, is_small=False)
        return
    folder = tmp_path / "disk"
    folder.mkdir()
    other = Kit(tmp_path / "other", inside=(*SMALL_DISK, str(folder)))
    yield Disk(folder, other, is_small=True)
    other.stop()


NO_ROOM = ("No space left on device", "File too large")


@dataclass(frozen=True)
class Place:
    """A target on the disk: as a record names it, and as others read it."""

    target: str
    read: dict[str, Any]


@pytest.fixture(params=["files", "duckdb", "delta"])
def place(request: pytest.FixtureRequest, disk: Disk) -> Place:
    match request.param:
        case "files":
            return Place(f"file://{disk.folder}/", {"place": {"folder": str(disk.folder)}})
        case "duckdb":
            target = f"duckdb://{disk.folder}/a.duckdb"
        case _:
            target = f"delta+file://{disk.folder}/"
    return Place(target, {"target": target, "place": None})


Asked = Callable[..., dict[str, Any]]


@pytest.fixture
def question(source_url: str, tmp_path: Path, disk: Disk) -> Asked:
    """A run of the record, as the kit is asked for it; rows wait on another disk."""

    def ask(run: str, *, target: str, folder: Path | None = None, **more: Any) -> dict[str, Any]:
        return {
            "config": {"source": source_url, "target": target, "tables": "rows"},
            "run": run,
            "folder": str(folder or tmp_path / "etl"),
            "local_dirs": [str(disk.folder), str(tmp_path)],
            **more,
        }

    return ask


async def test_a_target_that_is_full(
    source: asyncpg.Connection, source_url: str, disk: Disk, place: Place, question: Asked
) -> None:
    await source.execute(f"CREATE TABLE rows AS {ROWS.format(FEW)}")
    disk.kit.ask(**question("run-1", target=place.target))
    used = disk.kit.ask(used=str(disk.folder))
    await source.execute(f"DROP TABLE rows; CREATE TABLE rows AS {ROWS.format(MANY)}")
    told = disk.kit.ask(**question("run-2", target=place.target, **disk.let_be_full(while_it="writing")))["failed"]
    disk.let_have_room()
    kept = disk.kit.ask(used=str(disk.folder)) - used
    before = disk.kit.ask(url=source_url, query=f"SELECT * FROM rows WHERE id <= {FEW}", table="rows", **place.read)
    again = disk.kit.ask(**question("run-2", target=place.target))
    after = disk.kit.ask(url=source_url, query="SELECT * FROM rows", table="rows", **place.read)
    assert (
        [told.startswith("Writing"), any(words in told for words in NO_ROOM), kept < MEGABYTE],
        [before, (again["rows"], again["resumed"]), after],
    ) == (
        [True, True, True],
        [
            {"rows": FEW, "lost": [], "doubled": []},
            (MANY, True),
            {"rows": MANY, "lost": [], "doubled": []},
        ],
    )


async def test_a_worker_without_room_for_the_rows_on_their_way(
    source: asyncpg.Connection, source_url: str, disk: Disk, question: Asked, tmp_path: Path
) -> None:
    await source.execute(f"CREATE TABLE rows AS {ROWS.format(MANY)}")
    target, waiting = f"file://{tmp_path}/lake/", disk.folder / "waiting"
    place = {"folder": str(tmp_path / "lake")}
    told = disk.kit.ask(**question("run-1", target=target, folder=waiting, **disk.let_be_full(while_it="reading")))[
        "failed"
    ]
    nothing = disk.kit.ask(list=place)
    disk.let_have_room()
    kept = disk.kit.ask(used=str(waiting / "pyapi_7"))
    disk.kit.ask(**question("run-1", target=target, folder=waiting))
    compared = disk.kit.ask(url=source_url, query="SELECT * FROM rows", table="rows", place=place)
    assert (
        told.startswith(f"Keeping rows in {waiting} of the worker: "),
        any(words in told for words in NO_ROOM),
        [nothing, kept, compared],
    ) == (True, True, [[], 0, {"rows": MANY, "lost": [], "doubled": []}])
