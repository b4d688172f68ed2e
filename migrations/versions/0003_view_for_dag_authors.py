"""A view for authors of DAGs, with columns that stay whatever happens to the tables."""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

VIEW = """
CREATE VIEW pyapi_records_v1 AS
SELECT r.id, r.name, r.description, r.status, r.config, u.username AS owner, r.revision,
       r.created_at, r.updated_at, r.scheduled_since, r.next_run_at
FROM pyapi_data_records r LEFT JOIN pyapi_users u ON u.id = r.owner_id
"""
COMMENT = (
    "COMMENT ON VIEW pyapi_records_v1 IS 'Data records for readers; its columns stay. Read-only: write the table.'"
)


def upgrade() -> None:
    op.execute(VIEW)
    op.execute(COMMENT)


def downgrade() -> None:
    op.execute("DROP VIEW pyapi_records_v1")
