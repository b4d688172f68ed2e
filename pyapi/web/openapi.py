"""The OpenAPI document: words for people, and the corrections FastAPI cannot be told otherwise."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from pyapi.exceptions import (
    BadRequest,
    HeadersTooLarge,
    InsufficientScope,
    PayloadTooLarge,
    PermissionDenied,
    Problem,
    RequestTimeout,
    TransferCodingUnknown,
    UnsupportedMediaType,
    UriTooLong,
    ValidationFailed,
)
from pyapi.schedules.languages import LANGUAGES
from pyapi.schemas.auth_schemas import LoginForm, LoginRequest
from pyapi.schemas.problem_schemas import ProblemDocument, ValidationProblemDocument
from pyapi.web.problems import problem_responses

DESCRIPTION = (
    "The service where a data team keeps its ETL jobs, on the database of Apache Airflow.\n\n"
    "資料團隊管理 ETL 作業的服務，與 Apache Airflow 共用資料庫。\n\n"
    "Every failure is an `application/problem+json` document (RFC 9457)."
)
TAGS = [
    {"name": "認證 Authentication", "description": "帳號、登入與權杖。Accounts, logins and tokens."},
    {"name": "資料管理 Data", "description": "ETL 作業的定義。Definitions of ETL jobs."},
    {
        "name": "排程 Schedules",
        "description": "預覽排程，以及所有作業的行事曆。Previews, and the calendar of all jobs.",
    },
    {"name": "搬移 ETL", "description": "作業搬移什麼資料。What a job moves, and a check before it is saved."},
    {
        "name": "執行 Runs",
        "description": "Airflow 的執行、回填與連線。Runs and backfills in Airflow, and the link to it.",
    },
    {"name": "稽核 Audit", "description": "誰在何時做了什麼。Who did what, and when."},
    {"name": "系統監控 Monitoring", "description": "服務的狀態。How the service is."},
]

# Models that routes use without FastAPI knowing: it reads these bodies and problems through code of ours.
_MODELS = (LoginRequest, LoginForm, ProblemDocument, ValidationProblemDocument)
_TEMPLATE = "#/components/schemas/{model}"

_HEADERS: dict[str, dict[str, Any]] = {
    "Content-Language": {
        "description": "Language of the description and the notes.",
        "schema": {"enum": [language.replace("_", "-") for language in LANGUAGES]},
    },
    "Cache-Control": {"description": "Keep tokens out of caches.", "schema": {"const": "no-store"}},
    "ETag": {
        "description": "Names this revision; for `If-Match`. Callers who are not signed in get none.",
        "schema": {"type": "string", "pattern": '^"rev-[1-9][0-9]{0,9}"$'},
    },
    "Link": {"description": "The first, previous, next and last page (RFC 8288).", "schema": {"type": "string"}},
    "Location": {"description": "Address of the new record.", "schema": {"type": "string", "format": "uri-reference"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "How to sign in (RFC 6750).", "schema": {"type": "string"}},
}
_HEADERS_OF_PROBLEMS = {
    "401": ["WWW-Authenticate"],
    "403": ["WWW-Authenticate"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}
_HEADERS_OF_ANSWERS = {
    "login": ["Cache-Control"],
    "create_token": ["Cache-Control"],
    "refresh": ["Cache-Control"],
    "create_data": ["Location", "ETag", "Content-Language"],
    "list_data": ["Link", "Content-Language"],
    "get_data": ["ETag", "Content-Language"],
    "update_data": ["ETag", "Content-Language"],
    "patch_data": ["ETag", "Content-Language"],
    "preview_schedule": ["Content-Language"],
    "check_data": ["Location"],
    "validate_data": ["Content-Language"],
}


def install_openapi(app: FastAPI) -> None:
    """Let /api/openapi.json answer the corrected document, made once."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            _, definitions = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_TEMPLATE)
            document["components"]["schemas"].update(definitions["$defs"])
            for path in document["paths"].values():
                for operation in path.values():
                    _document_bad_requests(operation)
                    _document_scopes(operation)
                    _document_headers(operation)
            _drop_unused(document["components"]["schemas"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document_bad_requests(operation: dict[str, Any]) -> None:
    """What reading a request can end in is the same everywhere, so it is not said beside each route."""
    found: list[type[Problem]] = []
    if "requestBody" in operation:
        found += [BadRequest, RequestTimeout, PayloadTooLarge, UnsupportedMediaType, ValidationFailed]
        found += [TransferCodingUnknown]
    if "parameters" in operation:
        found += [UriTooLong, HeadersTooLarge]
        found += [] if ValidationFailed in found else [ValidationFailed]
    operation["responses"].update({str(status): response for status, response in problem_responses(found).items()})


def _document_scopes(operation: dict[str, Any]) -> None:
    """Wherever people sign in, somebody may come with a personal access token that was not made for this."""
    if operation.get("security"):
        denied = [PermissionDenied] if "403" in operation["responses"] else []
        found = problem_responses([*denied, InsufficientScope])
        operation["responses"].update({str(status): response for status, response in found.items()})


def _document_headers(operation: dict[str, Any]) -> None:
    answers = _HEADERS_OF_ANSWERS.get(operation["operationId"], [])
    for status, response in operation["responses"].items():
        names = answers if status.startswith("2") else _HEADERS_OF_PROBLEMS.get(status, [])
        if names:
            response["headers"] = {
                name: {**_HEADERS[name], "required": _is_always_sent(operation, name, status)} for name in names
            }


def _is_always_sent(operation: dict[str, Any], header: str, status: str) -> bool:
    """Summaries for those who do not sign in have no revision; with a 403 only programs get a challenge."""
    if status == "403":
        return False
    return header != "ETag" or {} not in operation.get("security", [])


def _drop_unused(schemas: dict[str, Any]) -> None:
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
