"""A way to a server on which an upload stops half way, for as long as a test wants."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit

_PIECE = 4096


class StallingProxy:
    """Hands on what goes to `url` and back; when that was `most` bytes, nothing goes on until `let_go`."""

    def __init__(self, url: str, *, most: int) -> None:
        parts = urlsplit(url)
        self._left = most
        self._server = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.is_stalled = threading.Event()
        self._may_go = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def let_go(self) -> None:
        """Stop nobody any more. What was stopped is cut off: whoever sent it may be gone."""
        self._may_go.set()

    def close(self) -> None:
        """Listen no longer."""
        self._may_go.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client, server:
            while piece := client.recv(_PIECE):
                self._left -= len(piece)
                if self._left < 0 and not self._may_go.is_set():
                    self.is_stalled.set()
                    self._may_go.wait()
                    # Closing alone says nothing while the other thread still reads.
                    server.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(piece)

    @staticmethod
    def _answer(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError), server, client:
            while piece := server.recv(_PIECE):
                client.sendall(piece)
