"""A login that fails does not tell whether the account exists (ASVS 5.0, 6.3.8).

One answer and one hash whatever is wrong, with the limits on as in production. What is measured is in
benchmarks/RESULTS.md: `python -m benchmarks login`. Names that no schema lets through are refused before a hash, as
they cannot be anybody's: tests/integration/api/test_auth.py. That a full queue of hashes is a 503 with `Retry-After` is
in the same file, and in tests/unit/test_password_service.py.
"""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.db.session_dao import SessionDAO
from pyapi.services.attempt_service import AttemptPolicy
from pyapi.utils.auth import PasswordHasher
from tests.fixtures.application import PASSWORD, Account, SignUp, assert_problem

pytestmark = pytest.mark.usefixtures("limits")

FAILURES = {
    "wrong password": {"username": "Wang", "password": "SecurePass124"},
    "another case": {"username": "Wang", "password": "sECUREpASS123"},
    "unknown user": {"username": "nobody", "password": PASSWORD},
    "closed account": {"username": "closed", "password": PASSWORD},
    "closed account, wrong password": {"username": "closed", "password": "SecurePass124"},
    "a name nobody can have": {"username": "no such name", "password": PASSWORD},
    "a name the database may take for another": {"username": "Wang\u0130", "password": PASSWORD},
    "longest name": {"username": "王" * 255, "password": PASSWORD},
    "a name as SQL": {"username": "Wang' OR '1'='1", "password": PASSWORD},
    "NUL in the password": {"username": "Wang", "password": "SecurePass123\0"},
    "longest password": {"username": "Wang", "password": "x" * 4096},
    "password that grows": {"username": "Wang", "password": "\ufb1d" * 4000},
}
whatever_is_wrong = pytest.mark.parametrize("body", FAILURES.values(), ids=FAILURES)


@pytest.fixture(autouse=True)
async def wang(sign_up: SignUp, connection: AsyncConnection) -> Account:
    """Wang; beside him there is somebody whose account is closed."""
    await sign_up("closed")
    await connection.execute(text("UPDATE pyapi_users SET is_active = false WHERE username = 'closed'"))
    return await sign_up("Wang")


async def log_in(client: httpx.AsyncClient, body: dict[str, str]) -> httpx.Response:
    return await client.post("/api/auth/login", json=body)


@whatever_is_wrong
async def test_the_body_never_says_why(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    problem = assert_problem(await log_in(client, body), 401, "invalid_credentials")
    assert problem | {"request_id": ""} == {
        "type": "urn:pyapi:problem:invalid_credentials",
        "title": "Invalid credentials",
        "status": 401,
        "detail": "The username or the password is wrong.",
        "instance": "/api/auth/login",
        "code": "invalid_credentials",
        "request_id": "",
    }


@whatever_is_wrong
async def test_the_headers_never_say_why(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    answers = [await log_in(client, each) for each in (FAILURES["wrong password"], body)]
    told, untold = [
        {name: value for name, value in answer.headers.items() if name != "x-request-id"} for answer in answers
    ]
    assert told == untold


@whatever_is_wrong
async def test_every_failure_costs_one_hash(
    client: httpx.AsyncClient, hashings: list[bytes], body: dict[str, str]
) -> None:
    await log_in(client, body)
    assert len(hashings) == 1


async def test_a_login_costs_one_hash(client: httpx.AsyncClient, hashings: list[bytes]) -> None:
    answer = await log_in(client, {"username": "Wang", "password": PASSWORD})
    assert (answer.status_code, len(hashings)) == (200, 1)


async def test_a_wrong_password_against_a_hash_of_another_cost_is_one_hash(
    client: httpx.AsyncClient, hashings: list[bytes], connection: AsyncConnection
) -> None:
    """Only the right one is hashed again."""
    dear = PasswordHasher(rounds=5).hash(PASSWORD)
    await connection.execute(text("UPDATE pyapi_users SET hashed_password = :hash"), {"hash": dear})
    hashings.clear()
    await log_in(client, FAILURES["wrong password"])
    assert len(hashings) == 1


@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the comparison of the password and the session, the account is closed or its password changed."""

    async def start(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(SessionDAO, "start", start)


@pytest.mark.usefixtures("overtaken")
async def test_a_login_that_is_overtaken_fails_like_all_others(
    client: httpx.AsyncClient, hashings: list[bytes]
) -> None:
    answer = await log_in(client, {"username": "Wang", "password": PASSWORD})
    assert_problem(answer, 401, "invalid_credentials")
    assert len(hashings) == 1


@pytest.mark.parametrize("username", ["Wang", "closed", "nobody", "no such name"])
async def test_the_refusal_after_ten_failures_tells_nothing_either(
    client: httpx.AsyncClient, limits: AttemptPolicy, username: str
) -> None:
    body = {"username": username, "password": "SecurePass124"}
    answers = [(await log_in(client, body)).status_code for _ in range(limits.wrong_passwords + 1)]
    assert answers == [401] * 10 + [429]


async def test_logins_that_fail_open_no_session(client: httpx.AsyncClient, connection: AsyncConnection) -> None:
    counted = text("SELECT (SELECT count(*) FROM pyapi_sessions), (SELECT count(*) FROM pyapi_refresh_tokens)")
    before = (await connection.execute(counted)).one()
    for body in FAILURES.values():
        await log_in(client, body)
    assert (await connection.execute(counted)).one() == before
