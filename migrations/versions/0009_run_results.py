"""What runs have moved."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "pyapi_run_results",
        sa.Column("record_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("run_type", sa.String(50), nullable=False),
        sa.Column("state", sa.String(50), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("asked", sa.SmallInteger(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("record_id", "run_id", name="pk_pyapi_run_results"),
    )
    op.create_index(
        "ix_pyapi_run_results_ended_at",
        "pyapi_run_results",
        ["ended_at"],
        postgresql_where=sa.text("asked IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("pyapi_run_results")
