"""Settings: every variable and its effect, what production refuses, `.env.example`, and the key that is kept."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from pyapi.enums import Environment, LogFormat, Visibility
from pyapi.exceptions import ConfigurationError
from pyapi.settings import Settings, render_env_example, unknown_variables, variable_name
from pyapi.web.application import get_app

ENV_EXAMPLE = Path(__file__).parents[2] / ".env.example"
URL = "postgresql+asyncpg://airflow:airflow@localhost:5432/airflow"
GOOD_KEY = "Zk3v-9sQhW1xT7uB_eYc5LrJ0aMfPdG8iNoK2wRt"
FERNET_KEY = "OPCaHqFd1I1N3EocN9UCBEYlr5w9NpWDTEZKmJqE38s="
OTHER_FERNET_KEY = "3vyXqGhVnSyQ4x6Z0aSxkq0T0uQ2mJr9oG0d1nE7Y5A="

# (variable, text, field, value); the first ten are the seed's.
EFFECTS = [
    ("PYAPI_HOST", "0.0.0.0", "host", "0.0.0.0"),
    ("PYAPI_PORT", "8080", "port", 8080),
    ("PYAPI_ENVIRONMENT", "production", "environment", Environment.PRODUCTION),
    ("PYAPI_LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
    ("PYAPI_RELOAD", "true", "reload", True),
    ("PYAPI_WORKERS_COUNT", "4", "workers_count", 4),
    ("PYAPI_ACCESS_TOKEN_EXPIRE_MINUTES", "15", "access_token_expire_minutes", 15),
    ("PYAPI_REFRESH_TOKEN_EXPIRE_DAYS", "30", "refresh_token_expire_days", 30),
    ("DATABASE_URL", URL, "database_url", SecretStr(URL)),
    ("SECRET_KEY", GOOD_KEY, "secret_key", SecretStr(GOOD_KEY)),
    ("PYAPI_LOG_LEVEL", "warning", "log_level", "WARNING"),
    ("PYAPI_LOG_FORMAT", "json", "log_format", LogFormat.JSON),
    ("PYAPI_DATA_DIR", "a folder", "data_dir", Path("a folder")),
    ("PYAPI_ANONYMOUS_READ", "false", "anonymous_read", False),
    ("PYAPI_REGISTRATION_OPEN", "false", "registration_open", False),
    ("PYAPI_DEFAULT_VISIBILITY", "private", "default_visibility", Visibility.PRIVATE),
    (
        "PYAPI_CORS_ORIGINS",
        "https://a.example, https://b.example,",
        "cors_origins",
        ("https://a.example", "https://b.example"),
    ),
    ("PYAPI_TRUSTED_HOSTS", "a.example, *.b.example", "trusted_hosts", ("a.example", "*.b.example")),
    ("SECRET_KEY_PREVIOUS", GOOD_KEY, "secret_key_previous", SecretStr(GOOD_KEY)),
    ("PYAPI_FERNET_KEYS", f"{FERNET_KEY},{FERNET_KEY}", "fernet_keys", SecretStr(f"{FERNET_KEY},{FERNET_KEY}")),
    ("AIRFLOW__CORE__FERNET_KEY", FERNET_KEY, "airflow__core__fernet_key", SecretStr(FERNET_KEY)),
    ("PYAPI_DOCS_ENABLED", "false", "docs_enabled", False),
    ("PYAPI_METRICS_ENABLED", "false", "metrics_enabled", False),
    ("PYAPI_RATE_LIMIT_ENABLED", "false", "rate_limit_enabled", False),
    ("PYAPI_LOGIN_MAX_FAILURES", "5", "login_max_failures", 5),
    ("PYAPI_LOGIN_MAX_FAILURES_PER_ADDRESS", "50", "login_max_failures_per_address", 50),
    ("PYAPI_LOGIN_MAX_PER_MINUTE", "5", "login_max_per_minute", 5),
    ("PYAPI_LOGIN_WINDOW_MINUTES", "60", "login_window_minutes", 60),
    ("PYAPI_REGISTER_MAX_PER_HOUR", "5", "register_max_per_hour", 5),
    ("PYAPI_FORWARDED_ALLOW_IPS", "10.0.0.1,10.0.0.2", "forwarded_allow_ips", "10.0.0.1,10.0.0.2"),
    ("PYAPI_GRACEFUL_TIMEOUT_SECONDS", "5", "graceful_timeout_seconds", 5),
    ("PYAPI_MIGRATE_ON_START", "false", "migrate_on_start", False),
    ("PYAPI_DATABASE_POOL_SIZE", "3", "database_pool_size", 3),
    ("PYAPI_PASSWORD_HASH_ROUNDS", "13", "password_hash_rounds", 13),
    ("PYAPI_AIRFLOW_URL", "https://airflow.example/base", "airflow_url", "https://airflow.example/base"),
    ("PYAPI_AIRFLOW_USERNAME", "pyapi", "airflow_username", "pyapi"),
    ("PYAPI_AIRFLOW_PASSWORD", "sesame", "airflow_password", SecretStr("sesame")),
    ("PYAPI_AIRFLOW_TOKEN", "e.y.J", "airflow_token", SecretStr("e.y.J")),
]

# (variable, bad text); the text stands for a secret that somebody put into the wrong line.
UNACCEPTABLE = [
    ("PYAPI_PORT", "hunter2"),
    ("PYAPI_PORT", "0"),
    ("PYAPI_PORT", "65536"),
    ("PYAPI_ENVIRONMENT", "hunter2"),
    ("PYAPI_ENVIRONMENT", "PRODUCTION"),
    ("PYAPI_LOG_LEVEL", "hunter2"),
    ("PYAPI_LOG_FORMAT", "hunter2"),
    ("PYAPI_RELOAD", "hunter2"),
    ("PYAPI_WORKERS_COUNT", "hunter2"),
    ("PYAPI_WORKERS_COUNT", "0"),
    ("PYAPI_ACCESS_TOKEN_EXPIRE_MINUTES", "hunter2"),
    ("PYAPI_ACCESS_TOKEN_EXPIRE_MINUTES", "1441"),
    ("PYAPI_REFRESH_TOKEN_EXPIRE_DAYS", "hunter2"),
    ("PYAPI_REFRESH_TOKEN_EXPIRE_DAYS", "0"),
    ("PYAPI_FERNET_KEYS", "hunter2"),
    ("PYAPI_FERNET_KEYS", f"{FERNET_KEY},hunter2"),
    ("PYAPI_FERNET_KEYS", f"{FERNET_KEY[:-4]}hunter2="),
    ("PYAPI_ANONYMOUS_READ", "hunter2"),
    ("PYAPI_REGISTRATION_OPEN", "hunter2"),
    ("PYAPI_DEFAULT_VISIBILITY", "hunter2"),
    ("PYAPI_METRICS_ENABLED", "hunter2"),
    ("PYAPI_DOCS_ENABLED", "hunter2"),
    ("PYAPI_RATE_LIMIT_ENABLED", "hunter2"),
    ("PYAPI_LOGIN_MAX_FAILURES", "0"),
    ("PYAPI_LOGIN_MAX_FAILURES_PER_ADDRESS", "0"),
    ("PYAPI_LOGIN_MAX_PER_MINUTE", "0"),
    ("PYAPI_LOGIN_WINDOW_MINUTES", "0"),
    ("PYAPI_REGISTER_MAX_PER_HOUR", "0"),
    ("PYAPI_GRACEFUL_TIMEOUT_SECONDS", "hunter2"),
    ("PYAPI_MIGRATE_ON_START", "hunter2"),
    ("PYAPI_DATABASE_POOL_SIZE", "hunter2"),
    ("PYAPI_PASSWORD_HASH_ROUNDS", "3"),
    ("PYAPI_AIRFLOW_URL", "hunter2"),
    ("PYAPI_AIRFLOW_URL", "http://admin:hunter2@airflow:8080"),
]

PRODUCTION = {"PYAPI_ENVIRONMENT": "production", "DATABASE_URL": URL, "SECRET_KEY": GOOD_KEY}

# (name, what differs from PRODUCTION; None: not set, the setting that the line names, the cure in it)
UNSAFE: list[tuple[str, dict[str, str | None], str, str]] = [
    ("no database", {"DATABASE_URL": None}, "DATABASE_URL", "postgresql://"),
    ("empty database", {"DATABASE_URL": ""}, "DATABASE_URL", "postgresql://"),
    ("no key", {"SECRET_KEY": None}, "SECRET_KEY", "pyapi secret generate"),
    ("empty key", {"SECRET_KEY": ""}, "SECRET_KEY", "pyapi secret generate"),
    ("31 bytes", {"SECRET_KEY": GOOD_KEY[:31]}, "SECRET_KEY", "pyapi secret generate"),
    ("one letter", {"SECRET_KEY": "a" * 64}, "SECRET_KEY", "pyapi secret generate"),
    ("a short unit, repeated", {"SECRET_KEY": "hunter2-Zk3v9s" * 4}, "SECRET_KEY", "pyapi secret generate"),
    (
        "the seed's key for development",
        {"SECRET_KEY": "your-super-secret-key-change-in-production-min-32-chars"},
        "SECRET_KEY",
        "pyapi secret generate",
    ),
    (
        "the seed's key for production",
        {"SECRET_KEY": "your-production-secret-key-at-least-32-characters"},
        "SECRET_KEY",
        "pyapi secret generate",
    ),
    ("a weak key before", {"SECRET_KEY_PREVIOUS": "a" * 64}, "SECRET_KEY_PREVIOUS", "logs in again"),
    ("no limits", {"PYAPI_RATE_LIMIT_ENABLED": "false"}, "PYAPI_RATE_LIMIT_ENABLED", "true"),
    ("any proxy", {"PYAPI_FORWARDED_ALLOW_IPS": "*"}, "PYAPI_FORWARDED_ALLOW_IPS", "10.0.0.0/8"),
    ("a proxy and any", {"PYAPI_FORWARDED_ALLOW_IPS": "127.0.0.1, *"}, "PYAPI_FORWARDED_ALLOW_IPS", "10.0.0.0/8"),
    ("reload", {"PYAPI_RELOAD": "true"}, "PYAPI_RELOAD", "false"),
]


def in_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


# --- reading ---


@pytest.mark.parametrize(("variable", "text", "field", "value"), EFFECTS)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, field: str, value: object
) -> None:
    monkeypatch.setenv("PYAPI_AIRFLOW_TOKEN", "e.y.J")  # an address of Airflow needs an account
    monkeypatch.setenv(variable, text)
    assert getattr(Settings.load(), field) == value


def test_every_setting_is_in_the_table_above() -> None:
    assert {field for _, _, field, _ in EFFECTS} == set(Settings.model_fields)


def test_nothing_has_to_be_set() -> None:
    settings = Settings.load()
    settings.require_safe()
    assert (settings.host, settings.port, settings.environment) == ("127.0.0.1", 8000, Environment.DEV)


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PYAPI_PORT=9000  # a comment\nSOMETHING_ELSE=1\n")
    assert Settings.load().port == 9000


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PYAPI_PORT=9000\n")
    monkeypatch.setenv("PYAPI_PORT", "9001")
    assert Settings.load().port == 9001


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYAPI_PORT", "9001")
    assert Settings.load(port=9002).port == 9002


def test_a_byte_order_mark_does_not_hide_the_first_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("PYAPI_PORT=9000\n".encode("utf-8-sig"))
    assert Settings.load().port == 9000


def test_a_file_in_another_encoding_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("SECRET_KEY=密碼\n".encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"^\.env is not UTF-8 text: save it in that encoding\.$"):
        Settings.load()


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker Compose passes `${SECRET_KEY:-}` as an empty text."""
    monkeypatch.setenv("SECRET_KEY", "")
    assert Settings.load().secret_key is None


