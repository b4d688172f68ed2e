"""A database that is stopped, frozen, locked, killed or cuts connections: quick answers, nothing lost, no restart."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.fixtures.application import PASSWORD, Account, assert_problem
from tests.fixtures.servers import QUICK, OwnPostgres, RunningServer, sign_up

POOL_SIZE = 10
CROWD = 3 * POOL_SIZE
RECOVERY_SECONDS = 2
CONNECTIONS = "FROM pg_stat_activity WHERE application_name = 'pyapi'"


@pytest.fixture(scope="module")
def server(own_postgres: OwnPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One worker, which is never started again, whatever happens to its database."""
    settings = {
        "DATABASE_URL": own_postgres.url,
        "PYAPI_DATABASE_POOL_SIZE": str(POOL_SIZE),
        **QUICK,
    }
    server = RunningServer(tmp_path_factory.mktemp("away") / "server", settings)
    try:
        yield server.wait_until_live()
    finally:
        server.clean_up()


@pytest.fixture(scope="module")
async def client(server: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client(limits=httpx.Limits(max_connections=None)) as client:
        yield client


@pytest.fixture(scope="module")
async def account(client: httpx.AsyncClient) -> Account:
    return await sign_up(client, "somebody")


@pytest.fixture(scope="module")
async def record_id(client: httpx.AsyncClient, account: Account) -> int:
    answer = await client.post("/api/data/", json={"name": "每日同步"}, headers=account.headers)
    return int(answer.json()["id"])


async def seconds_until_200(client: httpx.AsyncClient, path: str) -> float:
    started = time.monotonic()
    while (await client.get(path)).status_code != 200:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return time.monotonic() - started


# --- stopped and frozen -----------------------------------------------------------------------------------------------

NEEDS_DATABASE = {
    "list": ("GET", "/api/data/", None),
    "read": ("GET", "/api/data/{id}", None),
    "create": ("POST", "/api/data/", {"name": "新的"}),
    "change": ("PUT", "/api/data/{id}", {"description": "改"}),
    "delete": ("DELETE", "/api/data/{id}", None),
    "me": ("GET", "/api/auth/me", None),
    "login": ("POST", "/api/auth/login", {"username": "somebody", "password": PASSWORD}),
    "refresh": ("POST", "/api/auth/refresh", {"refresh_token": "any"}),
    "register": (
        "POST",
        "/api/auth/register",
        {"username": "other", "email": "other@example.com", "password": PASSWORD},
    ),
}
SYSTEM = {"live": "/api/health/live", "health": "/api/health", "ready": "/api/health/ready"}
Answers = dict[str, httpx.Response]


@dataclass(frozen=True)
class Outage:
    """What was answered while the database was away: with connections in the pool, and then, to a crowd, without."""

    waves: tuple[Answers, Answers]
    recovery_seconds: float


@pytest.fixture(scope="module", params=["stopped", "frozen"])
async def outage(
    request: pytest.FixtureRequest,
    own_postgres: OwnPostgres,
    client: httpx.AsyncClient,
    account: Account,
    record_id: int,
) -> Outage:
    async def ask(*, readers: int) -> Answers:
        calls = {name: client.get(path) for name, path in SYSTEM.items()}
        calls |= {f"reader {number}": client.get("/api/data/") for number in range(readers)}
        for name, (method, path, body) in NEEDS_DATABASE.items():
            calls[name] = client.request(method, path.format(id=record_id), json=body, headers=account.headers)
        return dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))

    begin, end = {
        "stopped": (own_postgres.stop, own_postgres.start),
        "frozen": (own_postgres.freeze, own_postgres.thaw),
    }[request.param]
    await asyncio.gather(*(client.get("/api/data/") for _ in range(CROWD)))  # fills the pool
    begin()
    try:
        waves = (await ask(readers=0), await ask(readers=CROWD))
    finally:
        end()
    return Outage(waves, await seconds_until_200(client, "/api/health"))


@pytest.mark.parametrize("wave", [0, 1])
@pytest.mark.parametrize("name", NEEDS_DATABASE)
def test_what_needs_the_database_is_refused(outage: Outage, name: str, wave: int) -> None:
    response = outage.waves[wave][name]

    assert_problem(response, 503, "database_unavailable")
    assert int(response.headers["retry-after"]) > 0


def test_a_crowd_is_refused(outage: Outage) -> None:
    assert {outage.waves[1][f"reader {number}"].status_code for number in range(CROWD)} == {503}


@pytest.mark.parametrize("wave", [0, 1])
def test_nobody_waits_longer_than_three_seconds(outage: Outage, server: RunningServer, wave: int) -> None:
    seconds = {name: server.seconds(response) for name, response in outage.waves[wave].items()}

    assert {name: waited for name, waited in seconds.items() if waited > 3} == {}


@pytest.mark.parametrize("name", ["health", "ready"])
def test_health_says_so(outage: Outage, name: str) -> None:
    response = outage.waves[0][name]

    assert (response.status_code, response.json()["components"]) == (503, {"database": "unavailable"})
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("wave", [0, 1])
@pytest.mark.parametrize("name", ["health", "ready"])
def test_health_says_so_within_two_seconds(outage: Outage, server: RunningServer, name: str, wave: int) -> None:
    assert server.seconds(outage.waves[wave][name]) <= 2


def test_the_process_is_alive_meanwhile(outage: Outage) -> None:
    assert outage.waves[0]["live"].status_code == 200


