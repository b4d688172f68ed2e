"""Functions that run with their owner's rights find nothing that others made, and believe nobody who they are."""

import re
from collections.abc import Sequence
from typing import Any

from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Whoever may create in the schema of the tables (Airflow's role, where it owns the database) could put an operator
# there whose types fit better than those of PostgreSQL, and have it run with the rights of the owner of the functions.
# So they look in pg_catalog alone, and name what is ours with its schema.
PINNED = "SET search_path = pg_catalog, pg_temp"

# `pyapi.actor_id` and `pyapi.actor_name` say which user of PyAPI writes. Anybody may set a parameter, so they count
# only from a role that PyAPI itself could be: one that may end sessions. Others are written down as their role.
WRITE_REVISION = """
CREATE OR REPLACE FUNCTION pyapi_write_revision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    actor_id text;
    actor_name text;
    record pyapi_data_records;
    number integer;
BEGIN
    IF TG_OP = 'DELETE' THEN
        record := OLD;
        number := OLD.revision + 1;
    ELSIF TG_OP = 'UPDATE' AND NEW.revision = OLD.revision THEN
        RETURN NULL;
    ELSE
        record := NEW;
        number := NEW.revision;
    END IF;
    IF has_table_privilege(session_user::text, 'pyapi_sessions'::text, 'UPDATE'::text) THEN
        actor_id := nullif(current_setting('pyapi.actor_id', true), '');
        actor_name := nullif(current_setting('pyapi.actor_name', true), '');
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('pyapi_data_revisions.change_id', 0));
    INSERT INTO pyapi_data_revisions
        (record_id, revision, change_id, change_kind, changed_at, changed_by, changed_by_name, state)
    VALUES (
        record.id,
        number,
        nextval('pyapi_data_change_id_seq'),
        CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'updated' ELSE 'deleted' END,
        CASE TG_OP WHEN 'DELETE' THEN clock_timestamp() ELSE record.updated_at END,
        actor_id::integer,
        coalesce(actor_name, 'role:'::text || session_user::text),
        to_jsonb(record) - 'next_run_at'::text - 'schedule_summary'::text
    );
    RETURN NULL;
END $$
"""

CHANGE_COUNTER = """
CREATE OR REPLACE FUNCTION pyapi_change_counter() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT coalesce(max(change_id), 0) FROM pyapi_data_revisions
$$
"""

# Names in the statements; the key of the lock and the channel of the notification are no names.
OURS = re.compile(
    r"\bpyapi_(prepare_record|write_revision|queue_for_airflow|change_counter|timing"
    r"|data_records|data_revisions|data_change_id_seq|airflow_outbox|sessions)\b(?!\.change_id)"
)
SIMPLE = ("pyapi_timing(text, jsonb)", "pyapi_rule(jsonb)", "pyapi_refuse_truncate()")


def upgrade() -> None:
    for statement in (earlier("0006").prepare_record_now(), WRITE_REVISION, queue_for_airflow(), CHANGE_COUNTER):
        earlier("0008").execute(pinned(statement))
    # These name nothing of ours.
    for function in SIMPLE:
        op.execute(f"ALTER FUNCTION {function} {PINNED}")


def downgrade() -> None:
    op.execute(earlier("0001").SEARCH_PATH)
    for statement in (
        earlier("0006").prepare_record_now(),
        queue_for_airflow(),
        replacing(earlier("0001").CHANGE_COUNTER),
    ):
        op.execute(statement)
    earlier("0002").replace_write_revision("to_jsonb(record) - 'next_run_at' - 'schedule_summary'")
    for function in SIMPLE[:2]:
        op.execute(f"ALTER FUNCTION {function} SET search_path FROM CURRENT")
    op.execute(f"ALTER FUNCTION {SIMPLE[2]} RESET search_path")


def pinned(statement: str) -> str:
    """The statement with its search path fixed, and `{schema}` before each name of ours."""
    assert "SET search_path FROM CURRENT" in statement
    return OURS.sub(r"{schema}.\g<0>", statement).replace("SET search_path FROM CURRENT", PINNED)


def queue_for_airflow() -> str:
    return replacing(earlier("0004").QUEUE_FOR_AIRFLOW)


def replacing(statement: str) -> str:
    return statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


def earlier(revision: str) -> Any:
    """A migration before this one, some of whose statements are used again."""
    script = op.get_context().script
    assert script is not None
    return script.get_revision(revision).module
