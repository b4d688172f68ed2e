"""Roles, who may see a record, with whom it is shared, and tokens for programs."""

from collections.abc import Sequence
from types import ModuleType

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.execute(migration("0001").SEARCH_PATH)
    add_columns()
    create_grants()
    create_access_tokens()
    # A record that others may see, or may no longer, has changed.
    op.execute(prepare_record_now())


def add_columns() -> None:
    role = sa.Column("role", sa.String(20), server_default=sa.text("'editor'"), nullable=False)
    op.add_column("pyapi_users", role)
    op.create_check_constraint(op.f("ck_pyapi_users_role"), "pyapi_users", "role IN ('viewer', 'editor')")
    visibility = sa.Column("visibility", sa.String(20), server_default=sa.text("'public'"), nullable=False)
    op.add_column("pyapi_data_records", visibility)
    op.create_check_constraint(
        op.f("ck_pyapi_data_records_visibility"),
        "pyapi_data_records",
        "visibility IN ('public', 'internal', 'private')",
    )
    op.create_index(
        "ix_pyapi_data_records_visibility_owner_id_id", "pyapi_data_records", ["visibility", "owner_id", "id"]
    )


def create_grants() -> None:
    op.create_table(
        "pyapi_data_grants",
        sa.Column("record_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("permission", sa.String(20), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("granted_by", sa.Integer(), nullable=True),
        sa.CheckConstraint("permission IN ('read', 'write')", name=op.f("ck_pyapi_data_grants_permission")),
        sa.ForeignKeyConstraint(
            ["record_id"],
            ["pyapi_data_records.id"],
            name="fk_pyapi_data_grants_record_id_pyapi_data_records",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["pyapi_users.id"], name="fk_pyapi_data_grants_user_id_pyapi_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["granted_by"], ["pyapi_users.id"], name="fk_pyapi_data_grants_granted_by_pyapi_users", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("record_id", "user_id", name="pk_pyapi_data_grants"),
    )
    op.create_index("ix_pyapi_data_grants_user_id", "pyapi_data_grants", ["user_id"])
    op.create_index("ix_pyapi_data_grants_granted_by", "pyapi_data_grants", ["granted_by"])


def create_access_tokens() -> None:
    op.create_table(
        "pyapi_access_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.String(20)), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "cardinality(scopes) > 0 AND scopes <@ ARRAY['data:read', 'data:write', 'runs:write']::varchar[]",
            name=op.f("ck_pyapi_access_tokens_scopes"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["pyapi_users.id"], name="fk_pyapi_access_tokens_user_id_pyapi_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_access_tokens"),
        sa.UniqueConstraint("digest", name="uq_pyapi_access_tokens_digest"),
    )
    op.create_index("ix_pyapi_access_tokens_user_id", "pyapi_access_tokens", ["user_id"])


def downgrade() -> None:
    refuse_to_forget()
    op.execute(migration("0001").SEARCH_PATH)
    op.execute(prepare_record())
    op.drop_table("pyapi_access_tokens")
    op.drop_table("pyapi_data_grants")
    op.drop_column("pyapi_data_records", "visibility")
    op.drop_column("pyapi_users", "role")


# What the schema before this one cannot say, and what would hold instead: all records are public, all users write.
NARROWED = {
    "records that are not public": "SELECT count(*) FROM pyapi_data_records WHERE visibility <> 'public'",
    "records that are shared": "SELECT count(DISTINCT record_id) FROM pyapi_data_grants",
    "users who may only read": "SELECT count(*) FROM pyapi_users WHERE role <> 'editor'",
}
WIDEN = (
    "UPDATE pyapi_data_records SET visibility = 'public'; DELETE FROM pyapi_data_grants;"
    " UPDATE pyapi_users SET role = 'editor';"
)


def refuse_to_forget() -> None:
    """Raise CommandError while somebody would be let in: private records would be everybody's, without a word."""
    found = {what: op.get_bind().scalar(sa.text(count)) for what, count in NARROWED.items()}
    if any(found.values()):
        told = ", ".join(f"{count} {what}" for what, count in found.items() if count)
        raise CommandError(
            f"The version before 0006 shows every record to everybody and lets every user write, and there are {told}."
            f" If that is what you want, say so first: {WIDEN}"
        )


def prepare_record_now() -> str:
    """The trigger of changes, which compares one column more."""
    statement = prepare_record()
    for row in ("NEW", "OLD"):
        before = f"{row}.owner_id, {row}.created_at"
        assert before in statement
        statement = statement.replace(before, f"{row}.owner_id, {row}.visibility, {row}.created_at")
    return statement


def prepare_record() -> str:
    """The trigger of changes as the migration before this one has it."""
    statement: str = migration("0005").prepare_record(reencrypting=True)
    return statement


def migration(revision: str) -> ModuleType:
    """An earlier migration, some of whose statements are used again."""
    script = op.get_context().script
    assert script is not None
    return script.get_revision(revision).module
