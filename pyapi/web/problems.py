"""Renders every failure as a problem document (RFC 9457), and says in OpenAPI which ones a route can answer."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from pyapi.exceptions import FieldError, Problem, ValidationFailed
from pyapi.schemas.problem_schemas import ProblemDocument, ValidationProblemDocument
from pyapi.utils.pointers import escape

MEDIA_TYPE = "application/problem+json"

# What the schemas say in their own words arrives as these types of pydantic; the prefix is pydantic's.
_OWN_WORDS = ("value_error", "Value error, ")

MOST_ERRORS = 32
"""As many reasons as an answer lists: somebody can send thousands of unknown names, and nobody reads as many."""

MORE_ERRORS = f"The request is not valid; 'errors' says what to change, and lists the first {MOST_ERRORS} reasons only."


class ProblemResponse(JSONResponse):
    """A problem document."""

    media_type = MEDIA_TYPE


def problem_response(request: Request, problem: Problem) -> ProblemResponse:
    """The answer for a failure of our own."""
    errors = problem.errors if isinstance(problem, ValidationFailed) else ()
    detail = problem.detail if len(errors) <= MOST_ERRORS else MORE_ERRORS
    shown = errors[:MOST_ERRORS]
    return _render(request, problem.status, problem.code, problem.title, detail, problem.headers, shown)


def _render(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[FieldError] = (),
) -> ProblemResponse:
    document: dict[str, Any] = {
        "type": f"urn:pyapi:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "request_id": getattr(request.state, "request_id", ""),
    }
    if errors:
        document["errors"] = [{"detail": error.detail, "pointer": error.pointer} for error in errors]
    return ProblemResponse(document, status_code=status, headers=dict(headers or {}))


async def _on_problem(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, Problem)
    return problem_response(request, error)


async def _on_invalid_request(request: Request, error: Exception) -> ProblemResponse:
    """FastAPI's own 422. Its text would repeat the input, passwords included, so ours is made from the reasons only."""
    assert isinstance(error, RequestValidationError)
    # One more than is shown: from it the answer knows that there are more.
    items = error.errors()[: MOST_ERRORS + 1]
    return problem_response(request, ValidationFailed([_field_error(item) for item in items]))


def _field_error(item: Mapping[str, Any]) -> FieldError:
    kind, location = item["type"], item["loc"]
    if kind == "json_invalid":
        return FieldError(f"The body is not JSON: {item['ctx']['error']}.", "/body")
    detail = str(item["msg"])
    if kind == "extra_forbidden":
        # The name of an unknown field is input too, and the pointer repeats it; it is needed to find the mistake.
        detail = "There is no such field: leave it out."
    elif kind == _OWN_WORDS[0]:
        detail = _sentence(detail.removeprefix(_OWN_WORDS[1]))
    return FieldError(detail, "".join(f"/{_escape(part)}" for part in location))


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _escape(part: object) -> str:
    """One step of a JSON pointer (RFC 6901, 3). A lone surrogate could not be sent, and length is kept sane."""
    text = str(part).encode("utf-8", "replace").decode()[:200]
    return escape(text)


async def _on_http_error(request: Request, error: Exception) -> ProblemResponse:
    """What the framework itself refuses: unknown paths, wrong methods, unreadable bodies."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    details = {404: "There is nothing at this address.", 405: "This address does not know that method; see 'Allow'."}
    detail = details.get(error.status_code, f"{phrase}.")
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return _render(request, error.status_code, code, phrase.capitalize(), detail, headers)


def _methods(request: Request) -> list[str]:
    """What this address knows. Starlette names only the methods of the first route that has the path."""
    routes = request.app.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def install_problem_handlers(app: FastAPI) -> None:
    """Let every failure that reaches the application leave it as a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)


def problem_responses(problems: Iterable[type[Problem]]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the failures of a route, for the `responses` of FastAPI."""
    documented: dict[int | str, dict[str, Any]] = {}
    for problem in problems:
        model = ValidationProblemDocument if problem.status == 422 else ProblemDocument
        names = documented.get(problem.status, {}).get("description")
        documented[problem.status] = {
            "description": f"{names}, or {problem.title.lower()}" if names else problem.title,
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}},
        }
    return documented
