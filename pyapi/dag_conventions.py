"""What PyAPI and the reader kit agree on about the DAG of a record; the kit's wheel takes this file in."""

import re
from typing import Any, Final

TAG: Final = "pyapi"
INVALID_TAG: Final = "pyapi-invalid"
"""Of a DAG without schedule, because the record cannot be read as a rule."""

RESERVED_CONF: Final = "pyapi"
"""The key in the `conf` of a run with which PyAPI tells the reader kit what it wants."""

CHECK_CONF: Final[dict[str, Any]] = {RESERVED_CONF: {"check": True}}
"""Of a run that looks whether a record could move what it says, and does nothing."""

_LAST = 2**31 - 1
"""The last id and revision that the database can hold; only a DAG of somebody else says more."""

_DAG_ID = re.compile(r"pyapi_([1-9][0-9]{0,9})")
_REVISION = re.compile(r"(?:^| · )revision ([0-9]{1,10})$")
_LONGEST_DESCRIPTION = 180


def dag_id_of(record_id: int) -> str:
    """The id of a record's DAG: it stays when the record gets another name."""
    return f"pyapi_{record_id}"


def record_id_of(dag_id: str) -> int | None:
    """The record that a DAG is made of; None for a DAG of somebody else."""
    found = _DAG_ID.fullmatch(dag_id)
    return int(found[1]) if found and int(found[1]) <= _LAST else None


def describe_dag(description: str, *, revision: int) -> str:
    """The description of a DAG. Its end says which revision Airflow has: lists of DAGs show nothing else of it."""
    words = [description[:_LONGEST_DESCRIPTION].strip(), f"revision {revision}"]
    return " · ".join(word for word in words if word)


def revision_in(description: str | None) -> int | None:
    """The revision that `describe_dag` has written down."""
    found = _REVISION.search(description or "")
    return int(found[1]) if found and int(found[1]) <= _LAST else None


def only_looks(conf: object) -> bool:
    """Whether the run with this `conf` moves nothing: see CHECK_CONF."""
    asked = conf.get(RESERVED_CONF) if isinstance(conf, dict) else None
    return isinstance(asked, dict) and asked.get("check") is True
