"""`python -m pyapi` in an empty folder, with no setting but a port: the first minutes of a newcomer, and the worst."""

import os
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.fixtures.application import PASSWORD
from tests.fixtures.servers import PYAPI, STOP_SECONDS, Finished, RunningServer, free_port, run_command

MEMBER = {"username": "newcomer", "password": PASSWORD}


@dataclass(frozen=True)
class Life:
    """What one folder has seen: a start, two more that must fail, a stop, a start, a kill -9, a start, a Ctrl-C."""

    folder: Path
    first: RunningServer
    health: httpx.Response
    same_folder: Finished
    same_port: Finished
    second_folder: Path
    stopped: int
    after_stop: httpx.Response
    token_after_stop: httpx.Response
    after_kill: httpx.Response
    token_after_kill: httpx.Response
    interrupted: int
    last: RunningServer


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RunningServer]]:
    servers: list[RunningServer] = []
    yield servers
    for server in servers:
        server.clean_up()


@pytest.fixture(scope="module")
def life(servers: list[RunningServer], tmp_path_factory: pytest.TempPathFactory) -> Life:
    """In a folder with spaces and Chinese characters in its name."""
    folder = tmp_path_factory.mktemp("life") / "我的 資料" / "a b"

    def start(port: int | None = None) -> RunningServer:
        servers.append(RunningServer(folder, {}, port=port))
        return servers[-1].wait_until_live()

    first = start()
    with httpx.Client(base_url=first.url) as client:
        health = client.get("/api/health")
        client.post("/api/auth/register", json=MEMBER | {"email": "newcomer@example.com"}).raise_for_status()
        tokens = client.post("/api/auth/login", json=MEMBER).raise_for_status().json()
        signed_in = {"Authorization": f"Bearer {tokens['access_token']}"}
        record = client.post("/api/data/", json={"name": "第一筆"}, headers=signed_in).raise_for_status()
    same_folder = run_command(folder, *PYAPI, settings={"PYAPI_PORT": str(free_port())})
    second_folder = folder.with_name("second")
    same_port = run_command(second_folder, *PYAPI, settings={"PYAPI_PORT": str(first.port)})
    stopped = first.terminate()

    def look(server: RunningServer) -> tuple[httpx.Response, httpx.Response]:
        with httpx.Client(base_url=server.url) as client:
            return client.get(record.headers["location"]), client.get("/api/auth/me", headers=signed_in)

    second = start()
    after_stop = look(second)
    second.kill()
    last = start(second.port)
    after_kill = look(last)
    os.killpg(last.process.pid, signal.SIGINT)
    interrupted = last.process.wait(STOP_SECONDS)
    return Life(
        *(folder, first, health, same_folder, same_port, second_folder, stopped),
        *(*after_stop, *after_kill, interrupted, last),
    )


def test_the_banner_says_where_everything_is(life: Life) -> None:
    url = life.first.url

    assert life.first.output == (
        f"PyAPI       {url}\n"
        f"Docs        {url}/api/docs\n"
        f"Data        {life.folder}/.pyapi/cluster (embedded PostgreSQL)\n"
        "Superuser   uv run pyapi user create-superuser\n"
    )


def test_it_is_healthy(life: Life) -> None:
    assert (life.health.status_code, life.health.json()["status"]) == (200, "ok")


def test_the_key_is_for_its_owner_only(life: Life) -> None:
    assert stat.filemode((life.folder / ".pyapi" / "secret_key").stat().st_mode) == "-rw-------"


def test_the_key_is_not_shown(life: Life) -> None:
    key = (life.folder / ".pyapi" / "secret_key").read_text().strip()

    assert key not in life.first.output + life.first.log


def test_nothing_is_written_outside_the_data_folder(life: Life) -> None:
    assert [path.name for path in life.folder.iterdir()] == [".pyapi"]


def test_a_second_start_on_the_folder_says_who_holds_it(life: Life) -> None:
    holder = f"process {life.first.process.pid}"

    assert life.same_folder.refusal == (
        f"The data folder {life.folder}/.pyapi is in use by {holder}: stop that process, or choose another folder.\n"
    )


def test_a_port_in_use_is_one_line(life: Life) -> None:
    place = f"127.0.0.1:{life.first.port}"

    assert life.same_port.refusal == (
        f"PYAPI_HOST, PYAPI_PORT: cannot listen on {place} (Address already in use); set another one.\n"
    )


def test_a_port_in_use_leaves_nothing_behind(life: Life) -> None:
    assert list(life.second_folder.iterdir()) == []


def test_sigterm_ends_it_in_order(life: Life) -> None:
    assert life.stopped == 0


def test_a_record_survives_a_restart(life: Life) -> None:
    assert (life.after_stop.status_code, life.after_stop.json()["name"]) == (200, "第一筆")


def test_a_login_survives_a_restart(life: Life) -> None:
    assert (life.token_after_stop.status_code, life.token_after_stop.json()["username"]) == (200, "newcomer")


def test_a_record_survives_a_kill(life: Life) -> None:
    """Started again on the same port at once: nothing of the killed server may be in the way."""
    assert (life.after_kill.status_code, life.after_kill.json()["name"]) == (200, "第一筆")


def test_a_login_survives_a_kill(life: Life) -> None:
    assert (life.token_after_kill.status_code, life.token_after_kill.json()["username"]) == (200, "newcomer")


def test_ctrl_c_ends_it_in_order(life: Life) -> None:
    assert life.interrupted == 0


def test_ctrl_c_shows_no_traceback(life: Life) -> None:
    assert "Traceback" not in life.last.output + life.last.log
