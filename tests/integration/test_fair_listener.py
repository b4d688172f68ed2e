"""Connections of a burst are shared by those who listen; two listeners in one loop stand for two workers."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import uvloop

from pyapi.fair_listener import FairListener

BURST = 20


class Accepted(asyncio.Protocol):
    """One list for each listener: the sockets that it has taken."""

    def __init__(self, taken: list[socket.socket]) -> None:
        self._taken = taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken.append(transport.get_extra_info("socket"))


@pytest.fixture
async def listening() -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=BURST) as listening:
        yield listening


async def dial(listening: socket.socket) -> list[socket.socket]:
    """A burst: nobody has been accepted yet when the last one comes."""
    return [socket.create_connection(listening.getsockname()) for _ in range(BURST)]


def hang_up(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


async def wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_burst_is_shared(listening: socket.socket) -> None:
    clients = await dial(listening)
    ours, others = list[socket.socket](), list[socket.socket]()
    with listening.dup() as twin:
        first = FairListener(listening, partial(Accepted, ours), ssl=None)
        second = FairListener(twin, partial(Accepted, others), ssl=None)
        await wait_until(lambda: len(ours) + len(others) == BURST)
        first.close()
        second.close()
    assert min(len(ours), len(others)) >= BURST / 4
    hang_up(clients)


async def test_who_was_closed_takes_nobody(listening: socket.socket) -> None:
    taken: list[socket.socket] = []
    listener = FairListener(listening, partial(Accepted, taken), ssl=None)
    listener.close()
    clients = await dial(listening)
    await asyncio.sleep(0.05)
    assert taken == []
    hang_up(clients)


async def test_no_files_left_is_a_pause_and_no_end(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[socket.socket] = []
    monkeypatch.setattr("pyapi.fair_listener._FULL_SECONDS", 0.01)
    full = iter([OSError(errno.EMFILE, "Too many open files")])

    class Full:
        """The listening socket, which fails once."""

        def __getattr__(self, name: str) -> object:
            return getattr(listening, name)

        def accept(self) -> tuple[socket.socket, object]:
            for error in full:
                raise error
            return listening.accept()

    listener = FairListener(Full(), partial(Accepted, taken), ssl=None)  # type: ignore[arg-type]
    clients = await dial(listening)
    await wait_until(lambda: len(taken) == BURST)
    listener.close()
    hang_up(clients)


def test_small_answers_leave_at_once() -> None:
    """Without TCP_NODELAY some would wait 40 ms for the client to confirm the one before."""

    async def look() -> int:
        taken: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = FairListener(listening, partial(Accepted, taken), ssl=None)
            with socket.create_connection(listening.getsockname()):
                await wait_until(lambda: len(taken) == 1)
                found = taken[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            listener.close()
        return found

    assert uvloop.run(look()) == 1
