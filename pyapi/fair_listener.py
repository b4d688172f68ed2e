"""Takes new connections one by one, so that workers share them."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

import structlog
from uvicorn import Server

_PAUSE_SECONDS: Final = 0.001
"""Between two connections: long enough for another worker to come first, and 1,000 a second are enough for each."""

_FULL_SECONDS: Final = 0.5
"""The pause when no file can be opened any more: connections that end give some back."""

_NOT_HERE: Final = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNABORTED})
"""Another worker was faster, or the client has left."""

log = structlog.get_logger(__name__)


class FairListener:
    """Accepts one connection, and then lets others do so.

    The server of an event loop takes all that wait. Whichever worker looked first would get the whole of a burst and,
    as connections are kept alive, its requests too, for as long as the clients stay: 16 connections went 15 to 1.
    """

    def __init__(self, listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol], *, ssl: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = listening
        self._make_protocol = make_protocol
        self._ssl = ssl
        self._opening: set[asyncio.Task[Any]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in _NOT_HERE:
                log.warning("connections.waiting", reason=errno.errorcode.get(error.errno or 0))
                self._listen_again(_FULL_SECONDS)
            return
        self._listen_again(_PAUSE_SECONDS)
        connection.setblocking(False)
        opening = self._loop.create_task(
            self._loop.connect_accepted_socket(self._make_protocol, connection, ssl=self._ssl)
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and (error := opening.exception()):
            log.info("connection.lost", reason=type(error).__name__)  # the client was gone before anybody looked

    def _listen_again(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._pause = self._loop.call_later(seconds, self._listen)

    def close(self) -> None:
        """Accept no more; what is open stays open."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket.fileno())

    async def wait_closed(self) -> None:
        """Wait for what was being opened."""
        if self._opening:
            await asyncio.wait(self._opening)


class FairServer(Server):
    """uvicorn, on sockets that it shares with other processes."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        await super().startup(sockets=[])
        config, state = self.config, self.lifespan.state

        def make_protocol() -> asyncio.Protocol:
            make: Any = config.http_protocol_class
            protocol: asyncio.Protocol = make(config=config, server_state=self.server_state, app_state=state)
            return protocol

        for each in sockets or ():
            each.listen(config.backlog)
            listener: Any = FairListener(each, make_protocol, ssl=config.ssl)  # uvicorn closes it as its own
            self.servers.append(listener)
