"""A new SECRET_KEY logs nobody out while the one before is known, and nothing is signed with that (ASVS 5.0, 13.3.4).

That neither key may be weak, empty or a public one: tests/unit/test_settings.py and tests/unit/test_auth_tokens.py.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr

from pyapi.settings import Settings
from pyapi.web.application import get_app
from tests.fixtures.application import PASSWORD, log_in

OLD, NEW = (f"rotation-{name}-Zk3v-9sQhW1xT7uB_eYc5LrJ0aMfPdG8iNo" for name in ("old", "new"))
ACCOUNT = {"username": "rotated", "email": "rotated@example.com", "password": PASSWORD}

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def serve(settings: Settings) -> Serve:
    """A service with these keys, on the same database."""

    @asynccontextmanager
    async def serve(key: str, previous: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        keys = {"secret_key": SecretStr(key), "secret_key_previous": previous and SecretStr(previous)}
        app = get_app(settings.model_copy(update=keys))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            yield client

    return serve


@pytest.fixture(autouse=True)
async def account(serve: Serve) -> None:
    """Opened once: what these services write is committed."""
    async with serve(OLD) as service:
        await service.post("/api/auth/register", json=ACCOUNT)


async def status_with(client: httpx.AsyncClient, token: str) -> int:
    return (await client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})).status_code


async def test_a_new_key_logs_nobody_out(serve: Serve) -> None:
    async with serve(OLD) as before:
        old_token = (await log_in(before, "rotated"))["access_token"]
    async with serve(NEW, OLD) as rotated:
        new_token = (await log_in(rotated, "rotated"))["access_token"]
        assert [await status_with(rotated, token) for token in (old_token, new_token)] == [200, 200]
    async with serve(NEW) as after:
        assert [await status_with(after, token) for token in (old_token, new_token)] == [401, 200]


async def test_a_key_that_is_no_longer_named_opens_nothing(serve: Serve) -> None:
    async with serve(OLD) as before:
        token = (await log_in(before, "rotated"))["access_token"]
    async with serve(NEW) as after:
        assert await status_with(after, token) == 401


async def test_a_session_is_refreshed_across_the_rotation(serve: Serve) -> None:
    """Refresh tokens are not signed: a session goes on even when the key before is not named."""
    async with serve(OLD) as before:
        refresh_token = (await log_in(before, "rotated"))["refresh_token"]
    async with serve(NEW) as after:
        answer = await after.post("/api/auth/refresh", json={"refresh_token": refresh_token})
        assert await status_with(after, answer.json()["access_token"]) == 200
