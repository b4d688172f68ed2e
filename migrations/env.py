"""How Alembic reaches the database: on a connection it is given, or on the one that the settings name."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from pyapi.db.embedded import attach_or_start
from pyapi.db.engine import MIGRATION_LOCK_SECONDS, create_engine
from pyapi.db.meta import VERSION_TABLE, Base
from pyapi.db.migrations import include_name
from pyapi.settings import Settings

# Any fixed number will do: everyone who migrates must ask for the same one.
MIGRATION_LOCK = 0x70796170696D6967


def run(connection: Connection) -> None:
    """Migrate inside one transaction, so that a process killed half way leaves nothing behind.

    Of many processes that start together, one migrates; the others wait for the lock and find nothing to do. The lock
    ends with the transaction, so it also works through a connection pooler and after a kill.
    """
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_name=include_name,
        compare_server_default=True,
    )
    with context.begin_transaction():
        # Another migration may take as long as a statement may.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_SECONDS}s'"))
        context.run_migrations()


async def run_with_settings() -> None:
    """Serve the `alembic` command, which brings no connection."""
    settings = Settings.load()
    server = None
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    else:
        url, server = attach_or_start(settings.data_dir)
    engine = create_engine(url, pool_size=1, patient=True)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
            await connection.commit()
    finally:
        await engine.dispose()
        if server is not None:
            server.stop()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_with_settings())
