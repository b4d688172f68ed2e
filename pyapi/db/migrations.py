"""Bringing the tables to another version, and comparing them with the models."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

import pyapi.db.airflow_models
import pyapi.db.attempt_models
import pyapi.db.audit_models
import pyapi.db.auth_models
import pyapi.db.models
import pyapi.db.run_result_models  # noqa: F401 - registers the tables on Base.metadata
from pyapi.db.meta import TABLE_PREFIX, VERSION_TABLE, Base, migrations_folder


def include_name(name: str | None, type_: str, _parent_names: object) -> bool:
    """Admit our own tables only: the database is Airflow's too, and what Alembic sees and does not know it drops."""
    return type_ != "table" or (name or "").startswith(TABLE_PREFIX)


def alembic_config() -> Config:
    """Alembic's configuration."""
    config = Config()
    # ConfigParser takes "%" for the start of a reference.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


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


async def compare_with_models(engine: AsyncEngine) -> list[str]:
    """What `alembic check` would find: how the tables differ from the models, in words; empty when they do not."""
    async with engine.connect() as connection:
        return await connection.run_sync(_differences)


def _differences(connection: Connection) -> list[str]:
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "include_name": include_name, "compare_server_default": True}
    )
    return [" ".join(str(part) for part in difference) for difference in compare_metadata(context, Base.metadata)]
