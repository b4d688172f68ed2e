"""Migrations, on databases of their own: beside Airflow's tables, many at once, killed half way."""

import asyncio
import json
import sys
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db.meta import Base
from pyapi.db.migrations import alembic_config, compare_with_models, downgrade, upgrade
from pyapi.db.schema_version import current_revision, head_revision, prepare_schema, require_current
from pyapi.exceptions import ConfigurationError, SchemaOutOfDate
from tests.architecture.check_migrations import difference
from tests.conftest import NewDatabase
from tests.integration.db.airflow_tables import create_airflow_tables, foreign_state
from tests.integration.db.conftest import NewEngine, NewRole

OUR_NAMES = """
    SELECT 'relation ' || relname FROM pg_class
        WHERE relname LIKE '%pyapi%' AND relname NOT LIKE 'pyapi_alembic_version%'
    UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname LIKE '%pyapi%'
    UNION ALL SELECT 'type ' || typname FROM pg_type
        WHERE typname LIKE '%pyapi%' AND typname NOT LIKE '%pyapi_alembic_version'
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname LIKE '%pyapi%'
    UNION ALL SELECT 'constraint ' || conname FROM pg_constraint
        WHERE conname LIKE '%pyapi%' AND conname NOT LIKE 'pyapi_alembic_version%'
"""


@pytest.fixture
async def empty_url(empty_databases: NewDatabase) -> str:
    return await empty_databases()


@pytest.fixture
async def empty(empty_url: str, engines: NewEngine) -> AsyncEngine:
    """A database without a table."""
    return engines(empty_url)


@pytest.fixture
async def beside_airflow(empty: AsyncEngine) -> AsyncEngine:
    """A database with Airflow's tables, and rows in them."""
    async with empty.begin() as connection:
        await create_airflow_tables(connection)
    return empty


@pytest.fixture(scope="module")
async def migrated(new_database: NewDatabase, engines: NewEngine) -> AsyncEngine:
    """A migrated database that the tests leave as it is."""
    return engines(await new_database())


@pytest.fixture(scope="module")
async def migrated_beside_airflow(empty_databases: NewDatabase, engines: NewEngine) -> AsyncEngine:
    """A migrated database with Airflow's tables that the tests leave as it is."""
    engine = engines(await empty_databases())
    async with engine.begin() as connection:
        await create_airflow_tables(connection)
    await upgrade(engine)
    return engine


async def rows(engine: AsyncEngine, statement: str) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(text(statement))).scalars())


async def run(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def state_of_airflow(engine: AsyncEngine) -> dict[str, list[Any]]:
    async with engine.connect() as connection:
        return await foreign_state(connection)


# --- Beside Airflow ---------------------------------------------------------------------------------------------------


async def test_up_down_and_up_leave_the_rest_of_the_database_as_it_was(beside_airflow: AsyncEngine) -> None:
    before = await state_of_airflow(beside_airflow)
    states = []
    for step, revision in ((upgrade, "head"), (downgrade, "base"), (upgrade, "head")):
        await step(beside_airflow, revision)
        states.append(await state_of_airflow(beside_airflow))
    assert states == [before, before, before]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = '0001'",
        "ALTER TABLE dag ADD COLUMN pyapi_id integer",
        "DROP INDEX ti_state",
        "ALTER TABLE log DISABLE TRIGGER stamp_log",
        "CREATE VIEW etl AS SELECT dag_id FROM dag",
        "DELETE FROM variable",
        "ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_run_id_key CASCADE",
    ],
)
async def test_that_comparison_sees(migrated_beside_airflow: AsyncEngine, statement: str) -> None:
    async with migrated_beside_airflow.connect() as connection:
        before = await foreign_state(connection)
        await connection.execute(text(statement))
        after = await foreign_state(connection)
    assert after != before


async def test_airflows_own_version_stays(migrated_beside_airflow: AsyncEngine) -> None:
    assert await rows(migrated_beside_airflow, "SELECT version_num FROM alembic_version") == ["29ce7909c52b"]


