"""The commands for operators, as processes: most of them forks of an interpreter that has imported PyAPI."""

import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from pyapi.db.engine import create_engine
from pyapi.db.schema_version import head_revision
from tests.conftest import NewDatabase
from tests.fixtures.application import PASSWORD, log_in
from tests.fixtures.servers import SCRIPTS, WARM, Finished, RunningServer, StartServer, run_command

pytestmark = pytest.mark.usefixtures("warm_interpreter")

CLI = str(SCRIPTS / "pyapi")
FAST = {"PYAPI_PASSWORD_HASH_ROUNDS": "4"}
SUPERUSER = ("user", "create-superuser", "--username", "boss", "--email", "boss@example.com")
NEW_PASSWORD = "另一組不常見的密碼 2026"


@pytest.fixture
async def settings(new_database: NewDatabase) -> dict[str, str]:
    """A database of its own, and cheap hashes."""
    return {**FAST, "DATABASE_URL": await new_database()}


def pyapi(folder: Path, *words: str, settings: dict[str, str] | None = None, typed: str = "") -> Finished:
    return run_command(folder, WARM, CLI, *words, settings=settings or {}, typed=typed)


COMMANDS = [
    (),
    ("serve",),
    ("standalone",),
    ("db",),
    ("db", "upgrade"),
    ("db", "check"),
    ("user",),
    ("user", "create"),
    ("user", "create-superuser"),
    ("user", "reset-password"),
    ("user", "list"),
    ("user", "set-role"),
    ("audit",),
    ("audit", "export"),
    ("audit", "prune"),
    ("config",),
    ("config", "check"),
    ("config", "example"),
    ("secret", "generate"),
    ("secrets", "generate-key"),
    ("secrets", "encrypt"),
    ("secrets", "rotate"),
    ("openapi", "export"),
]


def test_every_command_explains_itself(tmp_path: Path) -> None:
    """In one process: it is about the texts."""
    lines = [f"    print({words!r}, CliRunner().invoke(app, [*{words!r}, '--help']).exit_code)" for words in COMMANDS]
    script = "\n".join(["from typer.testing import CliRunner", "from pyapi.cli import app", "if True:", *lines])
    done = run_command(tmp_path, sys.executable, "-c", script)
    assert [line.rpartition(" ")[2] for line in done.output.splitlines()] == ["0"] * len(COMMANDS), done.said


def test_a_secret_is_random_and_good_for_production(tmp_path: Path) -> None:
    key = pyapi(tmp_path, "secret", "generate").output.strip()
    settings = {"SECRET_KEY": key, "PYAPI_ENVIRONMENT": "production", "DATABASE_URL": "mysql://h/d"}
    assert "SECRET_KEY" not in pyapi(tmp_path, "config", "check", settings=settings).said


async def test_stored_secrets_are_encrypted_and_get_another_key(tmp_path: Path, settings: dict[str, str]) -> None:
    connection = await asyncpg.connect(settings["DATABASE_URL"].replace("+asyncpg", ""))
    insert = "INSERT INTO pyapi_data_records (name, config) VALUES ('x', '{\"password\": \"geheim\"}')"
    await connection.execute(insert)
    dump = "SELECT string_agg(r.config::text || s.state::text, '') FROM pyapi_data_records r, pyapi_data_revisions s"
    old, new = (pyapi(tmp_path, "secrets", "generate-key").output.strip() for _ in range(2))
    without = pyapi(tmp_path, "secrets", "encrypt", settings=settings)
    encrypted = pyapi(tmp_path, "secrets", "encrypt", settings={**settings, "PYAPI_FERNET_KEYS": old})
    sealed = str(await connection.fetchval(dump))
    lost = pyapi(tmp_path, "secrets", "rotate", settings={**settings, "PYAPI_FERNET_KEYS": new})
    rotated = pyapi(tmp_path, "secrets", "rotate", settings={**settings, "PYAPI_FERNET_KEYS": f"{new},{old}"})
    again = pyapi(tmp_path, "secrets", "rotate", settings={**settings, "PYAPI_FERNET_KEYS": new})
    await connection.close()
    assert "geheim" not in sealed
    assert without.refusal.startswith("PYAPI_FERNET_KEYS is missing: ")
    assert (encrypted.status, encrypted.output, encrypted.error) == (
        0,
        "",
        "pyapi_data_records: 1 of 1 rows, 1 changed\npyapi_data_revisions: 1 of 1 rows, 1 changed\n",
    )
    assert lost.refusal.splitlines()[-1].startswith("2 rows stay as they are: ")
    assert [(done.status, done.error.count(" 1 changed")) for done in (rotated, again)] == [(0, 2), (0, 0)]