@pytest.mark.parametrize(("variable", "text"), UNACCEPTABLE)
def test_a_bad_value_is_one_line_that_names_the_setting_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError) as refused:
        Settings.load()
    line = str(refused.value)
    assert line.startswith(f"{variable}: ")
    assert "\n" not in line
    assert "hunter2" not in line


def test_each_bad_value_has_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, {"PYAPI_PORT": "x", "PYAPI_WORKERS_COUNT": "x"})
    with pytest.raises(ConfigurationError) as refused:
        Settings.load()
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["PYAPI_PORT", "PYAPI_WORKERS_COUNT"]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.load().port = 1  # type: ignore[misc]


def test_settings_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, {"SECRET_KEY": GOOD_KEY, "DATABASE_URL": "postgresql://u:hunter2@h/db"})
    settings = Settings.load()
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert not {secret for secret in (GOOD_KEY, "hunter2") if secret in shown}


def test_names_that_only_look_like_settings_are_found() -> None:
    names = ["PYAPI_PORT", "PYAPI_WORKERS", "PYAPI_DATABASE_URL", "pyapi_prot", "pyapi_host", "SECRET_KEY", "HOME"]
    assert unknown_variables(names) == ["PYAPI_DATABASE_URL", "PYAPI_WORKERS", "pyapi_prot"]


