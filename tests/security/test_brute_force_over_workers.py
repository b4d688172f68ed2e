"""What test_brute_force.py promises is exact over worker processes, survives them, and holds whatever a client forges.

(ASVS 5.0, 6.1.1 and 6.3.1; for `X-Forwarded-For` RFC 7239, 8.1: only what a proxy of our own has written counts.)
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count

import asyncpg
import httpx
import pytest

from tests.conftest import NewDatabase
from tests.fixtures.application import PASSWORD, assert_problem
from tests.fixtures.servers import GUNICORN, PYAPI, QUICK, UVICORN, RunningServer, StartServer

WRONG = "SecurePass124"
WORKERS = 4
ROUNDS = 10
CROWD = 30
LIMITED = {**QUICK, "PYAPI_RATE_LIMIT_ENABLED": "true", "PYAPI_LOGIN_MAX_PER_MINUTE": "1000"}
_addresses = (f"198.51.100.{number}" for number in count(1))


@pytest.fixture(scope="module")
async def database(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Four workers that count. The tests are a proxy that the server trusts: each has addresses of its own."""
    settings = {**LIMITED, "DATABASE_URL": database, "PYAPI_WORKERS_COUNT": str(WORKERS)}
    server = RunningServer(tmp_path_factory.mktemp("limited") / "server", settings)
    try:
        yield server.wait_until_live()
    finally:
        server.clean_up()


