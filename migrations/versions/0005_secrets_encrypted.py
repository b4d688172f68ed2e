"""A stored secret may get another form without becoming another one: that is no change of the record."""

from collections.abc import Sequence
from typing import Any

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# PyAPI says in `pyapi.reencrypting` that it writes the same secrets with another key, or encrypted for the first time.
# The row stays as it was but for its config: no revision, no time, nothing that follows from the schedule.
DECLARED = """
    reencrypting boolean := coalesce(current_setting('pyapi.reencrypting', true), '') = 'true'
        AND has_table_privilege(session_user, 'pyapi_sessions', 'UPDATE');
    sealed jsonb := NEW.config;
BEGIN
    IF TG_OP = 'UPDATE' AND reencrypting THEN
        NEW := OLD;
        NEW.config := sealed;
        RETURN NEW;
    END IF;"""


def upgrade() -> None:
    op.execute(earlier("0001").SEARCH_PATH)
    op.execute(prepare_record(reencrypting=True))


def downgrade() -> None:
    op.execute(earlier("0001").SEARCH_PATH)
    op.execute(prepare_record(reencrypting=False))


def prepare_record(*, reencrypting: bool) -> str:
    before: str = earlier("0002").PREPARE_RECORD
    head, begin, body = before.partition("\nBEGIN")
    assert begin
    return head + DECLARED + body if reencrypting else before


def earlier(revision: str) -> Any:
    """A migration before this one, some of whose statements are used again."""
    script = op.get_context().script
    assert script is not None
    return script.get_revision(revision).module
