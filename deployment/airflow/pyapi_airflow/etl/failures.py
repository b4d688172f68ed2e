"""Why a run could not move data. The texts are for a task's log, and name no credential."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 600
_STATEMENT = re.compile(r"\[libpq\] Failed to execute query '.*': (?=\S+: )", re.DOTALL)
_URL_ACCOUNT = re.compile(r"(?<=://)[^\s/]*@")


class MoveFailed(Exception):
    """It did not work this time; another try may."""


class Refused(MoveFailed):
    """It will never work as it is; another try would only cost time."""


@contextmanager
def telling(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Say what was tried when one of `errors` comes: a driver's text alone does not tell."""
    try:
        yield
    except MoveFailed:
        raise
    except errors as error:
        raise MoveFailed(f"{what}: {shortly(error)}") from None


def shortly(error: BaseException) -> str:
    """What a driver says, on one line, without the account of a URL."""
    # Python adds the paths that it has tried, some of which nobody knows.
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    # ADBC adds the whole statement, and says why after it.
    said = _STATEMENT.sub("", said).partition("\nQuery was: ")[0]
    text = " ".join(said.split()) or type(error).__name__
    return _URL_ACCOUNT.sub("***@", text)[:_LONGEST]