@pytest.fixture(scope="module")
async def clients(server: RunningServer) -> AsyncIterator[list[httpx.AsyncClient]]:
    """One for each worker, with connections enough for its part of a crowd."""
    async with AsyncExitStack() as stack:
        clients = []
        for worker in server.workers():
            with server.answered_by(worker) as client:
                await asyncio.gather(*(client.get("/api/health/live") for _ in range(CROWD // WORKERS + 1)))
                stack.push_async_callback(client.aclose)
                clients.append(client)
        yield clients


@pytest.fixture
def address() -> str:
    return next(_addresses)


def via(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def open_account(client: httpx.AsyncClient, username: str) -> None:
    body = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
    answer = await client.post("/api/auth/register", json=body, headers=via(next(_addresses)))
    assert answer.status_code == 201, answer.text


async def log_in(client: httpx.AsyncClient, username: str, address: str, password: str = WRONG) -> httpx.Response:
    body = {"username": username, "password": password}
    return await client.post("/api/auth/login", json=body, headers=via(address))


def statuses(answers: list[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


# --- exact over workers and restarts ---


async def test_of_thirty_at_once_over_four_workers_ten_pass(clients: list[httpx.AsyncClient]) -> None:
    rounds = []
    for number in range(ROUNDS):
        address = next(_addresses)
        crowd = (log_in(clients[n % WORKERS], f"crowd_{number}", address) for n in range(CROWD))
        rounds.append(statuses(await asyncio.gather(*crowd)))
    assert rounds == [[401] * 10 + [429] * 20] * ROUNDS


async def test_of_many_accounts_at_once_over_four_workers_a_hundred_pass(
    clients: list[httpx.AsyncClient], address: str
) -> None:
    answers = []
    for start in range(0, 120, CROWD):
        crowd = (log_in(clients[n % WORKERS], f"sprayed_{n}", address) for n in range(start, start + CROWD))
        answers += await asyncio.gather(*crowd)
    assert statuses(answers) == [401] * 100 + [429] * 20


async def test_of_registrations_at_once_over_four_workers_twenty_pass(
    clients: list[httpx.AsyncClient], address: str
) -> None:
    async def register(number: int) -> httpx.Response:
        body = {"username": f"mass_{number}", "email": f"mass_{number}@example.com", "password": PASSWORD}
        return await clients[number % WORKERS].post("/api/auth/register", json=body, headers=via(address))

    assert statuses(await asyncio.gather(*map(register, range(CROWD)))) == [201] * 20 + [429] * 10


async def test_right_passwords_in_the_crowd_lock_nobody_out(clients: list[httpx.AsyncClient], address: str) -> None:
    await open_account(clients[0], "in_a_crowd")
    crowd = [log_in(clients[n % WORKERS], "in_a_crowd", address, PASSWORD) for n in range(10)]
    assert statuses(await asyncio.gather(*crowd)) == [200] * 10


async def test_the_count_outlives_the_server(
    clients: list[httpx.AsyncClient], database: str, start_server: StartServer, address: str
) -> None:
    """Killed, not stopped: nothing is written at the end."""
    settings = {**LIMITED, "DATABASE_URL": database, "SECRET_KEY": "the-same-for-both-Zk3v-9sQhW1xT7uB_eYc5LrJ0aM"}
    await open_account(clients[0], "outlived")
    first = start_server(settings=settings)
    async with first.client() as client:
        assert statuses([await log_in(client, "outlived", address) for _ in range(10)]) == [401] * 10
    first.kill()
    async with start_server(settings=settings).client() as client:
        assert (await log_in(client, "outlived", address, PASSWORD)).status_code == 429


async def test_without_its_count_the_service_lets_nobody_in(
    clients: list[httpx.AsyncClient], database: str, address: str
) -> None:
    await open_account(clients[0], "uncounted")
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE pyapi_attempts IN ACCESS EXCLUSIVE MODE")
            answer = await log_in(clients[0], "uncounted", address, PASSWORD)
    finally:
        await connection.close()
    assert_problem(answer, 503, "database_unavailable")
    assert answer.headers["retry-after"] == "2"


# --- forged addresses ---

NAMED = "127.0.0.1"
STRANGER = "127.0.0.2"
TRUSTED = f"{NAMED},192.0.2.0/24"
SERVERS = {"python -m pyapi": PYAPI, "uvicorn": UVICORN, "gunicorn": (*GUNICORN, "--workers", "2")}


@pytest.fixture(scope="module", params=SERVERS)
async def behind_proxies(
    request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningServer]:
    """A server that takes two wrong passwords, and trusts one machine and one network of proxies."""
    settings = {
        **LIMITED,
        "DATABASE_URL": await new_database(),
        "PYAPI_LOGIN_MAX_FAILURES": "2",
        "PYAPI_FORWARDED_ALLOW_IPS": TRUSTED,
        "FORWARDED_ALLOW_IPS": TRUSTED,  # the other two commands have this option of their own
    }
    server = RunningServer(tmp_path_factory.mktemp("proxied") / "server", settings, command=SERVERS[request.param])
    try:
        yield server.wait_until_live()
    finally:
        server.clean_up()


async def try_thrice(server: RunningServer, username: str, *, peer: str, forwarded: list[str]) -> list[int]:
    """Log in from `peer` with a wrong password, each time with another header."""
    transport = httpx.AsyncHTTPTransport(local_address=peer)
    async with httpx.AsyncClient(base_url=server.url, transport=transport, timeout=30) as client:
        return [(await log_in(client, username, address)).status_code for address in forwarded]


async def test_a_stranger_cannot_choose_an_address(behind_proxies: RunningServer) -> None:
    forged = ["203.0.113.1", "203.0.113.2", NAMED]
    assert await try_thrice(behind_proxies, "forger", peer=STRANGER, forwarded=forged) == [401, 401, 429]


async def test_what_a_client_wrote_before_the_proxy_does_not_count(behind_proxies: RunningServer) -> None:
    forged = ["203.0.113.1, 203.0.113.9", "203.0.113.2, 203.0.113.9", "192.0.2.1, 203.0.113.9"]
    assert await try_thrice(behind_proxies, "behind_one", peer=NAMED, forwarded=forged) == [401, 401, 429]


async def test_proxies_between_do_not_count(behind_proxies: RunningServer) -> None:
    hops = ["203.0.113.9, 192.0.2.1", "203.0.113.9, 192.0.2.2", "1.1.1.1, 203.0.113.9, 192.0.2.3, 192.0.2.4"]
    assert await try_thrice(behind_proxies, "behind_two", peer=NAMED, forwarded=hops) == [401, 401, 429]


async def test_clients_of_one_proxy_are_told_apart(behind_proxies: RunningServer) -> None:
    clients = ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
    assert await try_thrice(behind_proxies, "of_many", peer=NAMED, forwarded=clients) == [401, 401, 401]
