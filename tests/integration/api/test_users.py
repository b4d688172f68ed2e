"""Other people's accounts: for superusers only, and what closing one means."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.fixtures.application import PASSWORD, Account, SignUp, assert_problem, log_in

USERS = "/api/auth/users"
USER_FIELDS = ["id", "username", "email", "full_name", "is_active", "is_superuser", "role"]
USER_FIELDS += ["created_at", "last_login_at"]
LARGEST_ID = 2**31 - 1

# (method, path, body): each route with a request that a superuser is answered 200 for.
ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "", None),
    ("GET", "/{id}", None),
    ("PUT", "/{id}", {"full_name": "Ada"}),
    ("POST", "/{id}/revoke-tokens", None),
]
ONE_USER = ROUTES[1:]
each_route = pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[" ".join(route[:2]) for route in ROUTES])
each_route_of_one = pytest.mark.parametrize(
    ("method", "path", "body"), ONE_USER, ids=[" ".join(route[:2]) for route in ONE_USER]
)


async def rows(connection: AsyncConnection, statement: str, **values: object) -> list[Any]:
    return list((await connection.execute(text(statement), values)).all())


async def users_table(connection: AsyncConnection) -> list[Any]:
    return await rows(connection, "SELECT * FROM pyapi_users ORDER BY id")


async def is_alive(client: httpx.AsyncClient, account: Account) -> bool:
    """Whether the account's access token still opens the door."""
    answer = await client.get("/api/auth/me", headers=account.headers)
    if answer.status_code != 200:
        assert_problem(answer, 401, "invalid_token")
    return answer.status_code == 200


async def change(client: httpx.AsyncClient, user_id: int, body: object, *, by: Account) -> httpx.Response:
    return await client.put(f"{USERS}/{user_id}", json=body, headers=by.headers)


@pytest.fixture
async def root(sign_up: SignUp) -> Account:
    return await sign_up("root", superuser=True)


@pytest.fixture
async def wang(sign_up: SignUp) -> Account:
    return await sign_up("Wang")


# --- who may ---


