"""Checks the files that no Docker engine checks here: hadolint for the Dockerfiles, the compose schema for the rest.

Run as `python -m tests.architecture.check_deployment`; exit status 1 when a file is not as it should be.
"""

import shutil
import subprocess
import sys
from pathlib import Path

DEPLOYMENT = Path(__file__).resolve().parents[2] / "deployment"
COMPOSE = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOYMENT / "docker-compose.yml")]
DOCKERFILES = ["hadolint", str(DEPLOYMENT / "Dockerfile"), str(DEPLOYMENT / "airflow" / "Dockerfile")]


def main() -> int:
    """Run the linters; the worst exit status."""
    commands = [COMPOSE]
    if shutil.which(DOCKERFILES[0]):
        commands.append(DOCKERFILES)
    else:  # its wheel exists for Linux on x86_64 only
        print("hadolint is not installed on this platform: the Dockerfiles were not checked.", file=sys.stderr)
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
