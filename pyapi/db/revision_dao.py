"""Statements about the saved states of a record."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.models import DataRevision


class RevisionRow(NamedTuple):
    """One row of `pyapi_data_revisions`; `state` is the whole record, credentials included."""

    revision: int
    change_kind: str
    changed_at: datetime
    changed_by: int | None
    changed_by_name: str
    state: Any


_COLUMNS = tuple(getattr(DataRevision, field) for field in RevisionRow._fields)


class RevisionDAO:
    """Rows of `pyapi_data_revisions`, to be read; triggers write them."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, record_id: int, *, before: int | None, limit: int) -> list[RevisionRow]:
        """Saved states of a record, newest first, from below the revision `before` on."""
        statement = select(*_COLUMNS).where(DataRevision.record_id == record_id)
        if before is not None:
            statement = statement.where(DataRevision.revision < before)
        rows = await self._session.execute(statement.order_by(DataRevision.revision.desc()).limit(limit))
        return [RevisionRow._make(row) for row in rows]
