"""What the kit is told by the environment of Airflow; every variable begins with `PYAPI_`."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

DEFAULT_SHARD_SIZE = 50
_FAR_TOO_MANY = 10_000


class NotConfigured(RuntimeError):
    """A variable is missing or cannot be read; the text names it."""


@dataclass(frozen=True)
class KitSettings:
    """`database_url` is PyAPI's; DAGs and tasks may not use Airflow's own."""

    database_url: str = field(repr=False)
    web_url: str | None = None
    shard_size: int = DEFAULT_SHARD_SIZE
    task_prefixes: tuple[str, ...] = ()
    connect_seconds: int = 3
    statement_seconds: int = 5
    patience_seconds: int = 90
    fernet_keys: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read `PYAPI_DATABASE_URL` and, when they are set, the others. Raises NotConfigured."""
        url = environ.get("PYAPI_DATABASE_URL", "")
        if not url:
            raise NotConfigured("PYAPI_DATABASE_URL is missing: postgresql://user:password@host:5432/database")
        return cls(
            database_url=_for_libpq(url),
            web_url=environ.get("PYAPI_WEB_URL", "").rstrip("/") or None,
            shard_size=_whole(environ, "PYAPI_SHARD_SIZE", DEFAULT_SHARD_SIZE),
            task_prefixes=_listed(environ, "PYAPI_TASK_PREFIXES"),
            patience_seconds=_whole(environ, "PYAPI_PATIENCE_SECONDS", 90),
            fernet_keys=_fernet_keys(environ),
        )


def _for_libpq(url: str) -> str:
    """SQLAlchemy's way to name a driver (`postgresql+asyncpg://`) is nothing that libpq knows."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise NotConfigured("PYAPI_DATABASE_URL must begin with postgresql://")
    return f"postgresql://{rest}"


def _listed(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())


def _fernet_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Those of `PYAPI_FERNET_KEYS`, newest first; without it those of Airflow, whose wrong keys are not our affair."""
    keys = _listed(environ, "PYAPI_FERNET_KEYS")
    if not all(map(_is_fernet_key, keys)):
        raise NotConfigured("PYAPI_FERNET_KEYS must hold Fernet keys: each 32 bytes in base64, separated by commas.")
    return keys or tuple(filter(_is_fernet_key, _listed(environ, "AIRFLOW__CORE__FERNET_KEY")))


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text)) == 32
    except ValueError:
        return False


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= _FAR_TOO_MANY:
        raise NotConfigured(f"{name} must be a whole number from 1 to {_FAR_TOO_MANY}.")
    return int(text)
