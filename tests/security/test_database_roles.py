"""The service's role owns what is called pyapi_* and can do nothing with Airflow's tables; readers read, and no secrets
of accounts (ASVS 5.0, 13.2.2; OWASP API Security 2023, API8).

`deployment/sql/roles.sql` makes the roles. It runs here as an operator would run it: before the first start, and again
when the service has made its tables, all in a database that has tables like Airflow's.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from pyapi.db.engine import parse_database_url
from pyapi.db.meta import VERSION_TABLE, Base
from tests.conftest import PostgresServer
from tests.fixtures.servers import RunningServer, server_on, sign_up
from tests.integration.db.airflow_tables import create_airflow_tables, foreign_state

SCRIPT = (Path(__file__).resolve().parents[2] / "deployment" / "sql" / "roles.sql").read_text(encoding="utf-8")
ROLES = ["service", "reader", "writer", "audit"]
SIGN_IN = ROLES[:3]
PASSWORD = "of-the-roles-of-this-test"

FOREIGN_TABLES = r"""
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname NOT LIKE 'pyapi\_%'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
MAY_USE = " AND has_table_privilege('{role}', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
OWNED = r"""
    SELECT relname FROM pg_class
    WHERE relowner = '{role}'::regrole AND relname NOT LIKE '%pyapi\_%' AND relnamespace <> 'pg_toast'::regnamespace
"""


@dataclass(frozen=True)
class Shared:
    """A database of Airflow in which PyAPI has its tables; `before` is all of Airflow's part before PyAPI came."""

    url: str
    roles: dict[str, str]
    server: RunningServer
    before: dict[str, list[Any]]

    async def as_(self, role: str, statement: str, *, before: str = "SELECT") -> list[Any]:
        """Rows of a statement by this role."""
        url = parse_database_url(self.url).set(username=self.roles[role], password=PASSWORD)
        connection = await asyncpg.connect(dsn(url.render_as_string(hide_password=False)))
        try:
            await connection.execute(before)
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def as_operator(self, statement: str, role: str = "service") -> Any:
        """The first value that a statement about a role answers."""
        connection = await asyncpg.connect(dsn(self.url))
        try:
            return await connection.fetchval(statement.format(role=self.roles[role]))
        finally:
            await connection.close()


def dsn(url: str) -> str:
    return url.replace("+asyncpg", "")


async def run_script(url: str, roles: dict[str, str]) -> None:
    """As `PGOPTIONS="-c pyapi.service_role=..." psql -f roles.sql` does."""
    settings = {f"pyapi.{role}_role": name for role, name in roles.items()}
    connection = await asyncpg.connect(dsn(url), server_settings=settings)
    try:
        await connection.execute(SCRIPT)
    finally:
        await connection.close()


async def airflow(url: str, *, create: bool = False) -> dict[str, list[Any]]:
    engine = create_async_engine(parse_database_url(url))
    async with engine.begin() as connection:
        if create:
            await create_airflow_tables(connection)
        state = await foreign_state(connection)
    await engine.dispose()
    return {name: rows for name, rows in state.items() if name != "schemas"}  # the rights to public are ours to give