async def test_alembic_would_change_nothing_beside_airflow(migrated_beside_airflow: AsyncEngine) -> None:
    assert await difference(migrated_beside_airflow) is None


# --- Up and down ------------------------------------------------------------------------------------------------------


async def test_downgrade_leaves_nothing_of_ours(empty: AsyncEngine) -> None:
    await upgrade(empty)
    await run(empty, "INSERT INTO pyapi_data_records (name) VALUES ('x')")
    await downgrade(empty, "base")
    assert await rows(empty, OUR_NAMES) == []


async def test_that_search_finds_what_is_ours(migrated: AsyncEngine) -> None:
    kinds = {name.split()[0] for name in await rows(migrated, OUR_NAMES)}
    assert kinds == {"relation", "function", "type", "trigger", "constraint"}


async def test_after_up_down_and_up_the_tables_are_those_of_the_models(empty: AsyncEngine) -> None:
    await upgrade(empty)
    await downgrade(empty, "base")
    await upgrade(empty)
    assert await compare_with_models(empty) == []


FUNCTIONS = r"SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'pyapi\_%' ORDER BY proname"


async def test_functions_are_restored_when_their_migration_is_taken_back(empty: AsyncEngine) -> None:
    await upgrade(empty, "0009")
    before = await rows(empty, FUNCTIONS)
    await upgrade(empty, "0010")
    await downgrade(empty, "0009")
    assert await rows(empty, FUNCTIONS) == before


RESTRICTED = {
    "1 records that are not public": "INSERT INTO pyapi_data_records (name, visibility) VALUES ('x', 'private')",
    "1 records that are shared": """
        WITH made AS (INSERT INTO pyapi_data_records (name) VALUES ('x') RETURNING id),
            li AS (INSERT INTO pyapi_users (username, email, hashed_password) VALUES ('li', 'li', 'x') RETURNING id)
        INSERT INTO pyapi_data_grants (record_id, user_id, permission) SELECT made.id, li.id, 'read' FROM made, li""",
    "1 users who may only read": """
        INSERT INTO pyapi_users (username, email, hashed_password, role) VALUES ('wang', 'wang', 'x', 'viewer')""",
}


@pytest.mark.parametrize("told", RESTRICTED)
async def test_nobody_is_let_in_by_a_downgrade(new_database: NewDatabase, engines: NewEngine, told: str) -> None:
    """The version before has no word for it, and after the next upgrade everything would be open to everybody."""
    engine = engines(await new_database())
    await run(engine, RESTRICTED[told])
    with pytest.raises(CommandError, match=f"there are {told}. If that is what you want"):
        await downgrade(engine, "0005")


async def test_a_downgrade_goes_on_when_that_is_said_as_it_names_it(
    new_database: NewDatabase, engines: NewEngine
) -> None:
    engine = engines(await new_database())
    await run(engine, *RESTRICTED.values())
    with pytest.raises(CommandError) as refused:
        await downgrade(engine, "0005")
    await run(engine, *str(refused.value).partition("say so first: ")[2].split(";")[:-1])
    await downgrade(engine, "0005")
    assert await current_revision(engine) == "0005"


async def test_after_an_upgrade_the_version_is_the_one_of_the_code(migrated: AsyncEngine) -> None:
    assert await current_revision(migrated) == head_revision()


async def test_a_second_upgrade_changes_nothing(empty: AsyncEngine) -> None:
    await upgrade(empty)
    await run(empty, "INSERT INTO pyapi_data_records (name) VALUES ('x')")
    await upgrade(empty)
    assert await rows(empty, "SELECT name FROM pyapi_data_records") == ["x"]


async def test_an_empty_database_is_not_served(empty: AsyncEngine) -> None:
    with pytest.raises(SchemaOutOfDate, match="at nothing, this version needs"):
        await require_current(empty)


