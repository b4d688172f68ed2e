"""Which language an `Accept-Language` header asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyapi.schedules.languages import language_of


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("en-GB,en;q=0.9", "en"),
        ("zh-TW", "zh_TW"),
        ("zh-Hant", "zh_TW"),
        ("zh-HK", "zh_TW"),
        ("ZH_tw", "zh_TW"),
        ("zh-Hant-CN", "zh_TW"),
        ("zh", "zh_CN"),
        ("zh-CN", "zh_CN"),
        ("zh-Hans-TW", "zh_CN"),
        ("zh-SG", "zh_CN"),
        ("zh-TW,zh;q=0.9,en-US;q=0.8,en;q=0.7", "zh_TW"),
        ("zh;q=0.8, zh-TW;q=0.9", "zh_TW"),
        ("en;q=0.5, zh-CN ; Q=0.6", "zh_CN"),
        ("fr, de;q=0.9", "en"),
        ("fr, zh-TW;q=0.1", "zh_TW"),
        ("*", "en"),
        ("zh-TW;q=0", "en"),
        ("zh-TW;q=2", "en"),
        ("zh-TW;q=high", "en"),
        ("zh-TW;q=nan", "en"),
        ("," * 100_000 + "zh-TW", "en"),
    ],
)
def test_languages(header: str | None, language: str) -> None:
    assert language_of(header) == language


@given(st.text())
def test_any_header_is_answered(header: str) -> None:
    assert language_of(header) in {"en", "zh_TW", "zh_CN"}
