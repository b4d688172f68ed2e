"""The job of a data record: what its `config` says about source, target and what is moved, checked and typed.

Whatever a row holds is answered, never raised: a row may have been written past the API.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from pyapi.etl.fields import LONGEST_TEXT, Field, Wrong, wrong_in
from pyapi.etl.kinds import CHOICE_FIELDS, JOB_FIELDS, SOURCES, TABLE_FIELDS, TARGETS, Contract, Kind, Mode
from pyapi.exceptions import FieldError

DEFAULT_BATCH_SIZE: Final = 10_000
LONGEST_URL: Final = LONGEST_TEXT


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A source or a target. `options` may hold credentials; nothing shows them."""

    type: str
    options: Mapping[str, Any] = field(repr=False)

    @property
    def conn_id(self) -> str | None:
        """The Airflow Connection that comes before what the options say."""
        return self.options.get("conn_id")


@dataclass(frozen=True, slots=True)
class Table:
    """One thing to move: a table, or what a query, files or an API give. Without `columns` it is all of them."""

    name: str
    cursor: str | None = None
    primary_key: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """What a record moves.

    Without `tables` it is all of the source's schema, each as `defaults` says. A `query`, or a source that has no
    tables, gives one table: `defaults`.
    """

    source: Endpoint
    target: Endpoint
    defaults: Table
    tables: tuple[Table, ...] = ()
    query: str | None = field(default=None, repr=False)
    mode: Mode = Mode.FULL
    schema_contract: Contract = Contract.EVOLVE
    batch_size: int = DEFAULT_BATCH_SIZE

    @property
    def gives_one_table(self) -> bool:
        """The source is asked for no table by name."""
        return self.query is not None or not known_kinds(SOURCES)[self.source.type].has_tables


def parse_job(config: object) -> tuple[Job | None, list[FieldError]]:
    """Read a job out of `config`. Neither job nor errors: there is nothing to move.

    With errors there is no job. Their pointers begin at config: `/source/host`.
    """
    if not isinstance(config, Mapping) or not moves_data(config):
        return None, []
    found, errors = _parts(config)
    return (_job(config, *found), []) if found is not None else (None, errors)


def errors_in(config: object) -> list[FieldError]:
    """What stands against the job in `config`, as `parse_job` says it; nothing when there is nothing to move."""
    return _parts(config)[1] if isinstance(config, Mapping) and moves_data(config) else []


def _parts(config: Mapping[Any, Any]) -> tuple[tuple[dict[str, Any], Endpoint, Endpoint] | None, list[FieldError]]:
    """What is moved, from where and where to; or the errors."""
    errors: list[FieldError] = []
    source = _endpoint(config["source"], "source", SOURCES, errors)
    target = _endpoint(config["target"], "target", TARGETS, errors)
    for known in JOB_FIELDS:
        if config.get(known.name) is not None:
            errors += (FieldError(detail, f"/{known.name}{at}") for detail, at in known.wrong(config[known.name]))
    if errors or source is None or target is None:
        return None, errors
    choice = _choice(config, source, errors)
    if not errors:
        errors += (FieldError(detail, at) for detail, at in _together(config, choice, source, target))
    return (None, errors) if errors else ((choice, source, target), [])


def moves_data(config: Mapping[Any, Any]) -> bool:
    """Whether a run has to move something: a `task` does all the work itself."""
    return config.get("task") is None and bool(config.get("source")) and bool(config.get("target"))


@cache
def known_kinds(kinds: tuple[Kind, ...]) -> dict[str, Kind]:
    """Kinds by all the names that they have."""
    return {name: kind for kind in kinds for name in kind.names}


# --- Source and target ------------------------------------------------------------------------------------------------


def _endpoint(value: object, place: str, kinds: tuple[Kind, ...], errors: list[FieldError]) -> Endpoint | None:
    if isinstance(value, str):
        found = _of_url(value, kinds)
        if found is None:
            errors.append(FieldError(_url_hint(value, kinds), f"/{place}"))
        return found
    if not isinstance(value, Mapping):
        errors.append(FieldError(f"Write a URL or an object with `type`: one of {_types(kinds)}.", f"/{place}"))
        return None
    kind = known_kinds(kinds).get(value["type"]) if isinstance(value.get("type"), str) else None
    if kind is None:
        errors.append(FieldError(f"Write one of {_types(kinds)}.", f"/{place}/type"))
        return None
    given = {name: item for name, item in value.items() if name != "type"}
    errors += (
        FieldError(detail, f"/{place}{at}") for detail, at in wrong_in(given, fields_of(kind), required(kind, given))
    )
    return Endpoint(kind.type, {name: item for name, item in given.items() if item is not None})


@cache
def fields_of(kind: Kind) -> tuple[Field, ...]:
    """The fields of its object; what is moved may stand in a source that has tables."""
    return (*kind.fields, *CHOICE_FIELDS) if kind.has_tables else kind.fields


def required(kind: Kind, given: Mapping[Any, Any]) -> frozenset[str]:
    """The fields that have to be there."""
    return kind.required - kind.conn_covers if given.get("conn_id") is not None else kind.required


