"""A rule in words, in three languages."""

import calendar
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings

from pyapi.schedules import descriptions
from pyapi.schedules.descriptions import describe
from pyapi.schedules.languages import Language
from pyapi.schedules.rules import PRESETS, parse_rule
from tests.unit.schedules.test_expressions import EXPRESSIONS
from tests.unit.schedules.test_runs import rule_of

LANGUAGES: tuple[Language, ...] = ("en", "zh_TW", "zh_CN")


@pytest.mark.parametrize(
    ("schedule", "english", "traditional", "simplified"),
    [
        ("0 9 * * *", "At 09:00", "每天 09:00", "每天 09:00"),
        ("*/15 * * * *", "Every 15 minutes", "每 15 分鐘", "每 15 分钟"),
        ("@hourly", "Every hour", "每小時", "每小时"),
        ("@daily", "At 00:00", "每天 00:00", "每天 00:00"),
        ("@weekly", "At 00:00, only on Sunday", "每星期日 00:00", "每星期日 00:00"),
        ("@monthly", "At 00:00, on day 1 of the month", "每月 1 號 00:00", "每月 1 号 00:00"),
        (
            "@quarterly",
            "At 00:00, on day 1 of the month, only in January, April, July, and October",
            "每年 1 月、4 月、7 月和 10 月的 1 號 00:00",
            "每年 1 月、4 月、7 月和 10 月的 1 号 00:00",
        ),
        (
            "@yearly",
            "At 00:00, on day 1 of the month, only in January",
            "每年 1 月 1 號 00:00",
            "每年 1 月 1 号 00:00",
        ),
        ("30 2 * * 1-5", "At 02:30, Monday through Friday", "每星期一到星期五 02:30", "每星期一到星期五 02:30"),
        (
            "0 9 * * SUN,TUE,THU,SAT",
            "At 09:00, only on Sunday, Tuesday, Thursday, and Saturday",
            "每星期日、星期二、星期四和星期六 09:00",
            "每星期日、星期二、星期四和星期六 09:00",
        ),
        ("0 6,18 * * *", "At 06:00 and 18:00", "每天 06:00 和 18:00", "每天 06:00 和 18:00"),
        (
            "15 6,12,18 * 3-5 *",
            "At 06:15, 12:15 and 18:15, March through May",
            "每天 06:15、12:15 和 18:15，3 月到 5 月",
            "每天 06:15、12:15 和 18:15，3 月到 5 月",
        ),
        (
            "0 9 * * 1#2",
            "At 09:00, on the second Monday of the month",
            "每月第二個星期一 09:00",
            "每月第二个星期一 09:00",
        ),
        (
            "0 9 * * L5",
            "At 09:00, on the last Friday of the month",
            "每月最後一個星期五 09:00",
            "每月最后一个星期五 09:00",
        ),
        ("0 9 L * *", "At 09:00, on the last day of the month", "每月最後一天 09:00", "每月最后一天 09:00"),
        (
            "0 9 15,L * *",
            "At 09:00, on day 15 and the last day",
            "每月 15 號和最後一天 09:00",
            "每月 15 号和最后一天 09:00",
        ),
        (
            "0 9 15W * *",
            "At 09:00, on the weekday nearest day 15 of the month",
            "每月最接近 15 號的平日 09:00",
            "每月最接近 15 号的平日 09:00",
        ),
        # Day of month or day of week: one of them is enough.
        (
            "0 9 1 * MON",
            "At 09:00, on day 1 of the month, or on Monday",
            "每月 1 號或每星期一 09:00",
            "每月 1 号或每星期一 09:00",
        ),
        (
            "0 9 L * 1-5",
            "At 09:00, on the last day of the month, or Monday through Friday",
            "每月最後一天或每星期一到星期五 09:00",
            "每月最后一天或每星期一到星期五 09:00",
        ),
        ("0 9 1-31 * 1", "At 09:00", "每天 09:00", "每天 09:00"),
        # What croniter makes of it, not what it looks like.
        ("0 9 * * FRI/2", "At 09:00, only on Friday", "每星期五 09:00", "每星期五 09:00"),
        ("0 9-9 * * *", "Every hour", "每小時", "每小时"),
        ("*/45 * * * *", "At 0 and 45 minutes past the hour", "在每小時的 0 和 45 分", "在每小时的 0 和 45 分"),
        (
            "0 9 1 * 1#1",
            "At 09:00, on the first Monday of the month",
            "每月第一個星期一 09:00",
            "每月第一个星期一 09:00",
        ),
        (
            "0 22-2 * * *",
            "At 00:00, 01:00, 02:00, 22:00 and 23:00",
            "每天 00:00、01:00、02:00、22:00 和 23:00",
            "每天 00:00、01:00、02:00、22:00 和 23:00",
        ),
        # No words for it: as it is written.
        ("0 9 * * mon-fri#2", "0 9 * * mon-fri#2", "0 9 * * mon-fri#2", "0 9 * * mon-fri#2"),
        # Not cron.
        (60, "Every minute", "每分鐘", "每分钟"),
        (3600, "Every hour", "每小時", "每小时"),
        (86_400, "Every day", "每天", "每天"),
        (5400, "Every 1 hour 30 minutes", "每 1 小時 30 分鐘", "每 1 小时 30 分钟"),
        (90.5, "Every 1 minute 30.5 seconds", "每 1 分鐘 30.5 秒", "每 1 分钟 30.5 秒"),
        (7200, "Every 2 hours", "每 2 小時", "每 2 小时"),
        ("@once", "Once, as soon as possible", "執行一次，儘快開始", "执行一次，尽快开始"),
        (
            "@continuous",
            "Without a pause: the next run starts when the last one has ended",
            "不間斷：上一次結束後立即開始下一次",
            "不间断：上一次结束后立即开始下一次",
        ),
        (None, "Only when it is started by hand", "僅在手動觸發時執行", "仅在手动触发时执行"),
    ],
)
def test_descriptions(schedule: Any, english: str, traditional: str, simplified: str) -> None:
    assert [describe(rule_of(schedule), language) for language in LANGUAGES] == [english, traditional, simplified]


