"""What `pyapi standalone` keeps in the data folder: Airflow's secrets, made once, and how to reach what runs."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from pyapi.exceptions import ConfigurationError


@dataclass(frozen=True)
class Secrets:
    """Kept for good: with another Fernet key Airflow could not read the connections that people have entered."""

    jwt_secret: str = field(repr=False)
    fernet_key: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def kept_in(cls, home: Path) -> Self:
        """Those of the last start; made at the first one. Raises ConfigurationError when the file is damaged."""
        path = home / "secrets.json"
        if not path.exists():
            fernet_key = base64.urlsafe_b64encode(os.urandom(32)).decode()
            made = cls(secrets.token_urlsafe(64), fernet_key, secrets.token_urlsafe(18))
            write_private(path, json.dumps(asdict(made)))
        try:
            found = json.loads(path.read_text())
            return cls(*(str(found[name]) for name in ("jwt_secret", "fernet_key", "password")))
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(
                f"{path} is damaged: put it back from a copy, or delete it and enter Airflow's connections anew."
            ) from None


@dataclass(frozen=True)
class Addresses:
    """How to reach what runs; `standalone.json` is there while everything does."""

    pyapi_url: str
    airflow_url: str
    airflow_username: str
    airflow_password: str = field(repr=False)
    database_url: str = field(repr=False)

    def save(self, data_dir: Path) -> None:
        """For programs that want to connect."""
        write_private(data_dir / "standalone.json", json.dumps(asdict(self), indent=2) + "\n")


def forget_addresses(data_dir: Path) -> None:
    """Nothing runs any more, or not yet."""
    (data_dir / "standalone.json").unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """For the owner only, and at once: nobody reads half a file, nor does a power cut leave one."""
    draft = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
