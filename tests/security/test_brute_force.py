"""Passwords cannot be tried without end, and nobody is locked out by somebody else (ASVS 5.0, 6.1.1 and 6.3.1).

At most 10 wrong passwords for an account from an address within 15 minutes, then 429 with `Retry-After`, also for the
right one. 100 from an address whatever the account, 60 logins a minute, and 20 registrations an hour. Another address
is never concerned.
What the count is across processes is in test_brute_force_over_workers.py.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pyapi.services.attempt_service import AttemptPolicy, network_of
from pyapi.services.password_service import PasswordService
from pyapi.utils.auth import PasswordHasher
from tests.fixtures.application import PASSWORD, Account, SignUp, assert_problem

WRONG = "SecurePass124"
HERE, ELSEWHERE = "203.0.113.5", "203.0.113.6"
MINUTES = 15

At = Callable[[str], httpx.AsyncClient]


@pytest.fixture
async def at(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[At]:
    """A client at an address."""
    async with AsyncExitStack() as stack:
        known: dict[str, httpx.AsyncClient] = {}

        def at(address: str) -> httpx.AsyncClient:
            if address not in known:
                transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
                known[address] = httpx.AsyncClient(transport=transport, base_url="http://test")
                stack.push_async_callback(known[address].aclose)
            return known[address]

        yield at


@pytest.fixture
def here(at: At) -> httpx.AsyncClient:
    return at(HERE)


@pytest.fixture
async def wang(sign_up: SignUp, limits: AttemptPolicy) -> Account:
    return await sign_up("Wang")


async def log_in(client: httpx.AsyncClient, username: str = "Wang", password: str = PASSWORD) -> httpx.Response:
    return await client.post("/api/auth/login", json={"username": username, "password": password})


async def fail(client: httpx.AsyncClient, times: int, username: str = "Wang") -> list[int]:
    return [(await log_in(client, username, WRONG)).status_code for _ in range(times)]


async def let_pass(connection: AsyncConnection, seconds: float) -> None:
    """Everything that was counted was so much earlier."""
    earlier = "ARRAY(SELECT moment - make_interval(secs => :seconds) FROM unnest(moments) AS moment)"
    statement = (
        f"UPDATE pyapi_attempts SET moments = {earlier}, expires_at = expires_at - make_interval(secs => :seconds)"
    )
    await connection.execute(text(statement), {"seconds": seconds})


async def rows(connection: AsyncConnection) -> list[str]:
    return list((await connection.execute(text("SELECT to_jsonb(a)::text FROM pyapi_attempts a"))).scalars())


# --- the limit of an account at an address ---


async def test_the_eleventh_wrong_password_is_one_too_many(here: httpx.AsyncClient, wang: Account) -> None:
    assert await fail(here, 12) == [401] * 10 + [429] * 2


async def test_the_refusal_says_when_to_come_back(here: httpx.AsyncClient, wang: Account) -> None:
    await fail(here, 10)
    answer = await log_in(here)
    assert_problem(answer, 429, "too_many_requests")
    assert MINUTES * 60 - 30 < int(answer.headers["retry-after"]) <= MINUTES * 60


async def test_the_right_password_is_refused_as_well(here: httpx.AsyncClient, wang: Account) -> None:
    """Otherwise the answer would tell which password it is."""
    await fail(here, 10)
    assert (await log_in(here)).status_code == 429


async def test_what_is_refused_costs_no_hash(here: httpx.AsyncClient, wang: Account, hashings: list[bytes]) -> None:
    await fail(here, 15)
    assert len(hashings) == 10


async def test_another_address_is_not_locked_out(at: At, wang: Account) -> None:
    await fail(at(HERE), 11)
    assert (await log_in(at(ELSEWHERE))).status_code == 200


async def test_another_account_is_not_locked_out(here: httpx.AsyncClient, wang: Account, sign_up: SignUp) -> None:
    await sign_up("Zhang")
    await fail(here, 11)
    assert (await log_in(here, "Zhang")).status_code == 200


async def test_the_right_password_in_time_makes_the_count_zero(here: httpx.AsyncClient, wang: Account) -> None:
    for _ in range(2):
        await fail(here, 9)
        assert (await log_in(here)).status_code == 200


@pytest.mark.parametrize("seconds_early", [0, 5])
async def test_retry_after_is_when_there_is_room(
    here: httpx.AsyncClient, wang: Account, connection: AsyncConnection, seconds_early: int
) -> None:
    await fail(here, 10)
    seconds = int((await log_in(here)).headers["retry-after"])
    await let_pass(connection, seconds - seconds_early)
    assert (await log_in(here)).status_code == (429 if seconds_early else 200)


async def test_the_window_slides(here: httpx.AsyncClient, wang: Account, connection: AsyncConnection) -> None:
    """Three at first and seven ten minutes later: after 15 minutes there is room for three, not for ten."""
    await fail(here, 3)
    await let_pass(connection, 600)
    await fail(here, 7)
    await let_pass(connection, 301)
    assert await fail(here, 5) == [401] * 3 + [429] * 2


async def test_whoever_goes_on_trying_does_not_wait_longer(
    here: httpx.AsyncClient, wang: Account, connection: AsyncConnection
) -> None:
    await fail(here, 10)
    await let_pass(connection, 600)
    await fail(here, 5)
    await let_pass(connection, 301)
    assert (await log_in(here)).status_code == 200


@pytest.mark.parametrize("spelling", ["wang", "WANG", "wANG"])
async def test_spellings_of_a_name_are_one_account(here: httpx.AsyncClient, wang: Account, spelling: str) -> None:
    await fail(here, 10)
    assert await fail(here, 1, spelling) == [429]


@pytest.mark.parametrize("is_known", [True, False])
async def test_no_odd_letter_tells_whether_there_is_an_account(
    here: httpx.AsyncClient, sign_up: SignUp, limits: AttemptPolicy, is_known: bool
) -> None:
    """PostgreSQL takes a dotted capital I for a small i, in most of its locales; Python does not."""
    if is_known:
        await sign_up("wili")
    await fail(here, 10, "wili")
    assert await fail(here, 1, "wİlİ") == [401]


async def test_no_odd_letter_is_another_way_to_an_account(
    here: httpx.AsyncClient, sign_up: SignUp, limits: AttemptPolicy
) -> None:
    """Its password would be tried under two counts."""
    await sign_up("wili")
    assert (await log_in(here, "wİlİ")).status_code == 401


async def test_a_name_that_nobody_has_is_limited_alike(here: httpx.AsyncClient, limits: AttemptPolicy) -> None:
    assert await fail(here, 11, "nobody") == [401] * 10 + [429]


async def test_a_closed_account_is_limited_alike(
    here: httpx.AsyncClient, wang: Account, connection: AsyncConnection
) -> None:
    await connection.execute(text("UPDATE pyapi_users SET is_active = false"))
    answers = [(await log_in(here)).status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]


# --- what an address is ---

NETWORKS = [
    ("203.0.113.5", "203.0.113.5"),
    ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
    ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
    ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
    ("::ffff:203.0.113.5", "203.0.113.5"),
    ("fe80::1%eth0", "fe80::/64"),
    ("::1", "::/64"),
    ("unknown", "unknown"),
    ("", ""),
    (None, ""),
]


@pytest.mark.parametrize(("address", "network"), NETWORKS)
def test_what_counts_as_one_address(address: str | None, network: str) -> None:
    assert network_of(address) == network


async def test_the_addresses_of_a_household_count_together(at: At, wang: Account) -> None:
    answers = [await fail(at(f"2001:db8:0:1::{number}"), 1) for number in range(1, 12)]
    assert answers == [[401]] * 10 + [[429]]


# --- the limit of an address ---


@pytest.fixture
def three_of_all(app: FastAPI, limits: AttemptPolicy) -> None:
    """Three wrong passwords from an address."""
    app.state.attempt_policy = replace(limits, wrong_passwords_per_address=3)


def test_an_address_has_a_hundred_wrong_passwords(limits: AttemptPolicy) -> None:
    assert limits.wrong_passwords_per_address == 100


async def test_one_password_cannot_be_tried_on_all_accounts(
    here: httpx.AsyncClient, wang: Account, three_of_all: None
) -> None:
    answers = [await fail(here, 1, f"user_{number}") for number in range(5)]
    assert answers == [[401]] * 3 + [[429]] * 2


async def test_an_account_of_one_s_own_does_not_help(
    here: httpx.AsyncClient, wang: Account, three_of_all: None
) -> None:
    """The right password of one account takes back that attempt, and none on others."""
    for number in range(3):
        await fail(here, 1, f"user_{number}")
        if number < 2:
            assert (await log_in(here)).status_code == 200
    assert await fail(here, 1, "user_3") == [429]


async def test_right_passwords_are_not_counted(here: httpx.AsyncClient, wang: Account, three_of_all: None) -> None:
    assert [(await log_in(here)).status_code for _ in range(6)] == [200] * 6


async def test_what_the_account_s_limit_refuses_is_not_counted_for_the_address(
    here: httpx.AsyncClient, app: FastAPI, wang: Account, limits: AttemptPolicy
) -> None:
    app.state.attempt_policy = replace(limits, wrong_passwords=1, wrong_passwords_per_address=3)
    await fail(here, 5)
    assert await fail(here, 1, "somebody") == [401]


# --- all passwords of an address ---


@pytest.fixture
def three_a_minute(app: FastAPI, limits: AttemptPolicy) -> None:
    app.state.attempt_policy = replace(limits, passwords_per_minute=3)


def test_an_address_has_sixty_logins_a_minute(limits: AttemptPolicy) -> None:
    assert limits.passwords_per_minute == 60


async def test_right_passwords_are_limited_too(here: httpx.AsyncClient, wang: Account, three_a_minute: None) -> None:
    """Each costs a hash: with an account of one's own, all others would wait."""
    assert [(await log_in(here)).status_code for _ in range(4)] == [200] * 3 + [429]