@pytest.mark.parametrize(
    ("own", "airflow", "keys"),
    [
        (None, None, ()),
        ("", f" {FERNET_KEY} ,", (FERNET_KEY,)),
        (f"{OTHER_FERNET_KEY}, {FERNET_KEY}", FERNET_KEY, (OTHER_FERNET_KEY, FERNET_KEY)),
        (None, f"geheim,{FERNET_KEY}", (FERNET_KEY,)),
    ],
)
def test_secrets_are_sealed_with_the_own_keys_or_with_those_of_airflow(
    monkeypatch: pytest.MonkeyPatch, own: str | None, airflow: str | None, keys: tuple[str, ...]
) -> None:
    in_environment(monkeypatch, {"PYAPI_FERNET_KEYS": own, "AIRFLOW__CORE__FERNET_KEY": airflow})
    assert Settings.load().sealing_keys() == keys


# --- production ---


@pytest.mark.parametrize(
    ("differs", "warned"),
    [
        ({}, ["PYAPI_FERNET_KEYS"]),
        ({"PYAPI_ENVIRONMENT": "dev"}, []),
        ({"PYAPI_FERNET_KEYS": FERNET_KEY}, []),
        ({"AIRFLOW__CORE__FERNET_KEY": FERNET_KEY}, []),
        ({"AIRFLOW__CORE__FERNET_KEY": "geheim"}, ["PYAPI_FERNET_KEYS"]),
    ],
)
def test_production_without_a_key_for_secrets_is_warned(
    monkeypatch: pytest.MonkeyPatch, differs: dict[str, str | None], warned: list[str]
) -> None:
    hosts = {"PYAPI_TRUSTED_HOSTS": "etl.example.com"}
    in_environment(monkeypatch, {**PRODUCTION, **hosts, **differs})
    assert [text.partition(" ")[0] for text in Settings.load().warnings()] == warned


