"""Words that the columns of a table and the fields of an answer share."""

from enum import StrEnum


class RecordStatus(StrEnum):
    """What Airflow does with a data record."""

    ACTIVE = "active"  # scheduled
    INACTIVE = "inactive"  # kept, not scheduled
    PENDING = "pending"  # a draft, not scheduled
    COMPLETED = "completed"  # finished for good, not scheduled


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
