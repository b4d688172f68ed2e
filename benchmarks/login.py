"""What a failed login tells by the time it takes, and what counting attempts costs.

`uv run python -m benchmarks login` prints two tables; it takes about three minutes.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx

from benchmarks.server import Postgres, running_postgres, service_on

ROUNDS = 200
WARM_UP = 3
MOST_DIFFERENCE_MS = 5.0
PASSWORD, WRONG = "SecurePass123", "SecurePass124"
UNLIMITED = {"PYAPI_RATE_LIMIT_ENABLED": "false"}
COUNTED = {"PYAPI_LOGIN_MAX_FAILURES": "1000", "PYAPI_LOGIN_MAX_FAILURES_PER_ADDRESS": "100000"}
QUICK_HASH = {"PYAPI_PASSWORD_HASH_ROUNDS": "4"}

ATTEMPTS = {
    "wrong password": {"username": "Wang", "password": WRONG},
    "unknown user": {"username": "nobody", "password": WRONG},
    "closed account, right password": {"username": "closed", "password": PASSWORD},
    "a name nobody can have": {"username": "no such name", "password": WRONG},
}
"""Each round sends all of them, one after the other, so that whatever the machine does besides meets all alike."""


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder, running_postgres(Path(folder)) as postgres:
        times = oracle(postgres, Path(folder))
        without, counted = (count_cost(postgres, Path(folder), limits) for limits in (UNLIMITED, COUNTED))
    first = min(times["wrong password"])
    print(f"{ROUNDS} rounds of all four, one after the other, bcrypt cost 12")
    print("| login | minimum, ms | against a wrong password | median, ms |")
    print("|---|---|---|---|")
    for attempt, taken in times.items():
        print(f"| {attempt} | {min(taken):.1f} | {min(taken) - first:+.2f} | {statistics.median(taken):.1f} |")
    fastest = [min(taken) for taken in times.values()]
    spread = max(fastest) - min(fastest)
    print(f"\ndifference of minima {spread:.2f} ms (asked: under {MOST_DIFFERENCE_MS:.0f} ms)")
    print("\n| failed login with bcrypt cost 4 | minimum, ms | median, ms |")
    print("|---|---|---|")
    for name, taken in (("not counted", without), ("counted", counted)):
        print(f"| {name} | {min(taken):.1f} | {statistics.median(taken):.1f} |")


def oracle(postgres: Postgres, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of each kind of failed login."""
    with (
        service_on(postgres, folder, UNLIMITED) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        for username in ("Wang", "closed"):
            body = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
            client.post("/api/auth/register", json=body).raise_for_status()
        close_account(postgres)
        for body in list(ATTEMPTS.values()) * WARM_UP:
            milliseconds(client, body)
        rounds = [[milliseconds(client, body) for body in ATTEMPTS.values()] for _ in range(ROUNDS)]
    return dict(zip(ATTEMPTS, map(list, zip(*rounds, strict=True)), strict=True))


def count_cost(postgres: Postgres, folder: Path, limits: dict[str, str]) -> list[float]:
    """Milliseconds of failed logins whose hash costs next to nothing."""
    settings = limits | QUICK_HASH
    with (
        service_on(postgres, folder, settings) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        return [milliseconds(client, ATTEMPTS["unknown user"]) for _ in range(ROUNDS)]


def close_account(postgres: Postgres) -> None:
    """As an administrator would."""

    async def close() -> None:
        connection = await asyncpg.connect(postgres.url.replace("+asyncpg", ""))
        await connection.execute("UPDATE pyapi_users SET is_active = false WHERE username = 'closed'")
        await connection.close()

    asyncio.run(close())


def milliseconds(client: httpx.Client, body: dict[str, str]) -> float:
    """How long the answer to a login that fails takes."""
    started = time.perf_counter()
    answer = client.post("/api/auth/login", json=body)
    taken = (time.perf_counter() - started) * 1000
    if answer.status_code != 401:
        raise AssertionError(answer.text)
    return taken


if __name__ == "__main__":
    main()