async def test_a_database_is_checked_upgraded_and_checked(tmp_path: Path, empty_databases: NewDatabase) -> None:
    settings = {"DATABASE_URL": await empty_databases()}
    steps = [pyapi(tmp_path, "db", word, settings=settings) for word in ("check", "upgrade", "check")]
    assert [(step.status, (step.output or step.error).splitlines()[-1]) for step in steps] == [
        (1, f"The database schema is at nothing, this version needs {head_revision()}: run `pyapi db upgrade`."),
        (0, f"The schema is at {head_revision()}."),
        (0, f"The schema is at {head_revision()}, as this version needs it."),
    ]


def test_the_first_superuser_of_an_empty_folder(tmp_path: Path) -> None:
    """No server runs, and no database is there yet: the command brings both for as long as it takes."""
    created = pyapi(tmp_path, *SUPERUSER, settings={**FAST, "PYAPI_NEW_PASSWORD": PASSWORD})
    listed = pyapi(tmp_path, "user", "list")
    assert (created.said, listed.said) == (
        "Superuser boss has the id 1.\n",
        "1\tboss\tboss@example.com\tactive\tadmin\n",
    )


def test_an_operator_opens_an_account_with_a_role(tmp_path: Path, settings: dict[str, str]) -> None:
    words = ("user", "create", "--username", "reader", "--email", "reader@example.com", "--role", "viewer")
    created = pyapi(tmp_path, *words, settings={**settings, "PYAPI_NEW_PASSWORD": PASSWORD})
    assert created.said == "Viewer reader has the id 1.\n"