async def test_the_current_password_is_limited_alike(
    here: httpx.AsyncClient, wang: Account, three_a_minute: None
) -> None:
    answers = [await make_token(here, wang, PASSWORD) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201] * 3 + [429]


async def test_a_minute_later_there_is_room(
    here: httpx.AsyncClient, wang: Account, three_a_minute: None, connection: AsyncConnection
) -> None:
    for _ in range(4):
        answer = await log_in(here)
    assert 55 < int(answer.headers["retry-after"]) <= 60
    await let_pass(connection, int(answer.headers["retry-after"]))
    assert (await log_in(here)).status_code == 200


async def test_elsewhere_logins_go_on(at: At, wang: Account, three_a_minute: None) -> None:
    for _ in range(4):
        await log_in(at(HERE))
    assert (await log_in(at(ELSEWHERE))).status_code == 200


# --- registrations ---


def registration(number: int, password: str = PASSWORD) -> dict[str, str]:
    return {"username": f"new_{number}", "email": f"new_{number}@example.com", "password": password}


async def test_an_address_registers_twenty_times_an_hour(here: httpx.AsyncClient, limits: AttemptPolicy) -> None:
    answers = [await here.post("/api/auth/register", json=registration(number)) for number in range(21)]
    assert [answer.status_code for answer in answers] == [201] * 20 + [429]


