"""The kinds of sources and targets that a record can name, and the fields of each: one table for all who ask."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pyapi.etl.fields import LONGEST_QUERY, Field, Group, Names, Text, Texts, Whole


class Mode(StrEnum):
    """What a run does to the target."""

    FULL = "full"  # the target holds what the source holds, and nothing else
    APPEND = "append"  # all rows of the source are added
    INCREMENTAL = "incremental"  # rows whose cursor is past the last run's are added
    MERGE = "merge"  # rows replace those with the same primary key


class Contract(StrEnum):
    """What to do when the columns of the source are not those of the last run."""

    EVOLVE = "evolve"
    FREEZE = "freeze"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A type of source or target.

    `url` matches a whole URL of it, and its groups are named by `parts`; `required` need not be written when there is
    a `conn_id`, where Airflow keeps it.
    """

    type: str
    aliases: tuple[str, ...]
    fields: tuple[Field, ...]
    required: frozenset[str]
    url: str
    parts: tuple[str, ...]
    url_example: str
    has_tables: bool = False
    can_merge: bool = False
    conn_covers: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """All that `type` may say."""
        return (self.type, *self.aliases)


FORMATS: Final = ("parquet", "csv", "jsonl")

_PORT_NUMBER = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+"
_HOST_FIELD = Text("host", "Name or address of the server.", pattern=r"[A-Za-z0-9._:-]+", says="Write a host name.")
_PORT = Whole("port", "Port of the server.", least=1, most=65_535)
_CONN = Text(
    "conn_id",
    "An Airflow Connection that holds address and credentials.",
    pattern=r"[A-Za-z0-9_.\-]{1,200}",
    says="Write the id of an Airflow Connection.",
)
_SECRETS = (
    Text("user", "Account name."),
    Text("username", "The same as user."),
    Text("password", "Better kept in an Airflow Connection.", pattern=r"[\s\S]*"),
)
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSLMODE = Text("sslmode", "How the connection is encrypted.", choices=_SSLMODES)
_DATABASE = Text("database", "Name of the database.")
_SCHEMA = Text("schema", "Schema of the tables; public when missing.")

TABLE_FIELDS: Final[tuple[Field, ...]] = (
    Text("cursor", "Column whose values only grow, such as updated_at."),
    Names("primary_key", "Columns that tell one row from another."),
    Names("columns", "The only columns to move."),
    Names("exclude", "Columns that stay behind."),
)
CHOICE_FIELDS: Final[tuple[Field, ...]] = (
    Names("tables", "Tables to move; all of the schema when missing.", (Text("name", "The table."), *TABLE_FIELDS)),
    Text(
        "query",
        "A SELECT in place of tables; it runs read-only, with the credentials of the source.",
        longest=LONGEST_QUERY,
        has_templates=True,
    ),
    *TABLE_FIELDS,
)
"""What is moved: beside source and target, or in the source."""

JOB_FIELDS: Final[tuple[Field, ...]] = (
    *CHOICE_FIELDS,
    Text("mode", "What a run does to the target; full when missing.", choices=tuple(Mode)),
    Text("schema_contract", "What to do about changed columns; evolve when missing.", choices=tuple(Contract)),
    Whole("batch_size", "Rows per read, where a driver asks for it.", least=1, most=1_000_000),
    Text(
        "into",
        "Name in the target of what a query, files or an API gives.",
        pattern=r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,62}",
        says="Write a name of letters, digits, `_`, `-` and `.`.",
    ),
)
"""The fields of a config that say what is moved, beside `source` and `target`."""


def _endpoint(speaks: str) -> Text:
    return Text(
        "endpoint_url",
        f"Address of a server that speaks {speaks}.",
        pattern=r"https?://[^\s/@]+/?",
        says="Write http:// or https:// and a host, without credentials.",
    )


_S3_FIELDS: Final[tuple[Field, ...]] = (
    Text("region", "Region of the bucket."),
    _endpoint("S3"),
    Text("access_key_id", "Better kept in an Airflow Connection."),
    Text("secret_access_key", "Better kept in an Airflow Connection."),
    Text("session_token", "Better kept in an Airflow Connection."),
)
_PREFIX = Text(
    "prefix",
    "Where in the bucket.",
    has_templates=True,
    pattern=r"(?![\s\S]*(?:^|/)\.\.(?:/|$))[\s\S]*",
    says="Write a path without `..`.",
)
_PATH = Text(
    "path",
    "A folder or file of the worker, below PYAPI_ETL_LOCAL_DIRS.",
    has_templates=True,
    pattern=r"(?![\s\S]*/\.\.(?:/|$))/[\s\S]+",
    says="Write an absolute path without `..`.",
)
_FORMAT = Text("format", "Format of the files; parquet when neither this nor their names say it.", choices=FORMATS)
_BUCKET = Text(
    "bucket", "Name of the bucket.", pattern=r"[A-Za-z0-9][A-Za-z0-9_.\-]{1,221}", says="Write the name of a bucket."
)
_CONTAINER = Text(
    "container", "Name of the container.", pattern=r"[a-z0-9$][a-z0-9-]{1,62}", says="Write the name of a container."
)
_ACCOUNT = Text("account", "Name of the storage account.", pattern=r"[a-z0-9]{3,24}", says="Write an account's name.")


