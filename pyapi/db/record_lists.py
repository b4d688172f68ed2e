"""Which records a list has, in which order, and how many there are in all, as SQL that is made once for each kind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Select,
    Text,
    all_,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA

from pyapi.db.audience import CALLER, Audience, SessionAudience
from pyapi.db.counts import bounded_count, kept_count
from pyapi.db.dao import RecordRow, as_text, stored_columns
from pyapi.db.meta import contains, escaped
from pyapi.db.models import SORTED_NEXT_RUN, DataRecord, RecordPieces
from pyapi.db.statements import Statement
from pyapi.enums import RecordStatus, Visibility

NO_RUN: Final = datetime.max.replace(tzinfo=UTC)
"""What asyncpg sends as `infinity`."""

_REMEMBERED: Final = 512


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records to list; None means no condition. Bounds of time are exclusive."""

    status: RecordStatus | None = None
    q: str | None = None
    owner_id: int | None = None
    visibility: Visibility | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    next_run_after: datetime | None = None
    next_run_before: datetime | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions there are."""
        return tuple(name for name in _CONDITIONS if getattr(self, name) is not None)

    @property
    def parameters(self) -> dict[str, Any]:
        """What they compare with."""
        values = {name: getattr(self, name) for name in self.names}
        pattern = {} if self.q is None else {"pattern": escaped(self.q)}
        return pattern | {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}


_CONDITIONS: Final = tuple(field.name for field in fields(RecordFilter))


class OrderKey(NamedTuple):
    """One part of an order: a column of `pyapi_data_records` and its direction; no run is later than every run."""

    column: str
    descending: bool

    @property
    def expression(self) -> ColumnElement[Any]:
        """What is sorted by; never null."""
        if self.column == DataRecord.next_run_at.key:
            return SORTED_NEXT_RUN
        column: ColumnElement[Any] = getattr(DataRecord, self.column)
        return column

    def value_of(self, row: Any) -> Any:
        """The value of `expression` for a row."""
        value = getattr(row, self.column)
        return NO_RUN if value is None else value


@cache
def _condition(name: str) -> ColumnElement[bool]:
    """One condition, with a parameter of the same name."""
    if name == "q":
        return _has_words()
    if name in {"status", "owner_id", "visibility"}:
        column: ColumnElement[Any] = getattr(DataRecord, name)
        return column == bindparam(name, type_=column.type)
    what, _, side = name.rpartition("_")
    time: ColumnElement[Any] = SORTED_NEXT_RUN if what == "next_run" else getattr(DataRecord, f"{what}_at")
    bound: BindParameter[Any] = bindparam(name, type_=DataRecord.created_at.type)
    if name == "next_run_after":
        return and_(time > bound, DataRecord.next_run_at.is_not(None))
    return time > bound if side == "after" else time < bound


def _has_words() -> ColumnElement[bool]:
    pattern: BindParameter[str] = bindparam("pattern", type_=DataRecord.name.type)
    words: BindParameter[str] = bindparam("q", type_=DataRecord.name.type)
    # The same once more, less exactly, in a way that has an index. PostgreSQL begins with it when few records have the
    # words; when many have them it reads in the order of the list, and has soon found enough.
    pieces = RecordPieces.pieces.bool_op("@@")(func.pyapi_search_query(words))
    return and_(
        or_(contains(DataRecord.name, pattern), contains(DataRecord.description, pattern)),
        DataRecord.id.in_(select(RecordPieces.record_id).where(pieces)),
    )


def _matching(names: Iterable[str]) -> list[ColumnElement[bool]]:
    return [_condition(name) for name in names]


class Written(NamedTuple):
    """What stands in a statement itself, instead of a parameter; None is no condition.

    How many rows are wanted decides how PostgreSQL finds them, so with a parameter in its place each question is
    planned anew, which takes three times as long as its answer. Of these there are few.
    """

    limit: int
    status: RecordStatus | None
    visibility: Visibility | None

    @classmethod
    def of(cls, wanted: RecordFilter, *, skip: int, limit: int) -> Self | None:
        """For what is asked most; None for everything else."""
        if skip or limit not in _COMMON_LIMITS or not _FEW.issuperset(wanted.names):
            return None
        return cls(limit, wanted.status, wanted.visibility)

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions."""
        pairs = ((DataRecord.status, self.status), (DataRecord.visibility, self.visibility))
        return [column == literal_column(f"'{value.value}'") for column, value in pairs if value is not None]


_FEW: Final = frozenset({"status", "visibility"})
# One more than is shown.
_COMMON_LIMITS: Final = frozenset(shown + 1 for shown in (10, 20, 25, 50, 100, 200, 500, 1000))

PAGE_HEAD: Final = ("is_superuser", "version", "seen_in_airflow")
"""What stands before the content in each row of a page: whether the caller is a superuser, the version of the row, and
what Airflow has made of it, which is no part of its version."""

