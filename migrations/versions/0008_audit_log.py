"""Who did what: a log that can only grow, and be cut off at its old end."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEXES = ("at",), ("event", "id"), ("actor_id", "id"), ("target_kind", "target_id", "id"), ("request_id",)


def upgrade() -> None:
    op.create_table(
        "pyapi_audit_log",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("event", sa.String(50), nullable=False),
        sa.Column("actor_id", sa.Integer(), nullable=True),
        sa.Column("actor_name", sa.String(255), nullable=True),
        sa.Column("target_kind", sa.String(20), nullable=True),
        sa.Column("target_id", sa.String(255), nullable=True),
        sa.Column("changes", postgresql.JSONB(), nullable=True),
        sa.Column("is_cut", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=True),
        sa.Column("request_id", sa.String(128), nullable=True),
        sa.Column("address", sa.String(45), nullable=True),
        sa.Column("user_agent", sa.String(255), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_audit_log"),
    )
    for columns in INDEXES:
        op.create_index(f"ix_pyapi_audit_log_{'_'.join(columns)}", "pyapi_audit_log", list(columns))
    for statement in APPEND_ONLY:
        execute(statement)


# Nobody changes a row. Nobody deletes one of the last day, and whoever deletes older ones leaves a row that says how
# many, which stays for a day at least. To get round that the owner of the table has to change the table; a role that
# is granted no more than SELECT, INSERT and the function below cannot (see deployment/sql).

# The service may create functions and operators in its schema, and one whose types fit better than those of PostgreSQL
# would be taken first, and run with the rights of the owner. So the functions look for nothing there but what they name
# with its schema. A day is 24 hours: how long '1 day' is depends on the time zone, which a session can invent.

REFUSE_CHANGE = """
CREATE FUNCTION {schema}.pyapi_refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('pyapi.pruning', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the audit log only grows'
        USING HINT = 'Old rows go with pyapi_prune_audit_log(), or with `pyapi audit prune`.',
            ERRCODE = 'object_not_in_prerequisite_state';
END $$
"""

RECORD_PRUNING = """
CREATE FUNCTION {schema}.pyapi_record_audit_pruning() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    actor_name text;
    deleted bigint;
    oldest timestamptz;
    newest timestamptz;
BEGIN
    SELECT count(*), min(g.at), max(g.at) INTO deleted, oldest, newest FROM gone g;
    IF newest > clock_timestamp() - interval '24 hours' THEN
        RAISE EXCEPTION 'rows of the last day stay' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- Anybody may set a parameter, so it counts only from a role that PyAPI itself could be: one that may end sessions.
    IF has_table_privilege(session_user::text, '{schema}.pyapi_sessions'::text, 'UPDATE'::text) THEN
        actor_name := nullif(current_setting('pyapi.actor_name', true), '');
    END IF;
    IF deleted > 0 THEN
        INSERT INTO {schema}.pyapi_audit_log (event, actor_name, target_kind, details) VALUES (
            'audit.pruned',
            coalesce(actor_name, 'role:'::text || session_user::text),
            'audit',
            jsonb_build_object(
                'deleted', deleted, 'oldest', oldest, 'newest', newest, 'role', session_user::text));
    END IF;
    RETURN NULL;
END $$
"""

PRUNE = """
CREATE FUNCTION {schema}.pyapi_prune_audit_log(older_than timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deleted integer;
BEGIN
    IF older_than IS NULL OR older_than > clock_timestamp() - interval '24 hours' THEN
        RAISE EXCEPTION 'rows of the last day stay' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM set_config('pyapi.pruning', 'on', true);
    DELETE FROM {schema}.pyapi_audit_log WHERE id IN (
        SELECT l.id FROM {schema}.pyapi_audit_log l WHERE l.at < older_than ORDER BY l.at LIMIT most);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    PERFORM set_config('pyapi.pruning', '', true);
    RETURN deleted;
END $$
"""

REFUSE_CHANGE_TRIGGER = """
CREATE TRIGGER pyapi_refuse_audit_change BEFORE UPDATE OR DELETE OR TRUNCATE ON pyapi_audit_log
FOR EACH STATEMENT EXECUTE FUNCTION pyapi_refuse_audit_change()
"""

RECORD_PRUNING_TRIGGER = """
CREATE TRIGGER pyapi_record_audit_pruning AFTER DELETE ON pyapi_audit_log
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION pyapi_record_audit_pruning()
"""

APPEND_ONLY = (
    REFUSE_CHANGE,
    RECORD_PRUNING,
    PRUNE,
    REFUSE_CHANGE_TRIGGER,
    RECORD_PRUNING_TRIGGER,
    # They fire for replication as well, which is otherwise a way round triggers.
    "ALTER TABLE pyapi_audit_log ENABLE ALWAYS TRIGGER pyapi_refuse_audit_change",
    "ALTER TABLE pyapi_audit_log ENABLE ALWAYS TRIGGER pyapi_record_audit_pruning",
    "REVOKE EXECUTE ON FUNCTION pyapi_record_audit_pruning(), pyapi_prune_audit_log(timestamptz, integer) FROM PUBLIC",
)


def downgrade() -> None:
    op.drop_table("pyapi_audit_log")
    op.execute("DROP FUNCTION pyapi_prune_audit_log(timestamptz, integer)")
    op.execute("DROP FUNCTION pyapi_record_audit_pruning()")
    op.execute("DROP FUNCTION pyapi_refuse_audit_change()")


def execute(statement: str) -> None:
    """Run a statement in which `{schema}` stands for the schema of our tables, quoted where it must be."""
    schema: str = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    in_literal = schema.replace("'", "''")
    named = statement.replace("'{schema}.", f"'{in_literal}.").replace("{schema}", schema)
    # As it is: a name may have a colon, which op.execute() takes for a parameter.
    op.get_bind().exec_driver_sql(named)
