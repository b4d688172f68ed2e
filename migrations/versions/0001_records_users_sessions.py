"""Records with their revisions, users, sessions and refresh tokens."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NOW = sa.text("now()")


def timestamp(name: str, *, nullable: bool = False, default: sa.TextClause | None = None) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


RECORD_TIMES = ("created_at", "updated_at")


def in_our_era(column: str) -> str:
    """PostgreSQL knows infinity, 4713 BC and the year 20000; the clients of the API do not."""
    return f"{column} >= '0001-01-01 00:00:00+00' AND {column} < '10000-01-01 00:00:00+00'"


def upgrade() -> None:
    create_user_tables()
    create_record_tables()
    create_triggers()


def create_user_tables() -> None:
    op.create_table(
        "pyapi_users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("email", sa.String(255), nullable=False),
        sa.Column("full_name", sa.String(255), nullable=True),
        sa.Column("hashed_password", sa.String(255), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("is_superuser", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        timestamp("created_at", default=NOW),
        timestamp("last_login_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_users"),
    )
    op.create_index("uq_pyapi_users_username_lower", "pyapi_users", [sa.text("lower(username)")], unique=True)
    op.create_index("uq_pyapi_users_email_lower", "pyapi_users", [sa.text("lower(email)")], unique=True)
    op.create_table(
        "pyapi_sessions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        timestamp("created_at", default=NOW),
        timestamp("expires_at"),
        timestamp("ended_at", nullable=True),
        sa.Column("end_reason", sa.String(50), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["pyapi_users.id"], name="fk_pyapi_sessions_user_id_pyapi_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_sessions"),
    )
    op.create_index("ix_pyapi_sessions_user_id", "pyapi_sessions", ["user_id"])
    op.create_table(
        "pyapi_refresh_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(255), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("family_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        timestamp("expires_at"),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        timestamp("revoked_at", nullable=True),
        sa.Column("user_agent", sa.String(512), nullable=True),
        sa.Column("address", sa.String(45), nullable=True),
        timestamp("created_at", default=NOW),
        sa.ForeignKeyConstraint(
            ["user_id"], ["pyapi_users.id"], name="fk_pyapi_refresh_tokens_user_id_pyapi_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["family_id"],
            ["pyapi_sessions.id"],
            name="fk_pyapi_refresh_tokens_family_id_pyapi_sessions",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_refresh_tokens"),
        sa.UniqueConstraint("token", name="uq_pyapi_refresh_tokens_token"),
    )
    op.create_index("ix_pyapi_refresh_tokens_user_id", "pyapi_refresh_tokens", ["user_id"])
    op.create_index("ix_pyapi_refresh_tokens_family_id", "pyapi_refresh_tokens", ["family_id"])


def create_record_tables() -> None:
    op.create_table(
        "pyapi_data_records",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("config", postgresql.JSONB(), nullable=True),
        sa.Column("status", sa.String(50), server_default=sa.text("'active'"), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        timestamp("created_at", default=NOW),
        timestamp("updated_at", default=NOW),
        sa.CheckConstraint(
            "status IN ('active', 'inactive', 'pending', 'completed')", name=op.f("ck_pyapi_data_records_status")
        ),
        *(sa.CheckConstraint(in_our_era(name), name=op.f(f"ck_pyapi_data_records_{name}")) for name in RECORD_TIMES),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["pyapi_users.id"], name="fk_pyapi_data_records_owner_id_pyapi_users", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_data_records"),
    )
    for columns in (["status", "created_at"], ["created_at"], ["updated_at"], ["name"]):
        index = "_".join(["ix_pyapi_data_records", *columns, "id"])
        op.create_index(index, "pyapi_data_records", [*columns, "id"])
    op.create_index("ix_pyapi_data_records_owner_id", "pyapi_data_records", ["owner_id"])
    op.create_table(
        "pyapi_data_revisions",
        sa.Column("record_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("change_id", sa.BigInteger(), nullable=False),
        sa.Column("change_kind", sa.String(20), nullable=False),
        timestamp("changed_at"),
        sa.Column("changed_by", sa.Integer(), nullable=True),
        sa.Column("changed_by_name", sa.String(255), nullable=False),
        sa.Column("state", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", "revision", name="pk_pyapi_data_revisions"),
        sa.UniqueConstraint("change_id", name="uq_pyapi_data_revisions_change_id"),
    )


# The functions run with the rights of their owner and with the search path below: a role that may only write
# pyapi_data_records can do so, whatever its own search path is. Unless pg_temp is named, as the last, PostgreSQL looks
# for tables there first: anybody's temporary table of the right name would get the revisions, and run its triggers with
# the rights of the owner.

SEARCH_PATH = "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"

PREPARE_RECORD = """
CREATE FUNCTION pyapi_prepare_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- An id that was used before goes on counting where it stopped.
        NEW.revision := 1 + coalesce(
            (SELECT max(r.revision) FROM pyapi_data_revisions r WHERE r.record_id = NEW.id), 0);
        NEW.created_at := coalesce(NEW.created_at, now());
        NEW.updated_at := coalesce(NEW.updated_at, now());
        RETURN NEW;
    END IF;
    IF NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'the id of a data record cannot change' USING ERRCODE = 'check_violation';
    END IF;
    NEW.created_at := coalesce(NEW.created_at, OLD.created_at);
    IF (NEW.name, NEW.description, NEW.config, NEW.status, NEW.owner_id, NEW.created_at)
       IS NOT DISTINCT FROM
       (OLD.name, OLD.description, OLD.config, OLD.status, OLD.owner_id, OLD.created_at) THEN
        NEW.revision := OLD.revision;
        NEW.updated_at := OLD.updated_at;
    ELSE
        NEW.revision := OLD.revision + 1;
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$
"""

# A number that counts changes is only safe to poll when the numbers become visible in their own order. The trigger is
# deferred to the commit and takes a lock there that ends after the transaction has become visible. So numbers are drawn
# in commit order, and a transaction that stays open for an hour holds nobody up.
WRITE_REVISION = """
CREATE FUNCTION pyapi_write_revision() RETURNS trigger
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
        to_jsonb(record)
    );
    RETURN NULL;