def test_it_recovers_alone(outage: Outage) -> None:
    assert outage.recovery_seconds <= RECOVERY_SECONDS


# --- a locked table ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lock:
    """What was answered while nobody could read the records."""

    readers: list[httpx.Response]
    others: Answers
    connections: int
    recovery_seconds: float


WITHOUT_RECORDS = {
    "login": ("POST", "/api/auth/login", 200),
    "me": ("GET", "/api/auth/me", 200),
    "health": ("GET", "/api/health", 200),
    "live": ("GET", "/api/health/live", 200),
    "bad token": ("GET", "/api/data/", 401),
    "nowhere": ("GET", "/api/nothing", 404),
}


@pytest.fixture(scope="module")
async def lock(own_postgres: OwnPostgres, client: httpx.AsyncClient, account: Account) -> Lock:
    """A crowd of readers before a table that is locked, and what else is asked in the middle of that."""

    async def others() -> Answers:
        await asyncio.sleep(1)
        bodies = {"login": {"username": "somebody", "password": PASSWORD}}
        headers = {"me": account.headers, "bad token": {"Authorization": "Bearer bad"}}
        calls = {
            name: client.request(method, path, json=bodies.get(name), headers=headers.get(name))
            for name, (method, path, _) in WITHOUT_RECORDS.items()
        }
        return dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))

    async def most_connections() -> int:
        async with own_postgres.connection() as connection:
            counts = []
            for _ in range(30):
                counts.append(await connection.fetchval(f"SELECT count(*) {CONNECTIONS}"))
                await asyncio.sleep(0.1)
        return int(max(counts))

    async with own_postgres.connection() as locker, locker.transaction():
        await locker.execute("LOCK TABLE pyapi_data_records IN ACCESS EXCLUSIVE MODE")
        readers = asyncio.gather(*(client.get("/api/data/") for _ in range(CROWD)))
        answers = await asyncio.gather(readers, others(), most_connections())
    return Lock(*answers, await seconds_until_200(client, "/api/data/"))


def test_readers_of_a_locked_table_are_refused(lock: Lock) -> None:
    assert {response.status_code for response in lock.readers} == {503}


def test_readers_of_a_locked_table_wait_three_seconds_at_most(lock: Lock, server: RunningServer) -> None:
    assert max(map(server.seconds, lock.readers)) <= 3


@pytest.mark.parametrize("name", WITHOUT_RECORDS)
def test_what_needs_no_record_goes_on(lock: Lock, name: str) -> None:
    assert lock.others[name].status_code == WITHOUT_RECORDS[name][2]


@pytest.mark.parametrize("name", WITHOUT_RECORDS)
def test_what_needs_no_record_hardly_waits(lock: Lock, server: RunningServer, name: str) -> None:
    assert server.seconds(lock.others[name]) <= 1


def test_never_more_connections_than_documented(lock: Lock) -> None:
    assert lock.connections <= POOL_SIZE


def test_the_lock_is_forgotten_at_once(lock: Lock) -> None:
    assert lock.recovery_seconds <= RECOVERY_SECONDS


# --- lost connections -------------------------------------------------------------------------------------------------


async def test_connections_cut_while_idle_cost_no_read(own_postgres: OwnPostgres, client: httpx.AsyncClient) -> None:
    statuses = []
    for _ in range(5):
        await asyncio.gather(*(client.get("/api/data/") for _ in range(CROWD)))
        async with own_postgres.connection() as connection:
            assert await connection.fetchval(f"SELECT count(pg_terminate_backend(pid)) {CONNECTIONS}") > 0
        await asyncio.sleep(0.1)  # idle
        answers = await asyncio.gather(*(client.get("/api/data/") for _ in range(CROWD)))
        statuses += [answer.status_code for answer in answers]

    assert statuses == [200] * 5 * CROWD


# --- a crash ----------------------------------------------------------------------------------------------------------


@dataclass
class Journal:
    """What writers were told: names of records by status."""

    told: dict[str, int]
    stored: dict[str, int]
    """How often a name is in the table."""

    def names(self, status: int) -> list[str]:
        return [name for name, told in self.told.items() if told == status]


@pytest.fixture(scope="module")
async def journal(own_postgres: OwnPostgres, client: httpx.AsyncClient, account: Account) -> Journal:
    """Writers that go on while the server is killed and started again."""
    told: dict[str, int] = {}
    over = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not over.is_set():
            name = f"writer {writer} record {number}"
            number += 1
            answer = await client.post("/api/data/", json={"name": name}, headers=account.headers)
            told[name] = answer.status_code

    writers = [asyncio.create_task(write(number)) for number in range(8)]
    await asyncio.sleep(0.5)
    own_postgres.kill()
    await asyncio.sleep(0.5)
    own_postgres.start()
    await seconds_until_200(client, "/api/health")
    await asyncio.sleep(0.3)
    over.set()
    await asyncio.gather(*writers)
    async with own_postgres.connection() as connection:
        rows = await connection.fetch("SELECT name, count(*) FROM pyapi_data_records GROUP BY name")
    return Journal(told, dict(rows))


def test_a_crash_is_told_as_503_and_nothing_else(journal: Journal) -> None:
    assert set(journal.told.values()) == {201, 503}


def test_acknowledged_writes_survive_a_crash(journal: Journal) -> None:
    assert [name for name in journal.names(201) if journal.stored.get(name) != 1] == []


def test_no_write_is_done_twice(journal: Journal) -> None:
    assert {name: count for name, count in journal.stored.items() if count > 1} == {}