# --- Models and migrations --------------------------------------------------------------------------------------------


async def test_models_and_migrations_agree(migrated: AsyncEngine) -> None:
    assert await compare_with_models(migrated) == []


def names_of_constraints(connection: Connection) -> set[str | None]:
    inspector = inspect(connection)
    found: set[str | None] = set()
    for table in Base.metadata.tables:
        found.add(inspector.get_pk_constraint(table)["name"])
        for read in (inspector.get_check_constraints, inspector.get_foreign_keys, inspector.get_unique_constraints):
            found |= {constraint["name"] for constraint in read(table)}
    return found


async def test_constraints_have_the_names_of_the_models(migrated: AsyncEngine) -> None:
    """Alembic compares no CHECK constraints; a later migration that drops one must know its name."""
    async with migrated.connect() as connection:
        in_database = await connection.run_sync(names_of_constraints)
    in_models = {str(constraint.name) for table in Base.metadata.tables.values() for constraint in table.constraints}
    assert in_database == in_models


CHANGES = [
    "ALTER TABLE pyapi_users DROP COLUMN full_name",
    "ALTER TABLE pyapi_data_records ADD COLUMN priority integer",
    "ALTER TABLE pyapi_sessions ALTER end_reason TYPE varchar(200)",
    "ALTER TABLE pyapi_users ALTER email DROP NOT NULL",
    "ALTER TABLE pyapi_data_records ALTER status SET DEFAULT 'pending'",
    "DROP INDEX ix_pyapi_data_records_created_at_id",
    "ALTER TABLE pyapi_refresh_tokens DROP CONSTRAINT uq_pyapi_refresh_tokens_token",
    "ALTER TABLE pyapi_sessions DROP CONSTRAINT fk_pyapi_sessions_user_id_pyapi_users",
    "DROP TABLE pyapi_data_revisions CASCADE",
    "CREATE TABLE pyapi_jobs (id integer PRIMARY KEY)",
]


@pytest.fixture(scope="module")
async def changed(new_database: NewDatabase, engines: NewEngine) -> AsyncEngine:
    """A database whose tables are not those of the models any more, in ten ways."""
    engine = engines(await new_database())
    await run(engine, *CHANGES)
    return engine


async def test_comparison_notices_every_change(changed: AsyncEngine) -> None:
    assert len(await compare_with_models(changed)) == len(CHANGES)


async def test_check_of_the_migrations_fails_for_them(changed: AsyncEngine) -> None:
    assert "remove_column" in str(await difference(changed))


# --- Many at once, and half way ---------------------------------------------------------------------------------------

STARTED_AT_ONCE = 8
MIGRATE_AT_ONCE = """
import asyncio, multiprocessing, sys
from pyapi.db.schema_version import prepare_schema

def migrate():
    asyncio.run(prepare_schema(sys.argv[1], migrate=True))

context = multiprocessing.get_context("fork")
processes = [context.Process(target=migrate) for _ in range(int(sys.argv[2]))]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""


WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'pyapi' AND wait_event_type = 'Lock'
"""


async def test_of_many_that_migrate_at_once_one_does_and_all_succeed(empty_url: str, empty: AsyncEngine) -> None:
    """All have found the database empty before the first may begin: the name of their first table is taken so long."""
    arguments = (sys.executable, "-c", MIGRATE_AT_ONCE, empty_url, str(STARTED_AT_ONCE))
    async with empty.connect() as blocker:
        await blocker.execute(text("CREATE TABLE pyapi_alembic_version (version_num text)"))
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        ended = asyncio.create_task(process.wait())
        while await rows(empty, WAITING) != [STARTED_AT_ONCE]:
            done, _ = await asyncio.wait([ended], timeout=0.05)
            assert not done
        await blocker.rollback()
    statuses, _ = await process.communicate()
    versions = await rows(empty, "SELECT version_num FROM pyapi_alembic_version")
    assert (json.loads(statuses), versions) == ([0] * STARTED_AT_ONCE, [head_revision()])


