"""PyAPI's account in Airflow, as httpx signs requests with it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import httpx

_REFUSED: Final = frozenset({401, 403})


class TokenAccount(httpx.Auth):
    """An access token that somebody has made; nothing can be done when it has expired."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the token."""
        request.headers["Authorization"] = self._header
        yield request


class PasswordAccount(httpx.Auth):
    """Name and password, exchanged for an access token at `POST /auth/token`.

    A token that is refused is exchanged once: Airflow answers 401 for an expired one, and 403 for one that was signed
    with an older key. Requests that run side by side share the exchange.
    """

    def __init__(self, url: str, *, username: str, password: str) -> None:
        self._url = f"{url.rstrip('/')}/auth/token"
        self._body = {"username": username, "password": password}
        self._token: str | None = None
        self._exchanging = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign in when there is no token or a refused one, and send the request."""
        used = self._token
        if used is not None:
            request.headers["Authorization"] = f"Bearer {used}"
            response = yield request
            if response.status_code not in _REFUSED:
                return
        async with self._exchanging:
            if self._token == used:
                answer = yield httpx.Request("POST", self._url, json=self._body)
                await answer.aread()
                self._token = _token_in(answer)
        request.headers.pop("Authorization", None)
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request  # without a token too: the answer is the 401 that the caller should see


def _token_in(answer: httpx.Response) -> str | None:
    try:
        token = answer.json()["access_token"] if answer.is_success else None
    except (ValueError, KeyError, TypeError):
        return None
    return token if isinstance(token, str) else None
