"""The kit without the bundle: for authors of their own DAGs, and as one file in a DAGs folder."""

from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from pyapi.utils.sealing import Sealer
from tests.airflow.conftest import AskAirflow
from tests.fixtures.servers import RunningServer

pytestmark = pytest.mark.airflow

CONFIG = {"schedule": "0 9 * * *", "source": "postgresql://etl:sesame@host/db", "時區": ["台北"]}
NOWHERE = "postgresql://nobody:nothing@127.0.0.1:1/nowhere"

NEW = "QZHVO1dF8cY5jgB-eibEtXZLyaQSc1KHoWS_2I_Tav4="
OLD = "PYW5Vr3Nw1CFdCk7bZPwO-Jgmge00XbMQ--rxoAXXUU="
OTHER = "RQT5QBlDiHsHcdzJRUZ8UbVjU2SFDvHulnxp9AEu0VM="
# What each of these keys has made of a secret.
SECRET_OF_NEW, SECRET_OF_OLD = "新 sesame", "postgresql://etl:old-sesame@host/db"
BY_NEW = "fernet:gAAAAABrA2MuAqeC_SxdCCn9NcxM-LcwlfgxSAPDMiMsHALi5skWBfHKdQKbdOFtK2tfugMgxJ9C8-nL72IPXmfb8MLDY6zEUg=="
BY_OLD = (
    "fernet:gAAAAABrA2MuUdvpfCwAJKsU8uBIIr4FCeIkwvC-lk1Tu12KJThoKrjpYPwKPv98zc7bhvX5"
    "-uor6lGwmc2sJIbqUO5UvxWsVEzm9qNtDEWBE2zrgdnnrXpUDK_9PjUj57vINZoBVXEH"
)
BY_OTHER = "fernet:gAAAAABrA2MuJahA3hO5d9kliN1nxdpYXOzSRjnATkgTTVetnCqO6J8OfBxW506z4A5Mngy43j05TuEuJI9r7q8VwC8-7xen_Q=="
NO_TEXT = "fernet:gAAAAABrA2Mul2i1cqJWanaSDM8QUNfueoA3z8SKzHuBq1uAtp5kTbhteGGhYm8E8OIJlfiQN5Mri8jyDGV14NP5-0zcMne9pw=="


@pytest.fixture(scope="module")
def record(owner: httpx.Client) -> dict[str, Any]:
    made: dict[str, Any] = owner.post("/api/data/", json={"name": "讀取", "config": CONFIG}).json()
    return made


@pytest.fixture(scope="module")
async def encrypted(shared_database: str) -> list[int]:
    """Records with a secret, one of them with a secret that the kit has no key for."""
    connection = await asyncpg.connect(shared_database.replace("+asyncpg", ""))
    statement = """INSERT INTO pyapi_data_records (name, status, config)
        VALUES ($1, $2, jsonb_build_object('source', $3::text)) RETURNING id"""
    rows = (("readable", "inactive", BY_OLD), ("unreadable", "pending", BY_OTHER))
    made = [await connection.fetchval(statement, *row) for row in rows]
    await connection.close()
    return made


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dags") / ".pyapi_dags.json"


@pytest.fixture(scope="module")
def answers(
    ask_airflow: AskAirflow,
    shared_database: str,
    pyapi: RunningServer,
    record: dict[str, Any],
    encrypted: list[int],
    snapshot: Path,
) -> list[Any]:
    questions: list[dict[str, Any]] = [
        {"status": "active"},
        {"id": record["id"]},
        {"id": 2**31 - 1},
        {"snapshot": str(snapshot)},
        *({"id": record_id} for record_id in encrypted),
        *({"status": status} for status in ("inactive", "pending")),
        *DECRYPTIONS.values(),
    ]
    url = shared_database.replace("+asyncpg", "")
    asked = ask_airflow("read_records.py", questions, PYAPI_DATABASE_URL=url, PYAPI_FERNET_KEYS=f"{NEW},{OLD}")
    found: list[Any] = asked.answer()
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


# --- Secrets ----------------------------------------------------------------------------------------------------------

