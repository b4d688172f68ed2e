"""How requests reach Airflow, and what becomes of its answers when it has a bad day."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from structlog.testing import CapturingLogger

from pyapi.exceptions import AirflowUnavailable
from pyapi.gateways import airflow as airflow_module
from pyapi.gateways import connection as connection_module
from pyapi.gateways.account import TokenAccount
from pyapi.gateways.airflow import LEFT_OUT, LONGEST_LINE, Airflow, BackfillPlan, Refused, RunFilter
from pyapi.gateways.connection import FAILURES_TO_OPEN, HttpConnection, NullConnection
from tests.fake_airflow import EPOCH, PASSWORD, URL, USERNAME, FakeAirflow

Ask = Callable[[Airflow], Awaitable[Any]]
PLAN = BackfillPlan(EPOCH, EPOCH, "none", 1, run_backwards=False)


async def _read_log(airflow: Airflow) -> list[str] | None:
    async with airflow.log_lines(1, "r", "run", try_number=1) as lines:
        return None if lines is None else [line async for line in lines]


ASKED: dict[str, Ask] = {
    "health": lambda airflow: airflow.health(),
    "file_problems": lambda airflow: airflow.file_problems(),
    "dag": lambda airflow: airflow.dag(1),
    "dags": lambda airflow: airflow.dags(offset=0),
    "pause": lambda airflow: airflow.pause(1, is_paused=True),
    "runs": lambda airflow: airflow.runs(1, RunFilter(), order_by="-run_after", limit=10, cursor=""),
    "run": lambda airflow: airflow.run(1, "r"),
    "start_run": lambda airflow: airflow.start_run(1, "new", conf={}, note=None),
    "end_run": lambda airflow: airflow.end_run(1, "r"),
    "retry_run": lambda airflow: airflow.retry_run(1, "r", latest=False),
    "tasks": lambda airflow: airflow.tasks(1, "r"),
    "tries": lambda airflow: airflow.tries(1, "r", "run"),
    "log_lines": _read_log,
    "backfill": lambda airflow: airflow.backfill(1, PLAN),
    "try_backfill": lambda airflow: airflow.try_backfill(1, PLAN),
    "backfills": lambda airflow: airflow.backfills(1, offset=0, limit=10),
    "one_backfill": lambda airflow: airflow.one_backfill(1),
    "end_backfill": lambda airflow: airflow.end_backfill(1),
}
ALL = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
UNREAD = {"pause", "log_lines"}  # nothing of the answer is needed
READ = pytest.mark.parametrize("name", [name for name in ASKED if name not in UNREAD])


@pytest.fixture
def fake() -> FakeAirflow:
    """An Airflow that has one of everything."""
    fake = FakeAirflow()
    fake.add_dag(1)
    fake.add_run(1, "r")
    fake.add_backfill(1, completed_at=None)
    fake.import_errors = [{"bundle_name": "pyapi", "filename": "records.py", "stack_trace": "x"}]
    fake.dry_dates = ["2027-03-01T00:00:00Z"]
    fake.logs["pyapi_1", "r", "run", 1] = [{"event": "done"}]
    return fake


@pytest.fixture
async def airflow(fake: FakeAirflow) -> AsyncIterator[Airflow]:
    airflow = fake.gateway()
    yield airflow
    await airflow.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Everything that is logged, that of httpx included."""
    caplog.set_level(logging.DEBUG)
    capturing = CapturingLogger()
    for module in (connection_module, airflow_module):
        monkeypatch.setattr(module, "log", capturing)
    return lambda: f"{capturing.calls} {caplog.text}"


# --- Signing in -------------------------------------------------------------------------------------------------------


@ALL
async def test_what_is_asked_is_answered(fake: FakeAirflow, airflow: Airflow, ask: Ask) -> None:
    if ask is ASKED["backfill"]:
        fake.backfills.clear()
    assert await ask(airflow)


