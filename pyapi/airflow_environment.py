"""The environment of a lean Airflow beside PyAPI: what `pyapi standalone` runs, and the tests with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pyapi.db.engine import parse_database_url

USERNAME: Final = "admin"
# On one machine the API server reads the logs of tasks from their files. The scheduler's own log server would listen on
# all interfaces.
COMPONENTS: Final = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}
# Of our environment nothing that means our own Python, and no setting of another Airflow.
NOT_INHERITED: Final = (
    *("VIRTUAL_ENV", "PYTHON", "UV_PROJECT", "UV_PYTHON", "AIRFLOW", "COV", "PYAPI"),
    *("DATABASE_URL", "SECRET_KEY"),  # PyAPI's own: who has the key can sign in as anybody
)
KIT_VARIABLES: Final = (
    *("PYAPI_FERNET_KEYS", "PYAPI_TASK_PREFIXES", "PYAPI_SHARD_SIZE", "PYAPI_PATIENCE_SECONDS"),
    *("PYAPI_ETL_DIR", "PYAPI_ETL_LOCAL_DIRS", "PYAPI_ETL_CONN_IDS"),
)
BUNDLE: Final = {
    "name": "pyapi",
    "classpath": "pyapi_airflow.bundle.PyapiDagBundle",
    "kwargs": {"refresh_interval": 1},
}


@dataclass(frozen=True)
class LeanAirflow:
    """What tells one Airflow from another: its home, its address, its database, its keys, and the PyAPI it serves."""

    home: Path
    port: int
    database_url: str = field(repr=False)
    pyapi_url: str
    jwt_secret: str = field(repr=False)
    fernet_key: str = field(repr=False)

    @property
    def url(self) -> str:
        """Its own address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def passwords_file(self) -> Path:
        """Where SimpleAuthManager finds the password of `USERNAME`; it makes one when there is none."""
        return self.home / "passwords.json"


def project_environment(inherited: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of any process of `deployment/airflow`, with the kit as people install it: as a wheel."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(NOT_INHERITED)}
    # The parts talk to each other on this machine, whatever proxy stands between it and the world.
    direct = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1", "localhost"]))
    return kept | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "UV_NO_EDITABLE": "1",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def airflow_environment(inherited: Mapping[str, str], airflow: LeanAirflow) -> dict[str, str]:
    """The environment of its components and tasks."""
    kit = {name: inherited[name] for name in KIT_VARIABLES if name in inherited}
    return project_environment(inherited, airflow.home) | kit | _database(airflow) | _core(airflow) | _bundle(airflow)


def _database(airflow: LeanAirflow) -> dict[str, str]:
    """Airflow's tables stand beside PyAPI's; DAGs may not use its connection, so the kit has one of its own."""
    url = parse_database_url(airflow.database_url)
    plain = url.set(query={"sslmode": url.query["ssl"]} if "ssl" in url.query else {})
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": plain.set(drivername="postgresql+psycopg2").render_as_string(False),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": url.render_as_string(False),
        "PYAPI_DATABASE_URL": plain.set(drivername="postgresql").render_as_string(False),
    }


def _core(airflow: LeanAirflow) -> dict[str, str]:
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__FERNET_KEY": airflow.fernet_key,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USERNAME}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(airflow.passwords_file),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow.url}/execution/",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
        "AIRFLOW__API__BASE_URL": airflow.url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(airflow.port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": airflow.jwt_secret,
        # A task whose process was killed is tried again after a minute, not after five.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    }


def _bundle(airflow: LeanAirflow) -> dict[str, str]:
    """Changes are seen within a second; the files change only when a record does, so they are seldom read again."""
    return {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE]),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(airflow.home / "bundles"),
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "PYAPI_WEB_URL": airflow.pyapi_url,
    }
