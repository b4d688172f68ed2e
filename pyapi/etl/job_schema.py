"""The job of a record as JSON Schema (draft 2020-12), made of the tables that the parser reads."""

from typing import Any

from pyapi.etl.fields import Field, Text, object_schema, property_schema, whole
from pyapi.etl.jobs import LONGEST_URL, fields_of
from pyapi.etl.kinds import JOB_FIELDS, SOURCES, TARGETS, Kind, Mode
from pyapi.etl.templates import TEMPLATED

_NOTHING: dict[str, Any] = {"enum": [None, "", False, 0, {}, []]}
_NEVER_NULL: dict[str, Any] = {"not": {"type": "null"}}


def job_schema() -> dict[str, Any]:
    """A config that moves data; one that has a `task`, no source or no target may hold anything."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What a data record moves",
        "type": "object",
        "if": {
            "required": ["source", "target"],
            "properties": {"source": {"not": _NOTHING}, "target": {"not": _NOTHING}, "task": {"type": "null"}},
        },
        "then": {
            "properties": {
                "source": _endpoint_schema(SOURCES, "Where the data comes from."),
                "target": _endpoint_schema(TARGETS, "Where it goes."),
                **{field.name: property_schema(field) for field in JOB_FIELDS},
            },
            "allOf": list(_rules()),
        },
    }


def _endpoint_schema(kinds: tuple[Kind, ...], description: str) -> dict[str, Any]:
    names = [name for kind in kinds for name in kind.names]
    return {
        "description": description,
        "anyOf": [
            {"type": "string", "maxLength": LONGEST_URL, "anyOf": list(map(_url_schema, kinds))},
            {
                "type": "object",
                "required": ["type"],
                "properties": {"type": {"enum": names}},
                "allOf": [{"if": _is_type(kind), "then": _kind_schema(kind)} for kind in kinds],
            },
        ],
    }


def _url_schema(kind: Kind) -> dict[str, Any]:
    schema = {"pattern": whole(kind.url), "examples": [kind.url_example]}
    has_templates = any(isinstance(field, Text) and field.has_templates for field in kind.fields)
    return schema | {"allOf": [{"pattern": TEMPLATED}]} if has_templates else schema


def _is_type(kind: Kind) -> dict[str, Any]:
    return {"properties": {"type": {"enum": list(kind.names)}}}


def _kind_schema(kind: Kind) -> dict[str, Any]:
    schema = object_schema(fields_of(kind), kind.required - kind.conn_covers)
    schema["properties"]["type"] = {"enum": list(kind.names)}
    if kind.conn_covers:
        schema["anyOf"] = [_has("conn_id"), {"allOf": [_has(name) for name in sorted(kind.conn_covers)]}]
    return schema


def _rules() -> list[dict[str, Any]]:
    """What several fields must agree on, as `_together` in the parser says it."""
    without_tables = _is_one_of("source", tuple(kind for kind in SOURCES if not kind.has_tables))
    mergeable = _is_one_of("target", tuple(kind for kind in TARGETS if kind.can_merge))
    here = [field for kind in SOURCES if kind.has_tables for field in fields_of(kind)]
    choice = [field for field in JOB_FIELDS if field in here]
    return [
        *({"not": {"allOf": [_has(field.name), _inside(field)]}} for field in choice),
        {"not": {"allOf": [_somewhere("tables"), _somewhere("query")]}},
        {"if": without_tables, "then": {"not": {"anyOf": [_has("tables"), _has("query")]}}},
        {"if": _has("into"), "then": {"anyOf": [without_tables, _somewhere("query")]}},
        {"if": _is_mode(Mode.INCREMENTAL), "then": _everywhere("cursor")},
        {"if": _is_mode(Mode.MERGE), "then": {"allOf": [_everywhere("primary_key"), mergeable]}},
    ]


def _has(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: _NEVER_NULL}}


def _inside(field: Field) -> dict[str, Any]:
    return {"properties": {"source": {"type": "object", **_has(field.name)}}}


def _somewhere(name: str) -> dict[str, Any]:
    return {"anyOf": [_has(name), {"properties": {"source": {"type": "object", **_has(name)}}}]}


def _everywhere(name: str) -> dict[str, Any]:
    tables = {"type": "array", "items": {"type": "object", **_has(name)}}
    listed = {"required": ["tables"], "properties": {"tables": tables}}
    inside = {"properties": {"source": {"type": "object", **listed}}}
    return {"anyOf": [_somewhere(name), listed, inside]}


def _is_mode(mode: Mode) -> dict[str, Any]:
    return {"required": ["mode"], "properties": {"mode": {"const": mode.value}}}


def _is_one_of(place: str, kinds: tuple[Kind, ...]) -> dict[str, Any]:
    names = [name for kind in kinds for name in kind.names]
    urls = {"type": "string", "anyOf": list(map(_url_schema, kinds))}
    return {"properties": {place: {"anyOf": [urls, {"type": "object", "properties": {"type": {"enum": names}}}]}}}
