"""Why a run could not move data. The texts are for a task's log, and name no credential."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 600
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
    # ADBC adds the whole query.
    text = " ".join(str(error).partition("\nQuery was: ")[0].split()) or type(error).__name__
    return _URL_ACCOUNT.sub("***@", text)[:_LONGEST]
