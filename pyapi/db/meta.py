"""The one MetaData all tables belong to, what every table of ours has in common, and where their migrations are."""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, MetaData, Table, literal
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute

TABLE_PREFIX = "pyapi_"
VERSION_TABLE = "pyapi_alembic_version"


_PACKAGE = Path(__file__).resolve().parent.parent
_IN_WHEEL, _IN_CHECKOUT = _PACKAGE / "migrations", _PACKAGE.parent / "migrations"


def migrations_folder() -> Path:
    """The scripts that make the tables: in the wheel or, in a checkout, beside the package."""
    return _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT


class Base(DeclarativeBase):
    """Base of all models. Constraint names follow one convention, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


_ESCAPE: Final = "/"


def contains(column: InstrumentedAttribute[Any], words: str | BindParameter[str]) -> ColumnElement[bool]:
    """Whether a text column contains `words`, without regard to case; `%` and `_` are ordinary characters.

    A parameter is for words that are `escaped`.
    """
    if isinstance(words, str):
        words = literal(escaped(words))
    return column.icontains(words, escape=_ESCAPE)


def escaped(words: str) -> str:
    """Words as LIKE reads them as they are."""
    for special in (_ESCAPE, "%", "_"):
        words = words.replace(special, _ESCAPE + special)
    return words


def table_of(model: type[Base]) -> Table:
    """The table of a mapped class, for statements past the mapper: what it adds to a change takes longer than that."""
    return Base.metadata.tables[model.__tablename__]
