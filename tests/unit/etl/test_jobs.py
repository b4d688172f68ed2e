"""What a config says about moving data: both forms of the README, all that can be wrong, and the JSON Schema of it."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pyapi.etl.job_schema import job_schema
from pyapi.etl.jobs import Endpoint, Job, Table, parse_job
from tests.unit.etl.cases import BAD, GOOD, LAKE, NOTHING_TO_MOVE, PG, SEED_OBJECTS, SEED_URLS, job, source

VALIDATOR = Draft202012Validator(job_schema())


def parsed(config: dict[str, Any]) -> Job:
    found, errors = parse_job(config)
    assert errors == []
    assert found is not None
    return found


def test_the_urls_of_the_seed() -> None:
    assert parsed(SEED_URLS) == Job(
        source=Endpoint(
            "postgresql", {"user": "user", "password": "pass", "host": "host", "port": 5432, "database": "db"}
        ),
        target=Endpoint("s3", {"bucket": "bucket", "prefix": "path/"}),
        defaults=Table("files"),
        batch_size=1000,
    )


def test_the_objects_of_the_seed() -> None:
    found = parsed(SEED_OBJECTS)
    assert (found.source.options, found.target.options) == (
        {"host": "source-db.example.com", "database": "source_db"},
        {"bucket": "data-lake", "prefix": "processed/"},
    )


@pytest.mark.parametrize("config", [None, 5, "text", *NOTHING_TO_MOVE])
def test_nothing_to_move(config: object) -> None:
    assert parse_job(config) == (None, [])


@pytest.mark.parametrize("config", GOOD)
def test_a_good_config(config: dict[str, Any]) -> None:
    assert isinstance(parsed(config), Job)


@pytest.mark.parametrize(("config", "pointer"), BAD)
def test_a_bad_config_says_where(config: dict[str, Any], pointer: str) -> None:
    assert [error.pointer for error in parse_job(config)[1]] == [pointer]


@pytest.mark.parametrize("config", [*GOOD, *NOTHING_TO_MOVE])
def test_the_schema_accepts_what_the_parser_accepts(config: dict[str, Any]) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(config)] == []


@pytest.mark.parametrize("config", [config for config, _ in BAD])
def test_the_schema_refuses_what_the_parser_refuses(config: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(config)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(job_schema())


@pytest.mark.parametrize(
    ("config", "detail"),
    [
        (job(source="oracle://host/db"), "of a known type: postgresql, mysql, sqlite, local, s3, gcs, azure, rest."),
        (job(target="s3:bucket"), "Write it as in s3://bucket/path/, or as an object with `type`."),
        (job(mode="merge", primary_key="id"), "a target that can merge: postgresql, duckdb, delta."),
        (job(target={"type": "s3", "bucket": "lake", "prefx": "a"}), "one of conn_id, bucket, prefix, format, region"),
        (source(host=None), "Write `host`: Name or address of the server."),
    ],
)
def test_an_error_says_the_cure(config: dict[str, Any], detail: str) -> None:
    assert detail in parse_job(config)[1][0].detail


def test_a_password_is_decoded_and_never_shown() -> None:
    found = parsed(job(source="postgresql://u:p%40ss-4711@host/db", query="SELECT 'word-4712'"))
    assert (found.source.options["password"], "4711" in repr(found), "4712" in repr(found)) == (
        "p@ss-4711",
        False,
        False,
    )


def test_a_table_may_differ_from_the_others() -> None:
    tables = ["a", {"name": "b", "cursor": "seen_at", "columns": ["id", "seen_at"]}]
    assert parsed(job(mode="incremental", cursor="at", primary_key="id", tables=tables)).tables == (
        Table("a", cursor="at", primary_key=("id",)),
        Table("b", cursor="seen_at", primary_key=("id",), columns=("id", "seen_at")),
    )


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (job(query="SELECT 1"), "query"),
        (job(query="SELECT 1", into="daily"), "daily"),
        (job(source="https://host/x"), "items"),
        (job(source="file:///data/in/"), "files"),
    ],
)
def test_what_has_no_name_gets_one(config: dict[str, Any], name: str) -> None:
    assert (parsed(config).defaults.name, parsed(config).gives_one_table) == (name, True)


def test_the_seed_moves_all_tables() -> None:
    found = parsed({"source": PG, "target": LAKE})
    assert (found.tables, found.gives_one_table) == ((), False)
