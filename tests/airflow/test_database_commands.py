"""Airflow's own commands on the database that it shares with PyAPI, and PyAPI's migrations beside Airflow's tables."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.airflow_environment import project_environment
from pyapi.db.engine import create_engine
from pyapi.db.migrations import downgrade, upgrade
from tests.airflow.running import INSTALL_SECONDS, PROJECT
from tests.conftest import NewDatabase
from tests.integration.db.airflow_tables import foreign_state, own_state

pytestmark = pytest.mark.airflow

AIRFLOW = str(PROJECT / ".venv" / "bin" / "airflow")
COMMAND_SECONDS = 180
"""On a busy machine."""

# In this order, one after the other.
COMMANDS = {
    "migrate": ("migrate",),
    "clean": ("clean", "--clean-before-timestamp", "2099-01-01T00:00:00+00:00", "--skip-archive", "--yes"),
    "downgrade": ("downgrade", "--to-version", "3.2.0", "--yes"),
    "migrate again": ("migrate",),
    "reset": ("reset", "--yes"),
}

ROWS = (
    """INSERT INTO pyapi_users (username, email, hashed_password, is_superuser)
        VALUES ('wang', 'wang@example.com', 'x', true), ('li', 'li@example.com', 'x', false)""",
    "INSERT INTO pyapi_sessions (user_id, expires_at) SELECT id, now() + interval '1 day' FROM pyapi_users",
    """INSERT INTO pyapi_refresh_tokens (token, user_id, family_id, expires_at)
        SELECT md5(id::text), user_id, id, expires_at FROM pyapi_sessions""",
    """INSERT INTO pyapi_data_records (name, config, owner_id)
        SELECT '同步 ' || id, '{"schedule": "0 9 * * *", "password": "sesame"}', id FROM pyapi_users""",
    "INSERT INTO pyapi_data_records (name, status) VALUES ('gone soon', 'pending')",
)
CHANGES = (
    "UPDATE pyapi_data_records SET status = 'inactive' WHERE owner_id = 1",
    "DELETE FROM pyapi_data_records WHERE name = 'gone soon'",
)
CLEANED = "INSERT INTO log (dttm, dag_id, event) VALUES (now(), 'pyapi_1', 'something for Airflow to clean')"
COUNTED = {
    "pyapi_users": 2,
    "pyapi_sessions": 2,
    "pyapi_refresh_tokens": 2,
    "pyapi_data_records": 2,
    "pyapi_data_revisions": 5,
}


class After(NamedTuple):
    """The database after a command."""

    ours: dict[str, list[Any]]
    airflows: dict[str, list[Any]]


async def write(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def state(engine: AsyncEngine) -> After:
    async with engine.connect() as connection:
        return After(await own_state(connection), await foreign_state(connection))


@pytest.fixture(scope="module")
async def database_url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture(scope="module")
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A database with rows in each table of PyAPI."""
    engine = create_engine(database_url, pool_size=1)
    for statements in (ROWS, CHANGES):
        await write(engine, *statements)
    yield engine
    await engine.dispose()


@pytest.fixture(scope="module")
async def before(engine: AsyncEngine) -> After:
    return await state(engine)


@pytest.fixture(scope="module")
async def after(
    uv: str, database_url: str, engine: AsyncEngine, before: After, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, After]:
    """The database after each command: they take seconds, so each runs once."""
    home = tmp_path_factory.mktemp("airflow_home")
    url = database_url.replace("+asyncpg", "+psycopg2")
    environment = project_environment(os.environ, home) | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    await succeed(INSTALL_SECONDS, uv, "sync", "--quiet", "--locked", "--project", str(PROJECT), env=environment)
    states = {}
    for name, words in COMMANDS.items():
        await succeed(COMMAND_SECONDS, AIRFLOW, "db", *words, env=environment)
        if name == "migrate":
            await write(engine, CLEANED)
        states[name] = await state(engine)
    return states


async def succeed(seconds: float, *command: str, env: dict[str, str]) -> None:
    """Run a command to its end. Raises AssertionError with what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        cwd=env["AIRFLOW_HOME"],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, said.decode()[-4000:]


def version(state: After) -> list[Any]:
    return state.airflows["public.alembic_version"]


# --- Airflow's commands -----------------------------------------------------------------------------------------------


def test_every_table_of_ours_has_rows(before: After) -> None:
    assert {name: len(before.ours[f"public.{name}"]) for name in COUNTED} == COUNTED


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_airflow_leaves_everything_of_ours(before: After, after: dict[str, After], command: str) -> None:
    assert after[command].ours == before.ours


def test_the_commands_did_their_work(before: After, after: dict[str, After]) -> None:
    assert not [name for name in before.airflows if name.startswith("public.")]
    assert len([name for name in after["migrate"].airflows if name.startswith("public.")]) > 40
    assert [len(after[command].airflows["public.log"]) for command in ("migrate", "clean")] == [1, 0]
    newest = version(after["migrate"])
    assert version(after["downgrade"]) != newest
    assert version(after["migrate again"]) == version(after["reset"]) == newest
    # Made anew, so they have other numbers.
    assert after["reset"].airflows["relations"] != after["migrate again"].airflows["relations"]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP VIEW pyapi_records_v1",
        "COMMENT ON VIEW pyapi_records_v1 IS NULL",
        "DROP INDEX ix_pyapi_data_records_owner_id",
        "ALTER TABLE pyapi_users ADD COLUMN dag_id text",
        "ALTER TABLE pyapi_sessions DROP CONSTRAINT fk_pyapi_sessions_user_id_pyapi_users",
        "ALTER TABLE pyapi_data_records DISABLE TRIGGER pyapi_prepare_record",
        "DROP TRIGGER pyapi_refuse_truncate ON pyapi_data_records",
        "ALTER FUNCTION pyapi_change_counter() VOLATILE",
        "GRANT EXECUTE ON FUNCTION pyapi_write_revision() TO PUBLIC",
        "DELETE FROM pyapi_data_revisions WHERE revision = 2",
        "UPDATE pyapi_refresh_tokens SET is_active = false",
        "TRUNCATE pyapi_sessions CASCADE",
        "SELECT nextval('pyapi_data_change_id_seq')",
    ],
)
async def test_that_comparison_sees(engine: AsyncEngine, statement: str) -> None:
    async with engine.connect() as connection:
        unchanged = await own_state(connection)
        await connection.execute(text(statement))
        changed = await own_state(connection)
        await connection.rollback()
    assert changed != unchanged


# --- PyAPI's migrations -----------------------------------------------------------------------------------------------


async def test_our_migrations_leave_everything_of_airflow(engine: AsyncEngine, after: dict[str, After]) -> None:
    """The last of these tests: it takes the rows away."""
    states = []
    for step, revision in ((downgrade, "base"), (upgrade, "head")):
        await step(engine, revision)
        states.append((await state(engine)).airflows)
    assert states == [after["reset"].airflows] * 2
