"""How requests reach Airflow: signed in, within seconds, and not at all while it is down."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol

import httpx
import structlog
from circuitbreaker import CircuitBreaker

from pyapi.exceptions import AirflowUnavailable, Busy

ANSWER_SECONDS: Final = 2.0
"""The longest that one request to Airflow takes, signing in included; of a stream, until its first byte."""

FAILURES_TO_OPEN: Final = 5
OPEN_SECONDS: Final = 3.0
"""After so many failures one after the other nothing is sent for so long: nobody waits for what will not come."""

AT_ONCE: Final = 4
PLACE_SECONDS: Final = 8.0
"""So many requests are sent side by side, and others wait so long for their turn: an API server with one worker answers
20 at once too late, and each of them would count as a failure."""

_AWAY: Final = frozenset({401, 502, 503, 504})
"""Answers after which no other request would fare better."""

_UNAUTHORIZED: Final = "Airflow does not take PyAPI's account: check PYAPI_AIRFLOW_USERNAME and PYAPI_AIRFLOW_PASSWORD."
_FORBIDDEN: Final = "PyAPI's account in Airflow may not do this: give it the right to edit DAGs and runs."
_FORBIDDEN_XCOM: Final = (
    "PyAPI's account in Airflow may not read XComs, where runs say what they have moved: give it that right."
)

log = structlog.get_logger(__name__)


class Connection(Protocol):
    """A way to Airflow's REST API. Both raise AirflowUnavailable; an answer of 400 to 499 is for the caller to read."""

    @property
    def url(self) -> str | None:
        """Where Airflow is; None for nowhere."""
        ...

    async def ask(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """Send a request; `path` is below `/api/v2/`."""
        ...

    def stream(
        self, path: str, *, params: Mapping[str, Any], accept: str
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """Ask with GET, and read the body while it comes."""
        ...

    async def close(self) -> None:
        """Give back what the connection holds."""
        ...


class NullConnection:
    """No Airflow is configured."""

    url = None
    _REASON = "No Airflow is configured: set PYAPI_AIRFLOW_URL."

    async def ask(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """Raise AirflowUnavailable."""
        raise AirflowUnavailable(self._REASON)

    @asynccontextmanager
    async def stream(self, path: str, *, params: Mapping[str, Any], accept: str) -> AsyncIterator[httpx.Response]:
        """Raise AirflowUnavailable."""
        raise AirflowUnavailable(self._REASON)
        yield

    async def close(self) -> None:
        """Nothing is held."""


class HttpConnection:
    """An Airflow that is somewhere. One for each process, so that its circuit knows of all failures there."""

    def __init__(self, url: str, account: httpx.Auth, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            auth=account,
            timeout=ANSWER_SECONDS,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE, keepalive_expiry=30),
            trust_env=False,
            transport=transport,
        )
        self._places = asyncio.Semaphore(AT_ONCE)
        self._circuit = CircuitBreaker(
            failure_threshold=FAILURES_TO_OPEN,
            recovery_timeout=OPEN_SECONDS,
            expected_exception=AirflowUnavailable,
            name="airflow",
        )

    async def ask(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """See Connection."""
        request = self._client.build_request(method, f"{self.url}/api/v2/{path}", json=json, params=params)
        return await self._within_circuit(request, stream=False)

    @asynccontextmanager
    async def stream(self, path: str, *, params: Mapping[str, Any], accept: str) -> AsyncIterator[httpx.Response]:
        """See Connection."""
        request = self._client.build_request(
            "GET", f"{self.url}/api/v2/{path}", params=params, headers={"Accept": accept}
        )
        response = await self._within_circuit(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _within_circuit(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """Who is cancelled counts for nothing: neither for a failure nor, as CircuitBreaker has it, for a success."""
        async with self._place():
            if self._circuit.opened:
                raise AirflowUnavailable(str(self._circuit.last_failure))
            try:
                response = await self._send(request, stream=stream)
            except AirflowUnavailable as error:
                self._count(error)
                raise
            self._circuit.reset()
        if response.status_code == httpx.codes.FORBIDDEN or not (response.is_success or response.is_client_error):
            # An Airflow that answers is not down: what it cannot do for one must not be in the way of all others.
            await response.aclose()
            log.info("airflow.failed", method=request.method, path=request.url.path, status_code=response.status_code)
            raise AirflowUnavailable(_forbidden(request) if response.status_code == httpx.codes.FORBIDDEN else None)
        return response

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places at Airflow; a stream gives it back with its first byte. Raises Busy."""
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise Busy("Too many requests wait for Airflow. Try again shortly.") from None
        try:
            yield
        finally:
            self._places.release()

    def _count(self, error: AirflowUnavailable) -> None:
        was_closed = self._circuit.closed
        with suppress(AirflowUnavailable), self._circuit:
            raise error
        if was_closed and self._circuit.opened:
            log.warning("airflow.circuit_opened", seconds=OPEN_SECONDS)

    async def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._client.send(request, stream=stream)
        except (httpx.RequestError, TimeoutError) as error:
            log.info("airflow.unreachable", method=request.method, path=request.url.path, error=type(error).__name__)
            raise AirflowUnavailable from error
        if response.status_code in _AWAY:
            await response.aclose()
            log.info("airflow.refused", method=request.method, path=request.url.path, status_code=response.status_code)
            raise AirflowUnavailable(_UNAUTHORIZED if response.status_code == httpx.codes.UNAUTHORIZED else None)
        return response


def _forbidden(request: httpx.Request) -> str:
    """Airflow gives the right to read XComs apart from the others."""
    return _FORBIDDEN_XCOM if "/xcomEntries/" in request.url.path else _FORBIDDEN
