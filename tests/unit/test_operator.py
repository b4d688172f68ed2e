"""Who sits at the terminal."""

import getpass
import os

import pytest

from pyapi.cli import operator


@pytest.mark.parametrize("error", [OSError, KeyError, ImportError])
def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """As in a container that runs under an id of its own; which error that is depends on the version of Python."""

    def nameless() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert operator() == f"cli:uid {os.getuid()}"
