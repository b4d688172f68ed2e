"""Answers whose JSON is there already, and what their headers say of it."""

from dataclasses import dataclass

from pyapi.schemas.data_schemas import DataList


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """JSON in UTF-8, as the model of the route would have it."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedRecord(Rendered):
    """One data record; `revision` is None for a summary, which tells no more of it."""

    id: int
    revision: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPage(Rendered):
    """A page of data records; `page` has all but those."""

    page: DataList
