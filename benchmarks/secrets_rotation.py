"""What another key costs: 100,000 records and their revisions get it while others read them with both keys.

`uv run python -m benchmarks secrets` prints a table; it takes some minutes.
"""

import asyncio
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import asyncpg
from cryptography.fernet import Fernet

from benchmarks.records import configs
from benchmarks.server import Postgres, running_postgres
from pyapi.utils.masking import mask_secrets
from pyapi.utils.sealing import Sealer

RECORDS = 100_000
PLAIN = 10_000
"""Records that are encrypted for the first time."""

READERS = 2
ROWS_OF_A_READ = 20
PAUSE_SECONDS = 0.005
MASKED = 20_000
"""How often one config is masked, for the cost of reading."""


@dataclass(frozen=True)
class Read:
    """What one reader has met."""

    rows: int
    unreadable: int
    longest_seconds: float


def main() -> None:
    """Measure, and print a table."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    with tempfile.TemporaryDirectory() as folder, running_postgres(Path(folder)) as postgres:
        url = postgres.url.replace("+asyncpg", "")
        first = asyncio.run(fill(url, RECORDS, Sealer([old])))
        rotated, reads = beside_readers(postgres, (new, old), first)
        left, _ = asyncio.run(look(url, new))
        again = run(postgres, "rotate", (new,))
        asyncio.run(fill(url, PLAIN, Sealer()))
        encrypted = run(postgres, "encrypt", (new,))
        _, plain = asyncio.run(look(url, new))
    print(f"{RECORDS} records with 1 secret each and as many revisions; {READERS} readers at once")
    print("| what | seconds | CPU seconds of the command |")
    print("|---|---|---|")
    print(f"| `pyapi secrets rotate` | {rotated[0]:.1f} | {rotated[1]:.1f} |")
    print(f"| the same again, nothing to do | {again[0]:.1f} | {again[1]:.1f} |")
    print(f"| `pyapi secrets encrypt`, {PLAIN} of them plain | {encrypted[0]:.1f} | {encrypted[1]:.1f} |")
    rows = sum(read.rows for read in reads)
    longest = max(read.longest_seconds for read in reads)
    print(f"| rows read while it rotated | {rows:,} | {sum(read.unreadable for read in reads)} unreadable |")
    print(f"| slowest read of {ROWS_OF_A_READ} rows | {longest * 1e3:.0f} ms | |")
    print(f"| rows that the new key alone does not open | {left} | plaintext found {plain} times |")
    print()
    print("| one config | microseconds |")
    print("|---|---|")
    for name, microseconds in single_costs(Sealer([new, old])).items():
        print(f"| {name} | {microseconds:.1f} |")


async def fill(url: str, number: int, sealer: Sealer) -> int:
    """Write records by SQL; answers the first id."""
    connection = await asyncpg.connect(url)
    rows = [(f"同步 {place}", json.dumps(sealer.seal(config))) for place, config in enumerate(configs(number))]
    await connection.copy_records_to_table("pyapi_data_records", records=rows, columns=["name", "config"])
    await connection.execute("VACUUM ANALYZE pyapi_data_records")
    first = int(await connection.fetchval("SELECT min(id) FROM pyapi_data_records"))
    await connection.close()
    return first


def beside_readers(postgres: Postgres, keys: tuple[str, ...], first: int) -> tuple[tuple[float, float], list[Read]]:
    """Seconds and CPU seconds of a rotation, and what those met who read meanwhile."""
    done = multiprocessing.Event()
    found, says = multiprocessing.Pipe(duplex=False)
    url = postgres.url.replace("+asyncpg", "")
    readers = [
        multiprocessing.Process(target=read_along, args=(url, keys, first, number, done, says))
        for number in range(READERS)
    ]
    for reader in readers:
        reader.start()
    measured = run(postgres, "rotate", keys)
    done.set()
    reads: list[Read] = [found.recv() for _ in readers]
    for reader in readers:
        reader.join()
    return measured, reads


def run(postgres: Postgres, command: str, keys: tuple[str, ...]) -> tuple[float, float]:
    """As an operator runs it, as a process of its own."""
    environment = os.environ | {"DATABASE_URL": postgres.url, "PYAPI_FERNET_KEYS": ",".join(keys)}
    _children_seconds()
    began = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("pyapi"), "secrets", command], env=environment, check=True)
    # The readers are alive still: their time is not in this.
    return time.perf_counter() - began, _children_seconds()


_seen = [0.0]


def _children_seconds() -> float:
    """CPU time of children that have ended since the last question."""
    times = os.times()
    total = times.children_user + times.children_system
    since, _seen[0] = total - _seen[0], total
    return since


def read_along(url: str, keys: tuple[str, ...], first: int, seed: int, done: Event, says: Connection) -> None:
    """Open random records and their newest revisions, as a task and as PyAPI do, until told to stop."""
    says.send(asyncio.run(_read_along(url, Sealer(keys), first, random.Random(seed), done)))


async def _read_along(url: str, sealer: Sealer, first: int, draw: random.Random, done: Event) -> Read:
    connection = await asyncpg.connect(url)
    statement = await connection.prepare("""SELECT r.config, s.state -> 'config' FROM pyapi_data_records r
        JOIN pyapi_data_revisions s ON (s.record_id, s.revision) = (r.id, r.revision) WHERE r.id = ANY ($1)""")
    rows = unreadable = 0
    longest = 0.0
    while not done.is_set():
        ids = [first + draw.randrange(RECORDS) for _ in range(ROWS_OF_A_READ)]
        began = time.perf_counter()
        read = await statement.fetch(ids)
        longest = max(longest, time.perf_counter() - began)
        for row in read:
            for config in row:
                opened = sealer.open(json.loads(config))
                rows += 1
                unreadable += bool(opened.unreadable)
        await asyncio.sleep(PAUSE_SECONDS)
    await connection.close()
    return Read(rows, unreadable, longest)


async def look(url: str, key: str) -> tuple[int, int]:
    """How many rows a key alone does not open, and how often a secret stands readable in the tables."""
    connection = await asyncpg.connect(url)
    sealer = Sealer([key])
    left = plain = 0
    async with connection.transaction():
        statement = "SELECT config::text FROM pyapi_data_records UNION ALL SELECT state::text FROM pyapi_data_revisions"
        async for row in connection.cursor(statement, prefetch=1000):
            left += bool(sealer.open(json.loads(row[0])).unreadable)
            plain += row[0].count("etl:secret@")
    await connection.close()
    return left, plain


def single_costs(sealer: Sealer) -> dict[str, float]:
    """CPU time of what the service does with one config."""
    config = configs(1)[0]
    sealed = sealer.seal(config)
    return {
        "mask, readable": _microseconds(lambda: mask_secrets(config)),
        "mask, sealed": _microseconds(lambda: mask_secrets(sealed)),
        "open": _microseconds(lambda: sealer.open(sealed)),
        "seal": _microseconds(lambda: sealer.seal(config)),
        "seal again, unchanged": _microseconds(lambda: sealer.seal(config, stored=sealed)),
    }


def _microseconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    for _ in range(MASKED):
        work()
    return (time.process_time() - before) / MASKED * 1e6


if __name__ == "__main__":
    main()
