"""Every setting of the service: its name in the environment, its default, its meaning.

`.env.example` is rendered from this class (`pyapi config example`), so the text beside a field is what a user reads.
"""

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from cryptography.fernet import Fernet
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pyapi.enums import Environment, LogFormat, Visibility
from pyapi.exceptions import ConfigurationError
from pyapi.utils.auth import key_weakness


def _split_commas(value: object) -> object:
    """Let a list be written as `a, b` in the environment."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


_ORIGIN = re.compile(r"https?://[^\s/?#@,*]+")
_HOST_NAME = re.compile(r"\*|(?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\]")

CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]


def _listed(text: SecretStr | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.get_secret_value().split(",") if part.strip()) if text else ()


def _is_fernet_key(text: str) -> bool:
    try:
        Fernet(text)
    except ValueError:
        return False
    return True


def _require_fernet_keys(keys: SecretStr) -> SecretStr:
    if not all(map(_is_fernet_key, _listed(keys))):
        raise ValueError("each must be a Fernet key, 32 bytes in base64 (`pyapi secrets generate-key`), with commas.")
    return keys


class Settings(BaseSettings):
    """Read once by the composition root (environment first, then `.env`) and handed on as plain values."""

    model_config = SettingsConfigDict(
        env_prefix="PYAPI_",
        env_file=".env",
        env_file_encoding="utf-8-sig",  # Windows editors put a byte order mark before the first name
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    environment: Environment = Field(
        Environment.DEV, description="dev, test or production; production refuses to start with unsafe settings."
    )
    log_level: Annotated[str, BeforeValidator(lambda text: str(text).upper())] = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )
    log_format: LogFormat = Field(
        LogFormat.AUTO, description="json, console, or auto: console on a terminal, JSON everywhere else."
    )
    reload: bool = Field(False, description="Restart when a source file changes; for development only.")
    workers_count: int = Field(1, ge=1, le=64, description="Worker processes; about one for each core.")
    data_dir: Path = Field(
        Path(".pyapi"), description="Folder of the embedded PostgreSQL and of the generated SECRET_KEY."
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL to use, the one of Airflow; without it an embedded PostgreSQL is started.",
        examples=["postgresql+asyncpg://airflow:airflow@localhost:5432/airflow"],
    )
    secret_key: SecretStr | None = Field(
        None,
        validation_alias="SECRET_KEY",
        description="Signs access tokens, 32 bytes or more (`pyapi secret generate`); without it one is made and kept.",
        examples=["the-output-of-pyapi-secret-generate"],
    )
    secret_key_previous: SecretStr | None = Field(
        None,
        validation_alias="SECRET_KEY_PREVIOUS",
        description="The key before; its tokens are still taken, so that a new SECRET_KEY logs nobody out.",
        examples=["the-key-that-secret-key-was-before"],
    )
    fernet_keys: Annotated[SecretStr, AfterValidator(_require_fernet_keys)] | None = Field(
        None,
        description="Encrypt the secrets in records, newest first, as in Airflow (`pyapi secrets generate-key`).",
        examples=["the-output-of-pyapi-secrets-generate-key"],
    )
    airflow__core__fernet_key: SecretStr | None = Field(
        None,
        validation_alias="AIRFLOW__CORE__FERNET_KEY",
        description="Airflow's own key, taken when there are no PYAPI_FERNET_KEYS: both sides share it then.",
        examples=["the-key-of-airflow"],
    )
    access_token_expire_minutes: int = Field(30, ge=1, le=1440, description="Life of an access token.")
    refresh_token_expire_days: int = Field(7, ge=1, le=365, description="Life of a session, however often refreshed.")
    anonymous_read: bool = Field(
        True, description="Let callers who are not signed in read summaries of records; false answers 401."
    )
    registration_open: bool = Field(
        True, description="Let everybody open an account; false leaves that to `pyapi user create`."
    )
    default_visibility: Visibility = Field(
        Visibility.PUBLIC,
        description="Of records made over the API that name none: public, internal (signed in) or private.",
    )
    cors_origins: CommaList = Field(
        (), description="Origins of browser frontends, separated by commas.", examples=["https://etl.example.com"]
    )
    trusted_hosts: CommaList = Field(
        ("*",),
        description="Names under which the service is reached, separated by commas; *.example.com for all below it.",
        examples=["etl.example.com"],
    )
    metrics_enabled: bool = Field(True, description="Serve Prometheus metrics at /metrics.")
    docs_enabled: bool = Field(True, description="Serve Swagger UI, ReDoc and the OpenAPI document.")
    rate_limit_enabled: bool = Field(
        True, description="Limit logins and registrations; false is for tests, and refused in production."
    )
    login_max_failures: int = Field(
        10, ge=1, le=1000, description="Wrong passwords for one account from one address, until 429."
    )
    login_max_failures_per_address: int = Field(
        100, ge=1, le=100_000, description="Wrong passwords from one address, whatever the account, until 429."
    )
    login_max_per_minute: int = Field(
        60, ge=1, le=100_000, description="Logins from one address in a minute, right or wrong, until 429."
    )
    login_window_minutes: int = Field(15, ge=1, le=1440, description="How long a wrong password counts.")
    register_max_per_hour: int = Field(
        20, ge=1, le=100_000, description="Registrations that one address may try in an hour, until 429."
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1", description="Proxies, or their networks, whose X-Forwarded-For is believed, separated by commas."
    )
    graceful_timeout_seconds: int = Field(30, ge=1, le=600, description="Time for requests in flight after SIGTERM.")
    migrate_on_start: bool = Field(True, description="Apply missing migrations when the service starts.")
    database_pool_size: int = Field(
        10, ge=1, le=200, description="Connections each worker may keep: workers x this, and one with Airflow."
    )
    password_hash_rounds: int = Field(12, ge=4, le=16, description="Cost of bcrypt, as a power of two.")
    airflow_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@?#]+[^\s@?#]*$",
        description="Address of Airflow, for runs and what it has of each record; without it neither is known.",
        examples=["http://localhost:8080"],
    )
    airflow_username: str | None = Field(None, description="PyAPI's account in Airflow.", examples=["pyapi"])
    airflow_password: SecretStr | None = Field(
        None, description="Its password.", examples=["the-password-of-that-account"]
    )
    airflow_token: SecretStr | None = Field(
        None, description="An access token for Airflow, instead of name and password.", examples=["a-jwt-of-airflow"]
    )

    not_prefixed: ClassVar[frozenset[str]] = frozenset(
        {"database_url", "secret_key", "secret_key_previous", "airflow__core__fernet_key"}
    )

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment and `.env`.

        Raises ConfigurationError with one line for each bad setting; values are never repeated.
        """
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            lines = [
                f"{variable_name(str(item['loc'][0]))}: {item['msg']}" for item in error.errors(include_input=False)
            ]
            raise ConfigurationError("\n".join(lines)) from None
        except UnicodeDecodeError:
            raise ConfigurationError(".env is not UTF-8 text: save it in that encoding.") from None
        settings._require_airflow_account()
        settings._require_names()
        return settings

    def _require_names(self) -> None:
        if any(origin != "*" and not _ORIGIN.fullmatch(origin) for origin in self.cors_origins):
            raise ConfigurationError(
                "PYAPI_CORS_ORIGINS: an origin is scheme, host and port, nothing behind: https://etl.example.com."
            )
        if any(not _HOST_NAME.fullmatch(name.lower()) for name in self.trusted_hosts):
            raise ConfigurationError(
                "PYAPI_TRUSTED_HOSTS: a host is a name without scheme and port: etl.example.com, *.example.com, or *."
            )

    def _require_airflow_account(self) -> None:
        by_name = self.airflow_username is not None and self.airflow_password is not None
        if self.airflow_url is not None and not by_name and self.airflow_token is None:
            raise ConfigurationError(
                "PYAPI_AIRFLOW_URL needs an account: set PYAPI_AIRFLOW_USERNAME and PYAPI_AIRFLOW_PASSWORD, or"
                " PYAPI_AIRFLOW_TOKEN."
            )

    def require_safe(self) -> None:
        """Raise ConfigurationError when production would run with an unsafe setting."""
        problems = list(self._unsafe()) if self.environment is Environment.PRODUCTION else []
        if problems:
            raise ConfigurationError("\n".join(problems))

    def _unsafe(self) -> Iterator[str]:
        if self.database_url is None:
            yield "DATABASE_URL is missing: production needs a PostgreSQL server, name it as postgresql://user@host/db."
        if self.secret_key is None:
            yield "SECRET_KEY is missing: make one with `pyapi secret generate` and set it on every worker."
        elif weakness := key_weakness(self.secret_key.get_secret_value()):
            yield f"SECRET_KEY is unsafe: {weakness} Make one with `pyapi secret generate`."
        previous = self.secret_key_previous
        if previous is not None and (weakness := key_weakness(previous.get_secret_value())):
            yield f"SECRET_KEY_PREVIOUS is unsafe: {weakness} Remove it; whoever is logged in logs in again."
        if not self.rate_limit_enabled:
            yield "PYAPI_RATE_LIMIT_ENABLED is off: set it to true, or passwords can be guessed without end."
        if "*" in self.forwarded_allow_ips:
            yield "PYAPI_FORWARDED_ALLOW_IPS is open to everybody: name the proxies, or their networks as 10.0.0.0/8."
        if "*" in self.cors_origins:
            yield "PYAPI_CORS_ORIGINS is *: name the origins of your frontends, or none."
        if self.reload:
            yield "PYAPI_RELOAD is on: set it to false, reloading is for development."

    def warnings(self) -> Iterator[str]:
        """What an operator should think about before this is production; the service starts all the same."""
        if self.environment is not Environment.PRODUCTION:
            return
        if not self.sealing_keys():
            yield (
                "PYAPI_FERNET_KEYS is missing: the secrets in records are stored as they were written. Make a key with"
                " `pyapi secrets generate-key`, give it to Airflow as well, and run `pyapi secrets encrypt`."
            )
        if "*" in self.trusted_hosts:
            yield "PYAPI_TRUSTED_HOSTS is *: name the hosts under which people reach the service."

    def sealing_keys(self) -> tuple[str, ...]:
        """The keys of the secrets in records, newest first. Wrong keys of Airflow are not our affair."""
        return _listed(self.fernet_keys) or tuple(filter(_is_fernet_key, _listed(self.airflow__core__fernet_key)))

    def signing_key(self) -> str:
        """SECRET_KEY, or the random key that the data folder keeps (made at the first call)."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        return _kept_key(self.data_dir / "secret_key")


def _kept_key(path: Path) -> str:
    """Read the key in `path`, or make it. Of several processes that start together one makes it, all read the same.

    Raises ConfigurationError when the folder cannot keep it.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_key(path)
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"PYAPI_DATA_DIR: no key can be kept in {path.parent} ({error.strerror}); set SECRET_KEY or another folder."
        ) from None


