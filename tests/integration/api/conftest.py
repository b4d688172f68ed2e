"""Callers of the API."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from fastapi import FastAPI

from tests.integration.conftest import SignUp

HeadersOf = Callable[[str], Awaitable[dict[str, str]]]


@pytest.fixture
def headers_of(app: FastAPI, sign_up: SignUp) -> HeadersOf:
    """The headers with which somebody calls; the first call as "owner" opens the account `owner`."""
    known: dict[str, dict[str, str]] = {"nobody": {}, "a forger": {"Authorization": "Bearer a.b.c"}}

    async def headers_of(caller: str) -> dict[str, str]:
        if caller not in known and caller == "a late comer":
            token = app.state.tokens.signer.sign(
                user_id=(await sign_up(caller.replace(" ", "_"))).id,
                session_id=uuid4(),
                issued_at=datetime.now(UTC) - timedelta(hours=2),
                expires_at=datetime.now(UTC) - timedelta(hours=1),
            )
            known[caller] = {"Authorization": f"Bearer {token}"}
        elif caller not in known:
            known[caller] = (await sign_up(caller.replace(" ", "_"), superuser=caller == "superuser")).headers
        return known[caller]

    return headers_of
