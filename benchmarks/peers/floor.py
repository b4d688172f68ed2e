"""The floor: the least that Starlette and asyncpg can do for these answers.

The token is verified as PyAPI verifies it, by python-jose: signature, audience, issuer, expiry. Left out: whether its
session still lives, masking of credentials, validation of what is sent, the next runs of a record (the answer has five
constant ones in their place, so that it is as long), logs, metrics. PostgreSQL writes the JSON; each request is one
statement, but a list, which needs a second one for the total.
"""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from jose import JWTError, jwk, jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_KEY = jwk.construct(os.environ["SECRET_KEY"], "HS256")
_ITEM = """
    id, name, description, config, status, owner_id, revision, created_at, updated_at,
    schedule_summary->>'en' AS schedule_description, schedule_summary->>'error' AS schedule_error, next_run_at,
    NULL AS paused_until, NULL AS last_run, NULL AS airflow
"""
_RUNS = json.dumps([{"utc": "2026-11-25T09:00:00Z", "local": "2026-11-25T09:00:00Z"}] * 5)
_RECORD = f"{_ITEM}, '{_RUNS}'::json AS next_runs"
_READ = f"SELECT row_to_json(x)::text FROM (SELECT {_RECORD} FROM pyapi_data_records WHERE id = $1) x"
_PAGE = f"""
    SELECT coalesce(json_agg(x), '[]')::text FROM (
        SELECT {_ITEM} FROM pyapi_data_records WHERE $1::text IS NULL OR status = $1
        ORDER BY created_at DESC, id DESC LIMIT $2
    ) x
"""
_FILTERED_PAGE = _PAGE.replace("$1::text IS NULL OR ", "")
_COUNT = "SELECT count(*) FROM pyapi_data_records"
_FILTERED_COUNT = f"{_COUNT} WHERE status = $1"
_ACTOR = """
    actor AS MATERIALIZED (
        SELECT set_config('pyapi.actor_id', $1, true), set_config('pyapi.actor_name', 'wang', true),
               set_config('pyapi.schedules_computed', 'true', true)
    )
"""
# What PyAPI computes from the rule; here it is always the same.
_DERIVED = """now(), now() + interval '1 day', '{"en": "At 09:00", "zh_TW": "在上午 09:00", "reader": "1"}'::jsonb"""
_CREATE = f"""
    WITH {_ACTOR}, x AS (
        INSERT INTO pyapi_data_records
            (name, description, config, status, owner_id, scheduled_since, next_run_at, schedule_summary)
        SELECT $2, $3, $4::jsonb, $5, $1::text::integer, {_DERIVED} FROM actor
        RETURNING {_RECORD}
    ) SELECT row_to_json(x)::text FROM x
"""
_UPDATE = f"""
    WITH {_ACTOR}, x AS (
        UPDATE pyapi_data_records
        SET description = $3, config = $4::jsonb, (scheduled_since, next_run_at, schedule_summary) = ({_DERIVED})
        FROM actor WHERE id = $2 AND owner_id = $1::text::integer
        RETURNING {_RECORD}
    ) SELECT row_to_json(x)::text FROM x
"""
_ROTATE = """
    WITH used AS (
        UPDATE pyapi_refresh_tokens t SET is_active = false, revoked_at = now()
        FROM pyapi_sessions s, pyapi_users u
        WHERE t.token = $1 AND t.is_active AND t.expires_at > now() AND s.id = t.family_id AND s.ended_at IS NULL
          AND u.id = t.user_id AND u.is_active
        RETURNING t.id, t.user_id, t.family_id, t.expires_at
    )
    INSERT INTO pyapi_refresh_tokens (token, user_id, family_id, parent_id, expires_at, user_agent, address)
    SELECT $2, user_id, family_id, id, expires_at, NULL, '127.0.0.1' FROM used RETURNING user_id, family_id
"""


def _caller(request: Request) -> str | None:
    """The id of the user; None for a token that does not hold."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        claims = jwt.decode(token, _KEY, algorithms=["HS256"], audience="pyapi-api", issuer="pyapi")
    except JWTError:
        return None
    user_id: str = claims["sub"]
    return user_id


def _json(text: str | None, status: int = 200) -> Response:
    if text is None:
        return Response(status_code=404)
    return Response(text, status, media_type="application/json")


async def read(request: Request) -> Response:
    """One record."""
    if _caller(request) is None:
        return Response(status_code=401)
    return _json(await request.app.state.pool.fetchval(_READ, int(request.path_params["id"])))


async def page(request: Request) -> Response:
    """The newest records, and how many there are."""
    if _caller(request) is None:
        return Response(status_code=401)
    limit, status = int(request.query_params.get("limit", "10")), request.query_params.get("status")
    async with request.app.state.pool.acquire() as connection:
        if status is None:
            data = await connection.fetchval(_PAGE, None, limit)
            total = await connection.fetchval(_COUNT)
        else:
            data = await connection.fetchval(_FILTERED_PAGE, status, limit)
            total = await connection.fetchval(_FILTERED_COUNT, status)
    return _json(f'{{"data":{data},"total":{total},"skip":0,"limit":{limit},"next_cursor":null}}')


async def create(request: Request) -> Response:
    """Store a record; the trigger writes its revision."""
    if (caller := _caller(request)) is None:
        return Response(status_code=401)
    body = json.loads(await request.body())
    config = json.dumps(body["config"])
    made = await request.app.state.pool.fetchval(
        _CREATE, caller, body["name"], body["description"], config, body["status"]
    )
    return _json(made, 201)


async def update(request: Request) -> Response:
    """Change description and config of an own record."""
    if (caller := _caller(request)) is None:
        return Response(status_code=401)
    body = json.loads(await request.body())
    return _json(
        await request.app.state.pool.fetchval(
            _UPDATE, caller, int(request.path_params["id"]), body["description"], json.dumps(body["config"])
        )
    )


async def refresh(request: Request) -> Response:
    """Exchange a refresh token."""
    used = json.loads(await request.body())["refresh_token"]
    successor = secrets.token_urlsafe(32)
    row = await request.app.state.pool.fetchrow(_ROTATE, _digest(used), _digest(successor))
    if row is None:
        return Response(status_code=401)
    pair = {
        "access_token": _sign(row["user_id"], row["family_id"]),
        "refresh_token": successor,
        "token_type": "bearer",
        "expires_in": 1800,
    }
    return _json(json.dumps(pair))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _sign(user_id: int, session_id: UUID) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": str(user_id),
        "sid": str(session_id),
        "jti": str(uuid4()),
        "typ": "access",
        "iat": now,
        "exp": now + 1800,
        "iss": "pyapi",
        "aud": "pyapi-api",
    }
    return jwt.encode(claims, _KEY, algorithm="HS256")


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    settings = {"timezone": "UTC", "jit": "off"}
    dsn = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    async with asyncpg.create_pool(dsn, min_size=10, max_size=10, server_settings=settings) as app.state.pool:
        yield


app = Starlette(
    routes=[
        Route("/api/data/{id}", read),
        Route("/api/data/{id}", update, methods=["PUT"]),
        Route("/api/data/", page),
        Route("/api/data/", create, methods=["POST"]),
        Route("/api/auth/refresh", refresh, methods=["POST"]),
        Route("/api/health", lambda _: Response()),
    ],
    lifespan=_lifespan,
)
