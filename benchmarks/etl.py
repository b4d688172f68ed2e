"""Moving data with the reader kit, beside a bare writer and beside dlt alone; and kill -9 while it does."""

import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.server import running_postgres
from pyapi.airflow_environment import project_environment
from tests.airflow.running import INSTALL_SECONDS, PROJECT
from tests.etl.asking import Kit, moments
from tests.etl.conftest import MIXED
from tests.fixtures.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, KILLS = 3, 20
MILLION = 1_000_000
CHANGED = 1_500
S3_ACCOUNT = {"access_key_id": "key", "secret_access_key": "secret"}


def main() -> None:
    """Everything; about 25 minutes on a quiet machine of 2 cores."""
    with tempfile.TemporaryDirectory() as name, running_postgres(Path(name)) as postgres:
        folder = Path(name)
        _install(folder)
        url = postgres.url.replace("+asyncpg", "")
        with _s3(folder) as s3:
            _speed(folder, url, s3)
            _incremental(folder, url)
            _kills(folder, url, s3)


def _speed(folder: Path, url: str, s3: str) -> None:
    asyncio.run(_sql(url, MIXED.format(name="million", rows=MILLION)))
    ways = ("bare", "kit", "dlt", "bare-s3", "kit-s3")
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            found[way].append(_inside(folder, way, url, "million", s3))
    for way in ways:
        _say(way, found[way])
    for way, peer in (("kit", "bare"), ("kit", "dlt"), ("kit-s3", "bare-s3")):
        ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in zip(found[way], found[peer], strict=True)]
        print(f"{way}: {statistics.median(ratios):.2f} times the speed of {peer}")
    asyncio.run(_sql(url, "DROP TABLE million"))


def _incremental(folder: Path, url: str) -> None:
    """Ten million rows, then a few changes. The statement is explained as the kit writes it."""
    statements = (
        MIXED.format(name="large", rows=10 * MILLION),
        "CREATE INDEX ON large (updated_at)",
        "ANALYZE large",
    )
    for statement in statements:
        asyncio.run(_sql(url, statement))
    _say("kit, ten million rows", [_inside(folder, "kit", url, "large", "", mode="incremental", cursor="updated_at")])
    asyncio.run(
        _sql(url, f"UPDATE large SET updated_at = now() + id * interval '1 s' WHERE id % {10 * MILLION // CHANGED} = 0")
    )
    again = _inside(folder, "kit", url, "large", "", run="run-2", mode="incremental", cursor="updated_at")
    _say("kit, incremental", [again])
    print(again["plan"])


def _kills(folder: Path, url: str, s3: str) -> None:
    asyncio.run(_sql(url, MIXED.format(name="orders", rows=100_000)))
    kit, watcher = Kit(folder / "kit"), Kit(folder / "watcher")
    account = {
        "endpoint_url": s3,
        "region_name": "us-east-1",
        **{f"aws_{name}": value for name, value in S3_ACCOUNT.items()},
    }
    kit.ask(put="kills", s3=account)
    places: dict[str, tuple[Any, dict[str, Any]]] = {
        "file": (f"file://{folder}/kills/{{mode}}/", {"folder": str(folder / "kills")}),
        "s3": (
            {"type": "s3", "bucket": "kills", "prefix": "{mode}/", "endpoint_url": s3, **S3_ACCOUNT},
            {"s3": account, "bucket": "kills"},
        ),
    }
    for place, (target, seen) in places.items():
        for mode in ("full", "incremental"):
            told = _kill_loop(kit, watcher, folder, url, f"{place}-{mode}", _at(target, mode), _below(seen, mode), mode)
            print(f"kill -9, {place}, {mode}: {told}", flush=True)
    kit.stop()
    watcher.stop()


