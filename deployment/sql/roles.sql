-- Roles for PyAPI on a database that it shares with Airflow: one that the service signs in with, one that reads (the
-- reader kit, authors of DAGs), one for people who write data records by SQL, and one that nobody signs in with: it owns
-- the audit log, so that the service can add to it and cannot rewrite it.
--
--     psql -v ON_ERROR_STOP=1 -d airflow -f deployment/sql/roles.sql
--
-- Run it as a superuser, before the first start and again after it (and after an upgrade): the rights of readers and
-- writers can be given when the tables are there. Running it again changes nothing. It is plain SQL without commands
-- of psql, and has no password in it: set those afterwards, with `\password pyapi_service` in psql, or with your tools.
--
-- Other names than those below: PGOPTIONS="-c pyapi.service_role=etl -c pyapi.schema=etl" psql ...

BEGIN;

SELECT set_config(name, coalesce(nullif(current_setting(name, true), ''), fallback), true)
FROM (VALUES
    ('pyapi.service_role', 'pyapi_service'),
    ('pyapi.reader_role', 'pyapi_reader'),
    ('pyapi.writer_role', 'pyapi_writer'),
    ('pyapi.audit_role', 'pyapi_audit'),
    ('pyapi.schema', 'public')  -- where the tables of PyAPI are, or will be
) AS names (name, fallback);

-- The roles. They may sign in, and inherit nothing from anybody: what a role of Airflow may do is not theirs.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[
        current_setting('pyapi.service_role'), current_setting('pyapi.reader_role'), current_setting('pyapi.writer_role')
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I', role);
        END IF;
        EXECUTE format(
            'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role);
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_setting('pyapi.schema'), role);
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I',
            role, current_database(), current_setting('pyapi.schema'));
    END LOOP;
END $$;

-- Who reads or writes by hand holds nobody up. The service sets its own, shorter limits on each connection.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[current_setting('pyapi.reader_role'), current_setting('pyapi.writer_role')] LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET statement_timeout = %L', role, current_database(), '60s');
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET lock_timeout = %L', role, current_database(), '5s');
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET idle_in_transaction_session_timeout = %L',
            role, current_database(), '60s');
    END LOOP;
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET default_transaction_read_only = on',
        current_setting('pyapi.reader_role'), current_database());
END $$;

-- The service makes its tables itself (`pyapi db upgrade`), so it may create in the schema. What it has made under
-- another role before, Airflow's for instance, becomes its own; the name of each begins with pyapi_.
DO $$
DECLARE
    service text := current_setting('pyapi.service_role');
    schema text := current_setting('pyapi.schema');
    found record;
BEGIN
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO %I', schema, service);
    FOR found IN
        SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = schema AND c.relname LIKE 'pyapi\_%' AND c.relkind IN ('r', 'p', 'v')
          AND c.relname <> 'pyapi_audit_log'
    LOOP
        -- Sequences and indexes go with their tables.
        EXECUTE format('ALTER %s %I.%I OWNER TO %I', found.kind, schema, found.relname, service);
    END LOOP;
    FOR found IN
        SELECT p.oid::regprocedure AS signature
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = schema AND p.proname LIKE 'pyapi\_%' AND p.proname NOT LIKE 'pyapi\_%audit%'
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', found.signature, service);
    END LOOP;
END $$;

-- Readers and writers: nothing but this. The view and the revisions hold the configs, secrets included unless
-- PYAPI_FERNET_KEYS encrypts them; accounts, sessions and tokens are nobody's but the service's.
DO $$
DECLARE
    reader text := current_setting('pyapi.reader_role');
    writer text := current_setting('pyapi.writer_role');
    schema text := current_setting('pyapi.schema');
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = schema AND c.relname LIKE 'pyapi\_%' AND c.relkind IN ('r', 'p', 'v')
    LOOP
        EXECUTE format('REVOKE ALL ON %I.%I FROM PUBLIC, %I, %I', schema, name, reader, writer);
    END LOOP;
    IF to_regclass(format('%I.pyapi_records_v1', schema)) IS NULL THEN
        RAISE NOTICE 'PyAPI has no tables in schema % yet: run this again when the service has started once.', schema;
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT ON %1$I.pyapi_records_v1, %1$I.pyapi_data_revisions TO %2$I, %3$I',
        schema, reader, writer);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.pyapi_data_records TO %I', schema, writer);
    EXECUTE format('GRANT USAGE ON SEQUENCE %I.pyapi_data_records_id_seq TO %I', schema, writer);
END $$;

