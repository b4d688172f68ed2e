"""Logs of tasks: nothing secret in any line, and half a log says that it is one."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from pyapi.exceptions import AirflowUnavailable
from pyapi.services.run_log import CUT_OFF, UNREADABLE, LogMasker, as_line
from pyapi.utils.sealing import Sealer

CONFIG = {
    "source": "postgresql://etl:p%40ss-word@host/db",
    "token": "tok-123456",
    "nested": [{"api_key": "k" * 40, "password": 24681357}],
    "short": {"password": "abc"},
    "plain": "visible",
}
SEALER = Sealer([Fernet.generate_key().decode()])
LONGER = {"password": "tok-123456-and-more"}


def masked(text: str, *configs: Any) -> str:
    return str(LogMasker(configs or (CONFIG,), sealer=Sealer()).mask({"event": text})["event"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connecting with p%40ss-word", "connecting with ***"),
        ("connecting with p@ss-word", "connecting with ***"),
        ("sent tok-123456.", "sent ***."),
        ("sent tok-123456tok-123456", "sent ******"),
        (f"key {'k' * 40}", "key ***"),
        ("pin 24681357", "pin ***"),
        ("abc is too short to hide", "abc is too short to hide"),
        ("visible", "visible"),
        ("postgresql://other:secret@host/db", "postgresql://other:***@host/db"),
        ("password=unknown", "password=***"),
        ("", ""),
        ("進度 50%", "進度 50%"),
    ],
)
def test_what_is_secret_is_hidden(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_a_secret_within_another_leaves_nothing_of_it() -> None:
    assert masked("sent tok-123456-and-more", CONFIG, LONGER) == "sent ***"


def test_secrets_of_all_configs_are_hidden() -> None:
    assert masked("a tok-123456 and b-secret", CONFIG, {"password": "b-secret"}) == "a *** and ***"


@pytest.mark.parametrize("config", [None, {}, [], "text", 5, {"password": None}, {"password": ""}])
def test_configs_without_secrets_hide_nothing(config: Any) -> None:
    assert masked("abc null None 5 text", config) == "abc null None 5 text"


def test_all_of_an_entry_is_masked() -> None:
    entry = {"event": "x", "extra": {"list": ["tok-123456"]}, "error_detail": [{"exc_value": "p@ss-word"}], "n": 1}
    hidden = {"event": "x", "extra": {"list": ["***"]}, "error_detail": [{"exc_value": "***"}], "n": 1}
    assert LogMasker([CONFIG], sealer=Sealer()).mask(entry) == hidden


async def lines(*found: str, breaks_off: bool = False) -> AsyncIterator[str]:
    for line in found:
        yield line
    if breaks_off:
        raise AirflowUnavailable


async def entries(*found: str, breaks_off: bool = False) -> list[dict[str, Any]]:
    return [entry async for entry in LogMasker([CONFIG], sealer=Sealer()).entries(lines(*found, breaks_off=breaks_off))]


async def test_lines_are_read_as_json() -> None:
    assert await entries('{"event": "a", "level": "info"}') == [{"event": "a", "level": "info"}]


@pytest.mark.parametrize("line", ["plain", '"text"', "[1]", "5", "{", "[" * 100_000], ids=lambda line: line[:6])
async def test_lines_that_are_no_objects_are_kept(line: str) -> None:
    assert await entries(line) == [{"event": line}]


async def test_lines_that_are_no_objects_are_masked() -> None:
    assert await entries("sent tok-123456") == [{"event": "sent ***"}]


async def test_secrets_that_json_has_escaped_are_hidden() -> None:
    masker = LogMasker([{"password": "密碼-2026"}], sealer=Sealer())
    found = [entry async for entry in masker.entries(lines(json.dumps({"event": "用 密碼-2026"})))]
    assert found == [{"event": "用 ***"}]


async def test_empty_lines_are_left_out() -> None:
    assert await entries("", '{"event": "a"}', "") == [{"event": "a"}]


async def test_a_log_that_breaks_off_says_so() -> None:
    assert await entries('{"event": "a"}', breaks_off=True) == [{"event": "a"}, {"event": CUT_OFF}]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"timestamp": "2027-03-01T00:00:00Z", "level": "info", "event": "done"}, "2027-03-01T00:00:00Z INFO done"),
        ({"event": "done"}, "done"),
        ({"timestamp": None, "level": None, "event": "done"}, "done"),
        ({"event": 5}, "5"),
        ({"level": 3, "event": "x"}, "3 x"),
        ({}, ""),
    ],
)
def test_a_line_for_people(entry: dict[str, Any], line: str) -> None:
    assert as_line(entry) == line


def sealed(*configs: Any, conf: Any = None) -> LogMasker:
    """With the key of the configs."""
    return LogMasker([SEALER.seal(config) for config in configs], conf=conf, sealer=SEALER)


@pytest.mark.parametrize("text", ["p%40ss-word", "p@ss-word", "tok-123456", "k" * 40, "24681357"])
def test_a_sealed_secret_is_hidden(text: str) -> None:
    assert sealed(CONFIG).mask({"event": f"said {text}"}) == {"event": "said ***"}


async def test_a_secret_without_a_key_lets_no_line_out() -> None:
    foreign = Sealer([Fernet.generate_key().decode()]).seal(CONFIG)
    found = [entry async for entry in LogMasker([foreign], sealer=SEALER).entries(lines('{"event": "tok-123456"}'))]
    assert found == [{"event": UNREADABLE}]


def test_a_token_in_what_somebody_has_sent_is_not_opened() -> None:
    token = SEALER.seal({"password": "of another record"})
    assert sealed(CONFIG, conf=token).mask({"event": "of another record"}) == {"event": "of another record"}
