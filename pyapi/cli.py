"""What operators do at a terminal: `pyapi --help`."""

import asyncio
import getpass
import json
import os
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from cryptography.fernet import Fernet
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from pyapi.__main__ import start
from pyapi.db.audit_dao import AuditDAO
from pyapi.db.auth_dao import UserDAO, UserLookup
from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.db.embedded import attach_or_start
from pyapi.db.engine import create_engine, explain, is_unavailable
from pyapi.db.migrations import compare_with_models
from pyapi.db.schema_version import current_revision, prepare_schema, require_current
from pyapi.db.secret_dao import Place, SecretDAO
from pyapi.db.session_dao import SessionDAO
from pyapi.db.token_dao import AccessTokenDAO
from pyapi.enums import Role
from pyapi.exceptions import ConfigurationError, DatabaseUnavailable, Problem, ValidationFailed
from pyapi.log import configure_logging
from pyapi.schemas.audit_schemas import AuditListParams
from pyapi.schemas.auth_schemas import RegisterRequest, UserListParams, UserRead
from pyapi.services.audit_service import AuditService
from pyapi.services.audit_trail import Actor, AuditTrail
from pyapi.services.password_service import PasswordService
from pyapi.services.secret_keeper import Progress, SecretKeeper
from pyapi.services.user_service import UserService
from pyapi.settings import Settings, render_env_example, unknown_variables
from pyapi.utils.auth import PasswordHasher
from pyapi.utils.sealing import Sealer

_TELL_SECONDS = 1.0

T = TypeVar("T")
AUDIT_BATCH = 10_000

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
db = typer.Typer(help="The tables of the service.", no_args_is_help=True)
user = typer.Typer(help="Accounts.", no_args_is_help=True)
audit = typer.Typer(help="Who did what.", no_args_is_help=True)
config = typer.Typer(help="Settings.", no_args_is_help=True)
secret = typer.Typer(help="Keys.", no_args_is_help=True)
stored_secrets = typer.Typer(help="The secrets in records.", no_args_is_help=True)
openapi = typer.Typer(help="The description of the API.", no_args_is_help=True)
GROUPS = {
    "db": db,
    "user": user,
    "audit": audit,
    "config": config,
    "secret": secret,
    "secrets": stored_secrets,
    "openapi": openapi,
}
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (PYAPI_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (PYAPI_PORT).")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes (PYAPI_WORKERS_COUNT).")] = None,
    reload: Annotated[bool | None, typer.Option(help="Restart when a file changes (PYAPI_RELOAD).")] = None,
) -> None:
    """Start the server; the same as `python -m pyapi`."""
    given = {"host": host, "port": port, "workers_count": workers, "reload": reload}
    start(Settings.load(**{name: value for name, value in given.items() if value is not None}))


@app.command()
def standalone(
    port: Annotated[int | None, typer.Option(help="Port of PyAPI (PYAPI_PORT).")] = None,
    airflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Airflow.")] = 8080,
) -> None:
    """Start PyAPI, a PostgreSQL and an Airflow on this machine, the last from the clone of the repository."""
    from pyapi.standalone import run_standalone  # only this command needs it, and an HTTP client with it

    given = {} if port is None else {"port": port}
    run_standalone(Settings.load(**given), airflow_port=airflow_port)


@db.command("upgrade")
def db_upgrade() -> None:
    """Apply the migrations that are missing."""
    with_engine(_upgrade)


async def _upgrade(engine: AsyncEngine) -> None:
    await prepare_schema(engine.url.render_as_string(hide_password=False), migrate=True)
    typer.echo(f"The schema is at {await current_revision(engine)}.")


@db.command("check")
def db_check() -> None:
    """Say whether the tables are what this version needs; exit status 1 when not."""
    with_engine(_check)


async def _check(engine: AsyncEngine) -> None:
    await require_current(engine)
    if differences := await compare_with_models(engine):
        raise ConfigurationError("The tables differ from the migrations: " + "; ".join(differences))
    typer.echo(f"The schema is at {await current_revision(engine)}, as this version needs it.")


@user.command("create")
def user_create(
    username: Annotated[str, typer.Option(prompt=True)],
    email: Annotated[str, typer.Option(prompt=True)],
    full_name: Annotated[str | None, typer.Option()] = None,
    role: Annotated[Role, typer.Option()] = Role.EDITOR,
    password: Annotated[str | None, typer.Option(envvar="PYAPI_NEW_PASSWORD", help="Asked for when not given.")] = None,
) -> None:
    """Open an account for somebody."""
    password = password or _ask_password()
    try:
        request = RegisterRequest(username=username, email=email, password=password, full_name=full_name)
    except ValidationError as error:
        _fail("\n".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_input=False)))
    created = with_users(lambda users, passwords: users.create(request, passwords, role=role))
    title = "Superuser" if created.role is Role.ADMIN else created.role.capitalize()
    typer.echo(f"{title} {created.username} has the id {created.id}.")


