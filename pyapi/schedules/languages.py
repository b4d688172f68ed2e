"""The languages that schedules are described in, and which of them a client asks for."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

Language: TypeAlias = Literal["en", "zh_TW", "zh_CN"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

_MOST_RANGES = 50
_LONGEST_REMEMBERED = 128
# Script and region subtags; Chinese without one is read as simplified, as Unicode's likely subtags have it.
_CHINESE: Final[Mapping[str, Language]] = {
    "hant": "zh_TW",
    "tw": "zh_TW",
    "hk": "zh_TW",
    "mo": "zh_TW",
    "hans": "zh_CN",
    "cn": "zh_CN",
    "sg": "zh_CN",
}


def language_of(accept_language: str | None) -> Language:
    """The language to answer in, from an `Accept-Language` header (RFC 9110, 12.5.4); English when in doubt."""
    wanted = accept_language or ""
    return _best(wanted) if len(wanted) <= _LONGEST_REMEMBERED else _best.__wrapped__(wanted)


@lru_cache(256)
def _best(wanted: str) -> Language:
    best: Language = "en"
    best_quality = 0.0
    for language_range in wanted.split(",")[:_MOST_RANGES]:
        tag, *parameters = (part.strip().lower() for part in language_range.split(";"))
        language = _language_of_tag(tag)
        quality = _quality(parameters)
        if language is not None and quality > best_quality:
            best, best_quality = language, quality
    return best


def _language_of_tag(tag: str) -> Language | None:
    """None for a language that is not spoken here."""
    primary, *subtags = tag.replace("_", "-").split("-")
    if primary == "zh":
        return next((_CHINESE[subtag] for subtag in subtags if subtag in _CHINESE), "zh_CN")
    return "en" if primary in {"en", "*"} else None


def _quality(parameters: list[str]) -> float:
    """The weight; 1 when there is none, 0 for one that cannot be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0
