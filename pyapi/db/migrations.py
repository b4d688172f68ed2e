"""Bringing the tables to the version this code needs, and saying so when they are not."""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

import pyapi.db.airflow_models
import pyapi.db.attempt_models
import pyapi.db.audit_models
import pyapi.db.auth_models
import pyapi.db.models
import pyapi.db.run_result_models  # noqa: F401 - registers the tables on Base.metadata
from pyapi.db.engine import create_engine, explain
from pyapi.db.meta import TABLE_PREFIX, VERSION_TABLE, Base
from pyapi.exceptions import ConfigurationError, SchemaOutOfDate

_PACKAGE = Path(__file__).resolve().parent.parent
_IN_WHEEL, _IN_CHECKOUT = _PACKAGE / "migrations", _PACKAGE.parent / "migrations"


def include_name(name: str | None, type_: str, _parent_names: object) -> bool:
    """Admit our own tables only: the database is Airflow's too, and what Alembic sees and does not know it drops."""
    return type_ != "table" or (name or "").startswith(TABLE_PREFIX)


def alembic_config() -> Config:
    """Alembic's configuration; the scripts are in the wheel or, in a checkout, beside the package."""
    config = Config()
    # ConfigParser takes "%" for the start of a reference.
    folder = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def head_revision() -> str:
    """The schema version this code is written for."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise SchemaOutOfDate("The installation has no migrations: install PyAPI again.")
    return head


async def current_revision(engine: AsyncEngine) -> str | None:
    """The schema version of the database; None when it has no tables of ours."""
    async with engine.connect() as connection:
        return await connection.run_sync(_current)


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


async def upgrade(engine: AsyncEngine, revision: str = "head") -> None:
    """Apply what is missing, in one transaction and under a lock (see migrations/env.py)."""
    async with engine.begin() as connection:
        await connection.run_sync(_run, "upgrade", revision)


async def downgrade(engine: AsyncEngine, revision: str) -> None:
    """Take migrations back to `revision`; `base` drops every table of ours."""
    async with engine.begin() as connection:
        await connection.run_sync(_run, "downgrade", revision)


def _run(connection: Connection, direction: str, revision: str) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    (command.upgrade if direction == "upgrade" else command.downgrade)(config, revision)


async def require_current(engine: AsyncEngine) -> None:
    """Raise SchemaOutOfDate unless the database is at the version this code needs."""
    current, head = await current_revision(engine), head_revision()
    if current != head:
        raise SchemaOutOfDate(
            f"The database schema is at {current or 'nothing'}, this version needs {head}: run `pyapi db upgrade`."
        )


async def compare_with_models(engine: AsyncEngine) -> list[str]:
    """What `alembic check` would find: how the tables differ from the models, in words; empty when they do not."""
    async with engine.connect() as connection:
        return await connection.run_sync(_differences)


def _differences(connection: Connection) -> list[str]:
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "include_name": include_name, "compare_server_default": True}
    )
    return [" ".join(str(part) for part in difference) for difference in compare_metadata(context, Base.metadata)]


async def prepare_schema(database_url: str, *, migrate: bool) -> None:
    """Bring the schema up to date, or only check it. Raises ConfigurationError with one line that names the cure."""
    engine = create_engine(database_url, pool_size=1, patient=True)
    try:
        if migrate and await current_revision(engine) != head_revision():
            await upgrade(engine)
        await require_current(engine)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise ConfigurationError(explain(error, engine.url)) from None
    finally:
        await engine.dispose()