@user.command("create-superuser")
def user_create_superuser(
    username: Annotated[str, typer.Option(prompt=True)],
    email: Annotated[str, typer.Option(prompt=True)],
    full_name: Annotated[str | None, typer.Option()] = None,
    password: Annotated[str | None, typer.Option(envvar="PYAPI_NEW_PASSWORD", help="Asked for when not given.")] = None,
) -> None:
    """Open an account that may do everything."""
    user_create(username, email, full_name, Role.ADMIN, password)


@user.command("reset-password")
def user_reset_password(
    username: str,
    password: Annotated[str | None, typer.Option(envvar="PYAPI_NEW_PASSWORD", help="Asked for when not given.")] = None,
) -> None:
    """Set a new password for somebody and end their sessions."""
    chosen = password or _ask_password()
    changed = with_users(lambda users, passwords: users.reset_password(username, chosen, passwords))
    typer.echo(f"{changed.username} has a new password; all sessions and personal access tokens ended.")


@user.command("set-role")
def user_set_role(username: str, role: Role) -> None:
    """Let an account do more or less: viewer, editor or admin."""
    changed = with_users(lambda users, _: users.set_role(username, role))
    typer.echo(f"{changed.username} is {changed.role} now.")


@user.command("list")
def user_list(
    q: Annotated[str | None, typer.Option("--search", help="Part of the name or the address.")] = None,
    skip: Annotated[int, typer.Option(min=0)] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
) -> None:
    """List accounts, tab-separated: id, name, address, active, role."""
    page = with_users(lambda users, _: users.page(UserListParams(q=q, skip=skip, limit=limit)))
    for account in page.data:
        typer.echo(_line(account))
    if page.total > skip + len(page.data):
        typer.echo(f"{page.total - skip - len(page.data)} more: use --skip and --limit.", err=True)


def _line(account: UserRead) -> str:
    state = "active" if account.is_active else "inactive"
    return "\t".join([str(account.id), account.username, account.email, state, account.role])


@audit.command("export")
def audit_export() -> None:
    """Print the audit log, newest first: one JSON object a line."""
    with_engine(_export_audit)


async def _export_audit(engine: AsyncEngine) -> None:
    database, params = Database.on(engine), AuditListParams(limit=1000)
    while True:
        async with transaction(database.reads) as session:
            page = await AuditService(AuditDAO(session)).page(params)
        for entry in page.data:
            typer.echo(entry.model_dump_json())
        if page.next_cursor is None:
            return
        params = params.model_copy(update={"cursor": page.next_cursor})


@audit.command("prune")
def audit_prune(
    older_than: Annotated[str, typer.Option(help="Age in days (90d) or weeks (13w); at least a day.")],
) -> None:
    """Delete the old end of the audit log; a row says that it was done."""
    age = _age(older_than)
    pruned = with_engine(lambda engine: _prune_audit(engine, datetime.now(UTC) - age))
    typer.echo(f"Deleted {pruned} rows.")