async def test_one_sign_in_serves_many_requests(fake: FakeAirflow, airflow: Airflow) -> None:
    await asyncio.gather(*(airflow.dag(1) for _ in range(15)))
    assert (fake.signed_in, len(fake.calls)) == (1, 15)


async def test_the_token_is_kept(fake: FakeAirflow, airflow: Airflow) -> None:
    for _ in range(3):
        await airflow.dag(1)
    assert fake.signed_in == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_exchanged_and_the_request_repeated(
    fake: FakeAirflow, airflow: Airflow, status: int
) -> None:
    await airflow.dag(1)
    fake.valid_token, fake.refuse_tokens_with = "newer", status
    await airflow.dag(1)
    assert (fake.signed_in, fake.calls) == (2, ["GET dags/pyapi_1"] * 3)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_exchanged_once_for_all(fake: FakeAirflow, airflow: Airflow, status: int) -> None:
    await airflow.dag(1)
    fake.valid_token, fake.refuse_tokens_with = "newer", status
    await asyncio.gather(*(airflow.dag(1) for _ in range(15)))
    assert fake.signed_in == 2


async def test_a_request_that_writes_is_repeated_whole(fake: FakeAirflow, airflow: Airflow) -> None:
    await airflow.dag(1)
    fake.valid_token = "newer"
    await airflow.pause(1, is_paused=True)
    assert fake.dags["pyapi_1"]["is_paused"] is True


async def test_a_wrong_password_is_said_by_its_settings(fake: FakeAirflow) -> None:
    with pytest.raises(AirflowUnavailable, match="PYAPI_AIRFLOW_USERNAME and PYAPI_AIRFLOW_PASSWORD"):
        await fake.gateway(password="wrong-horse").dag(1)


async def test_a_wrong_password_is_tried_once_for_a_request(fake: FakeAirflow) -> None:
    with pytest.raises(AirflowUnavailable):
        await fake.gateway(password="wrong-horse").dag(1)
    assert fake.signed_in == 1


async def test_a_missing_right_is_said(fake: FakeAirflow, airflow: Airflow) -> None:
    fake.refuses = {"GET pyapi_1": 403}
    with pytest.raises(AirflowUnavailable, match="give it the right"):
        await airflow.dag(1)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(201, json={"access_token": 5}),
        httpx.Response(201, json=[]),
        httpx.Response(201, content=b"<html>"),
        httpx.Response(201, content=b"\xff"),
        httpx.Response(500),
    ],
    ids=["number", "list", "html", "no text", "500"],
)
async def test_a_sign_in_without_a_token(
    fake: FakeAirflow, airflow: Airflow, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response
) -> None:
    monkeypatch.setattr(fake, "_sign_in", lambda _: answer)
    with pytest.raises(AirflowUnavailable):
        await airflow.dag(1)


async def test_a_static_token_is_sent(fake: FakeAirflow) -> None:
    fake.valid_token = "made-by-hand"
    assert await Airflow(fake.connection(TokenAccount("made-by-hand"))).dag(1) is not None


async def test_a_static_token_that_is_refused_is_no_reason_to_sign_in(fake: FakeAirflow) -> None:
    with pytest.raises(AirflowUnavailable):
        await Airflow(fake.connection(TokenAccount("expired"))).dag(1)
    assert fake.signed_in == 0


# --- Bad days ---------------------------------------------------------------------------------------------------------


@ALL
async def test_down(fake: FakeAirflow, airflow: Airflow, ask: Ask) -> None:
    fake.down = True
    with pytest.raises(AirflowUnavailable):
        await ask(airflow)


@ALL
async def test_silent(fake: FakeAirflow, airflow: Airflow, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "ANSWER_SECONDS", 0.01)
    fake.silent = True
    with pytest.raises(AirflowUnavailable):
        await ask(airflow)


@ALL
@pytest.mark.parametrize("status", [307, 500])
async def test_no_answer_to_rely_on(fake: FakeAirflow, airflow: Airflow, ask: Ask, status: int) -> None:
    fake.status = status
    with pytest.raises(AirflowUnavailable):
        await ask(airflow)