CURE = "set PYAPI_FERNET_KEYS in Airflow's environment to the keys of PyAPI."
UNREADABLE = f"A secret of record 5 cannot be decrypted: {CURE}"
NO_KEY_FITS = f"{UNREADABLE} None of the keys that are there opens it."
BAD_KEYS = "PYAPI_FERNET_KEYS must hold Fernet keys: each 32 bytes in base64, separated by commas."
BOTH = {"PYAPI_FERNET_KEYS": f" {NEW} ,{OLD},", "AIRFLOW__CORE__FERNET_KEY": OTHER}
WHOLE = {"a": [BY_OLD, 5, None, {"b": BY_NEW}], BY_NEW: BY_NEW, "task": "m:f"}
OPENED = {"a": [SECRET_OF_OLD, 5, None, {"b": SECRET_OF_NEW}], BY_NEW: SECRET_OF_NEW, "task": "m:f"}
NO_TOKENS = ["fernet: my drink", "fernet:", "fernet:gAAAA", BY_NEW[7:]]
IN_TEXTS = [f" {BY_NEW}", f"postgresql://u:{BY_NEW}@h?token={BY_NEW}", f"{BY_NEW}==="]
FOUND_IN_TEXTS = [f" {SECRET_OF_NEW}", f"postgresql://u:{SECRET_OF_NEW}@h?token={SECRET_OF_NEW}", f"{SECRET_OF_NEW}==="]
# What PyAPI stores: secrets in their place, and what is no text as JSON in a token.
SEALED: dict[str, Any] = {
    "source": "postgresql://etl:p@ss@h/db?sslpassword=q",
    "password": "新 sesame",
    "service_account": {"key": ["k", 4711], "none": None},
    "pin_secret": 4711,
    "tokens": [],
    "secret": None,
    "command": "curl -H 'Authorization: Bearer abcdefghijklmnop1'",
    "steps": [{"token": "t", "table": "orders"}],
}
SECRETS_OF_SEALED = ["4711", "4711", "abcdefghijklmnop1", "k", "p@ss", "q", "t", "新 sesame"]
DECRYPTIONS: dict[str, dict[str, Any]] = {
    "two keys": {"decrypt": WHOLE, "environ": BOTH},
    "Airflow's keys": {"decrypt": [BY_NEW, BY_OLD], "environ": {"AIRFLOW__CORE__FERNET_KEY": f"{NEW},{OLD}"}},
    "a text": {"decrypt": BY_NEW, "environ": BOTH},
    "in texts": {"decrypt": IN_TEXTS, "environ": BOTH},
    "sealed by PyAPI": {"decrypt": Sealer([OLD]).seal(SEALED), "environ": BOTH},
    "deep": {"decrypt": {"a": BY_NEW}, "environ": BOTH, "levels": 3000},
    "no tokens": {"decrypt": NO_TOKENS, "environ": {}},
    "no key": {"decrypt": WHOLE, "environ": {}},
    "another key": {"decrypt": [BY_NEW, BY_OTHER], "environ": {"PYAPI_FERNET_KEYS": NEW}},
    "no UTF-8": {"decrypt": NO_TEXT, "environ": BOTH},
    "damaged": {"decrypt": BY_NEW[:-6], "environ": BOTH},
    "a wrong key": {"decrypt": 1, "environ": {"PYAPI_FERNET_KEYS": f"{NEW},geheim"}},
    "a wrong key of Airflow": {"decrypt": BY_NEW, "environ": {"AIRFLOW__CORE__FERNET_KEY": "geheim"}},
}


@pytest.fixture
def opened(answers: list[Any]) -> dict[str, Any]:
    """The answers to those questions."""
    return dict(zip(DECRYPTIONS, answers[-len(DECRYPTIONS) :], strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("two keys", OPENED),
        ("Airflow's keys", [SECRET_OF_NEW, SECRET_OF_OLD]),
        ("a text", SECRET_OF_NEW),
        ("in texts", FOUND_IN_TEXTS),
        ("sealed by PyAPI", SEALED),
        ("deep", {"a": SECRET_OF_NEW}),
        ("no tokens", NO_TOKENS),
    ],
)
def test_a_config_is_decrypted(opened: dict[str, Any], name: str, expected: Any) -> None:
    value, _, settings = opened[name]
    assert (value, NEW in settings) == (expected, False)


def test_what_was_decrypted_is_known(opened: dict[str, Any]) -> None:
    assert sorted(opened["two keys"][1]) == sorted([SECRET_OF_OLD, SECRET_OF_NEW, SECRET_OF_NEW])
    assert sorted(opened["sealed by PyAPI"][1]) == SECRETS_OF_SEALED


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no key", UNREADABLE),
        ("another key", NO_KEY_FITS),
        ("no UTF-8", NO_KEY_FITS),
        ("damaged", NO_KEY_FITS),
        ("a wrong key", BAD_KEYS),
        ("a wrong key of Airflow", UNREADABLE),
    ],
)
def test_what_cannot_be_decrypted_says_what_to_do(opened: dict[str, Any], name: str, error: str) -> None:
    assert opened[name] == error


def test_an_author_gets_a_record_with_its_secrets(answers: list[Any]) -> None:
    name, config, _, shown = answers[4]
    assert (name, config, "sesame" in shown) == ("readable", {"source": SECRET_OF_OLD}, False)
    assert "readable" in answers[6]


def test_an_author_is_told_which_record_cannot_be_decrypted(answers: list[Any], encrypted: list[int]) -> None:
    assert answers[5] == NO_KEY_FITS.replace("record 5", f"record {encrypted[1]}")


def test_a_record_that_cannot_be_decrypted_is_in_nobodys_way(answers: list[Any]) -> None:
    assert "unreadable" in answers[7]