@each_route
async def test_a_superuser_may(
    client: httpx.AsyncClient, root: Account, wang: Account, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await client.request(method, USERS + path.format(id=wang.id), json=body, headers=root.headers)
    assert answer.status_code == 200


@each_route
async def test_nobody_else_may(
    client: httpx.AsyncClient,
    root: Account,
    wang: Account,
    connection: AsyncConnection,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    before = await users_table(connection)
    answer = await client.request(method, USERS + path.format(id=root.id), json=body, headers=wang.headers)
    problem = assert_problem(answer, 403, "permission_denied")
    assert problem["detail"] == "This needs a superuser."
    assert await users_table(connection) == before
    assert await is_alive(client, root)


@each_route_of_one
async def test_not_even_for_their_own_account(
    client: httpx.AsyncClient, wang: Account, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await client.request(method, USERS + path.format(id=wang.id), json=body, headers=wang.headers)
    assert_problem(answer, 403, "permission_denied")


@each_route
async def test_somebody_who_was_a_superuser_may_no_longer(
    client: httpx.AsyncClient,
    root: Account,
    wang: Account,
    connection: AsyncConnection,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    """The access token is older than the change; what counts is the account as it is now."""
    await connection.execute(text("UPDATE pyapi_users SET is_superuser = false"))
    answer = await client.request(method, USERS + path.format(id=wang.id), json=body, headers=root.headers)
    assert_problem(answer, 403, "permission_denied")


@each_route_of_one
async def test_an_account_that_does_not_exist(
    client: httpx.AsyncClient, root: Account, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await client.request(method, USERS + path.format(id=LARGEST_ID), json=body, headers=root.headers)
    assert assert_problem(answer, 404, "not_found")["detail"] == "There is no such user."


@pytest.mark.parametrize("user_id", ["0", "-1", "2147483648", "9" * 5000, "1.5", "one", "1e3", "%00", "１٢x", " "])
@each_route_of_one
async def test_an_id_that_cannot_be(
    client: httpx.AsyncClient, root: Account, method: str, path: str, body: dict[str, Any] | None, user_id: str
) -> None:
    answer = await client.request(method, USERS + path.format(id=user_id), json=body, headers=root.headers)
    problem = assert_problem(answer, 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == ["/path/user_id"]


# --- read ---


async def test_an_account_as_its_owner_sees_it(client: httpx.AsyncClient, root: Account, wang: Account) -> None:
    seen = (await client.get(f"{USERS}/{wang.id}", headers=root.headers)).json()
    assert list(seen) == USER_FIELDS
    assert seen == (await client.get("/api/auth/me", headers=wang.headers)).json()


async def test_the_list_has_everybody_in_the_order_of_ids(
    client: httpx.AsyncClient, root: Account, sign_up: SignUp
) -> None:
    others = [await sign_up() for _ in range(3)]
    page = (await client.get(USERS, headers=root.headers)).json()
    assert [user["id"] for user in page["data"]] == [root.id, *(account.id for account in others)]
    assert (page["total"], page["skip"], page["limit"]) == (4, 0, 10)
    assert {tuple(user) for user in page["data"]} == {tuple(USER_FIELDS)}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["root", "Wang", "li_50%", "li_500"]),
        ("skip=1&limit=2", ["Wang", "li_50%"]),
        ("limit=1", ["root"]),
        ("skip=4", []),
        ("skip=2147483647", []),
        ("limit=1000", ["root", "Wang", "li_50%", "li_500"]),
        ("q=wang", ["Wang"]),
        ("q=WANG@EXAMPLE", ["Wang"]),
        ("q=李四", ["li_50%"]),
        ("q=50%25", ["li_50%"]),
        ("q=_", ["li_50%", "li_500"]),
        ("q=%25", ["li_50%"]),
        ("q=%5C", []),
        ("q='", []),
        ("q=example.com&limit=1&skip=1", ["Wang"]),
    ],
)
async def test_the_list_can_be_narrowed_and_paged(
    client: httpx.AsyncClient, sign_up: SignUp, connection: AsyncConnection, query: str, names: list[str]
) -> None:
    root = await sign_up("root", superuser=True)
    await sign_up("Wang")
    await connection.execute(
        text(
            "INSERT INTO pyapi_users (username, email, full_name, hashed_password) VALUES"
            " ('li_50%', 'a@example.com', '李四', 'x'), ('li_500', 'b@example.com', 'Li', 'x')"
        )
    )
    page = (await client.get(f"{USERS}?{query}", headers=root.headers)).json()
    assert [user["username"] for user in page["data"]] == names


@pytest.mark.parametrize(("query", "total"), [("limit=1", 3), ("skip=100", 3), ("q=user_&limit=1", 2), ("q=nobody", 0)])
async def test_the_total_counts_all_that_match(
    client: httpx.AsyncClient, root: Account, sign_up: SignUp, query: str, total: int
) -> None:
    for _ in range(2):
        await sign_up()
    assert (await client.get(f"{USERS}?{query}", headers=root.headers)).json()["total"] == total


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("skip=-1", "/query/skip"),
        ("skip=2147483648", "/query/skip"),
        ("skip=x", "/query/skip"),
        ("limit=0", "/query/limit"),
        ("limit=1001", "/query/limit"),
        ("limit=NaN", "/query/limit"),
        ("limit=", "/query/limit"),
        (f"limit={'9' * 5000}", "/query/limit"),
        ("q=", "/query/q"),
        ("q=%00", "/query/q"),
        (f"q={'x' * 256}", "/query/q"),
        ("page=2", "/query/page"),
        ("is_active=true", "/query/is_active"),
    ],
    ids=lambda value: value[:20],
)
async def test_a_list_that_cannot_be(client: httpx.AsyncClient, root: Account, query: str, pointer: str) -> None:
    problem = assert_problem(await client.get(f"{USERS}?{query}", headers=root.headers), 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


# --- update ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"full_name": "Ada Lovelace"},
        {"full_name": None},
        {"email": "ada@example.com"},
        {"email": "WANG@example.com"},
        {"is_superuser": True},
        {"is_superuser": False},
        {"is_active": True},
        {"is_active": False},
        {"is_active": False, "is_superuser": True, "full_name": "Ada", "email": "ada@example.com"},
    ],
    ids=ascii,
)
async def test_update_changes_what_was_sent(
    client: httpx.AsyncClient, root: Account, wang: Account, connection: AsyncConnection, changes: dict[str, Any]
) -> None:
    *others, before = await users_table(connection)
    answer = await change(client, wang.id, changes, by=root)
    assert answer.status_code == 200
    assert answer.json() | changes == answer.json()
    assert list(answer.json()) == USER_FIELDS
    after = await users_table(connection)
    assert [user._asdict() for user in after] == [*(user._asdict() for user in others), before._asdict() | changes]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"is_active": None}, "/body/is_active"),
        ({"is_superuser": None}, "/body/is_superuser"),
        ({"is_superuser": "perhaps"}, "/body/is_superuser"),
        ({"email": None}, "/body/email"),
        ({"email": "Ada <ada@example.com>"}, "/body/email"),
        ({"full_name": ""}, "/body/full_name"),
        ({"full_name": "x" * 256}, "/body/full_name"),
        ({"full_name": "\0"}, "/body/full_name"),
        ({"username": "ada"}, "/body/username"),
        ({"password": PASSWORD}, "/body/password"),
        ({"hashed_password": "x"}, "/body/hashed_password"),
        ({"id": 1}, "/body/id"),
        ({"full_name": "Ada", "last_login_at": None}, "/body/last_login_at"),
        ([], "/body"),
    ],
    ids=ascii,
)
async def test_update_refuses_and_changes_nothing(
    client: httpx.AsyncClient, root: Account, wang: Account, connection: AsyncConnection, body: object, pointer: str
) -> None:
    before = await users_table(connection)
    problem = assert_problem(await change(client, wang.id, body, by=root), 422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert await users_table(connection) == before


async def test_update_refuses_an_address_that_is_taken(
    client: httpx.AsyncClient, root: Account, wang: Account, connection: AsyncConnection
) -> None:
    before = await users_table(connection)
    problem = assert_problem(await change(client, wang.id, {"email": "ROOT@example.com"}, by=root), 409, "conflict")
    assert problem["detail"] == "This e-mail address is already in use."
    assert await users_table(connection) == before


async def test_update_refuses_other_types(client: httpx.AsyncClient, root: Account, wang: Account) -> None:
    headers = root.headers | {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.put(f"{USERS}/{wang.id}", content=b"is_active=false", headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")


# --- deactivation ---


async def test_deactivation_ends_the_sessions_at_once(
    client: httpx.AsyncClient, root: Account, wang: Account, connection: AsyncConnection
) -> None:
    await change(client, wang.id, {"is_active": False}, by=root)
    assert not await is_alive(client, wang)
    ended = await rows(
        connection,
        "SELECT s.end_reason, t.is_active FROM pyapi_sessions s JOIN pyapi_refresh_tokens t ON t.family_id = s.id"
        " WHERE s.user_id = :id AND s.ended_at IS NOT NULL",
        id=wang.id,
    )
    assert [tuple(session) for session in ended] == [("deactivated", False)]


async def test_deactivation_ends_the_refresh_tokens(client: httpx.AsyncClient, root: Account, wang: Account) -> None:
    await change(client, wang.id, {"is_active": False}, by=root)
    answer = await client.post("/api/auth/refresh", json={"refresh_token": wang.refresh_token})
    assert_problem(answer, 401, "invalid_token")


async def test_a_deactivated_account_cannot_log_in(client: httpx.AsyncClient, root: Account, wang: Account) -> None:
    await change(client, wang.id, {"is_active": False}, by=root)
    answer = await client.post("/api/auth/login", json={"username": "wang", "password": PASSWORD})
    assert_problem(answer, 401, "invalid_credentials")


async def test_activation_does_not_bring_old_sessions_back(
    client: httpx.AsyncClient, root: Account, wang: Account
) -> None:
    for is_active in (False, True):
        await change(client, wang.id, {"is_active": is_active}, by=root)
    answer = await client.post("/api/auth/refresh", json={"refresh_token": wang.refresh_token})
    assert_problem(answer, 401, "invalid_token")
    assert not await is_alive(client, wang)


async def test_activation_lets_people_log_in_again(client: httpx.AsyncClient, root: Account, wang: Account) -> None:
    for is_active in (False, True):
        await change(client, wang.id, {"is_active": is_active}, by=root)
    assert await log_in(client, "Wang")


@pytest.mark.parametrize(
    "changes", [{"full_name": "Ada"}, {"email": "ada@example.com"}, {"is_superuser": True}, {"is_active": True}]
)
async def test_other_changes_end_no_session(
    client: httpx.AsyncClient, root: Account, wang: Account, changes: dict[str, Any]
) -> None:
    await change(client, wang.id, changes, by=root)
    assert await is_alive(client, wang)


async def test_whoever_becomes_a_superuser_is_one_at_once(
    client: httpx.AsyncClient, root: Account, wang: Account
) -> None:
    await change(client, wang.id, {"is_superuser": True}, by=root)
    assert (await client.get(USERS, headers=wang.headers)).status_code == 200


# --- the last superuser ---

DEMOTIONS = [{"is_superuser": False}, {"is_active": False}, {"is_active": False, "full_name": "Ada"}]


@pytest.mark.parametrize("changes", DEMOTIONS, ids=ascii)
async def test_the_last_superuser_stays_one(
    client: httpx.AsyncClient, root: Account, wang: Account, connection: AsyncConnection, changes: dict[str, Any]
) -> None:
    before = await users_table(connection)
    problem = assert_problem(await change(client, root.id, changes, by=root), 409, "conflict")
    assert problem["detail"] == "This is the last active superuser. Make another one first."
    assert await users_table(connection) == before
    assert await is_alive(client, root)


async def test_a_superuser_who_cannot_sign_in_does_not_count(
    client: httpx.AsyncClient, root: Account, sign_up: SignUp
) -> None:
    other = await sign_up("other", superuser=True)
    await change(client, other.id, {"is_active": False}, by=root)
    assert_problem(await change(client, root.id, {"is_superuser": False}, by=root), 409, "conflict")


@pytest.mark.parametrize("changes", DEMOTIONS, ids=ascii)
async def test_one_of_two_superusers_may_go(
    client: httpx.AsyncClient, root: Account, sign_up: SignUp, changes: dict[str, Any]
) -> None:
    await sign_up("other", superuser=True)
    assert (await change(client, root.id, changes, by=root)).status_code == 200


async def test_the_last_superuser_may_change_everything_else(client: httpx.AsyncClient, root: Account) -> None:
    changes = {"full_name": "Ada", "email": "ada@example.com", "is_active": True, "is_superuser": True}
    assert (await change(client, root.id, changes, by=root)).status_code == 200


# --- revoke-tokens ---


async def revoke(client: httpx.AsyncClient, user_id: int, *, by: Account) -> httpx.Response:
    return await client.post(f"{USERS}/{user_id}/revoke-tokens", headers=by.headers)


async def test_revoke_tokens_ends_every_session_of_the_account(
    client: httpx.AsyncClient, root: Account, wang: Account
) -> None:
    await log_in(client, "Wang")
    answer = await revoke(client, wang.id, by=root)
    message = "Ended 2 sessions and 0 personal access tokens of Wang."
    expected = {"message": message, "ended_sessions": 2, "revoked_tokens": 0}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert not await is_alive(client, wang)


async def test_revoke_tokens_leaves_ended_sessions(
    client: httpx.AsyncClient, root: Account, wang: Account, connection: AsyncConnection
) -> None:
    await revoke(client, wang.id, by=root)
    ended = await rows(
        connection,
        "SELECT s.end_reason, s.ended_at IS NOT NULL, t.is_active, t.revoked_at IS NOT NULL"
        " FROM pyapi_sessions s JOIN pyapi_refresh_tokens t ON t.family_id = s.id WHERE s.user_id = :id",
        id=wang.id,
    )
    assert [tuple(session) for session in ended] == [("revoked", True, False, True)]


async def test_revoke_tokens_ends_nobody_else_s_session(
    client: httpx.AsyncClient, root: Account, wang: Account, sign_up: SignUp
) -> None:
    other = await sign_up()
    await revoke(client, wang.id, by=root)
    assert [await is_alive(client, root), await is_alive(client, other)] == [True, True]


async def test_revoke_tokens_lets_the_account_log_in_again(
    client: httpx.AsyncClient, root: Account, wang: Account
) -> None:
    await revoke(client, wang.id, by=root)
    assert await log_in(client, "Wang")


async def test_revoke_tokens_counts_only_what_it_ended(client: httpx.AsyncClient, root: Account, wang: Account) -> None:
    answers = [await revoke(client, wang.id, by=root) for _ in range(2)]
    assert [answer.json()["ended_sessions"] for answer in answers] == [1, 0]


async def test_superusers_may_revoke_their_own(client: httpx.AsyncClient, root: Account) -> None:
    answer = await revoke(client, root.id, by=root)
    assert answer.status_code == 200
    assert not await is_alive(client, root)
