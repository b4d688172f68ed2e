"""No credential gets out: of all that the whole suite was handed or has sent, nothing is in a log or in a table.

ASVS 5.0, 7.2.3, 14.2.4 and 16.2.5. It reads what all tests before it have left: the logs and output of every server,
the log of the application in this process, and every row of every `pyapi_*` table in every database that still stands.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import PostgresServer
from tests.fixtures.issued import Issued
from tests.fixtures.servers import RunningServer, sign_up

pytestmark = pytest.mark.last

# Signatures, refresh tokens and personal tokens have 43 of these.
TOKEN_LENGTH = 43
RUN = re.compile(r"[\w-]{43,}", re.ASCII)


def secrets_in(text: str, issued: Issued) -> Iterator[str]:
    """Those of the issued secrets that are in a text; the time grows with the text, not with the number of secrets."""
    yield from (password for password in issued.passwords if password in text)
    for run in RUN.findall(text):
        windows = (run[start : start + TOKEN_LENGTH] for start in range(len(run) - TOKEN_LENGTH + 1))
        yield from (window for window in windows if window in issued.tokens)


def leaks(places: Iterable[tuple[str, str]], issued: Issued) -> list[str]:
    """The lines in which a secret was found, after the name of the place; the secret itself stays out of the report."""
    return [
        f"{place}: {line.replace(secrets[0], '(secret)')[:300]}"
        for place, text in places
        if any(secrets_in(text, issued))
        for line in text.splitlines()
        if (secrets := sorted(secrets_in(line, issued)))
    ]


def logs(folder: Path) -> Iterator[tuple[str, str]]:
    for kind in ("log", "output"):
        for path in sorted(folder.rglob(f"*.{kind}")):
            if path.is_file():
                yield path.name, path.read_text(errors="replace")


async def rows(server: PostgresServer) -> list[tuple[str, str]]:
    """Every table of ours as text, by database and name."""
    found = []
    async with connected(server, server.url.database) as connection:
        databases = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'pyapi_test_%'")
    for (database,) in databases:
        async with connected(server, database) as connection:
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE tablename LIKE 'pyapi\\_%'")
            for (table,) in tables:
                lines = await connection.fetch(f'SELECT t::text FROM "{table}" t')
                found.append((f"{database}.{table}", "\n".join(line for (line,) in lines)))
    return found


@contextlib.asynccontextmanager
async def connected(server: PostgresServer, database: str | None) -> AsyncIterator[Any]:
    url = server.url.set(drivername="postgresql", database=database)
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def _somebody_was_here(shared_server: RunningServer, issued: Issued) -> None:
    """Also when this file runs alone there is something to be found."""
    async with shared_server.client() as client:
        await sign_up(client, "leak_seeker")
    assert issued.tokens
    assert issued.passwords


@pytest.mark.usefixtures("_somebody_was_here")
def test_no_log_holds_a_secret(issued: Issued, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert leaks(logs(tmp_path_factory.getbasetemp()), issued) == []


@pytest.mark.usefixtures("_somebody_was_here")
async def test_no_table_holds_a_secret(issued: Issued, postgres_server: PostgresServer) -> None:
    assert leaks(await rows(postgres_server), issued) == []


@pytest.mark.parametrize("hidden", ["a {} b", '{{"t":"{}"}}', "x{}x"])
def test_a_secret_would_be_found(hidden: str) -> None:
    issued = Issued()
    answer = {"access_token": f"head.body.{'s' * TOKEN_LENGTH}"}
    issued.learn(httpx.Response(200, json=answer, request=httpx.Request("POST", "http://test/api/auth/login", json={})))

    assert leaks([("here", hidden.format("s" * TOKEN_LENGTH))], issued) == [f"here: {hidden.format('(secret)')}"]
