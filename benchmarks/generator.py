"""The load: requests over connections that stay open, from a process of its own.

That process is wrk (Debian: `apt-get install wrk`) where there is one, else `python -m benchmarks.generator`, which
costs several times as much CPU and so leaves less to the servers.
"""

import asyncio
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools

TOKEN_PLACE = "@" * 43
"""In a request: where a refresh token is put. The script of wrk knows it too."""

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Load:
    """What was answered; times in seconds. `refused` are answers that are no success, `broken` no answers at all."""

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int
    broken: int
    generator_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def name() -> str:
    """What makes the load."""
    return "wrk" if shutil.which("wrk") else "the Python generator"


def run(
    url: str, requests: Sequence[bytes], *, seconds: float, connections: int, tokens: Sequence[str] | None = None
) -> Load:
    """Send `requests` in turn for some seconds; with `tokens` the only one of them is filled in again and again."""
    with tempfile.TemporaryDirectory() as folder:
        sent = Path(folder) / "requests"
        sent.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in requests))
        words = [str(sent)]
        if tokens is not None:
            (kept := Path(folder) / "tokens").write_text("\n".join(tokens))
            words.append(str(kept))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [*_command(url, seconds=seconds, connections=connections), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(**json.loads(done.stderr.splitlines()[-1]), generator_cpu_seconds=cpu)


def _command(url: str, *, seconds: float, connections: int) -> list[str]:
    # wrk takes whole seconds only.
    whole = str(max(1, round(seconds)))
    if wrk := shutil.which("wrk"):
        return [wrk, "-t1", f"-c{connections}", f"-d{whole}s", "--timeout=30s", "-s", str(SCRIPT), url, "--"]
    return [sys.executable, "-m", "benchmarks.generator", url, whole, str(connections)]


class _Plan:
    """What is sent next, and what came back."""

    def __init__(self, requests: Sequence[bytes], tokens: Sequence[str] | None) -> None:
        self._requests = requests
        self._place = 0
        self._tokens = deque(tokens) if tokens is not None else None
        self.is_over = False
        self.latencies: list[float] = []
        self.refused = 0

    def next(self) -> bytes:
        if self._tokens is not None:
            return self._requests[0].replace(TOKEN_PLACE.encode(), self._tokens.popleft().encode())
        self._place = (self._place + 1) % len(self._requests)
        return self._requests[self._place]

    def answered(self, status: int, body: bytes, seconds: float) -> None:
        if self.is_over:
            return
        self.latencies.append(seconds)
        self.refused += status >= 400
        if self._tokens is not None and status < 400:
            self._tokens.append(json.loads(body)["refresh_token"])


class _Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._sent = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        self._plan.answered(self._parser.get_status_code(), body, time.perf_counter() - self._sent)
        if not self._plan.is_over:
            self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._plan.next())


async def _generate(url: str, seconds: float, connections: int, plan: _Plan) -> dict[str, Any]:
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or 80
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    opened = await asyncio.gather(
        *(loop.create_connection(lambda: _Connection(plan), host, port) for _ in range(connections))
    )
    await asyncio.sleep(seconds)
    plan.is_over, lasted = True, time.perf_counter() - began
    broken = sum(transport.is_closing() for transport, _ in opened)
    for transport, _ in opened:
        transport.abort()
    times = sorted(plan.latencies) or [0.0]
    return {
        "requests": len(plan.latencies),
        "seconds": lasted,
        "p50": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)],
        "refused": plan.refused,
        "broken": broken,
    }


def _read_requests(path: Path) -> list[bytes]:
    text, at, found = path.read_bytes(), 0, []
    while at < len(text):
        stop = text.index(b"\n", at)
        length = int(text[at:stop])
        found.append(text[stop + 1 : stop + 1 + length])
        at = stop + 1 + length
    return found


def main() -> None:
    """Generate what the command line says, and write what came back to stderr, as the script of wrk does."""
    url, seconds, connections, requests, *tokens = sys.argv[1:]
    plan = _Plan(_read_requests(Path(requests)), Path(tokens[0]).read_text().split("\n") if tokens else None)
    print(json.dumps(asyncio.run(_generate(url, float(seconds), int(connections), plan))), file=sys.stderr)


if __name__ == "__main__":
    main()