async def killed_half_way(engine: AsyncEngine) -> None:
    """Upgrade, and end the connection when some of the tables exist: another transaction holds the name of the next."""
    async with engine.connect() as blocker:
        await blocker.execute(text("CREATE TABLE pyapi_data_revisions (id integer)"))
        migration = asyncio.create_task(upgrade(engine))
        ended: list[bool] = []
        while not ended:
            ended = await rows(
                engine,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND query LIKE '%CREATE TABLE pyapi_data_revisions%'",
            )
        with pytest.raises(DBAPIError):
            await migration


async def test_a_migration_that_is_killed_leaves_nothing(empty: AsyncEngine) -> None:
    await killed_half_way(empty)
    assert await rows(empty, "SELECT relname FROM pg_class WHERE relname LIKE '%pyapi%'") == []


async def test_after_a_migration_was_killed_the_next_one_works(empty: AsyncEngine) -> None:
    await killed_half_way(empty)
    await upgrade(empty)
    assert await compare_with_models(empty) == []


# --- Other owners, other schemas --------------------------------------------------------------------------------------


async def test_a_role_that_owns_nothing_else_can_migrate(
    empty_url: str, beside_airflow: AsyncEngine, new_role: NewRole
) -> None:
    url = await new_role(empty_url)
    role = url.partition("://")[2].partition(":")[0]
    await run(beside_airflow, f"GRANT CREATE ON SCHEMA public TO {role}")
    await prepare_schema(url, migrate=True)
    assert await compare_with_models(beside_airflow) == []


async def test_a_role_that_may_not_create_tables_is_told_the_cure(
    empty_url: str, empty: AsyncEngine, new_role: NewRole
) -> None:
    url = await new_role(empty_url)
    with pytest.raises(ConfigurationError, match="GRANT CREATE ON SCHEMA public"):
        await prepare_schema(url, migrate=True)


@pytest.fixture(scope="module")
async def in_own_schema(empty_databases: NewDatabase, engines: NewEngine) -> AsyncEngine:
    """A migrated database whose first schema is not `public`, and needs quotes."""
    empty_url = await empty_databases()
    name = empty_url.rpartition("/")[2]
    await run(
        engines(empty_url), 'CREATE SCHEMA "ETL 作業"', f'ALTER DATABASE "{name}" SET search_path = "ETL 作業", public'
    )
    engine = engines(empty_url)
    await upgrade(engine)
    return engine


async def test_tables_are_made_in_the_first_schema_of_the_search_path(in_own_schema: AsyncEngine) -> None:
    schemas = "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class WHERE relname LIKE 'pyapi%'"
    assert await rows(in_own_schema, schemas) == ['"ETL 作業"']


async def test_comparison_looks_there_too(in_own_schema: AsyncEngine) -> None:
    assert await compare_with_models(in_own_schema) == []


async def test_triggers_work_whatever_search_path_a_writer_has(in_own_schema: AsyncEngine) -> None:
    await run(
        in_own_schema,
        "SET LOCAL search_path = public",
        """INSERT INTO "ETL 作業".pyapi_data_records (name) VALUES ('x')""",
    )
    assert await rows(in_own_schema, "SELECT change_kind FROM pyapi_data_revisions") == ["created"]


async def test_so_does_the_pruning_of_the_audit_log(in_own_schema: AsyncEngine) -> None:
    old = "INSERT INTO pyapi_audit_log (event, at) VALUES ('old', now() - interval '9 days')"
    await run(in_own_schema, old, """SELECT "ETL 作業".pyapi_prune_audit_log(now() - interval '2 days', 100)""")
    assert await rows(in_own_schema, "SELECT event FROM pyapi_audit_log") == ["audit.pruned"]


def test_the_newest_script_is_the_one_that_alembic_ends_with() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [head_revision()]
