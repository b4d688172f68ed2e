"""Changes of data records in one statement each: who acts, the change, and its row in the audit log.

One statement is one transaction, so either all of it happens or nothing, in one round trip. The triggers of the table
write the revisions; they ask who acts.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Protocol

from sqlalchemy import CTE, ColumnElement, Text, bindparam, cast, func, insert, select, true, update
from sqlalchemy.dialects.postgresql import JSONB

from pyapi.db.audience import CALLER, CALLER_WRITES, Audience, SessionAudience
from pyapi.db.audit_models import AuditRecord
from pyapi.db.auth_dao import SignedInUser
from pyapi.db.dao import RecordRow, columns_of, record_of
from pyapi.db.engine import write_json
from pyapi.db.models import DataRecord
from pyapi.db.statements import Statement, Statements
from pyapi.db.user_and_record import user_and_record


def _actor(user_id: ColumnElement[Any], name: ColumnElement[Any], *conditions: ColumnElement[bool]) -> CTE:
    """One row, when the conditions hold, and whoever acts is known to the triggers."""
    acting = select(
        func.set_config("pyapi.actor_id", user_id, True),
        func.set_config("pyapi.actor_name", name, True),
        # What follows from a schedule is not emptied then: it comes with the change.
        func.set_config("pyapi.schedules_computed", "true", True),
    )
    return acting.where(*conditions).cte("actor").prefix_with("MATERIALIZED")


_ACTOR: Final = _actor(bindparam("acting_id", type_=Text), bindparam("acting_name", type_=Text))
_CALLER: Final = _actor(cast(CALLER.c.id, Text), CALLER.c.username, CALLER_WRITES)

_NOTE: Final = (
    *("event", "actor_id", "actor_name", "target_kind", "changes", "is_cut"),
    *("details", "request_id", "address", "user_agent"),
)
"""Columns of the audit log that come from outside; which record it was, the statement knows."""


class Acting(Protocol):
    """Somebody who acts, as the triggers write them down."""

    @property
    def id(self) -> int | None:
        """The account."""
        ...

    @property
    def name(self) -> str | None:
        """Its name at that time."""
        ...


class RecordWrites:
    """Writes rows of `pyapi_data_records`. `note` is a row of the audit log without its target's id."""

    def __init__(self, statements: Statements, *, with_airflow: bool) -> None:
        self._statements = statements
        self._with_airflow = with_airflow

    async def add(self, values: Mapping[str, Any], note: Mapping[str, Any], *, by: Acting) -> RecordRow:
        """Insert a record."""
        statement = _insertion(tuple(values), self._with_airflow)
        row = await self._statements.row(statement, **_acting(by), **_sent(DataRecord, values), **_noted(note))
        assert row is not None
        return record_of(row)

    async def add_in_session(
        self, values: Mapping[str, Any], note: Mapping[str, Any], *, session: SessionAudience
    ) -> tuple[SignedInUser | None, RecordRow | None]:
        """Insert a record for the user of a session, if that lives and the user may write; answers the user as well."""
        statement = _insertion_in_session(tuple(values), self._with_airflow)
        sent = {**session.parameters, **_sent(DataRecord, values), **_noted(note)}
        return user_and_record(await self._statements.row(statement, **sent))

    async def change(
        self,
        record_id: int,
        revision: int,
        values: Mapping[str, Any],
        note: Mapping[str, Any],
        *,
        by: Acting,
        audience: Audience,
    ) -> RecordRow | None:
        """Change columns of a record; None when it is in another revision by now, or not for the audience to change."""
        statement = _change(audience.alike, tuple(values), self._with_airflow)
        asked = {"id": record_id, "known_revision": revision, **audience.parameters, **_acting(by)}
        row = await self._statements.row(statement, **asked, **_sent(DataRecord, values), **_noted(note))
        return record_of(row) if row is not None else None


def _acting(by: Acting) -> dict[str, Any]:
    return {"acting_id": str(by.id), "acting_name": by.name}


def _sent(table: Any, values: Mapping[str, Any], prefix: str = "new_") -> dict[str, Any]:
    """The values as asyncpg takes them."""
    as_json = _json_columns(table)
    return {
        prefix + name: write_json(value) if name in as_json and value is not None else value
        for name, value in values.items()
    }


def _noted(note: Mapping[str, Any]) -> dict[str, Any]:
    return _sent(AuditRecord, note, "note_")


@cache
def _json_columns(table: Any) -> frozenset[str]:
    return frozenset(column.key for column in table.__table__.c if isinstance(column.type, JSONB))


def _parameter(table: Any, name: str, prefix: str = "new_") -> ColumnElement[Any]:
    if name in _json_columns(table):
        return cast(bindparam(prefix + name, type_=Text), JSONB)
    return bindparam(prefix + name, type_=table.__table__.c[name].type)


# Made once for each set of columns: there are few.
@cache
def _insertion(names: tuple[str, ...], with_airflow: bool) -> Statement:
    made = _inserted(names, _ACTOR, with_airflow=with_airflow)
    return Statement.of(select(made).add_cte(_noting(made)))


@cache
def _insertion_in_session(names: tuple[str, ...], with_airflow: bool) -> Statement:
    made = _inserted(names, _CALLER, with_airflow=with_airflow)
    both = select(*CALLER.c, *made.c).select_from(CALLER.outerjoin(made, true()))
    return Statement.of(both.add_cte(_noting(made, by_caller=True)))


def _inserted(names: tuple[str, ...], actor: CTE, *, with_airflow: bool) -> CTE:
    values = select(*(_parameter(DataRecord, name) for name in names)).select_from(actor)
    insertion = insert(DataRecord).from_select(list(names), values)
    return insertion.returning(*columns_of(with_airflow=with_airflow)).cte("changed")


@cache
def _change(audience: Audience, names: tuple[str, ...], with_airflow: bool) -> Statement:
    changed = (
        update(DataRecord)
        .values({name: _parameter(DataRecord, name) for name in names})
        .where(
            DataRecord.id == bindparam("id", type_=DataRecord.id.type),
            DataRecord.revision == bindparam("known_revision", type_=DataRecord.revision.type),
            audience.writes(),
            select(true()).select_from(_ACTOR).scalar_subquery(),
        )
        .returning(*columns_of(with_airflow=with_airflow))
        .cte("changed")
    )
    return Statement.of(select(changed).add_cte(_noting(changed)))


def _noting(changed: CTE, *, by_caller: bool = False) -> CTE:
    """The row of the audit log; its details name the revision that came of it."""
    parameters = {name: _parameter(AuditRecord, name, "note_") for name in _NOTE}
    parameters["target_id"] = cast(changed.c.id, Text)
    revision = func.jsonb_build_object("revision", changed.c.revision)
    parameters["details"] = func.coalesce(parameters["details"], cast("{}", JSONB)).op("||")(revision)
    if by_caller:
        parameters["actor_name"] = CALLER.c.username
    note = select(*parameters.values()).select_from(changed.join(CALLER, true()) if by_caller else changed)
    return insert(AuditRecord).from_select(list(parameters), note, include_defaults=False).cte("noted")
