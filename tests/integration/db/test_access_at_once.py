"""Grants and tokens when several transactions meet: what was taken back is gone, and nobody waits to note a use."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from pyapi.db.audience import Audience
from pyapi.db.auth_dao import UserLookup
from pyapi.db.dao import DataRecordDAO
from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.db.schedule_dao import ScheduleDAO

DIGEST = "d" * 64


@dataclass
class Shared:
    """A private record that is shared with a user for writing; the user has a token."""

    user_id: int
    record_id: int


@pytest.fixture
async def shared(committing: AsyncEngine) -> AsyncIterator[Shared]:
    async with committing.begin() as connection:
        user_id = await one(
            connection,
            "INSERT INTO pyapi_users (username, email, hashed_password) VALUES ('mei', 'mei@x.test', '') RETURNING id",
        )
        record_id = await one(
            connection,
            "INSERT INTO pyapi_data_records (name, visibility, config)"
            " VALUES ('x', 'private', '{\"schedule\": \"@daily\"}') RETURNING id",
        )
        statement = "INSERT INTO pyapi_data_grants (record_id, user_id, permission) VALUES (:record, :user, 'write')"
        await connection.execute(text(statement), {"record": record_id, "user": user_id})
        await connection.execute(
            text(
                "INSERT INTO pyapi_access_tokens (user_id, name, digest, scopes, expires_at)"
                " VALUES (:user, 'x', :digest, '{data:read}', now() + interval '1 day')"
            ),
            {"user": user_id, "digest": DIGEST},
        )
    yield Shared(user_id, record_id)
    async with committing.begin() as connection:
        await connection.execute(text("DELETE FROM pyapi_data_records"))
        await connection.execute(text("DELETE FROM pyapi_users"))


async def one(connection: AsyncConnection, statement: str) -> int:
    return int((await connection.execute(text(statement))).scalar_one())


async def test_a_grant_that_was_taken_back_meanwhile_is_gone(committing: AsyncEngine, shared: Shared) -> None:
    """Who waits for the lock that the owner holds has seen the grant before."""
    audience = Audience(shared.user_id)
    sessions = async_sessionmaker(committing)
    async with sessions() as owner, sessions() as writer:
        await DataRecordDAO(owner, Audience(None, is_admin=True)).lock(shared.record_id)
        records = DataRecordDAO(writer, audience)
        assert await records.is_writable(shared.record_id)
        waiting = asyncio.create_task(records.lock(shared.record_id))
        await asyncio.sleep(0.2)
        await owner.execute(text("DELETE FROM pyapi_data_grants"))
        await owner.commit()
        await waiting
        assert not await records.is_writable(shared.record_id)


async def test_what_a_view_shows_is_not_changed_by_grants_meanwhile(committing: AsyncEngine, shared: Shared) -> None:
    """Calendars are kept under their view: whatever they show must follow from it."""
    async with AsyncSession(committing) as session:
        schedules = ScheduleDAO(session)
        view = await schedules.view(Audience(shared.user_id))
        await session.execute(text("DELETE FROM pyapi_data_grants"))
        shown = [row.id for row in await schedules.active(view)]
        now = await schedules.view(Audience(shared.user_id))
        assert (shown, [row.id for row in await schedules.active(now)]) == ([shared.record_id], [])


def lookup_on(engine: AsyncEngine) -> UserLookup:
    return UserLookup(partial(transaction, Database.on(engine).reads))


@pytest.fixture
def statements(committing: AsyncEngine) -> Callable[[], int]:
    """How many statements were sent since the test began."""
    sent: list[str] = []

    def count(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    event.listen(committing.sync_engine, "before_cursor_execute", count)
    return lambda: len(sent)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_token_costs_one_statement(
    committing: AsyncEngine, shared: Shared, statements: Callable[[], int], times: int
) -> None:
    """Whether its use is noted, as the first time, or not."""
    for _ in range(times):
        before = statements()
        assert await lookup_on(committing).by_access_token(DIGEST) is not None
    assert statements() - before == 1


async def test_nobody_waits_to_note_a_use(committing: AsyncEngine, shared: Shared) -> None:
    async with committing.begin() as busy:
        await busy.execute(text("SELECT id FROM pyapi_access_tokens FOR UPDATE"))
        async with asyncio.timeout(5):
            found = await lookup_on(committing).by_access_token(DIGEST)
    assert found is not None
    assert found.user.id == shared.user_id


async def test_a_use_that_need_not_be_noted_writes_nothing(committing: AsyncEngine, shared: Shared) -> None:
    await lookup_on(committing).by_access_token(DIGEST)
    rows = []
    for _ in range(2):
        await lookup_on(committing).by_access_token(DIGEST)
        async with committing.connect() as connection:
            found = await connection.execute(text("SELECT xmin::text, xmax::text, ctid::text FROM pyapi_access_tokens"))
            rows.append(found.one())
    assert rows[0] == rows[1]
