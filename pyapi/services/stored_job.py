"""What stands against the job of a record: the same for a config that is sent and for one that is stored."""

from itertools import islice
from typing import Any, Final

from pyapi.etl.jobs import errors_in
from pyapi.exceptions import FieldError
from pyapi.utils.pointers import escape
from pyapi.utils.sealing import Sealer, tokens_in

MOST_ERRORS: Final = 32
"""An object of a mebibyte may have a hundred thousand fields that nobody knows."""


def job_errors(config: object) -> list[FieldError]:
    """What stands against what `config` moves; secrets are readable in it, but for those that no key opens.

    What cannot be read is not judged: it was right when it was written.
    """
    errors = errors_in(config)
    if not errors:
        return []
    unread = ["".join(f"/{escape(str(part))}" for part in path) for path in tokens_in(config)]
    judged = (error for error in errors if not any(_overlap(error.pointer, pointer) for pointer in unread))
    return list(islice(judged, MOST_ERRORS))


def stored_job_errors(config: Any, sealer: Sealer) -> list[FieldError]:
    """The same for a config as it is stored."""
    return job_errors(sealer.open(config).value)


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
