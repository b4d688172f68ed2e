"""Tables as Airflow has them, with all that a careless migration could take away, and a way to see that it did not."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_TABLES = (
    "CREATE TYPE dagrun_kind AS ENUM ('scheduled', 'manual')",
    "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('29ce7909c52b')",
    """CREATE TABLE dag (
        dag_id varchar(250) PRIMARY KEY, is_paused boolean, is_stale boolean, fileloc varchar(2000),
        owners varchar(2000), timetable_summary text, next_dagrun timestamptz, bundle_name varchar(250))""",
    "CREATE INDEX idx_next_dagrun ON dag (next_dagrun) WHERE NOT is_stale",
    """CREATE TABLE dag_run (
        id serial PRIMARY KEY, dag_id varchar(250) NOT NULL REFERENCES dag ON DELETE CASCADE,
        run_id varchar(250) NOT NULL, state varchar(50) DEFAULT 'queued', run_type dagrun_kind NOT NULL,
        logical_date timestamptz, conf jsonb,
        CONSTRAINT dag_run_dag_id_run_id_key UNIQUE (dag_id, run_id))""",
    """CREATE TABLE task_instance (
        id uuid PRIMARY KEY, task_id varchar(250) NOT NULL, run_id varchar(250) NOT NULL, dag_id varchar(250) NOT NULL,
        map_index integer NOT NULL DEFAULT -1, state varchar(20), try_number integer CHECK (try_number >= 0),
        CONSTRAINT task_instance_dag_run_fkey FOREIGN KEY (dag_id, run_id) REFERENCES dag_run (dag_id, run_id))""",
    "CREATE INDEX ti_state ON task_instance (state)",
    """CREATE TABLE connection (
        id serial PRIMARY KEY, conn_id varchar(250) NOT NULL UNIQUE, conn_type varchar(500) NOT NULL, host varchar(500),
        login text, password text, is_encrypted boolean, extra text)""",
    "CREATE TABLE variable (id serial PRIMARY KEY, key varchar(250) UNIQUE, val text, is_encrypted boolean)",
    "CREATE TABLE log (id serial PRIMARY KEY, dttm timestamptz, dag_id varchar(250), event varchar(60), extra text)",
    "CREATE INDEX idx_log_event ON log (event)",
    "CREATE TABLE serialized_dag (id uuid PRIMARY KEY, dag_id varchar(250) NOT NULL, data json, updated timestamptz)",
    "CREATE TABLE ab_user (id serial PRIMARY KEY, username varchar(512) NOT NULL UNIQUE, email varchar(512) UNIQUE)",
    'CREATE TABLE "pyapireports" (id serial PRIMARY KEY, name text)',
    "CREATE VIEW running AS SELECT dag_id, run_id FROM dag_run WHERE state = 'running'",
    """CREATE FUNCTION stamp_log() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.dttm := coalesce(NEW.dttm, now()); RETURN NEW; END'""",
    "CREATE TRIGGER stamp_log BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION stamp_log()",
)
_ROWS = (
    """INSERT INTO dag (dag_id, is_paused, is_stale, fileloc)
        SELECT 'dag_' || n, n % 2 = 0, false, '/dags/a.py' FROM generate_series(1, 20) n""",
    """INSERT INTO dag_run (dag_id, run_id, run_type, conf)
        SELECT dag_id, 'manual__1', 'manual', '{"日期": 1}' FROM dag""",
    """INSERT INTO task_instance (id, task_id, run_id, dag_id, try_number)
        SELECT gen_random_uuid(), 'extract', run_id, dag_id, 1 FROM dag_run""",
    "INSERT INTO connection (conn_id, conn_type, password) VALUES ('warehouse', 'postgres', 'secret')",
    "INSERT INTO variable (key, val) VALUES ('env', 'prod')",
    "INSERT INTO log (dag_id, event) SELECT dag_id, 'trigger' FROM dag",
    "INSERT INTO serialized_dag SELECT gen_random_uuid(), dag_id, '{}', now() FROM dag",
    "INSERT INTO ab_user (username, email) VALUES ('admin', 'admin@example.com')",
    "INSERT INTO pyapireports (name) VALUES ('not one of ours: there is no underscore')",
)

# Our names hold this; `{like}` is LIKE or NOT LIKE.
_NAMED = r"""
    n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relname {like} '%pyapi\_%'
"""
_CATALOG = {
    "relations": f"""
        SELECT c.oid, c.relname, c.relkind, c.relfilenode, c.relowner, c.relacl::text, c.relhastriggers, c.relchecks,
               obj_description(c.oid, 'pg_class')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_NAMED}""",
    "columns": f"""
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attisdropped,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE {_NAMED}""",
    "constraints": f"""
        SELECT o.oid, c.relname, o.conname, pg_get_constraintdef(o.oid)
        FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_NAMED}""",
    "indexes": f"""
        SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_NAMED}""",
    "triggers": f"""
        SELECT t.oid, c.relname, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_NAMED}""",
    "views": f"""
        SELECT c.relname, pg_get_viewdef(c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {_NAMED}""",
    "functions": r"""
        SELECT p.oid, p.proname, pg_get_functiondef(p.oid), p.proacl::text
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND p.proname {like} 'pyapi\_%'""",
    "types": r"""
        SELECT t.oid, t.typname, t.typtype,
               ARRAY(SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)::text
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND t.typname {like} '%pyapi\_%'""",
    "schemas": """
        SELECT oid, nspname, nspowner, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_temp|^pg_toast_temp'""",
}
_NAMES = f"""
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = :kind AND {_NAMED}"""
_ROWS_OF = {
    "r": "SELECT t::text FROM {name} t",
    "S": "SELECT last_value || ' ' || is_called FROM {name}",
}


async def create_airflow_tables(connection: AsyncConnection) -> None:
    """Make the tables, with rows."""
    for statement in (*_TABLES, *_ROWS):
        await connection.exec_driver_sql(statement)


async def foreign_state(connection: AsyncConnection) -> dict[str, list[Any]]:
    """Everything in the database that is not ours: its catalog and its rows, comparable with `==`."""
    return await _state(connection, "NOT LIKE")


async def own_state(connection: AsyncConnection) -> dict[str, list[Any]]:
    """The same for all that is ours."""
    return await _state(connection, "LIKE")


async def _state(connection: AsyncConnection, like: str) -> dict[str, list[Any]]:
    state: dict[str, list[Any]] = {}
    for name, statement in _CATALOG.items():
        state[name] = sorted(map(str, (await connection.execute(text(statement.format(like=like)))).all()))
    for kind, statement in _ROWS_OF.items():
        for name in (await connection.execute(text(_NAMES.format(like=like)), {"kind": kind.encode()})).scalars():
            state[name] = sorted((await connection.execute(text(statement.format(name=name)))).scalars())
    return state
