"""Statements about the audit log."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.audit_models import AuditRecord
from pyapi.db.meta import table_of


class AuditRow(NamedTuple):
    """One row of `pyapi_audit_log`."""

    id: int
    at: datetime
    event: str
    actor_id: int | None
    actor_name: str | None
    target_kind: str | None
    target_id: str | None
    changes: Any
    is_cut: bool
    details: Any
    request_id: str | None
    address: str | None
    user_agent: str | None


_ADD: Final = insert(table_of(AuditRecord))
_COLUMNS = tuple(getattr(AuditRecord, field) for field in AuditRow._fields)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows to list; None means no condition. The end of the time is exclusive."""

    event: str | None = None
    actor_id: int | None = None
    target_kind: str | None = None
    target_id: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL."""
        equal = {
            AuditRecord.event: self.event,
            AuditRecord.actor_id: self.actor_id,
            AuditRecord.target_kind: self.target_kind,
            AuditRecord.target_id: self.target_id,
            AuditRecord.request_id: self.request_id,
        }
        found: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
        if self.since is not None:
            found.append(AuditRecord.at >= self.since)
        if self.until is not None:
            found.append(AuditRecord.at < self.until)
        return found


class AuditDAO:
    """Rows of `pyapi_audit_log`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, **values: Any) -> None:
        """Insert a row, in one statement whose answer nobody needs."""
        await self._session.execute(_ADD, values)

    async def page(self, wanted: AuditFilter, *, limit: int, before: int | None = None) -> list[AuditRow]:
        """Rows that match, newest first, from below the id `before` on."""
        statement = select(*_COLUMNS).where(*wanted.conditions())
        if before is not None:
            statement = statement.where(AuditRecord.id < before)
        rows = await self._session.execute(statement.order_by(AuditRecord.id.desc()).limit(limit))
        return [AuditRow._make(row) for row in rows]

    async def prune(self, *, older_than: datetime, most: int, actor_name: str) -> int:
        """Delete the oldest rows; how many there were. The database writes a row about that."""
        await self._session.execute(text("SELECT set_config('pyapi.actor_name', :name, true)"), {"name": actor_name})
        return (await self._session.scalar(select(func.pyapi_prune_audit_log(older_than, most)))) or 0


class AuditJournal:
    """Inserts rows, each in a transaction of its own: for whoever has no transaction, or may not keep one open."""

    def __init__(self, open_session: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> None:
        self._open_session = open_session

    async def add(self, **values: Any) -> None:
        """Insert a row; it is committed afterwards."""
        async with self._open_session() as session:
            await AuditDAO(session).add(**values)