@READ
@pytest.mark.parametrize(
    "garbage",
    [
        httpx.Response(200, content=b"<html>a proxy</html>"),
        httpx.Response(200, content=b"\xff\xfe\xfa"),
        httpx.Response(200, content=b'{"dags": ' + b"[" * 100_000),
        httpx.Response(200, json=[]),
        httpx.Response(200, json=None),
    ],
    ids=["html", "no text", "too deep", "list", "null"],
)
async def test_garbage(fake: FakeAirflow, airflow: Airflow, name: str, garbage: httpx.Response) -> None:
    fake.garbage = garbage
    with pytest.raises(AirflowUnavailable, match="does not know"):
        await ASKED[name](airflow)


LISTS = ["dags", "runs", "tasks", "tries", "try_backfill", "backfills", "file_problems"]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("instead", [None, 5, [5], [{}], {}], ids=str)
async def test_lists_that_are_none(fake: FakeAirflow, airflow: Airflow, name: str, instead: Any) -> None:
    names = ("dags", "dag_runs", "task_instances", "backfills", "import_errors")
    fake.garbage = httpx.Response(200, json=dict.fromkeys(names, instead) | {"total_entries": 1})
    with pytest.raises(AirflowUnavailable, match="does not know"):
        await ASKED[name](airflow)


@pytest.mark.parametrize("name", ["health", "dags", "dag", "run", "tasks", "tries", "backfills", "one_backfill"])
async def test_a_question_that_is_refused(fake: FakeAirflow, airflow: Airflow, name: str) -> None:
    """As by something else that listens at this address."""
    fake.garbage = httpx.Response(400)
    with pytest.raises(AirflowUnavailable, match="does not know"):
        await ASKED[name](airflow)


async def test_what_is_no_airflow_has_no_health(fake: FakeAirflow, airflow: Airflow) -> None:
    fake.garbage = httpx.Response(404)
    with pytest.raises(AirflowUnavailable, match="does not know"):
        await airflow.health()


async def test_a_body_that_cannot_be_unpacked(fake: FakeAirflow, airflow: Airflow) -> None:
    packed = httpx.ByteStream(b"not packed")
    fake.garbage = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=packed)
    with pytest.raises(AirflowUnavailable):
        await airflow.dag(1)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("dag", "is_paused"),
        ("dag", "tags"),
        ("dag", "description"),
        ("dags", "dags"),
        ("dags", "total_entries"),
        ("runs", "dag_runs"),
        ("run", "state"),
        ("start_run", "dag_run_id"),
        ("tasks", "task_instances"),
        ("tries", "try_number"),
        ("one_backfill", "completed_at"),
        ("backfills", "backfills"),
        ("backfills", "total_entries"),
        ("try_backfill", "backfills"),
        ("file_problems", "import_errors"),
    ],
)
async def test_missing_fields(fake: FakeAirflow, airflow: Airflow, name: str, missing: str) -> None:
    fake.missing = frozenset({missing})
    with pytest.raises(AirflowUnavailable, match="does not know"):
        await ASKED[name](airflow)


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_a_refusal_is_handed_on(fake: FakeAirflow, airflow: Airflow, status: int) -> None:
    fake.refuses = {"POST dagRuns": status}
    with pytest.raises(Refused) as refused:
        await airflow.start_run(1, "new", conf=None, note=None)
    assert refused.value.status_code == status


@pytest.mark.parametrize("name", ["dag", "run", "start_run", "end_run", "one_backfill", "end_backfill", "log_lines"])
async def test_what_is_not_there_is_none(fake: FakeAirflow, airflow: Airflow, name: str) -> None:
    fake.status = None
    fake.dags.clear()
    fake.runs.clear()
    fake.backfills.clear()
    fake.logs.clear()
    assert await ASKED[name](airflow) is None


