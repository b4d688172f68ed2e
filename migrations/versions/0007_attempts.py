"""Attempts that are limited."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "pyapi_attempts",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("moments", postgresql.ARRAY(sa.DateTime(timezone=True)), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_pyapi_attempts"),
    )
    op.create_index("ix_pyapi_attempts_expires_at", "pyapi_attempts", ["expires_at"])


def downgrade() -> None:
    op.drop_table("pyapi_attempts")