def _make_key(path: Path) -> None:
    """Write the whole key under a name of its own, readable for its owner only, then give it its place in one step.

    The name cannot hold the process id: two containers that share a volume have the same one.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first: its key counts
    finally:
        draft.unlink()


def variable_name(field: str) -> str:
    """Name of a setting in the environment."""
    return field.upper() if field.lower() in Settings.not_prefixed else f"PYAPI_{field.upper()}"


def unknown_variables(names: list[str]) -> list[str]:
    """Those of `names` that look like settings of ours and are not: a typing mistake that would be ignored."""
    known = {variable_name(field) for field in Settings.model_fields}
    return sorted(name for name in names if name.upper().startswith("PYAPI_") and name.upper() not in known)


def render_env_example() -> str:
    """The text of `.env.example`."""
    head = (
        "# Settings of PyAPI. Copy to .env and change what you need; a commented line shows an example,\n"
        "# every other line the default. The environment wins over this file.\n\n"
        "# Lets `docker compose up -d` work in this folder.\n"
        "COMPOSE_FILE=deployment/docker-compose.yml\n"
    )
    return head + "".join(_render_field(name, field) for name, field in Settings.model_fields.items())


def _render_field(name: str, field: FieldInfo) -> str:
    if field.examples:
        line = f"# {variable_name(name)}={field.examples[0]}"
    else:
        default = field.get_default()
        line = f"{variable_name(name)}={str(default).lower() if isinstance(default, bool) else default}"
    return f"\n# {field.description}\n{line}\n"
