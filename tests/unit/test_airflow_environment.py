"""What a lean Airflow is told by its environment."""

import json
from pathlib import Path

import pytest

from pyapi.airflow_environment import LeanAirflow, airflow_environment, project_environment


def environment(database_url: str = "postgresql+asyncpg://u:p@h:5433/d", **inherited: str) -> dict[str, str]:
    return airflow_environment(
        inherited,
        LeanAirflow(
            home=Path("/data/資料 夾"),
            port=8081,
            database_url=database_url,
            pyapi_url="http://127.0.0.1:8000",
            jwt_secret="signs",
            fernet_key="encrypts",
        ),
    )


@pytest.mark.parametrize(
    ("given", "sync", "asynchronous", "kit"),
    [
        (
            "postgresql+asyncpg://u:p%40%2F@h:5433/d",
            "postgresql+psycopg2://u:p%40%2F@h:5433/d",
            "postgresql+asyncpg://u:p%40%2F@h:5433/d",
            "postgresql://u:p%40%2F@h:5433/d",
        ),
        (
            "postgres://u:p@h/d?sslmode=require",
            "postgresql+psycopg2://u:p@h/d?sslmode=require",
            "postgresql+asyncpg://u:p@h/d?ssl=require",
            "postgresql://u:p@h/d?sslmode=require",
        ),
    ],
)
def test_each_driver_gets_the_database_as_it_spells_it(given: str, sync: str, asynchronous: str, kit: str) -> None:
    found = environment(given)
    names = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "PYAPI_DATABASE_URL")
    assert tuple(found[name] for name in names) == (sync, asynchronous, kit)


def test_nothing_of_another_airflow_or_of_our_python_is_inherited() -> None:
    others = {"AIRFLOW_HOME": "/x", "AIRFLOW__API__PORT": "1", "VIRTUAL_ENV": "/x", "PYTHONPATH": "/x"}
    secrets = {"PYAPI_AIRFLOW_PASSWORD": "x", "PYAPI_DATA_DIR": "/x"}
    assert environment(**others, **secrets) == environment()


def test_what_the_kit_is_told_is_handed_on() -> None:
    assert environment(PYAPI_TASK_PREFIXES="jobs", LANG="C")["PYAPI_TASK_PREFIXES"] == "jobs"


def test_no_proxy_stands_between_the_parts() -> None:
    found = project_environment({"no_proxy": "intranet", "HTTP_PROXY": "http://proxy"}, Path("/home"))
    assert found["NO_PROXY"] == found["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_the_bundle_is_the_reader_kit_s_and_kept_in_the_home() -> None:
    found = environment()
    bundles = json.loads(found["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [bundle["classpath"] for bundle in bundles] == ["pyapi_airflow.bundle.PyapiDagBundle"]
    assert found["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"] == "/data/資料 夾/bundles"
