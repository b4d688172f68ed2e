"""What a client hands back without reading it."""

import base64

import pytest

from pyapi.utils.opaque import Opaque

OPAQUE = Opaque(["the key", "the key before"])


@pytest.mark.parametrize("text", ["", "after-7", "two words", "王\0"])
def test_what_was_closed_is_opened(text: str) -> None:
    assert OPAQUE.open(OPAQUE.close(text, user_id=7), user_id=7) == text


def test_nobody_else_opens_it() -> None:
    assert OPAQUE.open(OPAQUE.close("7 x", user_id=1), user_id=17) is None


def test_the_key_before_still_opens_it() -> None:
    assert OPAQUE.open(Opaque(["the key before"]).close("x", user_id=1), user_id=1) == "x"


def test_it_is_closed_with_the_newest_key() -> None:
    assert Opaque(["the key"]).open(OPAQUE.close("x", user_id=1), user_id=1) == "x"


def test_another_key_opens_nothing() -> None:
    assert Opaque(["another key"]).open(OPAQUE.close("x", user_id=1), user_id=1) is None


def test_it_says_nothing() -> None:
    assert b"run" not in base64.urlsafe_b64decode(OPAQUE.close("run of somebody", user_id=1))


@pytest.mark.parametrize("damaged", ["", "x", "王", "\udcff", "\0", OPAQUE.close("x", user_id=1)[:-9] + "AAAAAAAA="])
def test_what_is_damaged_is_none(damaged: str) -> None:
    assert OPAQUE.open(damaged, user_id=1) is None