@pytest.fixture
def two_registrations(app: FastAPI, limits: AttemptPolicy) -> None:
    app.state.attempt_policy = replace(limits, registrations=2)


@pytest.mark.parametrize(("body", "status"), [(registration(0), 409), (registration(1, "password"), 422)])
async def test_a_registration_that_fails_counts_too(
    here: httpx.AsyncClient, two_registrations: None, body: dict[str, str], status: int
) -> None:
    """It says whether a name is taken."""
    await here.post("/api/auth/register", json=registration(0))
    answers = [await here.post("/api/auth/register", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, 429]


async def test_registrations_can_be_made_an_hour_later(
    here: httpx.AsyncClient, two_registrations: None, connection: AsyncConnection
) -> None:
    for number in range(3):
        answer = await here.post("/api/auth/register", json=registration(number))
    assert 3570 < int(answer.headers["retry-after"]) <= 3600
    await let_pass(connection, int(answer.headers["retry-after"]))
    assert (await here.post("/api/auth/register", json=registration(3))).status_code == 201


async def test_registrations_elsewhere_go_on(at: At, two_registrations: None) -> None:
    for number in range(3):
        await at(HERE).post("/api/auth/register", json=registration(number))
    assert (await at(ELSEWHERE).post("/api/auth/register", json=registration(3))).status_code == 201


# --- a stolen access token finds no password ---


async def change_password(client: httpx.AsyncClient, account: Account, password: str) -> httpx.Response:
    body = {"current_password": password, "new_password": "另一組更長的密碼 2026"}
    return await client.post("/api/auth/change-password", json=body, headers=account.headers)


async def change_address(client: httpx.AsyncClient, account: Account, password: str) -> httpx.Response:
    body = {"current_password": password, "email": "another@example.com"}
    return await client.put("/api/auth/me", json=body, headers=account.headers)


async def make_token(client: httpx.AsyncClient, account: Account, password: str) -> httpx.Response:
    body = {"name": "x", "scopes": ["data:read"], "current_password": password}
    return await client.post("/api/auth/tokens", json=body, headers=account.headers)


asked_for_the_password = pytest.mark.parametrize("ask", [change_password, change_address, make_token])


@asked_for_the_password
async def test_the_current_password_is_no_oracle(
    here: httpx.AsyncClient, wang: Account, ask: Callable[..., object]
) -> None:
    answers = [await ask(here, wang, WRONG) for _ in range(10)]  # type: ignore[misc]
    assert [answer.status_code for answer in answers] == [422] * 10
    assert_problem(await ask(here, wang, PASSWORD), 429, "too_many_requests")  # type: ignore[misc]


@asked_for_the_password
async def test_it_is_the_count_of_the_login(here: httpx.AsyncClient, wang: Account, ask: Callable[..., object]) -> None:
    await fail(here, 10)
    assert (await ask(here, wang, PASSWORD)).status_code == 429  # type: ignore[misc]


async def test_other_changes_of_the_account_go_on(here: httpx.AsyncClient, wang: Account) -> None:
    await fail(here, 10)
    answer = await here.put("/api/auth/me", json={"full_name": "Wang"}, headers=wang.headers)
    assert answer.status_code == 200


# --- what is stored ---


async def test_no_row_says_who_tried_what(here: httpx.AsyncClient, wang: Account, connection: AsyncConnection) -> None:
    """People type their password into the field for the name."""
    await fail(here, 1, PASSWORD)
    await fail(here, 1)
    stored = "\n".join(await rows(connection)).lower()
    assert [told for told in (PASSWORD, "wang", HERE) if told.lower() in stored] == []


async def test_keys_cannot_be_guessed_without_the_signing_key(
    app: FastAPI, here: httpx.AsyncClient, wang: Account, limits: AttemptPolicy
) -> None:
    await fail(here, 10)
    app.state.attempt_policy = replace(limits, key=b"another key")
    assert await fail(here, 1) == [401]


@pytest.fixture
def full(app: FastAPI) -> Iterator[PasswordService]:
    """A service whose queue for passwords has no room left."""
    passwords = app.state.passwords
    app.state.passwords = full = PasswordService(PasswordHasher(rounds=4), threads=1, queue=-1)
    yield full
    app.state.passwords = passwords
    full.close()


@pytest.mark.parametrize("is_known", [True, False], ids=["before it counts", "after it has counted"])
async def test_a_service_that_is_busy_counts_nothing(
    here: httpx.AsyncClient,
    limits: AttemptPolicy,
    connection: AsyncConnection,
    full: PasswordService,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
) -> None:
    """A flood that is refused must not fill the table either."""
    if not is_known:
        monkeypatch.setattr(full, "require_room", lambda: None)
    answers = [(await log_in(here, f"user_{number}")).status_code for number in range(12)]
    assert (answers, await rows(connection)) == ([503] * 12, [])


async def test_a_login_leaves_one_row_for_a_minute(
    here: httpx.AsyncClient, wang: Account, connection: AsyncConnection
) -> None:
    await connection.execute(text("DELETE FROM pyapi_attempts"))
    await log_in(here)
    lasts = text("SELECT expires_at - moments[1] <= interval '61 seconds' FROM pyapi_attempts")
    assert list((await connection.execute(lasts)).scalars()) == [True]


async def test_old_rows_go_with_new_attempts(
    here: httpx.AsyncClient, wang: Account, connection: AsyncConnection
) -> None:
    """Each attempt writes three rows at most and deletes twenty old ones."""
    await connection.execute(text("DELETE FROM pyapi_attempts"))
    for number in range(30):
        await fail(here, 1, f"user_{number}")
    await let_pass(connection, MINUTES * 60 + 1)
    for number in range(2):
        await fail(here, 1, f"later_{number}")
    assert len(await rows(connection)) == 4


async def test_the_limits_can_be_switched_off(here: httpx.AsyncClient, sign_up: SignUp) -> None:
    await sign_up("Wang")
    assert await fail(here, 12) == [401] * 12
