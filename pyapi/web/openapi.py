"""The OpenAPI document: words for people, and the corrections FastAPI cannot be told otherwise."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from pyapi.exceptions import BadRequest, PayloadTooLarge, UnsupportedMediaType, ValidationFailed
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
    {"name": "系統監控 Monitoring", "description": "服務的狀態。How the service is."},
]

# Models that routes use without FastAPI knowing: it reads these bodies and problems through code of ours.
_MODELS = (LoginRequest, LoginForm, ProblemDocument, ValidationProblemDocument)
_TEMPLATE = "#/components/schemas/{model}"


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
            _drop_unused(document["components"]["schemas"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document_bad_requests(operation: dict[str, Any]) -> None:
    """What reading a request can end in is the same everywhere, so it is not said beside each route."""
    if "requestBody" in operation:
        found = problem_responses([BadRequest, PayloadTooLarge, UnsupportedMediaType, ValidationFailed])
    elif "parameters" in operation:
        found = problem_responses([ValidationFailed])
    else:
        found = {}
    operation["responses"].update({str(status): response for status, response in found.items()})


def _drop_unused(schemas: dict[str, Any]) -> None:
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
