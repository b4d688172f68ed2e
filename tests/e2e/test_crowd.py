"""Many clients at once: everybody is answered, and the database sees no more connections than the documented ones."""

import asyncio
from pathlib import Path

import asyncpg
import httpx

from tests.conftest import NewDatabase
from tests.fixtures.servers import server_on, sign_up

CROWD = 256
READS = 1
POOL_SIZE = 10


async def most_connections(database_url: str, over: asyncio.Event) -> int:
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    counts = []
    while not over.is_set():
        counts.append(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'pyapi'"
            )
        )
        await asyncio.sleep(0.02)
    await connection.close()
    return int(max(counts))


async def test_a_crowd_is_answered_over_the_documented_connections(new_database: NewDatabase, tmp_path: Path) -> None:
    database_url, over = await new_database(), asyncio.Event()
    with server_on(database_url, tmp_path / "server", PYAPI_DATABASE_POOL_SIZE=str(POOL_SIZE)) as server:
        # Patient: on a busy machine the last of a crowd waits for many seconds, and is answered.
        async with server.client(timeout=300, limits=httpx.Limits(max_connections=CROWD)) as client:
            account = await sign_up(client, "somebody")

            async def work(number: int) -> list[int]:
                body = {"name": f"任務 {number}"}
                made = await client.post("/api/data/", json=body, headers=account.headers)
                calls = (client.get(made.headers["location"], headers=account.headers) for _ in range(READS))
                return [made.status_code, *[(await call).status_code for call in calls]]

            watching = asyncio.create_task(most_connections(database_url, over))
            found = await asyncio.gather(*map(work, range(CROWD)))
            over.set()
            most = await watching
    assert found == [[201] + [200] * READS] * CROWD
    assert most <= POOL_SIZE
