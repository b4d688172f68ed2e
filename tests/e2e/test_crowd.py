"""Many clients at once: everybody is answered, and the database sees no more connections than the documented ones."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import httpx

from tests.conftest import NewDatabase
from tests.fixtures.servers import RunningServer, server_on, sign_up

CROWD = 256
BURST = 400
LATER_SECONDS = 0.02
OTHERS = 20
"""Files that a worker may open or close meanwhile: connections to the database."""
POOL_SIZE = 10
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pyapi'"


async def test_a_crowd_is_answered_over_the_documented_connections(new_database: NewDatabase, tmp_path: Path) -> None:
    database_url, counts = await new_database(), list[int]()
    with server_on(database_url, tmp_path / "server", PYAPI_DATABASE_POOL_SIZE=str(POOL_SIZE)) as server:
        # Patient: on a busy machine the last of a crowd waits for many seconds, and is answered.
        async with server.client(timeout=300, limits=httpx.Limits(max_connections=CROWD)) as client:
            account = await sign_up(client, "somebody")

            async def write_and_read(number: int) -> tuple[int, int]:
                body = {"name": f"任務 {number}"}
                made = await client.post("/api/data/", json=body, headers=account.headers)
                read = await client.get(made.headers.get("location", "/"), headers=account.headers)
                return made.status_code, read.status_code

            watcher = await asyncpg.connect(database_url.replace("+asyncpg", ""))
            crowd = asyncio.gather(*map(write_and_read, range(CROWD)))
            while not crowd.done():
                counts.append(await watcher.fetchval(COUNT))
            await watcher.close()
    assert await crowd == [(201, 200)] * CROWD
    assert max(counts) <= POOL_SIZE


def test_workers_share_a_burst_of_connections(shared_server: RunningServer) -> None:
    """The second worker comes a little later than the first, as it happens, and still gets its part."""
    workers = shared_server.workers()
    before = {worker: open_files(worker) for worker in workers}

    def taken(worker: int) -> int:
        return open_files(worker) - before[worker]

    with ExitStack() as burst:
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        for _ in range(BURST):
            burst.enter_context(socket.create_connection(("127.0.0.1", shared_server.port)))
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
            time.sleep(LATER_SECONDS)
        wait_until(lambda: sum(map(taken, workers)) >= BURST - OTHERS)
        assert min(map(taken, workers)) > OTHERS  # how much each gets is the scheduler's affair on a busy machine


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