async def test_asking_twice_for_a_file_to_be_read_is_no_failure(fake: FakeAirflow, airflow: Airflow) -> None:
    dag = await airflow.dag(1)
    assert dag is not None
    for _ in range(2):
        await airflow.read_again(dag)
    assert fake.read_again == ["token%2Fof%20pyapi_1"]


async def test_a_log_that_breaks_off(fake: FakeAirflow, airflow: Airflow) -> None:
    fake.breaks_off = True
    with pytest.raises(AirflowUnavailable):
        await _read_log(airflow)


# --- The circuit ------------------------------------------------------------------------------------------------------


async def fail(airflow: Airflow, times: int = FAILURES_TO_OPEN) -> None:
    for _ in range(times):
        with pytest.raises(AirflowUnavailable):
            await airflow.dag(1)


async def test_nothing_is_sent_after_five_failures(fake: FakeAirflow, airflow: Airflow) -> None:
    fake.down = True
    await fail(airflow, FAILURES_TO_OPEN + 3)
    assert len(fake.requests) == FAILURES_TO_OPEN


async def test_everything_is_sent_before(fake: FakeAirflow, airflow: Airflow) -> None:
    fake.down = True
    await fail(airflow, FAILURES_TO_OPEN - 1)
    fake.down = False
    assert await airflow.dag(1) is not None


async def test_failures_before_a_success_do_not_count(fake: FakeAirflow, airflow: Airflow) -> None:
    for _ in range(2):
        fake.down = True
        await fail(airflow, FAILURES_TO_OPEN - 1)
        fake.down = False
        assert await airflow.dag(1) is not None


async def test_a_stream_is_not_opened_either(fake: FakeAirflow, airflow: Airflow) -> None:
    fake.down = True
    await fail(airflow)
    with pytest.raises(AirflowUnavailable):
        await _read_log(airflow)
    assert len(fake.requests) == FAILURES_TO_OPEN


async def test_one_request_finds_out_whether_it_is_back(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "OPEN_SECONDS", 1e-9)
    airflow = fake.gateway()
    fake.down = True
    await fail(airflow, FAILURES_TO_OPEN + 1)
    assert len(fake.requests) == FAILURES_TO_OPEN + 1


async def test_a_success_closes_it(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "OPEN_SECONDS", 1e-9)
    airflow = fake.gateway()
    fake.down = True
    await fail(airflow)
    fake.down = False
    assert [await airflow.dag(1) is not None for _ in range(3)] == [True] * 3


async def test_who_is_turned_away_hears_why(fake: FakeAirflow) -> None:
    airflow = fake.gateway(password="wrong-horse")
    await fail(airflow)
    with pytest.raises(AirflowUnavailable, match="PYAPI_AIRFLOW_PASSWORD"):
        await airflow.dag(1)


async def test_who_goes_away_counts_for_nothing(fake: FakeAirflow, airflow: Airflow) -> None:
    """One of four requests fails, and the courier cancels the others: that is no success."""
    fake.down = True
    await fail(airflow, FAILURES_TO_OPEN - 1)
    fake.down, fake.silent = False, True
    fake.asked.clear()
    waiting = asyncio.ensure_future(airflow.dag(1))
    await fake.asked.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    fake.down = True
    await fail(airflow, 2)
    assert len(fake.requests) == FAILURES_TO_OPEN + 1  # with the one that was given up, and without the last


async def test_a_refusal_is_no_failure(fake: FakeAirflow, airflow: Airflow) -> None:
    fake.refuses = {"POST dagRuns": 409}
    for _ in range(FAILURES_TO_OPEN + 1):
        with pytest.raises(Refused):
            await airflow.start_run(1, "new", conf=None, note=None)
    assert await airflow.dag(1) is not None


# --- Nothing secret is said -------------------------------------------------------------------------------------------