def _of_url(url: str, kinds: tuple[Kind, ...]) -> Endpoint | None:
    for kind in kinds:
        found = re.fullmatch(kind.url, url) if len(url) <= LONGEST_URL else None
        if found is not None:
            parts = dict(zip(kind.parts, found.groups(), strict=True))
            options = dict(_options_of(parts))
            wrong = [wrong for name, item in options.items() for wrong in _fields_by_name(kind)[name].wrong(item)]
            return None if wrong else Endpoint(kind.type, options)
    return None


@cache
def _fields_by_name(kind: Kind) -> dict[str, Field]:
    return {known.name: known for known in kind.fields}


def _options_of(parts: Mapping[str, str | None]) -> Iterator[tuple[str, Any]]:
    for name, text in parts.items():
        if not text:
            continue
        if name == "account_part":
            user, separator, password = text.partition(":")
            yield from (("user", unquote(user)),) if user else ()
            yield from (("password", unquote(password)),) if separator else ()
        elif name == "parameters":
            yield from ((key, item) for key, item in parse_qsl(text) if key in {"sslmode", "schema"})
        elif name == "port":
            yield name, int(text)
        elif name == "host":
            yield name, text.strip("[]")
        else:
            yield name, unquote(text) if name == "database" else text


def _url_hint(url: str, kinds: tuple[Kind, ...]) -> str:
    scheme = url.partition(":")[0].partition("+")[0]
    kind = known_kinds(kinds).get(scheme)
    if kind is not None:
        return f"Write it as in {kind.url_example}, or as an object with `type`."
    return f"Write a URL or an object of a known type: {_types(kinds)}."


def _types(kinds: tuple[Kind, ...]) -> str:
    return ", ".join(kind.type for kind in kinds)


# --- What is moved ----------------------------------------------------------------------------------------------------


def _choice(config: Mapping[str, Any], source: Endpoint, errors: list[FieldError]) -> dict[str, Any]:
    """What is moved, wherever it stands."""
    choice = {}
    for known in CHOICE_FIELDS:
        beside, inside = config.get(known.name), source.options.get(known.name)
        if beside is not None and inside is not None:
            errors.append(FieldError("Write it once: here or in the source.", f"/{known.name}"))
        choice[known.name] = beside if beside is not None else inside
    return choice


def _together(config: Mapping[str, Any], choice: dict[str, Any], source: Endpoint, target: Endpoint) -> Iterator[Wrong]:
    """What several fields must agree on."""
    has_tables = known_kinds(SOURCES)[source.type].has_tables
    tables, query = choice["tables"], choice["query"]
    if not has_tables:
        for name in ("tables", "query"):
            if choice[name] is not None:
                yield Wrong(f"Take it out: a source of type {source.type} has no tables.", f"/{name}")
    elif tables is not None and query is not None:
        yield Wrong(
            "Write only one of tables and query.", "/query" if config.get("query") is not None else "/source/query"
        )
    elif config.get("into") is not None and query is None:
        yield Wrong("Take it out: tables keep their names.", "/into")
    mode = config.get("mode")
    if mode == Mode.INCREMENTAL and not _everywhere("cursor", choice):
        yield Wrong("Write the column whose values only grow, such as updated_at.", "/cursor")
    if mode == Mode.MERGE:
        if not _everywhere("primary_key", choice):
            yield Wrong(
                "Write the columns that tell one row from another: merge replaces rows by them.", "/primary_key"
            )
        if not known_kinds(TARGETS)[target.type].can_merge:
            able = ", ".join(kind.type for kind in TARGETS if kind.can_merge)
            yield Wrong(f"Write append or incremental, or a target that can merge: {able}.", "/mode")


def _everywhere(name: str, choice: Mapping[str, Any]) -> bool:
    if choice[name] is not None:
        return True
    tables = choice["tables"]
    return isinstance(tables, list) and all(isinstance(item, Mapping) and item.get(name) is not None for item in tables)


def _job(config: Mapping[str, Any], choice: dict[str, Any], source: Endpoint, target: Endpoint) -> Job:
    defaults = replace(_table("", choice), name=config.get("into") or default_name(source, choice["query"]))
    tables = choice["tables"] if isinstance(choice["tables"], list) else [choice["tables"]] if choice["tables"] else []
    known = {item.name for item in CHOICE_FIELDS} & source.options.keys()
    return Job(
        source=Endpoint(source.type, {name: item for name, item in source.options.items() if name not in known}),
        target=target,
        defaults=defaults,
        tables=tuple(dict.fromkeys(_named(item, defaults) for item in tables)),
        query=choice["query"],
        mode=Mode(config.get("mode") or Mode.FULL),
        schema_contract=Contract(config.get("schema_contract") or Contract.EVOLVE),
        batch_size=int(config.get("batch_size") or DEFAULT_BATCH_SIZE),
    )


def _named(item: Any, defaults: Table) -> Table:
    if isinstance(item, str):
        return replace(defaults, name=item)
    own = _table(item["name"], item)
    given = {known.name: getattr(own, known.name) for known in TABLE_FIELDS if item.get(known.name) is not None}
    return replace(defaults, name=item["name"], **given)


def _table(name: str, values: Mapping[str, Any]) -> Table:
    return Table(
        name=name,
        cursor=values.get("cursor"),
        primary_key=_names(values.get("primary_key")),
        columns=_names(values.get("columns")),
        exclude=_names(values.get("exclude")),
    )


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))


def default_name(source: Endpoint, query: str | None) -> str:
    """The name in the target of what has none of its own."""
    return "query" if query is not None else "items" if source.type == "rest" else "files"
