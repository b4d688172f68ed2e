"""Who is calling and a record, from one statement that asks for both."""

import asyncpg

from pyapi.db.audience import CALLER
from pyapi.db.auth_dao import SignedInUser, user_of
from pyapi.db.dao import RecordRow, record_of


def user_and_record(row: asyncpg.Record | None) -> tuple[SignedInUser | None, RecordRow | None]:
    """What stands in a row of CALLER and, behind it, of a record; either may be missing."""
    if row is None:
        return None, None
    record = row[len(CALLER.c) :]
    return user_of(row), record_of(record) if record[0] is not None else None
