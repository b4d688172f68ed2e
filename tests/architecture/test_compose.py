"""The Airflow of the compose file is the one that `pyapi standalone` starts and the tests run."""

import json
import os
import re
import runpy
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyapi.airflow_environment import COMPONENTS, KIT_VARIABLES, LeanAirflow, airflow_environment

DEPLOYMENT = Path(__file__).resolve().parents[2] / "deployment"
START = DEPLOYMENT / "airflow" / "start.py"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOYMENT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = {name: service for name, service in COMPOSE["services"].items() if name.startswith("airflow-")}
# Where something is, or who may use it; what the image sets itself; and what a health check needs in a container.
OF_THE_PLACE = re.compile("URL|SQL_ALCHEMY|HOST$|PORT$|SECRET$|KEY$|PATH$|FILE$|^AIRFLOW_HOME$|PASSWORD$")
ONLY_THERE = {
    "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST",
    "PYAPI_AIRFLOW_PASSWORD",
    *KIT_VARIABLES,
}
NOT_THERE = {"AIRFLOW_HOME", "NO_PROXY", "no_proxy", "UV_NO_EDITABLE"}


def filled_in(text: str) -> str:
    """As compose does it without a file `.env`."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).strip()


def here() -> dict[str, str]:
    airflow = LeanAirflow(
        home=Path("/home"),
        port=1,
        database_url="postgresql://h/d",
        pyapi_url="http://p",
        jwt_secret="j",
        fernet_key="f",
    )
    return airflow_environment({}, airflow)


@pytest.mark.parametrize("service", SERVICES)
def test_its_settings_are_the_same(service: str) -> None:
    there = {name: filled_in(value) for name, value in SERVICES[service]["environment"].items()}
    assert set(there) - ONLY_THERE == set(here()) - NOT_THERE
    same = [name for name in set(here()) - NOT_THERE if not OF_THE_PLACE.search(name)]
    assert {name: there[name] for name in same} == {name: here()[name] for name in same}
    assert len(same) > 8


def test_the_image_has_all_that_the_kit_takes_in() -> None:
    project = tomllib.loads((DEPLOYMENT / "airflow" / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].values()
    copied = re.findall(r"^COPY (pyapi/.+) \S+$", (DEPLOYMENT / "airflow" / "Dockerfile").read_text(), re.MULTILINE)
    assert set(wanted) == {path for line in copied for path in line.split()}


def test_its_commands_are_the_same() -> None:
    commands = {name.removeprefix("airflow-"): tuple(service["command"]) for name, service in SERVICES.items()}
    assert commands == {**COMPONENTS, "migrate": ("db", "migrate")}


def test_nothing_of_it_starts_without_its_profile() -> None:
    assert {tuple(service["profiles"]) for service in SERVICES.values()} == {("airflow",)}
    others = [service for name, service in COMPOSE["services"].items() if name not in SERVICES]
    assert [
        service for service in others if "profiles" in service or SERVICES.keys() & service.get("depends_on", {})
    ] == []


def test_no_variable_is_demanded_from_those_who_do_not_use_it() -> None:
    assert ":?" not in (DEPLOYMENT / "docker-compose.yml").read_text(encoding="utf-8")


def start(folder: Path, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """The program of the image, with an `airflow` that says how it was called."""
    airflow = folder / "airflow"
    airflow.write_text(f'#!/bin/sh\necho "$@" "${{PYAPI_AIRFLOW_PASSWORD:-no password}}" {os.linesep}')
    airflow.chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "wang:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
    }
    return subprocess.run(
        [sys.executable, str(START), *words], env=environment | settings, capture_output=True, text=True, check=False
    )


def test_a_container_without_secrets_says_which_are_missing(tmp_path: Path) -> None:
    done = start(tmp_path, "scheduler", AIRFLOW__CORE__FERNET_KEY="", AIRFLOW__API_AUTH__JWT_SECRET="x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Set AIRFLOW_FERNET_KEY, PYAPI_AIRFLOW_PASSWORD in .env")


def test_a_container_lets_in_whom_env_names_and_tells_no_task_how(tmp_path: Path) -> None:
    secrets = dict.fromkeys(runpy.run_path(str(START))["REQUIRED"], 'quo"ted')
    done = start(tmp_path, "scheduler", "--flag", **secrets)
    passwords = tmp_path / "passwords.json"
    assert (done.stdout.strip(), done.stderr) == ("scheduler --flag no password", "")
    assert json.loads(passwords.read_text()) == {"wang": 'quo"ted'}
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
