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

# PyAPI computes what is derived from a schedule and says so in `pyapi.schedules_computed`. Nobody else writes the
# derived columns: they stay or, when what they are derived from changes, are emptied, and PyAPI fills them in a moment
# later.
PREPARE_RECORD = """
CREATE OR REPLACE FUNCTION pyapi_prepare_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    -- Anybody may set a parameter, so it counts only from a role that owns these tables anyway.
    computed boolean := coalesce(current_setting('pyapi.schedules_computed', true), '') = 'true'
        AND pg_has_role(session_user, current_user, 'MEMBER');
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

WRITE_REVISION = """
CREATE OR REPLACE FUNCTION pyapi_write_revision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    actor_id text := nullif(current_setting('pyapi.actor_id', true), '');
    actor_name text := nullif(current_setting('pyapi.actor_name', true), '');
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
        coalesce(actor_name, 'role:' || session_user),
        -- What is derived is no part of a state.
        to_jsonb(record) - 'next_run_at' - 'schedule_summary'
    );
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(first().SEARCH_PATH)
    add_columns()
    for statement in (TIMING, PREPARE_RECORD, WRITE_REVISION):
        op.execute(statement)


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
    for statement in (first().PREPARE_RECORD, first().WRITE_REVISION):
        op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("DROP FUNCTION pyapi_timing(text, jsonb)")
    for column in ("schedule_summary", "next_run_at", "scheduled_since"):
        op.drop_column("pyapi_data_records", column)


def first() -> Any:
    """The migration before this one, some of whose statements are used again."""
    script = op.get_context().script
    assert script is not None
    return script.get_revision("0001").module
