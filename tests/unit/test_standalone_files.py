"""What `pyapi standalone` keeps in the data folder."""

import base64
import json
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from pyapi.exceptions import ConfigurationError
from pyapi.standalone_files import Addresses, Secrets, forget_addresses, write_private


def test_secrets_are_made_once(tmp_path: Path) -> None:
    made = Secrets.kept_in(tmp_path)
    assert Secrets.kept_in(tmp_path) == made
    assert len(base64.urlsafe_b64decode(made.fernet_key)) == 32


def test_no_two_folders_have_the_same_secrets(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    both = [asdict(Secrets.kept_in(folder)) for folder in (tmp_path, tmp_path / "other")]
    assert len({value for secrets in both for value in secrets.values()}) == 6


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    assert repr(Secrets.kept_in(tmp_path)) == "Secrets()"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jwt_secret": "x"}'])
def test_damaged_secrets_are_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "secrets.json").write_text(text)
    with pytest.raises(ConfigurationError, match="is damaged: put it back"):
        Secrets.kept_in(tmp_path)
    assert (tmp_path / "secrets.json").read_text() == text


def test_a_private_file_is_private_whatever_was_there(tmp_path: Path) -> None:
    for name in ("file", "file.new"):
        (tmp_path / name).write_text("old and open")
        (tmp_path / name).chmod(0o644)
    write_private(tmp_path / "file", "secret")
    assert (stat.S_IMODE((tmp_path / "file").stat().st_mode), (tmp_path / "file").read_text()) == (0o600, "secret")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_addresses_come_and_go(tmp_path: Path) -> None:
    addresses = Addresses("http://p", "http://a", "admin", "secret", "postgresql://d")
    addresses.save(tmp_path)
    assert json.loads((tmp_path / "standalone.json").read_text()) == asdict(addresses)
    for _ in range(2):
        forget_addresses(tmp_path)
    assert list(tmp_path.iterdir()) == []
