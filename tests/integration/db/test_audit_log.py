"""The audit log where transactions really commit: cut off in batches, and kept by a role that owns nothing."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.db.conftest import NewEngine, NewRole

OLD_ROWS = """
INSERT INTO pyapi_audit_log (at, event)
SELECT now() - interval '100 days' + n * interval '1 second', 'data.created' FROM generate_series(1, 50) n
"""
PRUNE = "SELECT pyapi_prune_audit_log(now() - interval '90 days', 20)"
# As in deployment/sql: what a service needs that does not own the table.
GRANTS = (
    "GRANT SELECT, INSERT (event, actor_name) ON pyapi_audit_log TO {role}",
    "GRANT USAGE ON SEQUENCE pyapi_audit_log_id_seq TO {role}",
    "GRANT EXECUTE ON FUNCTION pyapi_prune_audit_log(timestamptz, integer) TO {role}",
)
NEWEST = "SELECT actor_name FROM pyapi_audit_log WHERE event = 'audit.pruned' ORDER BY id DESC LIMIT 1"


async def write(engine: AsyncEngine, *statements: str) -> Any:
    """Run statements in one transaction of their own; the first value that the last one answers, if any."""
    async with engine.begin() as connection:
        for statement in statements:
            result = await connection.execute(text(statement))
        return result.scalar_one() if result.returns_rows else None


@pytest.fixture
async def service(committing: AsyncEngine, engines: NewEngine, new_role: NewRole) -> AsyncEngine:
    """Signed in as a role that owns nothing."""
    url = await new_role(committing.url.render_as_string(hide_password=False))
    engine = engines(url)
    await write(committing, *(grant.format(role=engine.url.username) for grant in GRANTS))
    return engine


async def test_it_is_cut_off_in_batches_each_with_a_row(committing: AsyncEngine) -> None:
    await write(committing, OLD_ROWS)
    deleted = [await write(committing, PRUNE) for _ in range(4)]
    told = "SELECT json_agg(details->'deleted' ORDER BY id) FROM pyapi_audit_log WHERE event = 'audit.pruned'"
    assert (deleted, await write(committing, told)) == ([20, 20, 10, 0], [20, 20, 10])


async def test_a_role_that_owns_nothing_writes_reads_and_prunes(committing: AsyncEngine, service: AsyncEngine) -> None:
    await write(service, "INSERT INTO pyapi_audit_log (event) VALUES ('data.created')")
    await write(committing, OLD_ROWS)
    assert await write(service, PRUNE) == 20
    assert await write(service, NEWEST) == f"role:{service.url.username}"


SAY_SOMEBODY = "SELECT set_config('pyapi.actor_name', 'somebody else', true)"


async def test_a_role_that_is_not_pyapi_prunes_under_its_own_name(
    committing: AsyncEngine, service: AsyncEngine
) -> None:
    await write(committing, OLD_ROWS)
    await write(service, SAY_SOMEBODY, PRUNE)
    assert await write(service, NEWEST) == f"role:{service.url.username}"


async def test_pyapi_says_who_prunes_without_owning_the_tables(committing: AsyncEngine, service: AsyncEngine) -> None:
    await write(committing, OLD_ROWS, f"GRANT UPDATE ON pyapi_sessions TO {service.url.username}")
    await write(service, SAY_SOMEBODY, PRUNE)
    assert await write(service, NEWEST) == "somebody else"


@pytest.mark.parametrize(
    "statements",
    [
        ("UPDATE pyapi_audit_log SET event = 'x'",),
        ("DELETE FROM pyapi_audit_log",),
        ("INSERT INTO pyapi_audit_log (event, at) VALUES ('x', now() - interval '9 days')",),
        ("INSERT INTO pyapi_audit_log (event, id) VALUES ('x', 9223372036854775807)",),
        (
            "SELECT set_config('pyapi.pruning', 'on', true)",
            "DELETE FROM pyapi_audit_log WHERE at < now() - interval '9 d'",
        ),
        ("TRUNCATE pyapi_audit_log",),
        ("ALTER TABLE pyapi_audit_log DISABLE TRIGGER ALL",),
        ("DROP TABLE pyapi_audit_log",),
        ("SET session_replication_role = replica",),
        ("CREATE OR REPLACE FUNCTION pyapi_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",),
        ("CREATE TRIGGER own AFTER DELETE ON pyapi_audit_log EXECUTE FUNCTION pyapi_record_audit_pruning()",),
    ],
    ids=" / ".join,
)
async def test_that_role_cannot_get_round_it(service: AsyncEngine, statements: tuple[str, ...]) -> None:
    with pytest.raises(DBAPIError) as refused:
        await write(service, *statements)
    assert refused.value.orig.sqlstate == "42501"  # type: ignore[union-attr]


async def test_a_role_without_rights_cannot_prune(
    committing: AsyncEngine, engines: NewEngine, new_role: NewRole
) -> None:
    stranger = engines(await new_role(committing.url.render_as_string(hide_password=False)))
    with pytest.raises(DBAPIError) as refused:
        await write(stranger, PRUNE)
    assert refused.value.orig.sqlstate == "42501"  # type: ignore[union-attr]
