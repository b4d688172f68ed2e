"""The fields of a job's description: each says once what it may hold, for the parser and for the JSON Schema."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pyapi.etl.templates import NAMES, TEMPLATED, unknown_names
from pyapi.utils.pointers import escape

LONGEST_TEXT: Final = 2_048
LONGEST_QUERY: Final = 100_000
MOST_ITEMS: Final = 1_000


class Wrong(NamedTuple):
    """What to write instead, and where: the pointer begins at the field."""

    detail: str
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A value that may be missing; null is the same as missing."""

    name: str
    help: str

    def wrong(self, value: Any) -> Iterator[Wrong]:
        """What stands against a value that is there."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema; the caller adds null."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Text(Field):
    """A text. `pattern` has to match all of it, and `says` is what to write instead."""

    longest: int = LONGEST_TEXT
    pattern: str = r"[\s\S]*\S[\s\S]*"
    says: str = "Write a text that is not empty."
    choices: tuple[str, ...] = ()
    has_templates: bool = False

    def wrong(self, value: Any) -> Iterator[Wrong]:
        """Not a text, too long, not one of the choices, or with a template that nothing fills in."""
        if self.choices:
            if not isinstance(value, str) or value not in self.choices:
                yield Wrong(f"Write one of {', '.join(self.choices)}.")
        elif not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            yield Wrong(self.says)
        elif len(value) > self.longest:
            yield Wrong(f"Write a text of at most {self.longest} characters.")
        elif self.has_templates and unknown_names(value):
            yield Wrong(f"Write templates only with these names: {', '.join(f'${{{name}}}' for name in NAMES)}.")

    def schema(self) -> dict[str, Any]:
        """A pattern in the words that Python and JavaScript share."""
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        found: dict[str, Any] = {"type": "string", "maxLength": self.longest, "pattern": whole(self.pattern)}
        return found | {"allOf": [{"pattern": TEMPLATED}]} if self.has_templates else found


@dataclass(frozen=True, slots=True)
class Whole(Field):
    """A whole number."""

    least: int = 0
    most: int = 1_000_000

    def wrong(self, value: Any) -> Iterator[Wrong]:
        """Not whole, or out of its bounds."""
        # 1000.0 is whole in JSON Schema, and so it is here.
        is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0
        if not is_whole or not self.least <= value <= self.most:
            yield Wrong(f"Write a whole number from {self.least} to {self.most}, without quotes.")

    def schema(self) -> dict[str, Any]:
        """Its bounds."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Flag(Field):
    """True or false."""

    def wrong(self, value: Any) -> Iterator[Wrong]:
        """Anything else."""
        if not isinstance(value, bool):
            yield Wrong("Write true or false, without quotes.")

    def schema(self) -> dict[str, Any]:
        """A boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Names(Field):
    """A list of names, each once; one name may stand without its list. Objects with `fields` may stand for a name."""

    fields: tuple[Field, ...] = ()

    def wrong(self, value: Any) -> Iterator[Wrong]:
        """No list, an empty one, or an item that is no name."""
        if not isinstance(value, list):
            if not _is_name(value):
                yield Wrong("Write a name, or a list of names.")
            return
        if not 1 <= len(value) <= MOST_ITEMS:
            yield Wrong(f"Write a list of 1 to {MOST_ITEMS} names.")
            return
        for index, item in enumerate(value):
            if isinstance(item, Mapping) and self.fields:
                yield from (Wrong(detail, f"/{index}{at}") for detail, at in wrong_in(item, self.fields, {"name"}))
            elif not _is_name(item):
                yield Wrong("Write a name: a text that is not empty, without white space at its ends.", f"/{index}")

    def schema(self) -> dict[str, Any]:
        """A name or a list."""
        item: dict[str, Any] = _NAME_SCHEMA
        if self.fields:
            item = {"anyOf": [_NAME_SCHEMA, object_schema(self.fields, {"name"})]}
        return {"anyOf": [_NAME_SCHEMA, {"type": "array", "minItems": 1, "maxItems": MOST_ITEMS, "items": item}]}


@dataclass(frozen=True, slots=True)
class Texts(Field):
    """An object of texts: headers, parameters of a query."""

    has_templates: bool = False

    def wrong(self, value: Any) -> Iterator[Wrong]:
        """Anything but an object of texts."""
        if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
            yield Wrong("Write an object whose values are texts.")
        elif self.has_templates and any(map(unknown_names, value.values())):
            yield Wrong(f"Write templates only with these names: {', '.join(f'${{{name}}}' for name in NAMES)}.")

    def schema(self) -> dict[str, Any]:
        """An object of strings."""
        return {
            "type": "object",
            "additionalProperties": {"type": "string"} | ({"pattern": TEMPLATED} if self.has_templates else {}),
        }


@dataclass(frozen=True, slots=True)
class Group(Field):
    """An object with fields of its own."""

    fields: tuple[Field, ...] = ()
    required: frozenset[str] = frozenset()

    def wrong(self, value: Any) -> Iterator[Wrong]:
        """What its fields say."""
        if isinstance(value, Mapping):
            yield from wrong_in(value, self.fields, self.required)
        else:
            yield Wrong("Write an object.")

    def schema(self) -> dict[str, Any]:
        """An object that takes no other fields."""
        return object_schema(self.fields, self.required)


def whole(pattern: str) -> str:
    """A pattern of all of a text, in JSON Schema; a bare `$` would allow a line break after it in Python."""
    return rf"^(?:{pattern})$(?![\s\S])"


_NAME = r"(?!\s)[^\u0000-\u001f]{0,254}[^\s\u0000-\u001f]"
_NAME_SCHEMA: Final[dict[str, Any]] = {"type": "string", "pattern": whole(_NAME)}


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(_NAME, value) is not None


def wrong_in(
    value: Mapping[Any, Any], fields: tuple[Field, ...], required: set[str] | frozenset[str]
) -> Iterator[Wrong]:
    """What stands against an object: in its fields, fields that nobody knows, and fields that are missing."""
    known = {field.name: field for field in fields}
    for name, item in value.items():
        if name not in known:
            # The name is what somebody sent; the pointer says it, as in every other error.
            yield Wrong(f"Take it out, or write one of {', '.join(known)}.", f"/{escape(str(name))}")
        elif item is not None:
            yield from (Wrong(detail, f"/{name}{at}") for detail, at in known[name].wrong(item))
    for name in sorted(required):
        if value.get(name) is None:
            yield Wrong(f"Write `{name}`: {known[name].help}", f"/{name}")


def object_schema(fields: tuple[Field, ...], required: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    """The same as JSON Schema. A required field may not be null; every other one may."""
    return {
        "type": "object",
        "properties": {field.name: property_schema(field, is_required=field.name in required) for field in fields},
        "required": sorted(required),
        "additionalProperties": False,
    }


def property_schema(field: Field, *, is_required: bool = False) -> dict[str, Any]:
    """A field with what it is for."""
    schema = field.schema()
    return {"description": field.help} | (schema if is_required else {"anyOf": [schema, {"type": "null"}]})
