"""The kit without the bundle: for authors of their own DAGs, and as one file in a DAGs folder."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.airflow.conftest import AskAirflow
from tests.e2e.conftest import RunningServer

pytestmark = pytest.mark.airflow

CONFIG = {"schedule": "0 9 * * *", "source": "postgresql://etl:sesame@host/db", "時區": ["台北"]}
NOWHERE = "postgresql://nobody:nothing@127.0.0.1:1/nowhere"


@pytest.fixture(scope="module")
def record(owner: httpx.Client) -> dict[str, Any]:
    made: dict[str, Any] = owner.post("/api/data/", json={"name": "讀取", "config": CONFIG}).json()
    return made


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dags") / ".pyapi_dags.json"


@pytest.fixture(scope="module")
def answers(
    ask_airflow: AskAirflow, shared_database: str, pyapi: RunningServer, record: dict[str, Any], snapshot: Path
) -> list[Any]:
    questions: list[dict[str, Any]] = [
        {"status": "active"},
        {"id": record["id"]},
        {"id": 2**31 - 1},
        {"snapshot": str(snapshot)},
    ]
    url = shared_database.replace("+asyncpg", "")
    found: list[Any] = ask_airflow("read_records.py", questions, PYAPI_DATABASE_URL=url).answer()
    return found


def test_records_by_status(answers: list[Any]) -> None:
    assert "讀取" in answers[0]


def test_a_record_has_its_credentials_and_does_not_show_them(answers: list[Any]) -> None:
    name, config, owner, shown = answers[1]
    assert (name, config, owner, "sesame" in shown) == ("讀取", CONFIG, "wang", False)


def test_a_record_that_is_not_there(answers: list[Any]) -> None:
    assert answers[2] == "There is no data record 2147483647."


def test_one_file_makes_all_dags(answers: list[Any], record: dict[str, Any]) -> None:
    assert f"pyapi_{record['id']}" in answers[3]


def test_that_file_makes_the_same_dags_while_the_database_is_away(
    ask_airflow: AskAirflow, answers: list[Any], snapshot: Path
) -> None:
    asked = ask_airflow("read_records.py", [{"snapshot": str(snapshot)}], PYAPI_DATABASE_URL=NOWHERE)
    assert asked.answer() == [answers[3]]


def test_its_snapshot_holds_no_credential(answers: list[Any], snapshot: Path) -> None:
    assert "sesame" not in snapshot.read_text()
