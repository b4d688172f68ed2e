"""Which version the tables have, and which one this code needs.

Each start asks, and finds nothing to do: so it is answered without Alembic, which takes a tenth of a second to import,
and memory of every worker.
"""

import re
from typing import Final

from sqlalchemy import column, func, select, table, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db.engine import create_engine, explain
from pyapi.db.meta import VERSION_TABLE, migrations_folder
from pyapi.exceptions import ConfigurationError, SchemaOutOfDate

_SCRIPT: Final = re.compile(r"(\d{4})_\w+\.py")


def head_revision() -> str:
    """The schema version this code is written for: the largest number of a script, which follow one another."""
    scripts = (_SCRIPT.fullmatch(path.name) for path in (migrations_folder() / "versions").glob("*.py"))
    head = max((found[1] for found in scripts if found), default=None)
    if head is None:
        raise SchemaOutOfDate("The installation has no migrations: install PyAPI again.")
    return head


async def current_revision(engine: AsyncEngine) -> str | None:
    """The schema version of the database; None when it has no tables of ours."""
    async with engine.connect() as connection:
        if await connection.scalar(text("SELECT to_regclass(:table)"), {"table": VERSION_TABLE}) is None:
            return None
        revision: str | None = await connection.scalar(
            select(func.max(column("version_num"))).select_from(table(VERSION_TABLE))
        )
        return revision


async def require_current(engine: AsyncEngine) -> None:
    """Raise SchemaOutOfDate unless the database is at the version this code needs."""
    current, head = await current_revision(engine), head_revision()
    if current != head:
        raise SchemaOutOfDate(
            f"The database schema is at {current or 'nothing'}, this version needs {head}: run `pyapi db upgrade`."
        )


async def prepare_schema(database_url: str, *, migrate: bool) -> None:
    """Bring the schema up to date, or only check it. Raises ConfigurationError with one line that names the cure."""
    engine = create_engine(database_url, pool_size=1, patient=True)
    try:
        if migrate and await current_revision(engine) != head_revision():
            from pyapi.db.migrations import upgrade  # not before it is needed, see above

            await upgrade(engine)
        await require_current(engine)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise ConfigurationError(explain(error, engine.url)) from None
    finally:
        await engine.dispose()
