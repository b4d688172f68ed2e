"""Lists of many records: how many there are, kept as they are written, and what finds a part of a text."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# --- How many records there are ---------------------------------------------------------------------------------------

# A row is a difference: so many more, or fewer, of one kind. How many there are is the sum of the rows of that kind
# that a snapshot sees, so it is right in every transaction, and after each rollback. No row is ever changed: who writes
# records must not wait for somebody else who does, whose transaction may stay open for an hour. The function runs once
# for a statement, whatever number of rows that writes.
COUNT_RECORDS = """
CREATE FUNCTION {schema}.pyapi_count_records() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owners integer[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        {count_inserted}
    ELSIF TG_OP = 'DELETE' THEN
        {count_deleted}
    ELSE
        {count_updated}
    END IF;
    -- Now and then one who writes adds up what is there; rows that somebody else is adding up are left to them. A
    -- transaction that repeats its reads would fail where another one has added up meanwhile, so it leaves it alone.
    IF owners IS NOT NULL AND random() < 0.02 AND current_setting('transaction_isolation') = 'read committed' THEN
        WITH taken AS (
            DELETE FROM {schema}.pyapi_record_counts WHERE id = ANY (ARRAY(
                SELECT c.id FROM {schema}.pyapi_record_counts c
                WHERE c.owner_id IS NULL OR c.owner_id = ANY (owners)
                LIMIT 1000 FOR UPDATE SKIP LOCKED))
            RETURNING owner_id, visibility, status, records
        )
        INSERT INTO {schema}.pyapi_record_counts (owner_id, visibility, status, records)
        SELECT t.owner_id, t.visibility, t.status, sum(t.records) FROM taken t
        GROUP BY t.owner_id, t.visibility, t.status HAVING sum(t.records) <> 0;
    END IF;
    RETURN NULL;
END $$
"""

# Of each owner, and of all: those rows have no owner.
ADD_DIFFERENCES = """
        WITH added AS (
            INSERT INTO {schema}.pyapi_record_counts (owner_id, visibility, status, records)
            SELECT c.owner_id, c.visibility, c.status, sum(c.n)
            FROM ({changed}) c
            GROUP BY GROUPING SETS ((c.visibility, c.status), (c.visibility, c.status, c.owner_id))
            HAVING sum(c.n) <> 0 AND (c.owner_id IS NOT NULL OR grouping(c.owner_id) = 1)
            RETURNING owner_id
        )
        SELECT array_agg(a.owner_id) INTO owners FROM added a;
"""
MORE = "SELECT r.owner_id, r.visibility, r.status, 1 AS n FROM new_rows r"
FEWER = "SELECT r.owner_id, r.visibility, r.status, -1 AS n FROM old_rows r"

# --- What finds a part of a text --------------------------------------------------------------------------------------

# A text is kept as all its runs of three characters, small letters, and at its end of two and of one: an index of those
# finds every part of a text, in every script, and parts of one or two characters as the beginning of a run. What it
# finds is looked at again, so it has to find all that matches and may find more. Of a long description the first 1,000
# characters are kept, and that there are more: such a record is always looked at.
PIECES = r"""
CREATE FUNCTION {schema}.pyapi_pieces(name text, description text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text;
    letters text[];
    pieces text[] := '{}';
BEGIN
    FOREACH words IN ARRAY ARRAY[name, left(description, 1000)] LOOP
        letters := string_to_array(lower(words), NULL);
        FOR i IN 1 .. coalesce(cardinality(letters), 0) LOOP
            pieces := pieces || concat(letters[i], letters[i + 1], letters[i + 2]);
        END LOOP;
    END LOOP;
    IF length(description) > 1000 THEN
        pieces := pieces || 'more'::text;
    END IF;
    RETURN array_to_tsvector(pieces);
END $$
"""

# Four pieces are enough, and they should be rare ones: looking for one that every record has costs more than looking at
# what the others find. Which are common is known to the statistics of the table. They only choose among right answers,
# so the function may be called immutable, and the planner knows what it looks for. That is why it costs so much: a plan
# for any words, which PostgreSQL would prepare after a few searches, cannot know which way is the shorter one, and is
# never taken when it has to pay for this function, as a plan for known words has not.
SEARCH_QUERY = r"""
CREATE FUNCTION {schema}.pyapi_search_query(q text) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 1000000000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text := lower(q);
    quoted text := '''' || replace(replace(words, '\', '\\'), '''', '''''') || '''';
BEGIN
    IF length(words) < 3 THEN
        RETURN ('more | ' || quoted || ':*')::tsquery;
    END IF;
    RETURN (
        SELECT ('more | (' || string_agg(p.quoted, ' & ') || ')')::tsquery
        FROM (
            SELECT '''' || replace(replace(g.piece, '\', '\\'), '''', '''''') || '''' AS quoted
            FROM (SELECT DISTINCT substr(words, n, 3) FROM generate_series(1, length(words) - 2) n) g (piece)
            LEFT JOIN (
                SELECT e.piece, e.share
                FROM pg_stats s, unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) e (piece, share)
                WHERE s.schemaname = {schema_name} AND s.tablename = 'pyapi_record_pieces' AND s.attname = 'pieces'
            ) common ON common.piece = g.piece
            ORDER BY common.share NULLS FIRST
            LIMIT 4
        ) p);
END $$
"""

KEEP_PIECES = """
CREATE FUNCTION {schema}.pyapi_keep_pieces() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM {schema}.pyapi_record_pieces WHERE record_id = OLD.id;
    ELSE
        INSERT INTO {schema}.pyapi_record_pieces (record_id, pieces)
        VALUES (NEW.id, {schema}.pyapi_pieces(NEW.name, NEW.description))
        ON CONFLICT (record_id) DO UPDATE SET pieces = EXCLUDED.pieces;
    END IF;
    RETURN NULL;
END $$
"""

# --- Both -------------------------------------------------------------------------------------------------------------

# For the records that are there already, and for whoever has written some with triggers switched off.
REBUILD = """
CREATE FUNCTION {schema}.pyapi_rebuild_lists() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    LOCK TABLE {schema}.pyapi_data_records IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM {schema}.pyapi_record_counts;
    INSERT INTO {schema}.pyapi_record_counts (owner_id, visibility, status, records)
    SELECT r.owner_id, r.visibility, r.status, count(*) FROM {schema}.pyapi_data_records r
    GROUP BY GROUPING SETS ((r.visibility, r.status), (r.visibility, r.status, r.owner_id))
    HAVING r.owner_id IS NOT NULL OR grouping(r.owner_id) = 1;
    DELETE FROM {schema}.pyapi_record_pieces;
    INSERT INTO {schema}.pyapi_record_pieces (record_id, pieces)
    SELECT r.id, {schema}.pyapi_pieces(r.name, r.description) FROM {schema}.pyapi_data_records r;
$$
"""

# The update that changes neither name nor description, as of the next run, costs nothing here.
TRIGGERS = (
    """
    CREATE TRIGGER pyapi_count_inserted AFTER INSERT ON {schema}.pyapi_data_records
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.pyapi_count_records()
    """,
    """
    CREATE TRIGGER pyapi_count_updated AFTER UPDATE ON {schema}.pyapi_data_records
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.pyapi_count_records()
    """,
    """
    CREATE TRIGGER pyapi_count_deleted AFTER DELETE ON {schema}.pyapi_data_records
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.pyapi_count_records()
    """,
    """
    CREATE TRIGGER pyapi_keep_pieces AFTER INSERT OR DELETE ON {schema}.pyapi_data_records
    FOR EACH ROW EXECUTE FUNCTION {schema}.pyapi_keep_pieces()
    """,
    """
    CREATE TRIGGER pyapi_keep_changed_pieces AFTER UPDATE ON {schema}.pyapi_data_records
    FOR EACH ROW WHEN (OLD.name IS DISTINCT FROM NEW.name OR OLD.description IS DISTINCT FROM NEW.description)
    EXECUTE FUNCTION {schema}.pyapi_keep_pieces()
    """,
)

# As with the other triggers: who may execute a trigger function may put it on a table of their own.
OWN_TRIGGERS_ONLY = """
REVOKE EXECUTE ON FUNCTION {schema}.pyapi_count_records(), {schema}.pyapi_keep_pieces(), {schema}.pyapi_rebuild_lists()
FROM PUBLIC
"""


def upgrade() -> None:
    op.create_index("ix_pyapi_data_records_status_id", "pyapi_data_records", ["status", "id"])
    create_tables()
    for statement in (PIECES, SEARCH_QUERY, KEEP_PIECES, count_records(), REBUILD, *TRIGGERS, OWN_TRIGGERS_ONLY):
        execute(statement)
    execute("SELECT {schema}.pyapi_rebuild_lists()")
    # Afterwards: building an index of a million records takes a tenth of adding them to it. New pieces wait in a list
    # until there are half a megabyte of them: a search reads those as well, within a fraction of a millisecond.
    op.create_index(
        "ix_pyapi_record_pieces_pieces",
        "pyapi_record_pieces",
        ["pieces"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 512},
    )
    execute("ANALYZE {schema}.pyapi_record_pieces")


def create_tables() -> None:
    op.create_table(
        "pyapi_record_counts",
        # No number from a sequence: who adds records may ask for `lastval()`.
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=True),
        sa.Column("visibility", sa.String(20), nullable=False),
        sa.Column("status", sa.String(50), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pyapi_record_counts"),
    )
    op.create_index("ix_pyapi_record_counts_owner_id", "pyapi_record_counts", ["owner_id"])
    op.create_table(
        "pyapi_record_pieces",
        sa.Column("record_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pieces", postgresql.TSVECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", name="pk_pyapi_record_pieces"),
    )


def count_records() -> str:
    """The function of the triggers that count."""
    statement = COUNT_RECORDS
    for event, changed in (("inserted", MORE), ("deleted", FEWER), ("updated", f"{MORE} UNION ALL {FEWER}")):
        statement = statement.replace(f"{{count_{event}}}", ADD_DIFFERENCES.replace("{changed}", changed).strip())
    return statement


def downgrade() -> None:
    for trigger in ("count_inserted", "count_updated", "count_deleted", "keep_pieces", "keep_changed_pieces"):
        op.execute(f"DROP TRIGGER pyapi_{trigger} ON pyapi_data_records")
    for function in (
        *("count_records()", "keep_pieces()", "rebuild_lists()"),
        *("search_query(text)", "pieces(text, text)"),
    ):
        op.execute(f"DROP FUNCTION pyapi_{function}")
    op.drop_table("pyapi_record_pieces")
    op.drop_table("pyapi_record_counts")
    op.drop_index("ix_pyapi_data_records_status_id", "pyapi_data_records")


def execute(statement: str) -> None:
    """Run a statement in which `{schema}` stands for the schema of our tables, `{schema_name}` for its name quoted."""
    script = op.get_context().script
    assert script is not None
    if "{schema_name}" in statement:
        name: Any = op.get_bind().scalar(sa.text("SELECT quote_literal(current_schema())"))
        statement = statement.replace("{schema_name}", name)
    script.get_revision("0008").module.execute(statement)