def test_production_starts_with_safe_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, {**PRODUCTION})
    Settings.load().require_safe()


@pytest.mark.parametrize(
    ("differs", "setting", "cure"), [row[1:] for row in UNSAFE], ids=[row[0].replace(" ", "-") for row in UNSAFE]
)
def test_production_refuses_in_one_line_without_the_value(
    monkeypatch: pytest.MonkeyPatch, differs: dict[str, str | None], setting: str, cure: str
) -> None:
    in_environment(monkeypatch, {**PRODUCTION, **differs})
    with pytest.raises(ConfigurationError) as refused:
        Settings.load().require_safe()
    line = str(refused.value)
    assert line.startswith(f"{setting} is ")
    assert cure in line
    assert "\n" not in line
    assert not any(value in line for value in differs.values() if value and len(value) > len("false"))


@pytest.mark.parametrize("differs", [row[1] for row in UNSAFE], ids=[row[0].replace(" ", "-") for row in UNSAFE])
def test_development_takes_what_production_refuses(
    monkeypatch: pytest.MonkeyPatch, differs: dict[str, str | None]
) -> None:
    in_environment(monkeypatch, {**PRODUCTION, **differs, "PYAPI_ENVIRONMENT": "dev"})
    Settings.load().require_safe()


def test_everything_unsafe_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, {"PYAPI_ENVIRONMENT": "production", "PYAPI_RELOAD": "true"})
    with pytest.raises(ConfigurationError) as refused:
        Settings.load().require_safe()
    named = [line.partition(" ")[0] for line in str(refused.value).splitlines()]
    assert named == ["DATABASE_URL", "SECRET_KEY", "PYAPI_RELOAD"]


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({**PRODUCTION, "SECRET_KEY": "hunter2"}, "SECRET_KEY is unsafe: The key is shorter than 32 bytes."),
        ({"PYAPI_PORT": "hunter2"}, "PYAPI_PORT: Input should be a valid integer"),
    ],
    ids=["unsafe", "unreadable"],
)
def test_a_worker_of_any_server_stops_with_that_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str | None], line: str
) -> None:
    """`uvicorn` and `gunicorn` call the factory themselves and would show a traceback of anything but SystemExit.

    With any status but 3, gunicorn would start the worker again, for ever.
    """
    in_environment(monkeypatch, variables)
    with pytest.raises(SystemExit) as stopped:
        get_app()
    assert stopped.value.code == 3
    assert capsys.readouterr().err.startswith(line)


