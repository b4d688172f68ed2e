"""What is asked of each variant: raw requests, made before the clock runs, and what a right answer is."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from benchmarks.dataset import STATUSES, TEMPLATES, access_token, config_of
from benchmarks.generator import TOKEN_PLACE

REQUESTS: Final = 12_000
"""Different requests of one round; more than any variant answers in it."""

TOKENS: Final = 256
"""Sessions that take turns in a round of refreshes."""

READ, LIST_10, LIST_100, CREATE, UPDATE, REFRESH, MIX = (
    *("read one", "list 10", "list 100 filtered"),
    *("create", "update", "refresh", "mix 80/15/5"),
)

Requests = Callable[[random.Random, int, str], bytes]


@dataclass(frozen=True)
class Operation:
    """One kind of request; `make` writes one of it, for a table of so many rows."""

    name: str
    make: Requests
    chained: bool = False
    """Each request needs the token that the answer before has brought."""


def raw(method: str, path: str, token: str, body: object = None) -> bytes:
    """A request as it goes over the wire, with keep-alive."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nAccept: */*\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    sent = json.dumps(body, ensure_ascii=False).encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent


def _read(draw: random.Random, rows: int, token: str) -> bytes:
    return raw("GET", f"/api/data/{draw.randint(1, rows)}", token)


def _list_10(_: random.Random, __: int, token: str) -> bytes:
    return raw("GET", "/api/data/?limit=10", token)


def _list_100(_: random.Random, __: int, token: str) -> bytes:
    return raw("GET", "/api/data/?limit=100&status=active", token)


def new_record(draw: random.Random) -> dict[str, Any]:
    """The body of a create."""
    number = draw.randrange(10**9)
    config = config_of(number % TEMPLATES, number)
    return {"name": f"新任務 {number}", "description": "每日資料同步處理", "config": config, "status": "active"}


def changes(draw: random.Random) -> dict[str, Any]:
    """The body of an update: another text and another config."""
    number = draw.randrange(10**9)
    return {"description": f"更新後的描述 {number}", "config": config_of(number % TEMPLATES, number)}


def _create(draw: random.Random, _: int, token: str) -> bytes:
    return raw("POST", "/api/data/", token, new_record(draw))


def _update(draw: random.Random, rows: int, token: str) -> bytes:
    return raw("PUT", f"/api/data/{draw.randint(1, rows)}", token, changes(draw))


def _refresh(_: random.Random, __: int, token: str) -> bytes:
    return raw("POST", "/api/auth/refresh", token, {"refresh_token": TOKEN_PLACE})


def _mixed(draw: random.Random, rows: int, token: str) -> bytes:
    kind = draw.random()
    makes = _read if kind < 0.8 else _list_10 if kind < 0.95 else _create if kind < 0.975 else _update
    return makes(draw, rows, token)


OPERATIONS: Final = (
    Operation(READ, _read),
    Operation(LIST_10, _list_10),
    Operation(LIST_100, _list_100),
    Operation(CREATE, _create),
    Operation(UPDATE, _update),
    Operation(REFRESH, _refresh, chained=True),
    Operation(MIX, _mixed),
)


def requests_of(operation: Operation, *, rows: int, token: str, seed: int) -> list[bytes]:
    """What one round sends; the same for every variant."""
    draw = random.Random(seed)
    return [operation.make(draw, rows, token) for _ in range(1 if operation.chained else REQUESTS)]


def check(client: httpx.Client, *, rows: int, refresh_tokens: Sequence[str]) -> None:
    """Ask everything once; AssertionError when an answer is not right, so that nobody is fast by being wrong."""
    wanted = rows // 2
    read = _json(client.get(f"/api/data/{wanted}"), 200)
    assert read["id"] == wanted, read
    assert (read["name"], read["status"]) == (f"資料同步任務 {wanted}", _status(wanted)), read
    assert read["config"] == config_of(wanted % TEMPLATES, wanted), read
    for path, length, total in (
        ("/api/data/?limit=10", 10, rows),
        ("/api/data/?limit=100&status=active", 100, sum(_status(n) == "active" for n in range(1, rows + 1))),
    ):
        page = _json(client.get(path), 200)
        assert (len(page["data"]), page["total"]) == (length, total), (path, len(page["data"]), page["total"])
        ids = [item["id"] for item in page["data"]]
        assert ids == sorted(ids, reverse=True), ids
        assert ids[0] >= rows - len(STATUSES), ids
    draw = random.Random(0)
    made = _json(client.post("/api/data/", json=(body := new_record(draw))), 201)
    assert {name: made[name] for name in body} == body, made
    changed = _json(client.put(f"/api/data/{made['id']}", json=(body := changes(draw))), 200)
    assert {name: changed[name] for name in body} == body, changed
    assert (made["revision"], changed["revision"]) == (1, 2), (made, changed)
    assert _json(client.get(f"/api/data/{made['id']}"), 200)["revision"] == 2
    pair = _json(client.post("/api/auth/refresh", json={"refresh_token": refresh_tokens[0]}), 200)
    assert pair["refresh_token"] not in refresh_tokens, "the token was not exchanged"
    assert client.post("/api/auth/refresh", json={"refresh_token": refresh_tokens[0]}).status_code == 401
    assert client.get("/api/data/1", headers={"Authorization": f"Bearer {_forged()}"}).status_code == 401


def _status(record_id: int) -> str:
    return STATUSES[record_id % TEMPLATES % len(STATUSES)]


def _json(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, (answer.request.method, answer.request.url, answer.status_code, answer.text)
    return answer.json()


def _forged() -> str:
    """A good token whose signature is another one."""
    head, _, signature = access_token().rpartition(".")
    return f"{head}.{signature[:10]}{'A' if signature[10] != 'A' else 'B'}{signature[11:]}"