def change(fake: FakeAirflow, fault: str) -> None:
    match fault:
        case "down":
            fake.down = True
        case "500":
            fake.status = 500
        case "401":
            fake.valid_token = "newer"
            fake.refuses = {"GET pyapi_1": 401}
        case "garbage":
            fake.garbage = httpx.Response(200, content=PASSWORD.encode())


@pytest.mark.parametrize("fault", ["", "down", "500", "401", "garbage"])
async def test_no_log_has_a_secret(
    fake: FakeAirflow, airflow: Airflow, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    await airflow.dag(1)
    change(fake, fault)
    with contextlib.suppress(AirflowUnavailable):
        await airflow.dag(1)
    assert [word for word in (PASSWORD, "jwt-", "Bearer") if word in said()] == []


@pytest.mark.parametrize("fault", ["down", "500", "401", "garbage"])
async def test_no_failure_has_a_secret(fake: FakeAirflow, airflow: Airflow, fault: str) -> None:
    await airflow.dag(1)
    change(fake, fault)
    with pytest.raises(AirflowUnavailable) as failure:
        await airflow.dag(1)
    told = f"{failure.value!r} {failure.value} {failure.value.__cause__!r}"
    assert [word for word in (PASSWORD, "jwt-", "Bearer") if word in told] == []


async def test_the_password_is_in_no_text_about_the_account(fake: FakeAirflow) -> None:
    with pytest.raises(AirflowUnavailable) as failure:
        await fake.gateway(password="wrong-horse").dag(1)
    assert [word for word in ("wrong-horse", f"{USERNAME}:") if word in repr(failure.value)] == []


# --- Paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_id", "quoted"),
    [
        ("scheduled__2027-03-01T01:00:00+00:00", "scheduled__2027-03-01T01%3A00%3A00%2B00%3A00"),
        ("a/b", "a%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("100%", "100%25"),
        ("週", "%E9%80%B1"),
        ("../../dags/x", "..%2F..%2Fdags%2Fx"),
    ],
)
async def test_a_run_id_is_one_part_of_a_path(fake: FakeAirflow, airflow: Airflow, run_id: str, quoted: str) -> None:
    await airflow.run(1, run_id)
    assert fake.calls == [f"GET dags/pyapi_1/dagRuns/{quoted}"]


@pytest.mark.parametrize("slash", ["", "/"])
async def test_requests_go_below_the_url(slash: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={})

    url = f"https://proxy.example/airflow{slash}"
    transport = httpx.MockTransport(answer)
    airflow = Airflow(connection_module.HttpConnection(url, TokenAccount("x"), transport=transport))
    await airflow.health()
    assert asked == ["https://proxy.example/airflow/api/v2/monitor/health"]


# --- No Airflow -------------------------------------------------------------------------------------------------------


@ALL
async def test_without_an_airflow(ask: Ask) -> None:
    with pytest.raises(AirflowUnavailable, match="PYAPI_AIRFLOW_URL"):
        await ask(Airflow(NullConnection()))


async def test_without_an_airflow_there_is_no_url() -> None:
    assert Airflow(NullConnection()).url is None


def test_the_url_is_known(fake: FakeAirflow) -> None:
    assert fake.gateway().url == URL


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a\nb", "c\n"], ["a", "bc"]),
        (["a\n\nb"], ["a", "", "b"]),
        (["x" * LONGEST_LINE + "\na"], ["x" * LONGEST_LINE, "a"]),
        (["x" * LONGEST_LINE + "x\na"], [LEFT_OUT, "a"]),
        (["x" * LONGEST_LINE, "x" * LONGEST_LINE, "x\na\n"], [LEFT_OUT, "a"]),
        (["a\n", "x" * LONGEST_LINE, "x"], ["a", LEFT_OUT]),
    ],
)
async def test_a_line_of_a_log_is_never_held_however_long(pieces: list[str], expected: list[str]) -> None:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece.encode()

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body()))
    airflow = Airflow(HttpConnection(URL, TokenAccount("t"), transport=transport))
    assert await _read_log(airflow) == expected
