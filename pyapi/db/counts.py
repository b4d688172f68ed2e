"""How many records a list has in all: from kept counts where there are some, otherwise counted up to a bound."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, func, literal, literal_column, or_, select

from pyapi.db.audience import VIEWER, Audience
from pyapi.db.models import DataGrant, DataRecord, RecordCount
from pyapi.enums import RecordStatus, Visibility

MOST_COUNTED: Final = 1000
"""Records that are counted one by one: as many as the longest page has, so no total costs more than that page."""

KEPT: Final = frozenset({"owner_id", "status", "visibility"})
"""Conditions for which counts are kept."""

OWNER: Final = "owner_id"
"""The parameter that stands for the owner whose records are counted."""


class Total(NamedTuple):
    """How many records match; at least so many, when it is not exact."""

    records: int
    is_exact: bool


# Made once for each kind, as the statement of a record is.
@cache
def kept_count(
    audience: Audience, *, of_one_owner: bool, status: RecordStatus | None, visibility: Visibility | None
) -> Select[Any]:
    """How many records of one kind somebody `alike` may see, exactly, without a look at the records.

    Those that all of the audience see, and their own of the other visibilities, are kept; what is shared with them is
    counted, because it is little. The one owner is the parameter `owner_id`.
    """
    owner, viewer = bindparam(OWNER, type_=Integer), bindparam(VIEWER, type_=Integer)
    of_owner = RecordCount.owner_id == owner if of_one_owner else RecordCount.owner_id.is_(None)
    kinds = [and_(of_owner, _seen_by_all(RecordCount, audience))]
    is_somebody = audience.user_id is not None and not audience.is_admin
    if is_somebody:
        own = and_(RecordCount.owner_id == viewer, ~_seen_by_all(RecordCount, audience))
        kinds.append(own & (owner == viewer) if of_one_owner else own)
    kept = select(func.coalesce(func.sum(RecordCount.records), 0)).where(
        or_(*kinds), *_like(RecordCount, status, visibility)
    )
    if not is_somebody:
        return kept
    of_others = DataRecord.owner_id.is_distinct_from(viewer)
    shared = (
        select(func.count())
        .join_from(DataGrant, DataRecord, DataGrant.record_id == DataRecord.id)
        .where(DataGrant.user_id == viewer, ~_seen_by_all(DataRecord, audience), *_like(DataRecord, status, visibility))
        .where(of_others & (DataRecord.owner_id == owner) if of_one_owner else of_others)
    )
    return select(kept.scalar_subquery() + shared.scalar_subquery())


def bounded_count(conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """How many records match, up to one more than `MOST_COUNTED`."""
    some = select(literal(1)).select_from(DataRecord).where(*conditions).limit(MOST_COUNTED + 1)
    return select(func.count()).select_from(some.subquery())


def _seen_by_all(table: Any, audience: Audience) -> ColumnElement[bool]:
    seen: ColumnElement[bool] = table.visibility.in_(
        [literal_column(f"'{visibility.value}'") for visibility in audience.visibilities]
    )
    return seen


def _like(table: Any, status: RecordStatus | None, visibility: Visibility | None) -> list[ColumnElement[bool]]:
    wanted = ((table.status, status), (table.visibility, visibility))
    return [column == value.value for column, value in wanted if value is not None]