def _age(words: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([dw])", words)
    if found is None:
        _fail("--older-than: write days or weeks, 90d or 13w; at least 1d.")
    return timedelta(days=int(found[1]) * (7 if found[2] == "w" else 1))


async def _prune_audit(engine: AsyncEngine, older_than: datetime) -> int:
    """In batches, each with its row: others go on writing, and what was done before a break stays done."""
    database, pruned = Database.on(engine), 0
    while True:
        async with transaction(database.transactions) as session:
            batch = await AuditDAO(session).prune(older_than=older_than, most=AUDIT_BATCH, actor_name=operator())
        pruned += batch
        if batch < AUDIT_BATCH:
            return pruned


def operator() -> str:
    """Who sits at the terminal, as the audit log names them."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under an id without a name
        name = f"uid {os.getuid()}"
    return f"cli:{name}"[:255]


@config.command("check")
def config_check() -> None:
    """Read the settings as the server would, and reach for the database; exit status 1 when something is wrong."""
    settings = Settings.load()
    settings.require_safe()
    for variable in unknown_variables([*os.environ, *_variables_of(Path(".env"))]):
        typer.echo(f"warning: {variable} is not a setting of PyAPI", err=True)
    for text in settings.warnings():
        typer.echo(f"warning: {text}", err=True)
    if settings.database_url is not None:
        with_engine(current_revision)
    typer.echo(f"The settings are fine for {settings.environment}.")


def _variables_of(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.partition("=")[0].strip() for line in lines if "=" in line and not line.lstrip().startswith("#")]


@config.command("example")
def config_example() -> None:
    """Print every setting with its default, as in .env.example."""
    typer.echo(render_env_example(), nl=False)


@secret.command("generate")
def secret_generate() -> None:
    """Print a new random key for SECRET_KEY."""
    typer.echo(secrets.token_urlsafe(48))


@stored_secrets.command("generate-key")
def secrets_generate_key() -> None:
    """Print a new random key for PYAPI_FERNET_KEYS."""
    typer.echo(Fernet.generate_key().decode())


@stored_secrets.command("encrypt")
def secrets_encrypt() -> None:
    """Encrypt what is stored readable, in records and their revisions; people may go on working."""
    with_secrets(SecretKeeper.encrypt, "PYAPI_FERNET_KEYS is missing: make a key with `pyapi secrets generate-key`.")


@stored_secrets.command("rotate")
def secrets_rotate() -> None:
    """Encrypt all secrets with the newest key, so that older ones can go; people may go on working."""
    with_secrets(
        SecretKeeper.rotate, "PYAPI_FERNET_KEYS is missing: name the new key first and the old ones behind it."
    )


@openapi.command("export")
def openapi_export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else the terminal.")] = None,
) -> None:
    """Write the OpenAPI document as JSON."""
    from pyapi.web.application import get_app  # only this command needs the whole web layer

    text = json.dumps(get_app(Settings.load()).openapi(), ensure_ascii=False, indent=2)
    if output is None:
        typer.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


def with_engine(work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Run `work` on the database of the settings; the embedded one is started for as long as it takes."""
    return asyncio.run(_with_engine(work))


async def _with_engine(work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    settings = Settings.load()
    configure_logging(level="WARNING", style=settings.log_format)
    async with _database(settings) as engine:
        try:
            return await work(engine)
        except DatabaseUnavailable as error:
            raise ConfigurationError(explain(error.__cause__ or error, engine.url)) from None
        except Exception as error:
            if is_unavailable(error):
                raise ConfigurationError(explain(error, engine.url)) from None
            raise


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[AsyncEngine]:
    server = None
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    else:
        url, server = attach_or_start(settings.data_dir)
    try:
        engine = create_engine(url, pool_size=2, patient=True)
        yield engine
        await engine.dispose()
    finally:
        if server is not None:
            server.stop()


def with_secrets(work: Callable[[SecretKeeper], AsyncIterator[Progress]], without_keys: str) -> None:
    """Run `work` on the secrets of all records, and say how far it is; exit status 1 when something stays behind."""
    sealer = Sealer(Settings.load().sealing_keys())
    if not sealer.has_keys:
        raise ConfigurationError(without_keys)

    async def run(engine: AsyncEngine) -> int:
        await require_current(engine)
        database = Database.on(engine)

        @asynccontextmanager
        async def stores(place: Place) -> AsyncIterator[SecretDAO]:
            async with transaction(database.transactions) as session:
                yield SecretDAO(session, place)

        return await _say_progress(work(SecretKeeper(stores, sealer)))

    if unreadable := with_engine(run):
        _fail(
            f"{unreadable} rows stay as they are: no key opens a secret in them, or they are no JSON that can be kept."
        )


async def _say_progress(steps: AsyncIterator[Progress]) -> int:
    """Print each table's progress on stderr, once a second; the number of rows that stay behind."""
    told, last = time.monotonic(), ""
    unreadable: dict[Place, int] = {}
    async for step in steps:
        unreadable[step.place] = step.unreadable
        line = f"{step.place}: {step.done:,} of {step.total:,} rows, {step.changed:,} changed"
        if line != last and (step.done == step.total or time.monotonic() > told + _TELL_SECONDS):
            typer.echo(line, err=True)
            told, last = time.monotonic(), line
    return sum(unreadable.values())


def with_users(work: Callable[[UserService, PasswordService], Awaitable[T]]) -> T:
    """Run `work` in one transaction, after bringing the tables up to date when the settings allow that."""
    settings = Settings.load()

    async def run(engine: AsyncEngine) -> T:
        await prepare_schema(engine.url.render_as_string(hide_password=False), migrate=settings.migrate_on_start)
        database = Database.on(engine)
        passwords = PasswordService(PasswordHasher(rounds=settings.password_hash_rounds), threads=1)
        try:
            async with transaction(database.transactions) as session:
                return await work(_users(session, database), passwords)
        finally:
            passwords.close()

    return with_engine(run)


def _users(session: AsyncSession, database: Database) -> UserService:
    lookup, trail = UserLookup(partial(transaction, database.reads)), AuditTrail(
        AuditDAO(session), actor=Actor(None, operator())
    )
    return UserService(lookup, UserDAO(session), SessionDAO(session), AccessTokenDAO(session), trail)


def _ask_password() -> str:
    answer: Any = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return str(answer)


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)


def main() -> None:
    """Run a command; what it refuses is said in plain lines on stderr, with exit status 1."""
    try:
        app()
    except ConfigurationError as error:
        sys.exit(str(error))
    except ValidationFailed as problem:
        sys.exit("\n".join(error.detail for error in problem.errors))
    except Problem as problem:
        sys.exit(problem.detail)