@pytest.fixture(scope="module")
async def shared(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    url = await postgres_server.create_database()
    roles = {role: f"pyapi_test_{role}_{os.getpid()}" for role in ROLES}
    try:
        before = await airflow(url, create=True)
        await run_script(url, roles)
        for name in roles.values():
            await postgres_server.execute(f"ALTER ROLE {name} PASSWORD '{PASSWORD}'")
        theirs = parse_database_url(url).set(username=roles["service"], password=PASSWORD)
        with server_on(theirs.render_as_string(hide_password=False), tmp_path_factory.mktemp("roles") / "s") as server:
            await run_script(url, roles)
            yield Shared(url, roles, server, before)
    finally:
        await postgres_server.drop_database(url)
        for name in roles.values():
            await postgres_server.execute(f"DROP ROLE IF EXISTS {name}")


async def test_the_service_migrates_and_serves_with_its_role(shared: Shared) -> None:
    async with shared.server.client() as client:
        somebody = await sign_up(client, "of_roles")
        made = await client.post("/api/data/", json={"name": "每日同步"}, headers=somebody.headers)
        changed = await client.put(made.headers["location"], json={"name": "b"}, headers=somebody.headers)
        read = await client.get(made.headers["location"], headers=somebody.headers)
        deleted = await client.delete(made.headers["location"], headers=somebody.headers)
    assert [made.status_code, changed.status_code, read.json()["name"], deleted.status_code] == [201, 200, "b", 200]


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_may_use_a_table_that_is_not_ours(shared: Shared, role: str) -> None:
    assert await shared.as_operator(FOREIGN_TABLES + MAY_USE, role) == 0


async def test_that_count_would_see_one(shared: Shared) -> None:
    assert await shared.as_operator(FOREIGN_TABLES) >= 10


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_owns_anything_of_another_name(shared: Shared, role: str) -> None:
    assert await shared.as_operator(OWNED, role) is None


async def test_airflows_part_is_as_it_was(shared: Shared) -> None:
    assert await airflow(shared.url) == shared.before


@pytest.mark.parametrize("role", SIGN_IN)
async def test_the_connections_of_airflow_cannot_be_read(shared: Shared, role: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.as_(role, "SELECT password FROM connection")


@pytest.mark.parametrize("attribute", ["rolsuper", "rolcreaterole", "rolcreatedb", "rolbypassrls", "rolreplication"])
@pytest.mark.parametrize("role", ROLES)
async def test_no_role_has_power_over_others(shared: Shared, role: str, attribute: str) -> None:
    assert await shared.as_operator(f"SELECT {attribute} FROM pg_roles WHERE rolname = '{{role}}'", role) is False


READS = [  # what the reader kit asks for (deployment/airflow/pyapi_airflow/database.py)
    "SELECT pyapi_change_counter()",
    "SELECT state - 'config', pyapi_rule(state -> 'config') FROM pyapi_data_revisions",
    "SELECT id, name, description, status, config, owner, revision, updated_at, next_run_at FROM pyapi_records_v1",
]
# Every table but these two.
SECRETS = sorted({*Base.metadata.tables, VERSION_TABLE} - {"pyapi_data_records", "pyapi_data_revisions"})


@pytest.mark.parametrize("statement", READS)
@pytest.mark.parametrize("role", ["reader", "writer"])
async def test_readers_can_read_what_the_kit_reads(shared: Shared, role: str, statement: str) -> None:
    await shared.as_(role, statement)


@pytest.mark.parametrize("table", SECRETS)
@pytest.mark.parametrize("role", ["reader", "writer"])
async def test_nobody_else_reads_accounts_sessions_and_tokens(shared: Shared, role: str, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.as_(role, f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pyapi_data_records (name) VALUES ('x')",
        "UPDATE pyapi_data_revisions SET state = '{}'",
        "DELETE FROM pyapi_data_records",
        "CREATE TABLE pyapi_of_a_reader ()",
    ],
)
async def test_a_reader_changes_nothing(shared: Shared, statement: str) -> None:
    """Also after switching off that its transactions are read-only, as anybody may."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.as_("reader", statement, before="SET default_transaction_read_only = off")


async def test_that_is_about_every_table(shared: Shared) -> None:
    tables = r"SELECT array_agg(relname::text) FROM pg_class WHERE relname LIKE 'pyapi\_%' AND relkind IN ('r', 'p')"
    assert set(await shared.as_operator(tables)) == {*SECRETS, "pyapi_data_records", "pyapi_data_revisions"}


async def test_a_reader_does_not_change_anything_by_mistake(shared: Shared) -> None:
    assert await shared.as_("reader", "SHOW default_transaction_read_only") == [("on",)]


async def test_a_writer_writes_records_with_their_revisions(shared: Shared) -> None:
    [(record,)] = await shared.as_("writer", "INSERT INTO pyapi_data_records (name) VALUES ('by SQL') RETURNING id")
    kept = await shared.as_(
        "writer", f"SELECT revision, changed_by_name FROM pyapi_data_revisions WHERE record_id = {record}"
    )
    assert kept == [(1, f"role:{shared.roles['writer']}")]


async def test_what_a_writer_writes_is_counted_and_found(shared: Shared) -> None:
    """By triggers with the rights of the service: a writer reads neither table."""
    look = (
        "SELECT (SELECT coalesce(sum(records), 0) FROM pyapi_record_counts WHERE owner_id IS NULL), count(*)"
        " FROM pyapi_record_pieces"
    )
    [(counted, found)] = await shared.as_("service", look)
    await shared.as_("writer", "INSERT INTO pyapi_data_records (name) VALUES ('one'), ('two') RETURNING id")
    assert await shared.as_("service", look) == [(counted + 2, found + 2)]


async def test_a_writer_does_not_count_anew(shared: Shared) -> None:
    """It locks the records for as long as it takes to read them all."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="function pyapi_rebuild_lists"):
        await shared.as_("writer", "SELECT pyapi_rebuild_lists()")


async def test_a_writer_cannot_say_that_somebody_else_was_it(shared: Shared) -> None:
    forge = "SET pyapi.actor_id = '1'; SET pyapi.actor_name = 'somebody else'"
    insert = "INSERT INTO pyapi_data_records (name) VALUES ('forged') RETURNING id"
    [(record,)] = await shared.as_("writer", insert, before=forge)
    kept = await shared.as_(
        "writer", f"SELECT changed_by, changed_by_name FROM pyapi_data_revisions WHERE record_id = {record}"
    )
    assert kept == [(None, f"role:{shared.roles['writer']}")]


@pytest.mark.parametrize("table", ["pyapi_data_revisions", "pyapi_users"])
async def test_a_writer_writes_nothing_else(shared: Shared, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.as_("writer", f"DELETE FROM {table}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pyapi_audit_log SET actor_name = 'somebody else'",
        "DELETE FROM pyapi_audit_log",
        "TRUNCATE pyapi_audit_log",
        "DROP TABLE pyapi_audit_log",
        "ALTER TABLE pyapi_audit_log DISABLE TRIGGER ALL",
        "CREATE OR REPLACE FUNCTION pyapi_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    ],
)
async def test_the_service_cannot_rewrite_the_audit_log(shared: Shared, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.as_("service", statement)


async def test_the_service_adds_to_the_audit_log(shared: Shared) -> None:
    async with shared.server.client() as client:
        await sign_up(client, "of_the_audit")
    found = await shared.as_(
        "service", "SELECT event FROM pyapi_audit_log WHERE actor_name = 'of_the_audit' ORDER BY id"
    )
    assert found == [("user.registered",), ("login.succeeded",)]


ADD_OLD = "INSERT INTO pyapi_audit_log (event, at) VALUES ('old', now() - interval '9 days')"
PRUNE = "SELECT pyapi_prune_audit_log(now() - interval '2 days', 100)"


async def test_the_service_cuts_off_the_old_end_of_the_audit_log(shared: Shared) -> None:
    await shared.as_operator(ADD_OLD)
    assert await shared.as_("service", PRUNE) == [(1,)]


@pytest.mark.parametrize("column", ["at", "id"])
async def test_the_service_says_neither_when_a_row_was_added_nor_after_which(shared: Shared, column: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.as_("service", f"INSERT INTO pyapi_audit_log (event, {column}) VALUES ('x', DEFAULT)")


# --- What the service puts where the functions look -------------------------------------------------------------------

TRAP = "RETURNS {} LANGUAGE plpgsql AS $$BEGIN RAISE 'caught %', current_user; END$$"
OPERATOR = "CREATE FUNCTION trap({0}, {0}) " + TRAP + "; CREATE OPERATOR {2} (LEFTARG={0}, RIGHTARG={0}, FUNCTION=trap)"
DROP_OPERATOR = "DROP FUNCTION trap({0}, {0}) CASCADE"
OBJECT = "jsonb_build_object(text, bigint, text, timestamptz, text, timestamptz, text, {0})"
TRAPS = {
    "|| of names": (OPERATOR, DROP_OPERATOR, ("name", "text", "||")),
    "= of varchars": (OPERATOR, DROP_OPERATOR, ("varchar", "boolean", "=")),
    "object of name": ("CREATE FUNCTION " + OBJECT + TRAP, "DROP FUNCTION " + OBJECT, ("name", "jsonb")),
    "object of text": ("CREATE FUNCTION " + OBJECT + TRAP, "DROP FUNCTION " + OBJECT, ("text", "jsonb")),
}


@pytest.fixture
async def trap(shared: Shared, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """A function that fits better than one of PostgreSQL, and says in whose name it ran."""
    create, drop, types = TRAPS[request.param]
    await shared.as_("service", "SELECT", before=create.replace("RETURNS {}", f"RETURNS {types[1]}").format(*types))
    yield
    await shared.as_("service", "SELECT", before=drop.format(*types))


@pytest.mark.usefixtures("trap")
@pytest.mark.parametrize("trap", TRAPS, indirect=True)
async def test_what_the_service_makes_does_not_run_as_the_owner_of_the_audit_log(shared: Shared) -> None:
    await shared.as_operator(ADD_OLD)
    assert await shared.as_("service", PRUNE) == [(1,)]


@pytest.mark.usefixtures("trap")
@pytest.mark.parametrize("trap", TRAPS, indirect=True)
async def test_what_somebody_makes_does_not_run_when_a_record_is_written(shared: Shared) -> None:
    """Whoever may create in the schema; here it is the service, elsewhere it may be Airflow."""
    make = "INSERT INTO pyapi_data_records (name) VALUES ('x')"
    change = (
        "UPDATE pyapi_data_records SET name = 'y' WHERE id = (SELECT max(id) FROM pyapi_data_records) RETURNING name"
    )
    assert await shared.as_("writer", change, before=make) == [("y",)]


async def test_every_function_of_ours_looks_in_pg_catalog_alone(shared: Shared) -> None:
    """A temporary table comes last, and is none that a function names."""
    others = r"""
        SELECT array_agg(oid::regprocedure::text) FROM pg_proc WHERE proname LIKE 'pyapi\_%'
        AND proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp']
    """
    assert await shared.as_operator(others) is None


async def test_a_function_of_the_service_does_not_get_the_rights_of_the_auditor(shared: Shared) -> None:
    """It only looks as if it were one of the audit log, when the script runs after an upgrade."""
    make = "CREATE FUNCTION pyapi_own_audit() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'"
    await shared.as_("service", "SELECT", before=make)
    await run_script(shared.url, shared.roles)
    owner = await shared.as_operator("SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'pyapi_own_audit'")
    await shared.as_("service", "SELECT", before="DROP FUNCTION pyapi_own_audit")
    assert owner == shared.roles["service"]


async def test_nobody_signs_in_as_the_owner_of_the_audit_log(shared: Shared) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await shared.as_("audit", "SELECT 1")


async def test_what_was_granted_is_taken_back(shared: Shared) -> None:
    await shared.as_operator("GRANT SELECT (val) ON variable TO {role}")
    await run_script(shared.url, shared.roles)
    assert await shared.as_operator("SELECT has_any_column_privilege('{role}', 'variable', 'SELECT')") is False


async def test_a_role_that_could_reach_airflow_is_not_set_up(shared: Shared) -> None:
    """A grant to everybody cannot be taken back from one role: the script says so, and does nothing."""
    await shared.as_operator("GRANT SELECT ON variable TO PUBLIC")
    try:
        with pytest.raises(asyncpg.RaiseError, match=r"may use public\.variable, which is not a table of PyAPI"):
            await run_script(shared.url, shared.roles)
    finally:
        await shared.as_operator("REVOKE SELECT ON variable FROM PUBLIC")


@pytest.fixture
async def of_airflow(shared: Shared, postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A role of Airflow, whose administrator is another role (and may grant it)."""
    airflow, administrator = (f"pyapi_test_{name}_{os.getpid()}" for name in ("airflow", "administrator"))
    for statement in (
        f"CREATE ROLE {airflow}",
        f"CREATE ROLE {administrator}",
        f"GRANT {airflow} TO {administrator} WITH ADMIN OPTION",
    ):
        await postgres_server.execute(statement)
    yield airflow
    for name in (airflow, administrator):
        await postgres_server.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("role", SIGN_IN)
async def test_a_membership_that_another_role_granted_is_taken_back(shared: Shared, of_airflow: str, role: str) -> None:
    """Since PostgreSQL 16 it is another grant than the one of a superuser, and gives no right until it is put on."""
    administrator = of_airflow.replace("_airflow_", "_administrator_")
    grant = f"SET ROLE {administrator}; GRANT {of_airflow} TO {shared.roles[role]} WITH INHERIT FALSE, SET TRUE"
    connection = await asyncpg.connect(dsn(shared.url))
    await connection.execute(grant)
    await connection.close()
    await run_script(shared.url, shared.roles)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.as_(role, "SELECT", before=f"SET ROLE {of_airflow}")


async def test_nobody_can_become_the_owner_of_the_audit_log(shared: Shared, of_airflow: str) -> None:
    await shared.as_operator(f"GRANT {{role}} TO {of_airflow}", "audit")
    await run_script(shared.url, shared.roles)
    assert await shared.as_operator(f"SELECT pg_has_role('{of_airflow}', '{{role}}', 'MEMBER')", "audit") is False


async def test_a_service_that_could_rewrite_the_audit_log_is_not_set_up(shared: Shared, of_airflow: str) -> None:
    """What another role has granted cannot be taken back for it."""
    connection = await asyncpg.connect(dsn(shared.url))
    try:
        await connection.execute(f"GRANT UPDATE ON pyapi_audit_log TO {of_airflow} WITH GRANT OPTION")
        await connection.execute(f"SET ROLE {of_airflow}; GRANT UPDATE ON pyapi_audit_log TO {shared.roles['service']}")
        with pytest.raises(asyncpg.RaiseError, match="may rewrite the audit log"):
            await run_script(shared.url, shared.roles)
    finally:
        await connection.execute(f"RESET ROLE; REVOKE ALL ON pyapi_audit_log FROM {of_airflow} CASCADE")
        await connection.close()


@pytest.mark.parametrize("what", ["SCHEMA public", "DATABASE {database}"])
async def test_a_service_that_could_drop_the_audit_log_is_not_set_up(shared: Shared, what: str) -> None:
    """Whoever owns the schema may; so may the owner of the database, where the schema is public."""
    what = what.format(database=parse_database_url(shared.url).database)
    before = {"S": "pg_database_owner", "D": "CURRENT_USER"}[what[0]]
    await shared.as_operator(f"ALTER {what} OWNER TO {{role}}")
    try:
        with pytest.raises(asyncpg.RaiseError, match=r"belongs to a role of PyAPI|is a member of pg_database_owner"):
            await run_script(shared.url, shared.roles)
    finally:
        await shared.as_operator(f"ALTER {what} OWNER TO {before}")


async def test_the_script_has_no_password_and_no_command_of_psql() -> None:
    lines = [line.partition("--")[0].strip() for line in SCRIPT.splitlines()]
    assert [line for line in lines if line.startswith("\\") or "PASSWORD" in line.upper()] == []
