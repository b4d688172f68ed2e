"""Words that the columns of a table and the fields of an answer share."""

from enum import StrEnum


class RecordStatus(StrEnum):
    """What Airflow does with a data record."""

    ACTIVE = "active"  # scheduled
    INACTIVE = "inactive"  # kept, not scheduled
    PENDING = "pending"  # a draft, not scheduled
    COMPLETED = "completed"  # finished for good, not scheduled


class Visibility(StrEnum):
    """Who may see a data record, beside its owner and those it was shared with."""

    PUBLIC = "public"  # everybody; without signing in, a summary
    INTERNAL = "internal"  # everybody who is signed in
    PRIVATE = "private"  # nobody else


class Permission(StrEnum):
    """What somebody may do with a record that was shared with them."""

    READ = "read"  # see it and its runs
    WRITE = "write"  # change and run it as well


class Role(StrEnum):
    """What an account may do."""

    VIEWER = "viewer"  # reads
    EDITOR = "editor"  # creates records, and changes its own
    ADMIN = "admin"  # everything; the same as a superuser


class Scope(StrEnum):
    """What a personal access token may do of all that its owner may."""

    DATA_READ = "data:read"  # records, runs, logs, the calendar
    DATA_WRITE = "data:write"  # create, change, share and delete records
    RUNS_WRITE = "runs:write"  # start and end runs and backfills


class ChangeKind(StrEnum):
    """Why a revision of a data record exists."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class Environment(StrEnum):
    """Where the service runs: `production` refuses every unsafe default."""

    DEV = "dev"
    TEST = "test"
    PRODUCTION = "production"


class LogFormat(StrEnum):
    """How log lines are written; `auto` is JSON except on a terminal."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"
