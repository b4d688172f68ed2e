"""A rule in words: English, Traditional and Simplified Chinese.

cron-descriptor puts a cron expression into words, except for three things that are done here. It takes the names of
days and months from the locale of the process, which other threads may change: they are replaced. It joins day of month
and day of week as it likes: cron means either. And it reads some forms otherwise than croniter (`FRI/2` as "every 2
weeks", `9-9` as nine o'clock although croniter takes it for every hour): it is given the values that croniter read, in
their plainest form, so two ways to write one schedule have one description.
"""

import calendar
import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from cron_descriptor import DescriptionTypeEnum, ExpressionDescriptor, FormatException, Options
from cron_descriptor.ExpressionParser import ExpressionParser
from cron_descriptor.GetText import GetText

from pyapi.schedules.expressions import Cron, Days, parse_cron
from pyapi.schedules.languages import Language
from pyapi.schedules.rules import Kind, Rule


class _Words(NamedTuple):
    """What cron-descriptor does not know in a language."""

    locale: str
    manual: str
    once: str
    continuous: str
    every: str
    units: tuple[tuple[str, str], ...]
    """(one, several) of day, hour, minute, second."""
    blank: str
    """Between two words."""
    either: str
    days: tuple[str, ...]
    months: tuple[str, ...]


_ENGLISH = _Words(
    locale="en_US",
    manual="Only when it is started by hand",
    once="Once, as soon as possible",
    continuous="Without a pause: the next run starts when the last one has ended",
    every="Every{}",
    units=(("day", "days"), ("hour", "hours"), ("minute", "minutes"), ("second", "seconds")),
    blank=" ",
    either=", or {}",
    days=("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    months=(
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
)
_TRADITIONAL = _Words(
    locale="zh_TW",
    manual="僅在手動觸發時執行",
    once="執行一次，儘快開始",
    continuous="不間斷：上一次結束後立即開始下一次",
    every="每{}",
    units=(("天", "天"), ("小時", "小時"), ("分鐘", "分鐘"), ("秒", "秒")),
    blank="",
    either="，或{}",
    days=("星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"),
    months=tuple(f"{month} 月" for month in range(1, 13)),
)
_WORDS: Final[Mapping[Language, _Words]] = {
    "en": _ENGLISH,
    "zh_TW": _TRADITIONAL,
    "zh_CN": _TRADITIONAL._replace(
        locale="zh_CN",
        manual="仅在手动触发时执行",
        once="执行一次，尽快开始",
        continuous="不间断：上一次结束后立即开始下一次",
        units=(("天", "天"), ("小时", "小时"), ("分钟", "分钟"), ("秒", "秒")),
    ),
}
# The last day among others, as cron-descriptor leaves it: "on day 15 and L of the month".
_LAST_DAY: Final = re.compile(r",? (?:and|和) L(?: of the month| [號号])")
_HAN: Final = "[\u4e00-\u9fff]"
# A comma between two of a kind: weekdays, months, times, numbers.
_LISTED: Final = re.compile(
    r"(?<=星期.), (?=星期)|(?<=\d 月), (?=\d+ 月)|(?<=\d:\d\d), (?=\d\d:)|((?<![:\d])\d+), (?=\d+(?![:\d]| 月))"
)
_TIME_THEN_DAYS: Final = re.compile(
    r"在 (?P<times>\d\d:\d\d(?:[、和 ]+\d\d:\d\d)*)，"
    r"(?P<days>(?:(?![僅仅]在 \d).)+?)"
    r"(?:，[僅仅]在 (?P<months>\d+ 月[^，]*))?"
)
_UNIT_SECONDS = (86_400, 3600, 60, 1)


def describe(rule: Rule, language: Language = "en") -> str:
    """When the rule runs, in one line without a full stop."""
    words = _WORDS[language]
    if rule.kind is Kind.CRON and rule.cron is not None:
        return _describe_cron(rule.cron, language)
    if rule.kind is Kind.INTERVAL and rule.interval_seconds is not None:
        return _describe_interval(rule.interval_seconds, words)
    if rule.kind is Kind.ONCE:
        return words.once
    return words.continuous if rule.kind is Kind.CONTINUOUS else words.manual


def _describe_interval(seconds: float, words: _Words) -> str:
    parts = []
    seconds = round(seconds, 3)
    for unit_seconds, names in zip(_UNIT_SECONDS, words.units, strict=True):
        number: float
        number, seconds = (seconds, 0) if unit_seconds == 1 else divmod(seconds, unit_seconds)
        if number:
            parts.append((round(number, 3), names))
    if len(parts) == 1 and parts[0][0] == 1:
        return words.every.format(words.blank + parts[0][1][0])
    return words.every.format(
        "".join(f" {number:.10g} {one if number == 1 else more}" for number, (one, more) in parts)
    )


@lru_cache(4096)
def _describe_cron(text: str, language: Language) -> str:
    words = _WORDS[language]
    cron = parse_cron(text)
    try:
        day, month, weekday = _plainest_days(cron.days)
        described = _with_names(_segments(cron, day, month, weekday, words), words)
    except (FormatException, ValueError, IndexError):
        return text
    if language == "en":
        return _tidy_english(described)
    return _tidy_chinese(described, every_day=day == weekday == "*")


# --- In the words of cron-descriptor ----------------------------------------------------------------------------------


class _Descriptor(ExpressionDescriptor):
    """Does not read the translations from the disk each time, and never asks for the locale of the process."""

    def __init__(self, expression: str, locale: str) -> None:
        self._expression = expression
        self._options = Options(locale_code=locale, use_24hour_time_format=True)
        self.get_text = _translations(locale)
        self._expression_parts = ExpressionParser(expression, self._options).parse()


@lru_cache(3)
def _translations(locale: str) -> GetText:
    return GetText(locale)


def _segments(cron: Cron, day: str, month: str, weekday: str, words: _Words) -> str:
    """Time, days and months, one after the other."""
    time = _Descriptor(f"{_plainest(cron.minutes, 0, 59)} {_plainest_hours(cron)} * {month} *", words.locale)
    parts = [time.get_description(DescriptionTypeEnum.TIMEOFDAY)]
    if day != "*":
        parts.append(_Descriptor(f"0 0 {day} * *", words.locale).get_description(DescriptionTypeEnum.DAYOFMONTH))
    if weekday != "*":
        on = _Descriptor(f"0 0 * * {weekday}", words.locale).get_description(DescriptionTypeEnum.DAYOFWEEK)
        parts.append(on if day == "*" else words.either.format(on.removeprefix(", ")))
    parts.append(time.get_description(DescriptionTypeEnum.MONTH))
    text = time.transform_verbosity("".join(parts), use_verbose_format=False)
    return f"{text[0].upper()}{text[1:]}"


def _plainest_hours(cron: Cron) -> str:
    """Beside a single minute, hours are times of the day: all of them are listed, or none."""
    hours = _plainest(cron.hours, 0, 23)
    return ",".join(map(str, cron.hours)) if len(cron.minutes) == 1 and "," in hours else hours


def _plainest(values: Iterable[int], lowest: int, highest: int) -> str:
    """`*`, `*/5`, `5-50/15`, or numbers and ranges: the shortest way to write the values, which are sorted."""
    numbers = list(values)
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    if len(steps) == 1 and len(numbers) > 2:
        step = steps.pop()
        whole = numbers[0] == lowest and numbers[-1] + step > highest
        if step == 1:
            return "*" if whole and numbers[-1] == highest else f"{numbers[0]}-{numbers[-1]}"
        if whole and (highest - lowest + 1) % step == 0:
            return f"*/{step}"
        if len(numbers) > 4:
            return f"{numbers[0]}-{numbers[-1]}/{step}"
    return ",".join(_ranges(numbers))


def _ranges(numbers: list[int]) -> Iterable[str]:
    """Three neighbours or more are written as a range."""
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            group = numbers[start:place]
            yield from [f"{group[0]}-{group[-1]}"] if len(group) > 2 else map(str, group)
            start = place


def _plainest_days(days: Days) -> tuple[str, str, str]:
    """The fields for day of month, month and day of week. Raises ValueError when there are no words for them."""
    if len(days.nth_weekdays) > 1 or (days.nth_weekdays and days.near):
        raise ValueError("no words for several weekdays with their number")
    day, month, weekday = _plainest_dates(days), "*", "*"
    if days.months is not None:
        month = _plainest_names(days.months, 1, 12)
    if days.nth_weekdays:
        ((number, nth),) = days.nth_weekdays
        weekday = f"{number}#{nth}" if nth else f"{number}L"
    elif days.weekdays is not None:
        weekday = _plainest_names(days.weekdays, 0, 6)
    if days.either:
        # What is left of an OR: see `Days.of`. When a side means every day, so does the whole.
        if days.nth_weekdays:
            day = "*"
        elif days.near or "*" in {day, weekday}:
            day, weekday = day if days.near else "*", "*"
    return day, month, weekday


def _plainest_dates(days: Days) -> str:
    if days.near:
        return f"{min(days.near)}W"
    if days.days is None:
        return "*"
    dates = [_plainest(sorted(days.days), 1, 31)] if days.days else []
    return ",".join([*dates, *(["L"] if days.last_day else [])])


def _plainest_names(values: Iterable[int], lowest: int, highest: int) -> str:
    """Steps are written out: "January, April, July and October" says more than "every 3 months"."""
    numbers = sorted(values)
    return "*" if len(numbers) == highest - lowest + 1 else ",".join(_ranges(numbers))


# --- What is put right afterwards -------------------------------------------------------------------------------------


def _with_names(text: str, words: _Words) -> str:
    """The names of days and months, which are in the language of the process, in the wanted one."""
    named = dict(zip((calendar.day_name[(day - 1) % 7] for day in range(7)), words.days, strict=True))
    named |= zip((date(2000, month, 1).strftime("%B") for month in range(1, 13)), words.months, strict=True)
    longest_first = sorted(named, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: named[found[0]], text)


def _tidy_english(text: str) -> str:
    return _LAST_DAY.sub(" and the last day", text).replace("or only on", "or on")


def _tidy_chinese(text: str, *, every_day: bool) -> str:
    """cron-descriptor's Chinese has the commas, the blanks and some of the order of English."""
    text = _LAST_DAY.sub(" 號和最後一天" if "號" in text else " 号和最后一天", text)
    text = re.sub(r"或[僅仅]在", "或", text).replace(", 和 ", " 和 ")
    text = _LISTED.sub(lambda found: f"{found[1] or ''}、", text).replace(", ", "，")
    text = re.sub(r"在 (第.[個个]星期.) 每月", r"每月\1", text)
    text = re.sub(rf"(?<={_HAN}) +(?={_HAN})|(?<=，) +| +$", "", text)
    return re.sub(r"^在 (?=\d\d:)", "每天 ", text) if every_day else _days_first(text)


def _days_first(text: str) -> str:
    """`在 09:00，僅在星期五` is `每星期五 09:00`: in Chinese the day comes before the time."""
    found = _TIME_THEN_DAYS.fullmatch(text)
    if found is None:
        return text
    days = re.sub("，或(?=星期)", "或每", re.sub("^[僅仅]在(?=星期)", "", found["days"]))
    days = re.sub("^(?=星期)", "每", re.sub("每月的 ?", "每月", days))
    days = re.sub(r"(?<=每月)(?=\d)", " ", days)
    if found["months"]:
        days = days.removeprefix("每月")
        of = "" if days.startswith(" ") and not re.search("[、和到]", found["months"]) else "的"
        days = f"每年 {found['months']}{of}{days}"
    return f"{days.rstrip()} {found['times']}"