# --- .env.example ---


def test_env_example_is_what_the_command_prints() -> None:
    assert ENV_EXAMPLE.read_text(encoding="utf-8") == render_env_example()


def test_env_example_changes_nothing_but_where_compose_looks(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(render_env_example(), encoding="utf-8")
    assert Settings.load() == Settings(_env_file=None)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_env_example_has_each_setting_once_with_its_meaning(field: str) -> None:
    lines = render_env_example().splitlines()
    [place] = [i for i, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{variable_name(field)}=")]
    assert lines[place - 1] == f"# {Settings.model_fields[field].description}"


def test_env_example_tells_compose_where_its_file_is() -> None:
    assert "COMPOSE_FILE=deployment/docker-compose.yml" in render_env_example().splitlines()


# --- the key that is kept ---


def keeping(folder: Path, **given: Any) -> Settings:
    return Settings(_env_file=None, data_dir=folder, **given)


def test_a_given_key_is_used_and_none_is_made(tmp_path: Path) -> None:
    assert keeping(tmp_path / "data", SECRET_KEY=GOOD_KEY).signing_key() == GOOD_KEY
    assert not (tmp_path / "data").exists()


def test_a_made_key_would_do_for_production(tmp_path: Path) -> None:
    key = keeping(tmp_path / "data").signing_key()
    Settings(_env_file=None, environment=Environment.PRODUCTION, DATABASE_URL=URL, SECRET_KEY=key).require_safe()


def test_a_made_key_survives(tmp_path: Path) -> None:
    first = keeping(tmp_path / "data").signing_key()
    assert keeping(tmp_path / "data").signing_key() == first


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    assert keeping(tmp_path / "a").signing_key() != keeping(tmp_path / "b").signing_key()


def test_only_the_owner_may_read_the_key(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        keeping(tmp_path / "data").signing_key()
    finally:
        os.umask(mask)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data", tmp_path / "data" / "secret_key")}
    assert list(found.values()) == [0o700, 0o600]


RACE = """
import multiprocessing, sys
from pathlib import Path
from pyapi.settings import Settings

def run(start, keys):
    start.wait()
    keys.put(Settings(_env_file=None, data_dir=Path(sys.argv[1])).signing_key())

context = multiprocessing.get_context("fork")
start, keys = context.Barrier(20), context.Queue()
processes = [context.Process(target=run, args=(start, keys)) for _ in range(20)]
for process in processes:
    process.start()
print(*[keys.get() for _ in processes], sep="\\n")
for process in processes:
    process.join()
"""


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    run = subprocess.run([sys.executable, "-c", RACE, str(folder)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [(folder / "secret_key").read_text()] * 20
    assert [path.name for path in folder.iterdir()] == ["secret_key"]


def test_a_folder_that_cannot_keep_a_key_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(ConfigurationError, match=r"^PYAPI_DATA_DIR: no key can be kept in .+; set SECRET_KEY"):
        keeping(tmp_path / "data").signing_key()


# --- Airflow's account ------------------------------------------------------------------------------------------------

AIRFLOW = {"PYAPI_AIRFLOW_URL": "http://localhost:8080"}


@pytest.mark.parametrize("account", [{}, {"PYAPI_AIRFLOW_USERNAME": "pyapi"}, {"PYAPI_AIRFLOW_PASSWORD": "sesame"}])
def test_an_address_of_airflow_needs_an_account(monkeypatch: pytest.MonkeyPatch, account: dict[str, str]) -> None:
    in_environment(monkeypatch, {**AIRFLOW, **account})
    with pytest.raises(ConfigurationError, match="PYAPI_AIRFLOW_URL needs an account"):
        Settings.load()


@pytest.mark.parametrize(
    "account",
    [{"PYAPI_AIRFLOW_USERNAME": "pyapi", "PYAPI_AIRFLOW_PASSWORD": "sesame"}, {"PYAPI_AIRFLOW_TOKEN": "e.y.J"}],
)
def test_an_address_of_airflow_with_an_account(monkeypatch: pytest.MonkeyPatch, account: dict[str, str]) -> None:
    in_environment(monkeypatch, {**AIRFLOW, **account})
    assert Settings.load().airflow_url == "http://localhost:8080"
