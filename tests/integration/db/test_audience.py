"""The total of a list counts exactly the records that the list would show."""

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from pyapi.db.audience import Audience, SessionAudience
from pyapi.db.counts import Total
from pyapi.db.record_lists import OrderKey, RecordFilter
from pyapi.enums import RecordStatus, Visibility
from pyapi.exceptions import InvalidToken
from tests.fixtures.statements import reads_of, records_of

# Every visibility, with every kind of owner, once shared with the user 1 and once not.
RECORDS = """
INSERT INTO pyapi_users (id, username, email, hashed_password)
VALUES (1, 'mei', 'mei@x.test', ''), (2, 'lin', 'lin@x.test', '');
INSERT INTO pyapi_data_records (name, visibility, owner_id, status)
SELECT CASE WHEN shared THEN 'shared' ELSE 'x' END, visibility, owner_id, status
FROM unnest(ARRAY['public', 'internal', 'private']) visibility, unnest(ARRAY[1, 2, NULL]) owner_id,
     unnest(ARRAY[true, false]) shared, unnest(ARRAY['active', 'inactive']) status;
INSERT INTO pyapi_data_grants (record_id, user_id, permission)
SELECT id, 1, 'read' FROM pyapi_data_records WHERE name = 'shared';
"""


SESSION_ID = UUID("00000000-0000-4000-8000-000000000001")
SESSION = f"""
WITH changed AS (UPDATE pyapi_users SET is_superuser = :super WHERE id = :user)
INSERT INTO pyapi_sessions (id, user_id, expires_at) VALUES ('{SESSION_ID}', :user, now() + interval '1 day')
"""


async def shown_and_total(engine: AsyncEngine, audience: Audience, wanted: RecordFilter) -> tuple[int, Total]:
    async with AsyncSession(engine) as session:
        for statement in RECORDS.split(";")[:-1]:
            await session.execute(text(statement))
        records = await reads_of(session, audience)
        shown = await records.page(wanted, order=[OrderKey("id", False)], skip=0, limit=100)
        return len(shown), await records.count(wanted)


@pytest.mark.parametrize(
    ("audience", "seen"),
    [
        pytest.param(Audience(None), 12, id="nobody"),
        pytest.param(Audience(1), 24 + 2 * 4, id="somebody with grants"),
        pytest.param(Audience(2), 24 + 2 * 2, id="somebody without grants"),
        pytest.param(Audience(3, is_admin=True), 36, id="admin"),
    ],
)
@pytest.mark.parametrize("wanted", [RecordFilter(), RecordFilter(status=RecordStatus.ACTIVE)], ids=["all", "filtered"])
async def test_the_total_is_the_number_of_records_that_are_shown(
    committing: AsyncEngine, audience: Audience, seen: int, wanted: RecordFilter
) -> None:
    expected = seen if wanted == RecordFilter() else seen // 2
    assert await shown_and_total(committing, audience, wanted) == (expected, Total(expected, is_exact=True))


@pytest.mark.parametrize("audience", [Audience(None), Audience(1), Audience(2), Audience(3, is_admin=True)])
@pytest.mark.parametrize(
    "wanted",
    [
        RecordFilter(owner_id=1),
        RecordFilter(owner_id=2, status=RecordStatus.INACTIVE),
        RecordFilter(visibility=Visibility.PRIVATE),
        RecordFilter(owner_id=1, visibility=Visibility.INTERNAL),
        RecordFilter(q="shared"),
        RecordFilter(q="s", status=RecordStatus.ACTIVE),
    ],
)
async def test_so_it_is_of_every_kind_of_records(
    committing: AsyncEngine, audience: Audience, wanted: RecordFilter
) -> None:
    shown, total = await shown_and_total(committing, audience, wanted)
    assert total == Total(shown, is_exact=True)


@pytest.mark.parametrize("wanted", [RecordFilter(), RecordFilter(owner_id=1), RecordFilter(q="x")], ids=str)
@pytest.mark.parametrize(("user_id", "is_superuser"), [(1, False), (2, False), (2, True)])
async def test_a_session_sees_what_its_user_may_see(
    committing: AsyncEngine, wanted: RecordFilter, user_id: int, is_superuser: bool
) -> None:
    """Who looks is found out in the statement of the list itself."""
    order = [OrderKey("id", descending=False)]
    async with AsyncSession(committing) as session:
        for statement in (*RECORDS.split(";")[:-1], SESSION):
            await session.execute(
                text(statement), {"user": user_id, "super": is_superuser} if ":user" in statement else {}
            )
        known = await reads_of(session, Audience(user_id, is_admin=is_superuser))
        asking = await reads_of(session, SessionAudience(user_id, SESSION_ID))
        pages = [records_of(await reads.page(wanted, order=order, skip=0, limit=100)) for reads in (known, asking)]
        assert pages[0] == pages[1] != []
        assert await known.count(wanted) == await asking.count(wanted)
        for row in await (await reads_of(session, Audience(9, is_admin=True))).page(
            RecordFilter(), order=order, skip=0, limit=100
        ):
            asked = await reads_of(session, SessionAudience(user_id, SESSION_ID))
            assert await asked.get(row["id"]) == await known.get(row["id"])


@pytest.mark.parametrize(
    "change", ["UPDATE pyapi_sessions SET ended_at = now()", "UPDATE pyapi_users SET is_active = false"]
)
async def test_who_is_no_longer_signed_in_sees_nothing(committing: AsyncEngine, change: str) -> None:
    async with AsyncSession(committing) as session:
        for statement in (*RECORDS.split(";")[:-1], SESSION, change):
            await session.execute(text(statement), {"user": 1, "super": True} if ":user" in statement else {})
        reads = await reads_of(session, SessionAudience(1, SESSION_ID))
        with pytest.raises(InvalidToken):
            await reads.page(RecordFilter(), order=[OrderKey("id", False)], skip=0, limit=100)
        with pytest.raises(InvalidToken):
            await reads.get(1)