def test_every_day_and_month_has_its_name_in_each_language() -> None:
    for language in ("zh_TW", "zh_CN"):
        weekdays = [describe(rule_of(f"0 9 * * {day}"), language) for day in range(7)]
        assert weekdays == [f"每星期{day} 09:00" for day in "日一二三四五六"]
        months = [describe(rule_of(f"0 9 1 {month} *"), language) for month in range(1, 13)]
        assert [text.split()[1] for text in months] == [str(month) for month in range(1, 13)]
    assert [describe(rule_of(f"0 9 * * {day}")).split()[-1] for day in range(7)] == [
        *calendar.day_name[6:],
        *calendar.day_name[:6],
    ]


def test_the_locale_of_the_process_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    french = ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"]
    monkeypatch.setattr(calendar, "day_name", french)
    descriptions._describe_cron.cache_clear()
    try:
        assert describe(rule_of("0 9 * * 1-5")) == "At 09:00, Monday through Friday"
        assert describe(rule_of("0 9 * * 0"), "zh_TW") == "每星期日 09:00"
    finally:
        descriptions._describe_cron.cache_clear()


def test_threads_may_describe_in_several_languages_at_once() -> None:
    wanted = list(product([rule_of(preset) for preset in PRESETS], LANGUAGES)) * 20
    expected = [describe(rule, language) for rule, language in wanted]
    descriptions._describe_cron.cache_clear()
    descriptions._translations.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda asked: describe(*asked), wanted)) == expected


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS)
def test_any_expression_has_words(text: str) -> None:
    rule, _ = parse_rule({"schedule": text})
    if rule is None:
        return
    for language in LANGUAGES:
        words = describe(rule, language)
        assert words == words.strip()
        assert "  " not in words
        assert not re.search(r"error|None|\{|\?", words) or words == rule.cron
        if language != "en" and words != rule.cron:
            assert not re.search(r"[A-Za-z]", words)
