"""Servers that speak S3, Google Cloud Storage and Azure, in an environment of their own; they keep all in memory."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pyapi.airflow_environment import project_environment
from tests.airflow.running import INSTALL_SECONDS, PROJECT
from tests.fixtures.servers import free_port

# Of its own: the next one who needs Airflow's would take these programs away.
ENVIRONMENT = PROJECT / ".venv-dev"
AZURITE = Path(__file__).with_name("azurite")
# That of every Azurite.
AZURE_ACCOUNT = {
    "account": "devstoreaccount1",
    "account_key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
}
S3_ACCOUNT = {"access_key_id": "key-4711", "secret_access_key": "secret-4711"}


@dataclass(frozen=True)
class Lake:
    """A server for files: how a record names it, and how readers do, which are not those of the kit."""

    type: str
    url: str
    account: Mapping[str, str] = field(default_factory=dict)

    def target(self, bucket: str, prefix: str = "", **more: str) -> dict[str, str]:
        """A target or a source."""
        name = "container" if self.type == "azure" else "bucket"
        return {"type": self.type, name: bucket, "prefix": prefix, "endpoint_url": self.url, **self.account, **more}

    def place(self, bucket: str, prefix: str = "") -> dict[str, Any]:
        """What a reader is told."""
        return {"lake": {"type": self.type, "url": self.url, **self.account}, "bucket": bucket, "prefix": prefix}


def installed(folder: Path, *, uv: str = "uv") -> dict[str, str]:
    """Make the environment; what a process of it has to be given."""
    environment = project_environment(os.environ, folder) | {"UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT)}
    command = [uv, "run", "--quiet", "--locked", "--only-group", "dev", "--project", str(PROJECT), "python", "-c", ""]
    subprocess.run(command, env=environment, check=True, timeout=INSTALL_SECONDS, cwd=folder)
    return environment


@contextmanager
def s3_lake(folder: Path, *, uv: str = "uv") -> Iterator[Lake]:
    """S3; it does not check secrets."""
    environment, port = installed(folder, uv=uv), free_port()
    with _served([_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)], environment, folder, port) as url:
        yield Lake("s3", url, S3_ACCOUNT)


@contextmanager
def gcs_lake(folder: Path, *, uv: str = "uv") -> Iterator[Lake]:
    """Google Cloud Storage; it knows no accounts."""
    environment, port = installed(folder, uv=uv), free_port()
    command = [_program("gcp-storage-emulator"), "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    with _served(command, environment, folder, port) as url:
        yield Lake("gcs", url)


@contextmanager
def azure_lake(folder: Path, *, uv: str = "uv") -> Iterator[Lake]:
    """Azure; it checks signatures."""
    environment, port = installed(folder, uv=uv), free_port()
    # Its programs look for the one that runs them.
    environment["PATH"] = f"{ENVIRONMENT / 'bin'}:{environment['PATH']}"
    home = ENVIRONMENT / "azurite"
    if not _is_same(AZURITE / "package-lock.json", home / "package-lock.json"):
        new = ENVIRONMENT / "azurite.new"
        for old in (new, home):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(AZURITE, new)
        npm = [_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, env=environment, check=True, timeout=INSTALL_SECONDS, cwd=new, capture_output=True)
        new.rename(home)
    script = home / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--disableTelemetry"]
    command = [_program("node"), str(script), *options, "--skipApiVersionCheck"]
    with _served(command, environment, folder, port) as url:
        yield Lake("azure", url, AZURE_ACCOUNT)


LAKES = {"s3": s3_lake, "gcs": gcs_lake, "azure": azure_lake}


def _program(name: str) -> str:
    return str(ENVIRONMENT / "bin" / name)


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


@contextmanager
def _served(command: Sequence[str], environment: Mapping[str, str], folder: Path, port: int) -> Iterator[str]:
    """A server from the moment it answers; its URL."""
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            assert (server.poll(), time.monotonic() < deadline) == (None, True), (folder / "server.log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        # `node` of a wheel is a program that runs another one.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 9)
        server.wait()


def _answers(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True
