"""What surrounds every request: CPU of the middleware, the log line and the numbers, in this process alone.

`uv run python -m benchmarks around` takes some seconds and writes its section of RESULTS.md. PyAPI's own middleware, as
the application installs it, stands around an application that answers two bytes; what that takes alone is subtracted.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.dataset import KEY, access_token
from benchmarks.report import table, write_section

ROUNDS = 9
REQUESTS = 3_000

_ROUTE: Final = SimpleNamespace(path_format="/data/{data_id}")


def main() -> None:
    """Measure, and write the section."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # as with several workers, which costs more
        with (Path(folder) / "log").open("w", buffering=1) as log, contextlib.redirect_stderr(log):
            stacks = _stacks()
            costs = asyncio.run(_costs(list(stacks.values())))
    alone = costs[0]
    lines = [
        (name, f"{cost - before:.1f}", f"{cost - alone:.1f}")
        for name, before, cost in zip(list(stacks)[1:], costs, costs[1:], strict=False)
    ]
    text = "Microseconds of CPU for one request, the best of several rounds; the log goes to a file.\n\n"
    write_section("around", text + table(("layer, from the inside", "its own", "with what is inside"), lines), words=())


def _stacks() -> dict[str, ASGIApp]:
    """The answering application, and with each layer more around it."""
    # Not before the variable is set: prometheus_client reads it when it is imported.
    from pyapi.settings import Settings
    from pyapi.web.application import get_app

    settings = Settings(_env_file=None, SECRET_KEY=KEY, log_format="json")
    app: ASGIApp = _answer
    stacks = {"none": app}
    for layer in reversed(get_app(settings).user_middleware):
        app = layer.cls(app, *layer.args, **layer.kwargs)
        stacks[type(app).__name__] = app
    return stacks


async def _costs(apps: Sequence[ASGIApp]) -> list[float]:
    """Microseconds a request; the rounds of all take turns."""
    best = [float("inf")] * len(apps)
    for _ in range(ROUNDS):
        for place, app in enumerate(apps):
            began = time.process_time()
            # A task for each would be uvicorn's and not ours.
            await asyncio.create_task(_ask(app))
            best[place] = min(best[place], (time.process_time() - began) / REQUESTS * 1e6)
    return best


async def _ask(app: ASGIApp) -> None:
    token = access_token()
    for _ in range(REQUESTS):
        await app(_scope(token), _receive, _send)


def _scope(token: str) -> Scope:
    """A read of one record as uvicorn describes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "scheme": "http",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"authorization", f"Bearer {token}".encode()),
            (b"accept", b"*/*"),
            (b"user-agent", b"python-httpx/0.28.1"),
            (b"accept-encoding", b"gzip, deflate"),
        ],
        "state": {},
        "method": "GET",
        "path": "/api/data/77",
        "raw_path": b"/api/data/77",
        "query_string": b"",
    }


async def _answer(scope: Scope, _: Receive, send: Send) -> None:
    scope["route"], scope["path_params"] = _ROUTE, {"data_id": 77}
    fields = [(b"content-type", b"application/json"), (b"content-length", b"2"), (b"etag", b'"1"')]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"{}"})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request"}


async def _send(_: Message) -> None: ...