def _database(type_: str, *aliases: str, fields: tuple[Field, ...] = (), **options: bool) -> Kind:
    schemes = "|".join((type_, *aliases))
    # libpq knows other parameters, some of which name files of the worker.
    known = rf"sslmode=(?:{'|'.join(_SSLMODES)})|schema=[^&#\s]+" if fields else "charset=utf8mb4"
    return Kind(
        type_,
        aliases,
        (_CONN, _HOST_FIELD, _PORT, _DATABASE, *_SECRETS, *fields),
        required=frozenset({"host", "database"}),
        conn_covers=frozenset({"host", "database"}),
        # Up to the last "@": a password may hold any sign.
        url=rf"(?:{schemes})(?:\+[a-z0-9]+)?://(?:([\s\S]*)@)?({_HOST})(?::({_PORT_NUMBER}))?/([^/?#\s]+)"
        rf"(?:\?((?:{known})(?:&(?:{known}))*))?",
        parts=("account_part", "host", "port", "database", "parameters"),
        url_example=f"{type_}://user:password@host/database",
        **options,
    )


def _bucket(type_: str, *aliases: str, fields: tuple[Field, ...] = ()) -> Kind:
    schemes = "|".join((type_, *aliases))
    return Kind(
        type_,
        aliases,
        (_CONN, _BUCKET, _PREFIX, _FORMAT, *fields),
        required=frozenset({"bucket"}),
        url=rf"(?:{schemes})://([A-Za-z0-9][A-Za-z0-9_.\-]{{1,221}})(?:/({_PREFIX.pattern}))?",
        parts=("bucket", "prefix"),
        url_example=f"{aliases[-1] if type_ == 'gcs' else type_}://bucket/path/",
    )


_FILE_PLACES: Final = (
    Kind(
        "local",
        ("file",),
        (_PATH, _FORMAT),
        frozenset({"path"}),
        rf"(?:file|local)://({_PATH.pattern})",
        ("path",),
        "file:///folder/",
    ),
    _bucket("s3", "s3a", fields=_S3_FIELDS),
    _bucket("gcs", "gs", fields=(_endpoint("Google Cloud Storage; it is asked without an account"),)),
    Kind(
        "azure",
        ("az", "abfs", "abfss"),
        (
            _CONN,
            _ACCOUNT,
            _CONTAINER,
            _PREFIX,
            _FORMAT,
            _endpoint("Azure Blob Storage, with accounts in its paths"),
            Text("account_key", "Better kept in an Airflow Connection."),
            Text("sas_token", "Better kept in an Airflow Connection."),
        ),
        frozenset({"account", "container"}),
        rf"(?:azure|az|abfss?)://([a-z0-9$][a-z0-9-]{{1,62}})@([a-z0-9]{{3,24}})(?:\.[a-z.]+)?(?:/({_PREFIX.pattern}))?",
        ("container", "account", "prefix"),
        "abfss://container@account/path/",
        conn_covers=frozenset({"account"}),
    ),
)

_PAGING = Group(
    "paging",
    "How the next page is asked for.",
    (
        Text("type", "The way of the API.", choices=("page", "offset", "cursor", "next_url", "link_header")),
        Text("param", "Query parameter that carries the page, the offset or the cursor."),
        Text("size_param", "Query parameter that carries the size of a page."),
        Whole("size", "Rows of a page.", least=1, most=100_000),
        Whole("first", "Number of the first page; 1 when missing.", least=0, most=1),
        Text("path", "Where in the answer the next cursor or URL stands, as in meta.next."),
    ),
    frozenset({"type"}),
)
_HTTP_URL = r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?"

SOURCES: Final = (
    _database("postgresql", "postgres", fields=(_SCHEMA, _SSLMODE), has_tables=True),
    _database("mysql", "mariadb", has_tables=True),
    Kind(
        "sqlite",
        (),
        (_PATH,),
        frozenset({"path"}),
        rf"sqlite://({_PATH.pattern})",
        ("path",),
        "sqlite:///folder/file.db",
        has_tables=True,
    ),
    *_FILE_PLACES,
    Kind(
        "rest",
        ("http", "https"),
        (
            _CONN,
            Text(
                "url",
                "Address of the list; without credentials.",
                pattern=_HTTP_URL,
                has_templates=True,
                says="Write a URL that begins with https://, without credentials in it.",
            ),
            Texts("headers", "Headers of each request."),
            Texts("params", "Query parameters of each request.", has_templates=True),
            Text("token", "Sent as `Authorization: Bearer`; better kept in an Airflow Connection."),
            Text("data_path", "Where in the answer the rows stand, as in data.items."),
            _PAGING,
        ),
        frozenset({"url"}),
        rf"({_HTTP_URL})",
        ("url",),
        "https://host/items",
    ),
)

TARGETS: Final = (
    *_FILE_PLACES,
    _database("postgresql", "postgres", fields=(_SCHEMA, _SSLMODE), can_merge=True),
    Kind(
        "duckdb",
        (),
        (_PATH, _SCHEMA),
        frozenset({"path"}),
        rf"duckdb://({_PATH.pattern})",
        ("path",),
        "duckdb:///folder/file.duckdb",
        can_merge=True,
    ),
    Kind(
        "delta",
        (),
        (
            _CONN,
            Text(
                "url",
                "Where the tables are: s3://bucket/path/ or file:///folder/.",
                pattern=r"(?:s3a?://[A-Za-z0-9][A-Za-z0-9_.\-]{1,221}(?:/[^\s]*)?|file:///[^\s]+)",
                says="Write s3://bucket/path/ or file:///folder/.",
            ),
            *_S3_FIELDS,
        ),
        frozenset({"url"}),
        r"delta\+((?:s3a?://[A-Za-z0-9][A-Za-z0-9_.\-]{1,221}(?:/[^\s]*)?|file:///[^\s]+))",
        ("url",),
        "delta+s3://bucket/path/",
        can_merge=True,
    ),
)