async def test_a_superuser_beside_a_running_server(start_server: StartServer) -> None:
    """The embedded database belongs to the server; the command joins in."""
    server = start_server()
    created = pyapi(server.folder, *SUPERUSER, settings={**FAST, "PYAPI_NEW_PASSWORD": PASSWORD})
    assert created.status == 0, created.said
    async with server.client() as client:
        tokens = await log_in(client, "boss")
        users = await client.get("/api/auth/users", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert [user["username"] for user in users.json()["data"]] == ["boss"]


def test_a_password_is_asked_for_twice_and_not_shown(tmp_path: Path, settings: dict[str, str]) -> None:
    created = pyapi(tmp_path, *SUPERUSER, settings=settings, typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert (created.status, PASSWORD in created.said) == (0, False), created.said


@pytest.mark.parametrize(
    ("words", "password", "reason"),
    [
        (SUPERUSER, "12345678", "Choose another password: this one is among the 10,000 most common."),
        (SUPERUSER, "short", "password: String should have at least 8 characters"),
        ((*SUPERUSER[:3], "no spaces!", *SUPERUSER[4:]), PASSWORD, "username: String should match pattern"),
        (("user", "reset-password", "nobody"), PASSWORD, "There is no such user."),
    ],
)
def test_what_is_refused_is_said_in_one_line(
    words: tuple[str, ...], password: str, reason: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    done = pyapi(tmp_path, *words, settings={**settings, "PYAPI_NEW_PASSWORD": password})
    assert done.refusal.startswith(reason)
    assert len(done.refusal.splitlines()) == 1


async def test_a_reset_password_replaces_the_old_one(
    shared_server: RunningServer, shared_database: str, tmp_path: Path
) -> None:
    settings = {**FAST, "DATABASE_URL": shared_database}
    person = ("user", "create-superuser", "--username", "forgetful", "--email", "forgetful@example.com")
    assert pyapi(tmp_path, *person, settings={**settings, "PYAPI_NEW_PASSWORD": PASSWORD}).status == 0
    async with shared_server.client() as client:
        before = await log_in(client, "forgetful")
        reset = {**settings, "PYAPI_NEW_PASSWORD": NEW_PASSWORD}
        assert pyapi(tmp_path, "user", "reset-password", "forgetful", settings=reset).status == 0
        old_session = await client.get("/api/auth/me", headers={"Authorization": f"Bearer {before['access_token']}"})
        old = await client.post("/api/auth/login", json={"username": "forgetful", "password": PASSWORD})
        new = await client.post("/api/auth/login", json={"username": "forgetful", "password": NEW_PASSWORD})
    assert [answer.status_code for answer in (old_session, old, new)] == [401, 401, 200]


def test_config_check_finds_typing_mistakes(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / ".env").write_text("PYAPI_WORKER_COUNT=4\nCOMPOSE_FILE=deployment/docker-compose.yml\n")
    done = pyapi(tmp_path, "config", "check", settings=settings)
    assert (done.status, done.output, done.error) == (
        0,
        "The settings are fine for dev.\n",
        "warning: PYAPI_WORKER_COUNT is not a setting of PyAPI\n",
    )


def test_config_example_is_the_file_in_the_repository(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / ".env.example"
    assert run_command(tmp_path, CLI, "config", "example").output == example.read_text(encoding="utf-8")


def test_openapi_is_exported(tmp_path: Path) -> None:
    pyapi(tmp_path, "openapi", "export", "--output", "openapi.json")
    document = json.loads((tmp_path / "openapi.json").read_text(encoding="utf-8"))
    assert document["info"]["title"] == "PyAPI"


def test_serve_takes_its_settings_from_the_command_line(start_server: StartServer, settings: dict[str, str]) -> None:
    command = (CLI, "serve", "--host", "127.0.0.1", "--port", "{port}", "--workers", "2")
    server = start_server(command=command, settings={**settings, "PYAPI_PORT": "1"})
    assert len(server.workers()) == 2


# --- The audit log ----------------------------------------------------------------------------------------------------


def exported(folder: Path, settings: dict[str, str]) -> list[dict[str, Any]]:
    done = pyapi(folder, "audit", "export", settings=settings)
    assert done.status == 0, done.said
    return [json.loads(line) for line in done.output.splitlines()]


def test_what_operators_do_is_in_the_audit_log(tmp_path: Path, settings: dict[str, str]) -> None:
    pyapi(tmp_path, *SUPERUSER, settings={**settings, "PYAPI_NEW_PASSWORD": PASSWORD})
    pyapi(tmp_path, "user", "reset-password", "boss", settings={**settings, "PYAPI_NEW_PASSWORD": NEW_PASSWORD})
    rows = exported(tmp_path, settings)
    told = [(row["event"], row["actor_id"], row["actor_name"][:4], row["target_id"]) for row in rows]
    assert told == [("password.reset", None, "cli:", "1"), ("user.created", None, "cli:", "1")]


async def test_the_audit_log_is_pruned_and_says_so(tmp_path: Path, settings: dict[str, str]) -> None:
    engine = create_engine(settings["DATABASE_URL"], pool_size=1)
    async with engine.begin() as connection:
        old = (
            "INSERT INTO pyapi_audit_log (event, at) SELECT 'old', now() - interval '8 days' FROM generate_series(1, 3)"
        )
        await connection.execute(text(old))
        await connection.execute(text("INSERT INTO pyapi_audit_log (event) VALUES ('new')"))
    await engine.dispose()
    done = pyapi(tmp_path, "audit", "prune", "--older-than", "1w", settings=settings)
    rows = exported(tmp_path, settings)
    assert (done.said, [row["event"] for row in rows]) == ("Deleted 3 rows.\n", ["audit.pruned", "new"])
    assert (rows[0]["actor_name"][:4], rows[0]["details"]["deleted"]) == ("cli:", 3)


@pytest.mark.parametrize("age", ["0d", "90", "-1d", "23h", "1.5d", "100000w", ""])
def test_an_age_that_is_none_prunes_nothing(tmp_path: Path, settings: dict[str, str], age: str) -> None:
    done = pyapi(tmp_path, "audit", "prune", f"--older-than={age}", settings=settings)
    assert done.refusal == "--older-than: write days or weeks, 90d or 13w; at least 1d.\n"
