"""Databases for the side-by-side runs: many records of one user, written by SQL, as PyAPI would have written them."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.server import Postgres
from pyapi.db.engine import parse_database_url
from pyapi.services.schedule_service import derive
from pyapi.utils.auth import PasswordHasher, TokenSigner

KEY = "benchmarks-sign-with-this-key-0123456789-abcdefghij"
PASSWORD = "SecurePass123"
USER_ID = 1
SESSION_ID = UUID("00000000-0000-4000-8000-000000000001")
TEMPLATES = 240
STATUSES = ("active", "active", "active", "inactive", "pending", "active", "active", "active", "inactive", "completed")

_FILL = """
INSERT INTO pyapi_data_records
    (name, description, config, status, owner_id, revision, created_at, updated_at, scheduled_since, next_run_at,
     schedule_summary)
SELECT '資料同步任務 ' || n, '每日銷售資料同步處理 ' || n,
       jsonb_set(t.config, '{target}', to_jsonb('s3://data-lake/銷售/' || n || '/')),
       t.status, 1, 1, t.since + n * interval '1 second',
       t.since + n * interval '1 second', t.since + n * interval '1 microsecond', t.next_run_at, t.summary
FROM generate_series($1::integer, $2::integer) n
JOIN template t ON t.place = n % $3
ORDER BY n
"""
_REVISIONS = """
INSERT INTO pyapi_data_revisions
    (record_id, revision, change_id, change_kind, changed_at, changed_by, changed_by_name, state)
SELECT r.id, 1, nextval('pyapi_data_change_id_seq'), 'created', r.created_at, 1, 'wang', to_jsonb(r)
FROM pyapi_data_records r ORDER BY r.id
"""


@dataclass(frozen=True)
class Place:
    """A database of the server."""

    postgres: Postgres

    @property
    def dsn(self) -> str:
        """The URL as asyncpg takes it."""
        return self.postgres.url.replace("+asyncpg", "")

    async def connect(self) -> Any:
        """A connection."""
        return await asyncpg.connect(self.dsn)


def config_of(place: int, number: int | None = None) -> dict[str, Any]:
    """A config like the one of the seed's README, with a target of the record `number` alone.

    Its rule runs once a day at most, so that moving next runs on costs next to nothing meanwhile.
    """
    days = ("*", "1-5", "0", "*")[place % 4]
    return {
        "source": f"postgresql://etl@warehouse:5432/銷售_{place % 97}",
        "target": f"s3://data-lake/銷售/{place if number is None else number}/",
        "schedule": f"{place * 7 % 60} {place * 5 % 24} * * {days}",
        "batch_size": 1000,
        "retry_count": 3,
        "tags": ["每日", f"team-{place % 7}"],
    }


def access_token() -> str:
    """A token of the session that every database of a run has; it holds for a day."""
    now = datetime.now(UTC)
    return TokenSigner(KEY).sign(
        user_id=USER_ID, session_id=SESSION_ID, issued_at=now, expires_at=now + timedelta(hours=23)
    )


async def fill(place: Place, rows: int) -> None:
    """Write one user with one session, and records with their first revision.

    Triggers are off meanwhile: a million deferred ones take minutes. What they would write is written here.
    """
    connection = await place.connect()
    now = datetime.now(UTC).replace(microsecond=0)
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "INSERT INTO pyapi_users (id, username, email, hashed_password) VALUES (1, 'wang', 'wang@example.com', $1)",
            PasswordHasher().hash(PASSWORD),
        )
        await connection.execute("SELECT setval('pyapi_users_id_seq', 1)")
        await connection.execute(
            "INSERT INTO pyapi_sessions (id, user_id, expires_at) VALUES ($1, 1, now() + interval '7 days')", SESSION_ID
        )
        await connection.execute(
            "CREATE TEMPORARY TABLE template (place integer, config jsonb, status text, since timestamptz,"
            " next_run_at timestamptz, summary jsonb) ON COMMIT DROP"
        )
        since = now - timedelta(days=30)
        await connection.copy_records_to_table("template", records=[_template(n, since, now) for n in range(TEMPLATES)])
        await connection.execute(_FILL, 1, rows, TEMPLATES)
        await connection.execute(_REVISIONS)
        await connection.execute("SELECT pyapi_rebuild_lists()")
    await connection.execute("VACUUM (FREEZE, ANALYZE)")
    await connection.execute("CHECKPOINT")
    await connection.close()


def _template(place: int, since: datetime, now: datetime) -> tuple[Any, ...]:
    config, status = config_of(place), STATUSES[place % len(STATUSES)]
    next_run_at, summary = derive(status, config, since=since, now=now)
    return place, json.dumps(config, ensure_ascii=False), status, since, next_run_at, json.dumps(summary)


async def copy_of(place: Place, name: str) -> Place:
    """A database with the same content, to which nobody but its own service writes."""
    source = parse_database_url(place.postgres.url)
    connection = await asyncpg.connect(
        source.set(drivername="postgresql", database="template1").render_as_string(False)
    )
    await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source.database}" STRATEGY file_copy')
    await connection.close()
    url = source.set(database=name).render_as_string(hide_password=False)
    return Place(Postgres(url, place.postgres.pid))


async def open_sessions(place: Place, number: int) -> Sequence[str]:
    """Refresh tokens of new sessions, each unused."""
    tokens = [secrets.token_urlsafe(32) for _ in range(number)]
    connection = await place.connect()
    await connection.execute(
        """
        WITH opened AS (
            INSERT INTO pyapi_sessions (user_id, expires_at)
            SELECT 1, now() + interval '7 days' FROM unnest($1::text[]) RETURNING id
        ), numbered AS (SELECT id, row_number() OVER () AS n FROM opened)
        INSERT INTO pyapi_refresh_tokens (token, user_id, family_id, expires_at)
        SELECT d.token, 1, o.id, now() + interval '7 days'
        FROM unnest($1::text[]) WITH ORDINALITY d (token, n) JOIN numbered o USING (n)
        """,
        [hashlib.sha256(token.encode()).hexdigest() for token in tokens],
    )
    await connection.close()
    return tokens
