"""schemathesis with all its checks, in all its phases, on every operation: as anybody, as a user, as a superuser.

A run is the one that people start by hand (schemathesis.toml says what it leaves out and why), on a server and a
database of its own. From the root of the repository, with the server and the account of schemathesis_hooks.py:
`SCHEMATHESIS_SIGN_IN=1 schemathesis --config-file tests/e2e/schemathesis.toml run $URL/api/openapi.json -n 400`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest

from tests.conftest import NewDatabase
from tests.e2e.conftest import RunningServer
from tests.e2e.schemathesis_hooks import OWN_ID, PASSWORD, USERNAME

EXAMPLES = 25
"""How many requests each operation gets in each phase. 400 take minutes, and are worth it after larger changes."""

SECONDS = 600
ROOT = Path(__file__).parents[2]
CALLERS = ("anonymous", "user", "superuser")


@dataclass(frozen=True)
class Run:
    """A run of schemathesis that has been started."""

    process: subprocess.Popen[bytes]
    server: RunningServer
    report: Path

    def findings(self) -> str | None:
        """What it says when it found something, after it has ended."""
        return None if self.process.wait(SECONDS) == 0 else self.report.read_text()

    def succeeded(self) -> set[str]:
        """Operations that have answered 2xx."""
        self.process.wait(SECONDS)
        done = [event for event in self.server.events if event["event"] == "request" and event["status"] < 300]
        templates = {path: re.compile(re.sub("{.*?}", "[^/]+", path)) for path in self.operations()}
        return {
            f"{event['method']} {path}"
            for event in done
            for path, template in templates.items()
            if template.fullmatch(event["path"])
        }

    def operations(self) -> dict[str, list[str]]:
        """The methods of each path."""
        paths = httpx.get(f"{self.server.url}/api/openapi.json", trust_env=False).json()["paths"]
        return {path: [method.upper() for method in methods] for path, methods in paths.items()}


def start(server: RunningServer, report: Path, *, sign_in: bool) -> Run:
    with report.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "schemathesis.cli", "--config-file", "tests/e2e/schemathesis.toml", "run"]
            + [f"{server.url}/api/openapi.json", f"--max-examples={EXAMPLES}", "--seed=1", "--no-color"],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **({"SCHEMATHESIS_SIGN_IN": "1"} if sign_in else {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Run(process, server, report)


@pytest.fixture(scope="module")
async def databases(new_database: NewDatabase) -> dict[str, str]:
    return {caller: await new_database() for caller in CALLERS}


@pytest.fixture(scope="module")
async def servers(
    databases: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RunningServer]]:
    ...