-- The audit log has an owner of its own, who cannot sign in. The service adds rows and reads them, and the database says
-- when they were added and in which order; old ones go through a function that leaves a row about it. The functions are
-- named one by one: the service may make others, and those must not get the rights of this owner. A migration that
-- changes this table runs as a superuser.
DO $$
DECLARE
    auditor text := current_setting('pyapi.audit_role');
    service text := current_setting('pyapi.service_role');
    schema text := current_setting('pyapi.schema');
    signature text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = auditor) THEN
        EXECUTE format('CREATE ROLE %I', auditor);
    END IF;
    EXECUTE format('ALTER ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', auditor);
    IF to_regclass(format('%I.pyapi_audit_log', schema)) IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema, auditor);
    EXECUTE format('ALTER TABLE %I.pyapi_audit_log OWNER TO %I', schema, auditor);
    FOREACH signature IN ARRAY ARRAY[
        'pyapi_refuse_audit_change()', 'pyapi_record_audit_pruning()', 'pyapi_prune_audit_log(timestamptz, integer)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %I.%s OWNER TO %I', schema, signature, auditor);
    END LOOP;
    EXECUTE format('REVOKE ALL ON %I.pyapi_audit_log FROM PUBLIC, %I', schema, service);
    EXECUTE format('GRANT SELECT, INSERT (event, actor_id, actor_name, target_kind, target_id, changes, is_cut,'
        ' details, request_id, address, user_agent) ON %I.pyapi_audit_log TO %I', schema, service);
    EXECUTE format('GRANT USAGE ON SEQUENCE %I.pyapi_audit_log_id_seq TO %I', schema, service);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %I.pyapi_prune_audit_log(timestamptz, integer) TO %I', schema, service);
END $$;

-- No role is a member of another, whoever granted that: since PostgreSQL 16 each grantor has a grant of its own, and
-- one WITH INHERIT FALSE, SET TRUE shows in no right of the role, which can put on the other's whenever it wants.
DO $$
DECLARE
    roles text[] := ARRAY[
        current_setting('pyapi.service_role'), current_setting('pyapi.reader_role'),
        current_setting('pyapi.writer_role'), current_setting('pyapi.audit_role')];
    found record;
BEGIN
    FOR found IN
        SELECT g.rolname AS granted, m.rolname AS member, b.rolname AS grantor
        FROM pg_auth_members a
        JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
        LEFT JOIN pg_roles b ON b.oid = a.grantor  -- before PostgreSQL 16 it may be gone
        WHERE m.rolname = ANY (roles) OR g.rolname = current_setting('pyapi.audit_role')
    LOOP
        IF current_setting('server_version_num')::integer >= 160000 THEN
            EXECUTE format('REVOKE %I FROM %I GRANTED BY %I', found.granted, found.member, found.grantor);
        ELSE
            EXECUTE format('REVOKE %I FROM %I', found.granted, found.member);
        END IF;
    END LOOP;
    -- Membership that no grant says: the owner of the database is one of pg_database_owner, who owns the schema public.
    FOR found IN
        SELECT m.rolname AS member, g.rolname AS granted FROM pg_roles m, pg_roles g
        WHERE m.rolname <> g.rolname AND NOT m.rolsuper AND pg_has_role(m.oid, g.oid, 'MEMBER')
          AND (m.rolname = ANY (roles) OR g.rolname = current_setting('pyapi.audit_role'))
    LOOP
        RAISE EXCEPTION 'role % is a member of %', found.member, found.granted
            USING HINT = 'Look for who granted it, and for the owner of the database.';
    END LOOP;
    -- What another grantor has granted on the log cannot be taken back for them.
    FOR found IN
        SELECT r.rolname AS member
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest(roles[1:3]) AS r (rolname)
        WHERE n.nspname = current_setting('pyapi.schema') AND c.relname = 'pyapi_audit_log'
          AND (has_any_column_privilege(r.rolname, c.oid, 'UPDATE, REFERENCES')
            OR has_table_privilege(r.rolname, c.oid, 'DELETE, TRUNCATE, TRIGGER')
            OR has_column_privilege(r.rolname, c.oid, 'at', 'INSERT'))
    LOOP
        RAISE EXCEPTION 'role % may rewrite the audit log', found.member
            USING HINT = 'Look for who granted it: \dp pyapi_audit_log in psql.';
    END LOOP;
    -- Whoever owns a schema may drop what is in it, whose ever that is.
    IF EXISTS (
        SELECT FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner
        WHERE n.nspname = current_setting('pyapi.schema') AND o.rolname = ANY (roles)
    ) THEN
        RAISE EXCEPTION 'schema % belongs to a role of PyAPI, which could drop the audit log',
            current_setting('pyapi.schema')
            USING HINT = 'Give it another owner: ALTER SCHEMA ... OWNER TO ...';
    END IF;
END $$;

-- At last the promise itself: none of them may do anything with what is not PyAPI's. Whatever was granted is taken
-- back; if something still lets them (a grant to PUBLIC, ownership), nothing of all this happens.
DO $$
DECLARE
    role text;
    found record;
    attempt integer;
BEGIN
    FOREACH role IN ARRAY ARRAY[
        current_setting('pyapi.service_role'), current_setting('pyapi.reader_role'),
        current_setting('pyapi.writer_role'), current_setting('pyapi.audit_role')
    ] LOOP
        FOR found IN
            SELECT n.nspname, c.relname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname NOT LIKE 'pyapi\_%'
              AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        LOOP
            FOR attempt IN 1..2 LOOP
                EXIT WHEN NOT has_any_column_privilege(role, found.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
                    AND NOT has_table_privilege(role, found.oid, 'DELETE, TRUNCATE, TRIGGER');
                IF attempt = 2 THEN
                    RAISE EXCEPTION 'role % may use %.%, which is not a table of PyAPI',
                        role, found.nspname, found.relname
                        USING HINT = 'Look for a grant to PUBLIC, or for an owner that should be another.';
                END IF;
                EXECUTE format('REVOKE ALL ON %I.%I FROM %I', found.nspname, found.relname, role);
            END LOOP;
        END LOOP;
    END LOOP;
END $$;

COMMIT;