# Each change of a row, whoever makes it, is a transaction, whose number it then has (`xmin`). Numbers come again after
# four thousand million, or when a server that takes over has lost some: the times stand beside them.
_VERSION: Final = literal_column(
    """
    int4send(pyapi_data_records.id) || xidsend(pyapi_data_records.xmin)
    || timestamptz_send(pyapi_data_records.updated_at)
    || coalesce(timestamptz_send(pyapi_data_records.next_run_at), '')
    """,
    BYTEA,
).label("version")


@lru_cache(_REMEMBERED)
def page_of(
    audience: Audience | SessionAudience,
    names: tuple[str, ...],
    order: tuple[OrderKey, ...],
    *,
    is_behind: bool,
    with_airflow: bool,
    written: Written | None = None,
) -> Statement:
    """A page of `limit` records from `skip` on, those behind `after_0`, `after_1`, ... when it `is_behind` them.

    When something is `written`, that is its limit and these are its conditions, and it begins at the start.

    Each row has what `PAGE_HEAD` names, and then a record as `record_of` takes it, without its last column and the runs
    in its summary: all of that null when its version is among `known`. For a session there is a row without a version
    when nothing was found, and none when the session has ended.
    """
    found: Select[Any] = select(*stored_columns(with_airflow=with_airflow), _VERSION)
    found = found.where(audience.sees(), *(_matching(names) if written is None else written.conditions))
    if is_behind:
        found = found.where(_behind(order))
    found = _ordered(found, [key.expression for key in order], order)
    if written is None:
        skip, limit = (bindparam(name, type_=DataRecord.id.type) for name in ("skip", "limit"))
        found = found.offset(skip).limit(limit)
    else:
        found = found.limit(literal_column(str(written.limit), DataRecord.id.type))
    # In the order of `found`: nothing else is joined to it than one row.
    if isinstance(audience, Audience):
        page: FromClause = found.subquery("page")
        content = _content_of(page)
        return Statement.of(_page_rows(false(), page, content).select_from(page.outerjoin(content, true())))
    page = found.correlate(CALLER).lateral("page")
    content = _content_of(page)
    both = CALLER.outerjoin(page, true()).outerjoin(content, true())
    return Statement.of(_page_rows(CALLER.c.is_superuser, page, content).select_from(both))


def _page_rows(is_superuser: ColumnElement[bool], page: FromClause, content: FromClause) -> Select[Any]:
    return select(is_superuser, page.c.version, as_text(page.c.seen_in_airflow), content)


def _content_of(page: FromClause) -> FromClause:
    """What a reader does not know yet of a row of the page; what it knows is not even written by PostgreSQL."""
    columns = {name: page.c[name] for name in RecordRow._fields[:-1]}
    columns["schedule_summary"] = (
        columns["schedule_summary"].op("-")(literal_column("'runs'", Text)).label("schedule_summary")
    )
    known: BindParameter[Any] = bindparam("known", type_=ARRAY(BYTEA))
    return (
        select(*map(as_text, columns.values())).where(page.c.version != all_(known)).correlate(page).lateral("content")
    )


def _ordered(statement: Select[Any], by: Sequence[ColumnElement[Any]], order: Sequence[OrderKey]) -> Select[Any]:
    pairs = zip(by, order, strict=True)
    return statement.order_by(*(each.desc() if key.descending else each.asc() for each, key in pairs))


def after_parameters(values: Sequence[Any]) -> dict[str, Any]:
    """The values behind which a page begins."""
    return {f"after_{place}": value for place, value in enumerate(values)}


def _behind(order: Sequence[OrderKey]) -> ColumnElement[bool]:
    """Rows that come after the values `after_0`, ... in `order`.

    (a, b, c) > (x, y, z), for which an index is entered at that place. Where the directions differ it is written out:
    a > x, or a = x and b > y, or ... In that PostgreSQL sees no place of an index, so a >= x is said beside it.
    """
    values: list[BindParameter[Any]] = [
        bindparam(f"after_{place}", type_=key.expression.type) for place, key in enumerate(order)
    ]
    if len({key.descending for key in order}) == 1:
        here, there = tuple_(*(key.expression for key in order)), tuple_(*values)
        return here < there if order[0].descending else here > there
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, value in zip(order, values, strict=True):
        column = key.expression
        alternatives.append(and_(*equal, column < value if key.descending else column > value))
        equal.append(column == value)
    first = order[0]
    bound = first.expression <= values[0] if first.descending else first.expression >= values[0]
    return and_(bound, or_(false(), *alternatives))


@lru_cache(_REMEMBERED)
def count_of(audience: Audience, wanted: RecordFilter) -> Statement:
    """How many records of one kind somebody `alike` may see, exactly; `wanted` has a status and a visibility, or not.

    Whose records, is a parameter; any number stands for it in `wanted`.
    """
    of_one_owner = wanted.owner_id is not None
    kept = kept_count(audience, of_one_owner=of_one_owner, status=wanted.status, visibility=wanted.visibility)
    return Statement.of(kept)


@lru_cache(_REMEMBERED)
def bounded_count_of(audience: Audience, names: tuple[str, ...]) -> Statement:
    """The same for any filter, as far as it is counted."""
    return Statement.of(bounded_count([audience.sees(), *_matching(names)]))
