"""An Airflow in memory, with the answers of the real one and with faults that the real one has only on bad days."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from pyapi.dag_conventions import TAG, dag_id_of, describe_dag, only_looks
from pyapi.gateways.account import PasswordAccount
from pyapi.gateways.airflow import Airflow
from pyapi.gateways.connection import HttpConnection

URL: Final = "http://airflow.example:8080"
USERNAME: Final = "pyapi"
PASSWORD: Final = "correct-horse-of-airflow"
EPOCH: Final = datetime(2027, 3, 1, tzinfo=UTC)
NDJSON: Final = "application/x-ndjson"

JSON = dict[str, Any]


def moment(value: datetime = EPOCH) -> str:
    """A time as Airflow writes it."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class BrokenStream(httpx.AsyncByteStream):
    """Some lines, and then the connection is gone."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = list(lines)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self._lines:
            yield line
        raise httpx.ReadError("peer closed connection")


@dataclass
class FakeAirflow:
    """What is in it is for the tests to write; the last fields are its faults."""

    dags: dict[str, JSON] = field(default_factory=dict)
    runs: dict[tuple[str, str], JSON] = field(default_factory=dict)
    tries: dict[tuple[str, str], list[JSON]] = field(default_factory=dict)
    logs: dict[tuple[str, str, str, int], list[JSON | str]] = field(default_factory=dict)
    backfills: dict[int, JSON] = field(default_factory=dict)
    dry_dates: list[str] = field(default_factory=list)
    import_errors: list[JSON] = field(default_factory=list)
    read_again: list[str] = field(default_factory=list)
    health: JSON = field(
        default_factory=lambda: {
            part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        }
    )

    returned: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What the task of a run has left, by DAG and run."""
    found: Any = field(default_factory=lambda: {"version": 1, "ok": True, "problems": [], "tables": []})
    """What a run finds that only looks, which ends at once; None for one that does not end."""

    requests: list[httpx.Request] = field(default_factory=list)
    signed_in: int = 0
    valid_token: str | None = None

    down: bool = False
    silent: bool = False
    status: int | None = None
    garbage: httpx.Response | None = None
    missing: frozenset[str] = frozenset()
    refuse_tokens_with: int = 401
    refuses: dict[str, int] = field(default_factory=dict)
    """By "METHOD last part of the path": the status that is answered instead."""
    breaks_off: bool = False
    hold: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    before: Callable[[httpx.Request], None] | None = None
    after: Callable[[httpx.Request], None] | None = None

    def gateway(self, *, password: str = PASSWORD) -> Airflow:
        """An Airflow for the application that is this one."""
        return Airflow(self.connection(PasswordAccount(URL, username=USERNAME, password=password)))

    def connection(self, account: httpx.Auth) -> HttpConnection:
        """A connection to it."""
        return HttpConnection(URL, account, transport=httpx.MockTransport(self))

    @property
    def calls(self) -> list[str]:
        """What was asked for, without the sign-ins: "GET dags/pyapi_1"."""
        paths = [(request.method, request.url.raw_path.decode().partition("?")[0]) for request in self.requests]
        return [f"{method} {path.removeprefix('/api/v2/')}" for method, path in paths if path != "/auth/token"]

    # --- What is in it ---

    def add_dag(self, dag: int | str, revision: int = 1, **fields: Any) -> JSON:
        """A DAG of a record, or of somebody else."""
        dag_id = dag if isinstance(dag, str) else dag_id_of(dag)
        self.dags[dag_id] = {
            "dag_id": dag_id,
            "dag_display_name": dag_id,
            "is_paused": False,
            "is_stale": False,
            "bundle_name": "pyapi",
            "bundle_version": "1",
            "fileloc": "/bundle/records.py",
            "relative_fileloc": "records.py",
            "description": describe_dag("", revision=revision),
            "timetable_summary": "0 1 * * *",
            "tags": [{"name": TAG, "dag_id": dag_id, "dag_display_name": dag_id}],
            "has_import_errors": False,
            "next_dagrun_run_after": moment(),
            "owners": ["pyapi"],
            "file_token": f"token/of {dag_id}",
        } | fields
        return self.dags[dag_id]

    def add_run(self, dag: int | str, run_id: str, **fields: Any) -> JSON:
        """A run that has ended well."""
        dag_id = dag if isinstance(dag, str) else dag_id_of(dag)
        self.runs[dag_id, run_id] = {
            "dag_run_id": run_id,
            "dag_id": dag_id,
            "logical_date": None,
            "queued_at": moment(),
            "start_date": moment(),
            "end_date": moment(),
            "duration": 0.0,
            "run_after": moment(),
            "run_type": "manual",
            "state": "success",
            "conf": {},
            "note": None,
            "dag_versions": [],
            "bundle_version": None,
            "updated_at": moment(),
        } | fields
        self.tries.setdefault((dag_id, run_id), [self._try(dag_id, run_id, 1)])
        return self.runs[dag_id, run_id]

    def add_backfill(self, dag: int | str, **fields: Any) -> JSON:
        """A backfill at work."""
        number = len(self.backfills) + 1
        self.backfills[number] = {
            "id": number,
            "dag_id": dag if isinstance(dag, str) else dag_id_of(dag),
            "from_date": moment(),
            "to_date": moment(),
            "dag_run_conf": {},
            "is_paused": False,
            "reprocess_behavior": "none",
            "max_active_runs": 1,
            "created_at": moment(),
            "completed_at": None,
            "updated_at": moment(),
        } | fields
        return self.backfills[number]

    def _try(self, dag_id: str, run_id: str, number: int) -> JSON:
        return {
            "task_id": "run",
            "dag_id": dag_id,
            "dag_run_id": run_id,
            "map_index": -1,
            "start_date": moment(),
            "end_date": moment(),
            "duration": 1.5,
            "state": "success",
            "try_number": number,
            "max_tries": 2,
            "hostname": "worker-1",
        }

    # --- How it answers ---

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.asked.set()
        await asyncio.sleep(0)  # as on a wire, others come between
        if self.down:
            raise httpx.ConnectError("connection refused")
        if self.silent:
            await asyncio.Event().wait()
        if self.hold is not None:
            await self.hold.wait()
        if self.before is not None:
            self.before(request)
        answer = self._answer(request)
        if self.after is not None:
            self.after(request)
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        if path == "/auth/token":
            return self._sign_in(request)
        if self.status is not None:
            return httpx.Response(self.status, json={"detail": "fault"}, headers={"Location": "/elsewhere"})
        path = path.removeprefix("/api/v2/")
        known = self.valid_token is not None and request.headers.get("Authorization") == f"Bearer {self.valid_token}"
        if not known and path != "monitor/health":  # everybody may ask for that
            return httpx.Response(self.refuse_tokens_with, json={"detail": "Invalid JWT token"})
        if self.garbage is not None:
            return self.garbage
        if status := self.refuses.get(f"{request.method} {path.rpartition('/')[2]}"):
            return httpx.Response(status, json={"detail": "refused"})
        for pattern, answer in _ROUTES.items():
            method, _, wanted = pattern.partition(" ")
            found = re.fullmatch(wanted.replace("*", "([^/]+)"), path)
            if method == request.method and found:
                return answer(self, request, *found.groups())
        return _nothing()

    def _sign_in(self, request: httpx.Request) -> httpx.Response:
        self.signed_in += 1
        if json.loads(request.content) != {"username": USERNAME, "password": PASSWORD}:
            return httpx.Response(401, json={"detail": "Invalid credentials"})
        self.valid_token = f"jwt-{self.signed_in}-of-airflow"
        return httpx.Response(201, json={"access_token": self.valid_token})

    def _say(self, found: JSON, status: int = 200) -> httpx.Response:
        def cut(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: cut(below) for key, below in value.items() if key not in self.missing}
            return [cut(below) for below in value] if isinstance(value, list) else value

        return httpx.Response(status, json=cut(found))

    def _health(self, request: httpx.Request) -> httpx.Response:
        return self._say(self.health)

    def _import_errors(self, request: httpx.Request) -> httpx.Response:
        return self._say({"import_errors": self.import_errors, "total_entries": len(self.import_errors)})

    def _list_dags(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        found = [dag for _, dag in sorted(self.dags.items()) if not dag["is_stale"]]
        found = [dag for dag in found if query["tags"] in {tag["name"] for tag in dag["tags"]}]
        begin = int(query["offset"])
        return self._say({"dags": found[begin : begin + int(query["limit"])], "total_entries": len(found)})

    def _get_dag(self, request: httpx.Request, dag_id: str) -> httpx.Response:
        return self._say(self.dags[dag_id]) if dag_id in self.dags else _nothing()

    def _patch_dag(self, request: httpx.Request, dag_id: str) -> httpx.Response:
        if dag_id not in self.dags:
            return _nothing()
        self.dags[dag_id]["is_paused"] = json.loads(request.content)["is_paused"]
        return self._say(self.dags[dag_id])

    def _parse(self, request: httpx.Request, token: str) -> httpx.Response:
        if token in self.read_again:
            return httpx.Response(409, json={"detail": "asked for already"})
        self.read_again.append(token)
        return httpx.Response(201, content=b"null")

    def _list_runs(self, request: httpx.Request, dag_id: str) -> httpx.Response:
        query = request.url.params
        if dag_id not in self.dags and dag_id != "~":
            return _nothing()
        prefix = query.get("dag_id_prefix_pattern", "") if dag_id == "~" else dag_id
        found = [run for (of, _), run in self.runs.items() if of.startswith(prefix) and dag_id in {of, "~"}]
        for key, name in (("state", "state"), ("run_type", "run_type")):
            found = [run for run in found if query.get(key, run[name]) == run[name]]
        found = [run for run in found if _time(run["updated_at"]) >= _time(query.get("updated_at_gte", moment(_LONG)))]
        found = [run for run in found if _time(run["run_after"]) >= _time(query.get("run_after_gte", moment(_LONG)))]
        name = query["order_by"]
        found.sort(key=lambda run: str(run[name.removeprefix("-")]), reverse=name.startswith("-"))
        cursor = re.fullmatch(r"after-(\d+)|", query["cursor"])
        if cursor is None:
            return httpx.Response(400, json={"detail": "Invalid cursor token"})
        begin = int(cursor[1] or 0)
        end = begin + int(query["limit"])
        following = f"after-{end}" if end < len(found) else None
        return self._say({"dag_runs": found[begin:end], "next_cursor": following, "previous_cursor": None})

    def _start_run(self, request: httpx.Request, dag_id: str) -> httpx.Response:
        body = json.loads(request.content)
        if dag_id not in self.dags:
            return _nothing()
        if (dag_id, body["dag_run_id"]) in self.runs:
            return httpx.Response(409, json={"detail": "exists"})
        waiting = {"state": "queued", "start_date": None, "end_date": None, "duration": None}
        given = {"conf": body["conf"], "note": body["note"], "logical_date": body["logical_date"]}
        if only_looks(body["conf"]) and self.found is not None:
            self.returned[dag_id, body["dag_run_id"]] = self.found
            waiting = {}
        return self._say(self.add_run(dag_id, body["dag_run_id"], **waiting, **given))

    def _get_run(self, request: httpx.Request, dag_id: str, run_id: str) -> httpx.Response:
        run = self.runs.get((dag_id, _unquoted(run_id)))
        return self._say(run) if run is not None else _nothing()

    def _patch_run(self, request: httpx.Request, dag_id: str, run_id: str) -> httpx.Response:
        run = self.runs.get((dag_id, _unquoted(run_id)))
        return self._say(run | json.loads(request.content)) if run is not None else _nothing()

    def _clear(self, request: httpx.Request, dag_id: str, run_id: str) -> httpx.Response:
        run = self.runs.get((dag_id, _unquoted(run_id)))
        return self._say(run | {"state": "queued"}) if run is not None else _nothing()

    def _tasks(self, request: httpx.Request, dag_id: str, run_id: str) -> httpx.Response:
        found = self.tries.get((dag_id, _unquoted(run_id)), [])
        return self._say({"task_instances": found[-1:], "total_entries": len(found[-1:])})

    def _tries(self, request: httpx.Request, dag_id: str, run_id: str, task_id: str) -> httpx.Response:
        found = self.tries.get((dag_id, _unquoted(run_id)), [])
        return self._say({"task_instances": found[::-1], "total_entries": len(found)})

    def _xcom(self, request: httpx.Request, dag_id: str, run_id: str, task_id: str, key: str) -> httpx.Response:
        found = (dag_id, _unquoted(run_id))
        if (task_id, key) != ("run", "return_value") or found not in self.returned:
            return _nothing()
        return self._say({"key": key, "task_id": task_id, "map_index": -1, "value": self.returned[found]})

    def _log(self, request: httpx.Request, dag_id: str, run_id: str, task_id: str, number: str) -> httpx.Response:
        found = self.logs.get((dag_id, _unquoted(run_id), task_id, int(number)))
        if found is None:
            return _nothing()
        assert request.headers["accept"] == NDJSON
        lines = [(line if isinstance(line, str) else json.dumps(line)).encode() + b"\n" for line in found]
        headers = {"Content-Type": NDJSON}
        if self.breaks_off:
            return httpx.Response(200, stream=BrokenStream(lines), headers=headers)
        return httpx.Response(200, content=b"".join(lines), headers=headers)

    def _list_backfills(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        found = [one for one in self.backfills.values() if one["dag_id"] == query["dag_id"]][::-1]
        begin = int(query["offset"])
        return self._say({"backfills": found[begin : begin + int(query["limit"])], "total_entries": len(found)})

    def _backfill(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if body["dag_id"] not in self.dags:
            return _nothing()
        if any(one["completed_at"] is None for one in self.backfills.values() if one["dag_id"] == body["dag_id"]):
            return httpx.Response(409, json={"detail": "There is another backfill"})
        del body["run_backwards"]
        return self._say(self.add_backfill(body["dag_id"], **body))

    def _try_backfill(self, request: httpx.Request) -> httpx.Response:
        return self._say({"backfills": [{"logical_date": date} for date in self.dry_dates], "total_entries": 1})

    def _one_backfill(self, request: httpx.Request, number: str) -> httpx.Response:
        return self._say(self.backfills[int(number)]) if int(number) in self.backfills else _nothing()

    def _end_backfill(self, request: httpx.Request, number: str) -> httpx.Response:
        found = self.backfills.get(int(number))
        if found is None:
            return _nothing()
        if found["completed_at"] is not None:
            return httpx.Response(409, json={"detail": "completed"})
        found["completed_at"] = moment()
        return self._say(found)


_LONG = datetime(1970, 1, 1, tzinfo=UTC)


def _nothing() -> httpx.Response:
    return httpx.Response(404, json={"detail": "not found"})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _unquoted(part: str) -> str:
    return httpx.URL(f"http://x/{part}").path.removeprefix("/")


_ROUTES: dict[str, Callable[..., httpx.Response]] = {
    "GET monitor/health": FakeAirflow._health,
    "GET importErrors": FakeAirflow._import_errors,
    "GET dags": FakeAirflow._list_dags,
    "GET dags/*": FakeAirflow._get_dag,
    "PATCH dags/*": FakeAirflow._patch_dag,
    "PUT parseDagFile/*": FakeAirflow._parse,
    "GET dags/*/dagRuns": FakeAirflow._list_runs,
    "POST dags/*/dagRuns": FakeAirflow._start_run,
    "GET dags/*/dagRuns/*": FakeAirflow._get_run,
    "PATCH dags/*/dagRuns/*": FakeAirflow._patch_run,
    "POST dags/*/dagRuns/*/clear": FakeAirflow._clear,
    "GET dags/*/dagRuns/*/taskInstances": FakeAirflow._tasks,
    "GET dags/*/dagRuns/*/taskInstances/*/tries": FakeAirflow._tries,
    "GET dags/*/dagRuns/*/taskInstances/*/logs/*": FakeAirflow._log,
    "GET dags/*/dagRuns/*/taskInstances/*/xcomEntries/*": FakeAirflow._xcom,
    "GET backfills": FakeAirflow._list_backfills,
    "POST backfills": FakeAirflow._backfill,
    "POST backfills/dry_run": FakeAirflow._try_backfill,
    "GET backfills/*": FakeAirflow._one_backfill,
    "PUT backfills/*/cancel": FakeAirflow._end_backfill,
}
