"""Writes down who was signed in and not allowed, whichever route it was."""

from functools import partial

from fastapi import FastAPI, Request, Response

from pyapi.db.audit_dao import AuditJournal
from pyapi.db.dependencies import database, transaction
from pyapi.db.engine import ANSWER_SECONDS
from pyapi.db.patience import Patience
from pyapi.exceptions import DatabaseUnavailable, PermissionDenied
from pyapi.services.audit_trail import Target
from pyapi.utils.dependencies import audit_trail
from pyapi.web.middleware import route_template
from pyapi.web.problems import problem_response

TARGETS = {"data_id": "record", "user_id": "user"}
_MOST_DIGITS = 10


def install_denial_record(app: FastAPI) -> None:
    """Let no 403 leave the application that is not in the audit log.

    Here and not in the services: what the transaction of the request had written is rolled back by now, and some
    routes refuse before they have one.
    """
    app.add_exception_handler(PermissionDenied, _on_denial)


async def _on_denial(request: Request, error: Exception) -> Response:
    assert isinstance(error, PermissionDenied)
    caller = getattr(request.state, "caller", None)
    if caller is None:  # a stranger could fill the log
        return problem_response(request, error)
    sessions = database(request).transactions
    journal = AuditJournal(partial(transaction, sessions, patience=Patience(ANSWER_SECONDS)))
    trail = audit_trail(request, journal, caller)
    try:
        await trail.record("access.denied", _target(request), route=_route(request))
    except DatabaseUnavailable as problem:
        return problem_response(request, problem)
    return problem_response(request, error)


def _route(request: Request) -> str:
    return f"{request.method} {route_template(request.scope)}"


def _target(request: Request) -> Target:
    """What the route is about; what stands in its place and is no id is not written down."""
    for name, kind in TARGETS.items():
        given = str(request.path_params.get(name, ""))
        if given.isascii() and given.isdigit() and len(given) <= _MOST_DIGITS:
            return Target(kind, given)
    return Target("route", _route(request))
