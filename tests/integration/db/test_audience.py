"""The total of a list counts exactly the records that the list would show."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from pyapi.db.audience import Audience
from pyapi.db.counts import Total
from pyapi.db.record_lists import OrderKey, RecordFilter
from pyapi.enums import RecordStatus, Visibility
from tests.fixtures.statements import reads_of

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
