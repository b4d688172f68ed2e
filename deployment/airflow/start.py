"""Starts Airflow in a container: says in one line what is missing, and lets people in with the password they chose."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Airflow would make each of them up anew in every container, or do without.
REQUIRED = {
    "AIRFLOW__CORE__FERNET_KEY": "AIRFLOW_FERNET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET": "AIRFLOW_JWT_SECRET",
    "PYAPI_AIRFLOW_PASSWORD": "PYAPI_AIRFLOW_PASSWORD",
}


def missing(environ: Mapping[str, str]) -> list[str]:
    """Their names in `.env`."""
    return [name for variable, name in REQUIRED.items() if not environ.get(variable)]


def keep_password(environ: Mapping[str, str]) -> None:
    """Where SimpleAuthManager looks for it; it would make one up and write it into the log."""
    path = Path(environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    user = environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].partition(":")[0]
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps({user: environ["PYAPI_AIRFLOW_PASSWORD"]}))


def main() -> None:
    """Become `airflow`, with the words of the command line."""
    if names := missing(os.environ):
        sys.exit(f"Set {', '.join(names)} in .env: docs/airflow.md says how to make them.")
    keep_password(os.environ)
    # Tasks have no use for it.
    environment = {name: value for name, value in os.environ.items() if name != "PYAPI_AIRFLOW_PASSWORD"}
    os.execvpe("airflow", ["airflow", *sys.argv[1:]], environment)  # noqa: S606, S607 - the image's own


if __name__ == "__main__":
    main()
