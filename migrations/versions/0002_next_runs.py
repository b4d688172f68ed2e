"""When each record runs next: kept beside it, since when its schedule holds, and what the schedule says in words."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What decides when a record runs; the keys are those of pyapi.schedules.rules.TIME_KEYS.
TIMING = """
CREATE FUNCTION pyapi_timing(status text, config jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
    SELECT jsonb_build_array(
        status = 'active',
        config -> 'schedule', config -> 'timezone', config -> 'start_date',
        config -> 'end_date', config -> 'catchup', config -> 'paused_until')
$$
"""

# The part of a config that is a rule, as an object, null where a key is missing; what is no object stays as it is. The
# keys are those of pyapi.schedules.rules.RULE_KEYS. The config is unpacked once, however large it is.
RULE = """
CREATE FUNCTION pyapi_rule(config jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
    SELECT CASE WHEN jsonb_typeof(config) <> 'object' THEN config
    ELSE (
        SELECT to_jsonb(rule) FROM jsonb_to_record(config) AS rule (
            schedule jsonb, timezone jsonb, start_date jsonb, end_date jsonb, catchup jsonb, paused_until jsonb,
            max_active_runs jsonb, retry_count jsonb, retries jsonb, retry_delay_seconds jsonb,
            execution_timeout_seconds jsonb, tags jsonb))
    END
$$
"""

# PyAPI computes what is derived from a schedule and says so in `pyapi.schedules_computed`. Nobody else writes the
# derived columns: they stay or, when what they are derived from changes, are emptied, and PyAPI fills them in a moment
# later.
PREPARE_RECORD = """
CREATE OR REPLACE FUNCTION pyapi_prepare_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    -- Anybody may set a parameter, so it counts only from a role that PyAPI itself could be: one that may end sessions.
    computed boolean := coalesce(current_setting('pyapi.schedules_computed', true), '') = 'true'
        AND has_table_privilege(session_user, 'pyapi_sessions', 'UPDATE');
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- An id that was used before goes on counting where it stopped.
        NEW.revision := 1 + coalesce(
            (SELECT max(r.revision) FROM pyapi_data_revisions r WHERE r.record_id = NEW.id), 0);
        NEW.created_at := coalesce(NEW.created_at, now());
        NEW.updated_at := coalesce(NEW.updated_at, now());
        NEW.scheduled_since := coalesce(NEW.scheduled_since, now());
        IF NOT computed THEN
            NEW.next_run_at := NULL;
            NEW.schedule_summary := NULL;
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'the id of a data record cannot change' USING ERRCODE = 'check_violation';
    END IF;
    NEW.created_at := coalesce(NEW.created_at, OLD.created_at);
    NEW.scheduled_since := coalesce(NEW.scheduled_since, OLD.scheduled_since);
    IF NOT computed THEN
        NEW.next_run_at := OLD.next_run_at;
        NEW.schedule_summary := OLD.schedule_summary;
    END IF;
    IF (NEW.name, NEW.description, NEW.config, NEW.status, NEW.owner_id, NEW.created_at, NEW.scheduled_since)
       IS NOT DISTINCT FROM
       (OLD.name, OLD.description, OLD.config, OLD.status, OLD.owner_id, OLD.created_at, OLD.scheduled_since) THEN
        NEW.revision := OLD.revision;
        NEW.updated_at := OLD.updated_at;
        RETURN NEW;
    END IF;
    NEW.revision := OLD.revision + 1;
    NEW.updated_at := clock_timestamp();
    IF NOT computed AND (NEW.status, NEW.config, NEW.scheduled_since)
       IS DISTINCT FROM (OLD.status, OLD.config, OLD.scheduled_since) THEN
        NEW.next_run_at := NULL;
        NEW.schedule_summary := NULL;
        IF NEW.scheduled_since = OLD.scheduled_since
           AND pyapi_timing(NEW.status, NEW.config) IS DISTINCT FROM pyapi_timing(OLD.status, OLD.config) THEN
            NEW.scheduled_since := NEW.updated_at;
        END IF;
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.execute(first().SEARCH_PATH)
    add_columns()
    for statement in (TIMING, RULE, PREPARE_RECORD):
        op.execute(statement)
    # What is derived is no part of a state.
    replace_write_revision("to_jsonb(record) - 'next_run_at' - 'schedule_summary'")


def add_columns() -> None:
    op.add_column("pyapi_data_records", sa.Column("scheduled_since", sa.DateTime(timezone=True), nullable=True))
    # It is no change of a record.
    op.execute("ALTER TABLE pyapi_data_records DISABLE TRIGGER USER")
    op.execute("UPDATE pyapi_data_records SET scheduled_since = updated_at")
    op.execute("ALTER TABLE pyapi_data_records ENABLE TRIGGER USER")
    op.alter_column("pyapi_data_records", "scheduled_since", nullable=False, server_default=sa.text("now()"))
    op.add_column("pyapi_data_records", sa.Column("next_run_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("pyapi_data_records", sa.Column("schedule_summary", postgresql.JSONB(), nullable=True))
    for column in ("scheduled_since", "next_run_at"):
        op.create_check_constraint(
            op.f(f"ck_pyapi_data_records_{column}"), "pyapi_data_records", first().in_our_era(column)
        )
    op.create_index(
        "ix_pyapi_data_records_next_run_at_id",
        "pyapi_data_records",
        [sa.text("coalesce(next_run_at, 'infinity'::timestamptz)"), "id"],
    )
    op.create_index(
        "ix_pyapi_data_records_unread",
        "pyapi_data_records",
        ["id"],
        postgresql_where=sa.text("schedule_summary IS NULL"),
    )


def downgrade() -> None:
    op.execute(first().SEARCH_PATH)
    op.execute(first().PREPARE_RECORD.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    replace_write_revision("to_jsonb(record)")
    op.execute("DROP FUNCTION pyapi_timing(text, jsonb), pyapi_rule(jsonb)")
    for column in ("schedule_summary", "next_run_at", "scheduled_since"):
        op.drop_column("pyapi_data_records", column)


def replace_write_revision(state: str) -> None:
    """Let the trigger of revisions keep another part of the row."""
    statement = first().WRITE_REVISION.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    op.execute(statement.replace("to_jsonb(record)", state))


def first() -> Any:
    """The migration before this one, some of whose statements are used again."""
    script = op.get_context().script
    assert script is not None
    return script.get_revision("0001").module