def _kill_loop(
    kit: Kit, watcher: Kit, folder: Path, url: str, name: str, target: Any, seen: dict[str, Any], mode: str
) -> str:
    more, rows = 500, 100_000
    config = {"source": url, "target": target, "tables": "orders", "mode": mode, "cursor": "updated_at"}

    def question(run: str) -> dict[str, Any]:
        return {"config": config, "run": run, "folder": str(folder / name), "local_dirs": [str(folder)]}

    stop = folder / f"{name}.stop"
    rows = asyncio.run(_value(url, "SELECT count(*) FROM orders"))
    sizes = [more, *(rows + number * more for number in range(10 * KILLS))]
    watcher.begin({"until": str(stop), "place": seen, "sizes": sizes})
    started = time.monotonic()
    kit.ask(**question("run-0"))
    longest = time.monotonic() - started
    killed = resumed = lost = doubled = tries = 0
    chance = iter(moments(seed=len(name), count=10 * KILLS, longest=1.0))
    while killed < KILLS:
        tries += 1
        add = (
            "INSERT INTO orders SELECT m + i, 1, 1, 1, 'n', NULL, true, u + i * interval '1 s', day, extra FROM orders,"
            " (SELECT max(id) AS m, max(updated_at) AS u FROM orders) AS top,"
            f" generate_series(1, {more}) i WHERE id = 1"
        )
        asyncio.run(_sql(url, add))
        killed += kit.killed_after(question(f"run-{tries}"), next(chance) * longest)
        started = time.monotonic()
        again = kit.ask(**question(f"run-{tries}"))
        if not again["resumed"]:
            longest = time.monotonic() - started
        resumed += again["resumed"]
        compared = kit.ask(url=url, query="SELECT * FROM orders", place=seen, table="orders")
        lost += len(compared["lost"])
        doubled += len(compared["doubled"])
    stop.touch()
    looks = watcher.answer()
    return (
        f"{killed} of {tries} killed, {resumed} tries went on from what was read; {lost} rows lost, {doubled} doubled;"
        f" {looks['looks']} looks saw {len(looks['wrong'])} files that were not whole"
    )


def _at(target: Any, mode: str) -> Any:
    if isinstance(target, str):
        return target.replace("{mode}", mode)
    return target | {"prefix": target["prefix"].replace("{mode}", mode)}


def _below(seen: dict[str, Any], mode: str) -> dict[str, Any]:
    return {"folder": f"{seen['folder']}/{mode}"} if "folder" in seen else {**seen, "prefix": f"{mode}/"}


def _inside(folder: Path, way: str, url: str, table: str, s3: str, **config: str) -> dict[str, Any]:
    """What one process says, which has done nothing else."""
    question = {"way": way, "url": url, "table": table, "s3": s3, "folder": str(folder / "speed"), "config": config}
    environment = project_environment(os.environ, folder) | {"PYTHONPATH": f"{PROJECT}:{ROOT}"}
    # -P: `airflow` is a module of this folder as well.
    done = subprocess.run(
        [
            str(PROJECT / ".venv" / "bin" / "python"),
            "-P",
            str(Path(__file__).with_name("etl_inside.py")),
            json.dumps(question),
        ],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _say(what: str, found: list[dict[str, Any]]) -> None:
    seconds = [item["seconds"] for item in found]
    rows = found[0]["rows"]
    middle = statistics.median(seconds)
    print(
        f"{what}: {rows:,} rows in {middle:.2f} s ({min(seconds):.2f}-{max(seconds):.2f}), {rows / middle / 1000:,.0f}k"
        f" rows/s, peak {max(item['peak_mb'] for item in found)} MB, {found[0]['bytes'] / 1e6:.1f} MB written",
        flush=True,
    )


async def _sql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, timeout=1200)
    await connection.close()


async def _value(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    value = await connection.fetchval(statement)
    await connection.close()
    return value


def _install(folder: Path) -> None:
    command = ["uv", "sync", "--quiet", "--locked", "--project", str(PROJECT)]
    subprocess.run(command, env=project_environment(os.environ, folder), check=True, timeout=INSTALL_SECONDS)


@contextmanager
def _s3(folder: Path) -> Iterator[str]:
    """An S3 server; it keeps all in its memory."""
    port = free_port()
    environment = project_environment(os.environ, folder) | {"UV_PROJECT_ENVIRONMENT": str(PROJECT / ".venv-dev")}
    command = ["uv", "run", "--quiet", "--locked", "--only-group", "dev", "--project", str(PROJECT), "python", "-c", ""]
    subprocess.run(command, env=environment, check=True, timeout=INSTALL_SECONDS, cwd=folder)
    with (folder / "s3.log").open("wb") as log:
        server = subprocess.Popen(
            [str(PROJECT / ".venv-dev" / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    time.sleep(5)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
