"""What schemathesis has to be told about this API: who calls, and values that no JSON Schema can describe.

The command line of schemathesis loads this file (see schemathesis.toml). It runs against a database of its own whose
first account is USERNAME with PASSWORD; SCHEMATHESIS_SIGN_IN=1 in the environment signs it in.
"""

import base64
import hashlib
import os
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import schemathesis
from pydantic import TypeAdapter

from pyapi.schemas.problem_schemas import ProblemDocument, ValidationProblemDocument
from pyapi.utils.auth import password_weakness

USERNAME, PASSWORD = "explorer", "correct horse battery staple"
OWN_ID = 1
LEAKS = (b"Traceback", b"sqlalchemy", b"asyncpg", b"pydantic", b"SELECT ", b"INSERT ", b"UPDATE ")

_tokens: set[str] = set()


def url(case: schemathesis.Case, path: str) -> str:
    return f"{case.operation.schema.get_base_url().rstrip('/')}{path}"


def post(case: schemathesis.Case, path: str, body: dict[str, str]) -> dict[str, Any]:
    answer = httpx.post(url(case, path), json=body).raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


def log_in(case: schemathesis.Case, username: str = USERNAME) -> dict[str, Any]:
    return post(case, "/api/auth/login", {"username": username, "password": PASSWORD})


if os.environ.get("SCHEMATHESIS_SIGN_IN"):

    # Each operation has a session of its own: one that ends it does not make the others sign in again.
    @schemathesis.auth(cache_by_key=lambda case, context: context.operation.label)
    class SignedIn:
        """Signs in, and again whenever an answer is 401: the run ends its own sessions all the time."""

        def get(self, case: schemathesis.Case, _: schemathesis.AuthContext) -> str:
            header = f"Bearer {log_in(case)['access_token']}"
            _tokens.add(header)
            return header

        def set(self, case: schemathesis.Case, data: str, _: schemathesis.AuthContext) -> None:
            case.headers["Authorization"] = data


def is_signed_in(case: schemathesis.Case) -> bool:
    """Whether the case carries a token of ours: some probe what happens without one, or with a forged one."""
    return case.headers.get("Authorization") in _tokens


def strong(password: str) -> str:
    """`password`, or one of the same length when that is too easy to guess."""
    if password_weakness(password) is None:
        return password
    digest = base64.b85encode(hashlib.shake_256(password.encode()).digest(128)).decode()
    return digest[: len(password)]


def storable(value: Any) -> Any:
    """The same JSON without NUL. A schema could say it, but only as a recursive one, a burden for every client."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return value


def register(case: schemathesis.Case) -> None:
    case.body["password"] = strong(case.body["password"])


def login(case: schemathesis.Case) -> None:
    case.body |= {"username": USERNAME, "password": PASSWORD}


def refresh(case: schemathesis.Case) -> None:
    case.body["refresh_token"] = log_in(case)["refresh_token"]


def logout(case: schemathesis.Case) -> None:
    """People may end their own sessions only."""
    if isinstance(case.body, dict) and case.body.get("refresh_token"):
        case.body["refresh_token"] = log_in(case)["refresh_token"]


def update_me(case: schemathesis.Case) -> None:
    if "email" in case.body:
        case.body["current_password"] = PASSWORD


def change_password(case: schemathesis.Case) -> None:
    """Let somebody else change theirs: the run needs its account."""
    if is_signed_in(case):
        name = f"u-{uuid.uuid4().hex}"
        post(case, "/api/auth/register", {"username": name, "email": f"{name}@example.com", "password": PASSWORD})
        case.headers["Authorization"] = f"Bearer {log_in(case, name)['access_token']}"
        case.body |= {"current_password": PASSWORD, "new_password": strong(case.body["new_password"])}


def list_data(case: schemathesis.Case) -> None:
    """A cursor is what the page before answered, for the same order, and it replaces `skip`."""
    if case.query.get("cursor") is not None:
        order = {"order_by": case.query["order_by"]} if case.query.get("order_by") else {}
        page = httpx.get(url(case, "/api/data/"), params={**order, "limit": 1}).raise_for_status().json()
        case.query.pop("skip", None)
        case.query["cursor"] = page["next_cursor"]


def store_json(case: schemathesis.Case) -> None:
    case.body = storable(case.body)


POSITIVE: dict[str, Callable[[schemathesis.Case], None]] = {
    "register": register,
    "login": login,
    "refresh": refresh,
    "logout": logout,
    "update_me": update_me,
    "change_password": change_password,
    "list_data": list_data,
    "create_data": store_json,
    "update_data": store_json,
    "patch_data": store_json,
}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Make a request that is valid by its schema valid by the rules as well."""
    operation = case.operation.definition.raw["operationId"]
    if case.meta is not None and case.meta.generation.mode.is_positive and operation in POSITIVE:
        POSITIVE[operation](case)
    if operation == "update_user" and case.path_parameters.get("user_id") == OWN_ID:
        case.path_parameters["user_id"] = OWN_ID + 1  # or the run would end its own account


@schemathesis.check
def every_error_is_a_problem_document(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Also those that are in no OpenAPI document: unknown methods, paths that no route has."""
    [request_id] = response.headers["x-request-id"]
    if response.status_code >= 400:
        model = ValidationProblemDocument if response.status_code == 422 else ProblemDocument
        document = TypeAdapter(model).validate_json(response.content, strict=True)
        assert (document.status, document.request_id) == (response.status_code, request_id)
        assert response.headers["content-type"] == ["application/problem+json"]
        assert not any(word in response.content for word in LEAKS)
