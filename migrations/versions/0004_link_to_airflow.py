"""What has to reach Airflow, and what Airflow was last seen to have."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def moment(name: str, *, nullable: bool = True, default: str | None = None) -> sa.Column[datetime]:
    server_default = sa.text(default) if default is not None else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=server_default)


def upgrade() -> None:
    op.execute(first().SEARCH_PATH)
    create_outbox()
    create_observations()
    for statement in (QUEUE_FOR_AIRFLOW, QUEUE_INSERTED, QUEUE_SWITCHED, QUEUE_DELETED, OWN_TRIGGERS_ONLY):
        op.execute(statement)


def create_outbox() -> None:
    """No foreign key: the row of a deleted record goes when Airflow knows."""
    op.create_table(
        "pyapi_airflow_outbox",
        sa.Column("record_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        moment("queued_at", nullable=False, default="clock_timestamp()"),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        moment("next_attempt_at", nullable=False, default="clock_timestamp()"),
        moment("told_at"),
        sa.PrimaryKeyConstraint("record_id", name="pk_pyapi_airflow_outbox"),
    )
    op.create_index("ix_pyapi_airflow_outbox_next_attempt_at", "pyapi_airflow_outbox", ["next_attempt_at"])


def create_observations() -> None:
    op.create_table(
        "pyapi_airflow_dags",
        sa.Column("record_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("is_stale", sa.Boolean(), nullable=False),
        sa.Column("is_scheduled", sa.Boolean(), nullable=False),
        sa.Column("is_invalid", sa.Boolean(), nullable=False),
        sa.Column("import_error", sa.String(500), nullable=True),
        moment("since", nullable=False),
        sa.PrimaryKeyConstraint("record_id", name="pk_pyapi_airflow_dags"),
    )
    op.create_table(
        "pyapi_airflow_runs",
        sa.Column("record_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("state", sa.String(50), nullable=False),
        sa.Column("run_type", sa.String(50), nullable=False),
        moment("began_at", nullable=False),
        moment("start_date"),
        moment("end_date"),
        sa.PrimaryKeyConstraint("record_id", name="pk_pyapi_airflow_runs"),
    )
    op.create_table(
        "pyapi_airflow_link",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        moment("reached_at"),
        moment("failing_since"),
        sa.Column("reason", sa.String(500), nullable=True),
        sa.Column("health", postgresql.JSONB(), nullable=True),
        moment("runs_seen_until"),
        sa.CheckConstraint("id = 1", name=op.f("ck_pyapi_airflow_link_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_airflow_link"),
    )


# A row for each record whose status has begun or ceased to be active, in the transaction that changed it, whoever
# wrote it. Only the newest counts: Airflow is told what holds, not what held once.
QUEUE_FOR_AIRFLOW = """
CREATE FUNCTION pyapi_queue_for_airflow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- The DAG of a new record is not paused; that of one that was deleted under this id a moment ago may be.
        UPDATE pyapi_airflow_outbox
        SET revision = NEW.revision, is_active = true, queued_at = clock_timestamp(),
            attempts = 0, next_attempt_at = clock_timestamp(), told_at = NULL
        WHERE record_id = NEW.id;
        RETURN NULL;
    END IF;
    INSERT INTO pyapi_airflow_outbox (record_id, revision, is_active)
    VALUES (OLD.id, OLD.revision + 1, TG_OP = 'UPDATE' AND NEW.status = 'active')
    ON CONFLICT (record_id) DO UPDATE SET
        revision = excluded.revision, is_active = excluded.is_active, queued_at = excluded.queued_at,
        attempts = 0, next_attempt_at = excluded.next_attempt_at, told_at = NULL;
    PERFORM pg_notify('pyapi_airflow', '');
    RETURN NULL;
END $$
"""

QUEUE_SWITCHED = """
CREATE TRIGGER pyapi_queue_switched AFTER UPDATE ON pyapi_data_records
FOR EACH ROW WHEN ((OLD.status = 'active') <> (NEW.status = 'active')) EXECUTE FUNCTION pyapi_queue_for_airflow()
"""

QUEUE_INSERTED = """
CREATE TRIGGER pyapi_queue_inserted AFTER INSERT ON pyapi_data_records
FOR EACH ROW WHEN (NEW.status = 'active') EXECUTE FUNCTION pyapi_queue_for_airflow()
"""

QUEUE_DELETED = """
CREATE TRIGGER pyapi_queue_deleted AFTER DELETE ON pyapi_data_records
FOR EACH ROW WHEN (OLD.status = 'active') EXECUTE FUNCTION pyapi_queue_for_airflow()
"""

OWN_TRIGGERS_ONLY = "REVOKE EXECUTE ON FUNCTION pyapi_queue_for_airflow() FROM PUBLIC"


def downgrade() -> None:
    for trigger in ("pyapi_queue_inserted", "pyapi_queue_switched", "pyapi_queue_deleted"):
        op.execute(f"DROP TRIGGER {trigger} ON pyapi_data_records")
    op.execute("DROP FUNCTION pyapi_queue_for_airflow()")
    for table in ("pyapi_airflow_link", "pyapi_airflow_runs", "pyapi_airflow_dags", "pyapi_airflow_outbox"):
        op.drop_table(table)


def first() -> Any:
    """The first migration, whose search path is used again."""
    script = op.get_context().script
    assert script is not None
    return script.get_revision("0001").module