END $$
"""

REFUSE_TRUNCATE = """
CREATE FUNCTION pyapi_refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE would lose the history of the data records'
        USING HINT = 'Write DELETE FROM pyapi_data_records instead.', ERRCODE = 'object_not_in_prerequisite_state';
END $$
"""

CHANGE_COUNTER = """
CREATE FUNCTION pyapi_change_counter() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS 'SELECT coalesce(max(change_id), 0) FROM pyapi_data_revisions'
"""

PREPARE_RECORD_TRIGGER = """
CREATE TRIGGER pyapi_prepare_record BEFORE INSERT OR UPDATE ON pyapi_data_records
FOR EACH ROW EXECUTE FUNCTION pyapi_prepare_record()
"""

WRITE_REVISION_TRIGGER = """
CREATE CONSTRAINT TRIGGER pyapi_write_revision AFTER INSERT OR UPDATE OR DELETE ON pyapi_data_records
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pyapi_write_revision()
"""

REFUSE_TRUNCATE_TRIGGER = """
CREATE TRIGGER pyapi_refuse_truncate BEFORE TRUNCATE ON pyapi_data_records
FOR EACH STATEMENT EXECUTE FUNCTION pyapi_refuse_truncate()
"""

# Who may execute a trigger function may put it on a table of their own, and would write revisions with it. The triggers
# above go on working for everybody: that right is asked for when a trigger is made, not when it fires.
OWN_TRIGGERS_ONLY = "REVOKE EXECUTE ON FUNCTION pyapi_prepare_record(), pyapi_write_revision() FROM PUBLIC"

TRIGGERS = (
    SEARCH_PATH,
    "CREATE SEQUENCE pyapi_data_change_id_seq AS bigint OWNED BY pyapi_data_revisions.change_id",
    PREPARE_RECORD,
    WRITE_REVISION,
    REFUSE_TRUNCATE,
    CHANGE_COUNTER,
    PREPARE_RECORD_TRIGGER,
    WRITE_REVISION_TRIGGER,
    REFUSE_TRUNCATE_TRIGGER,
    OWN_TRIGGERS_ONLY,
)


def create_triggers() -> None:
    for statement in TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "pyapi_data_revisions",
        "pyapi_data_records",
        "pyapi_refresh_tokens",
        "pyapi_sessions",
        "pyapi_users",
    ):
        op.drop_table(table)
    for function in (
        "pyapi_change_counter",
        "pyapi_refuse_truncate",
        "pyapi_write_revision",
        "pyapi_prepare_record",
    ):
        op.execute(f"DROP FUNCTION {function}()")
