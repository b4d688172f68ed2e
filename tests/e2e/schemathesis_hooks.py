"""What schemathesis has to be told about this API: who calls, and values that no JSON Schema can describe.

The command line of schemathesis loads this file (see schemathesis.toml). It runs against a database of its own whose
first account is USERNAME with PASSWORD; SCHEMATHESIS_SIGN_IN=1 in the environment signs it in.
"""

import base64
import hashlib
import os
import uuid
from collections.abc import Callable
from typing import Any, TypeAlias

import httpx
import schemathesis
from pydantic import TypeAdapter

from pyapi.dag_conventions import RESERVED_CONF
from pyapi.etl.jobs import parse_job
from pyapi.schemas.fields import MAX_NUMBER
from pyapi.schemas.problem_schemas import ProblemDocument, ValidationProblemDocument
from pyapi.utils.auth import password_weakness

Case: TypeAlias = schemathesis.Case[Any]

OWN_ID, USERNAME, PASSWORD = 1, "explorer", "correct horse battery staple"
LEAKS = (b"Traceback", b"sqlalchemy", b"asyncpg", b"pydantic", b"SELECT ", b"INSERT ", b"UPDATE ")

_http = httpx.Client(trust_env=False)
_tokens: set[str] = set()


def call(case: Case, method: str, path: str, **request: Any) -> dict[str, Any]:
    answer = _http.request(method, f"{case.operation.schema.get_base_url().rstrip('/')}{path}", **request)
    document: dict[str, Any] = answer.raise_for_status().json()
    return document


def log_in(case: Case, username: str = USERNAME) -> dict[str, Any]:
    return call(case, "POST", "/api/auth/login", json={"username": username, "password": PASSWORD})


if os.environ.get("SCHEMATHESIS_SIGN_IN"):

    # Each operation has a session of its own: one that ends it does not make the others sign in again.
    @schemathesis.auth(cache_by_key=lambda case, context: context.operation.label)
    class SignedIn:
        """Signs in, and again whenever an answer is 401: the run ends its own sessions all the time."""

        def get(self, case: Case, _: schemathesis.AuthContext) -> str:
            header = f"Bearer {log_in(case)['access_token']}"
            _tokens.add(header)
            return header

        def set(self, case: Case, data: str, _: schemathesis.AuthContext) -> None:
            case.headers["Authorization"] = data


def is_signed_in(case: Case) -> bool:
    """Whether the case carries a token of ours: some probe what happens without one, or with a forged one."""
    return case.headers.get("Authorization") in _tokens


def strong(password: str, *of_its_owner: str) -> str:
    """`password`, or one of the same length when that is too easy to guess."""
    if password_weakness(password, user_inputs=of_its_owner) is None:
        return password
    digest = base64.b85encode(hashlib.shake_256(password.encode()).digest(128)).decode()
    return digest[: len(password)]


def storable(value: Any) -> Any:
    """The same JSON without NUL and without the largest numbers.

    A schema could say it, but only a recursive one, which would make every generated client worse.
    """
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, int | float) and abs(value) >= MAX_NUMBER:
        return 0
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return value


def register(_: Case, body: dict[str, Any]) -> None:
    body["password"] = strong(body["password"], body["username"], body["email"], body.get("full_name") or "")


def login(_: Case, body: dict[str, Any]) -> None:
    body |= {"username": USERNAME, "password": PASSWORD}


def refresh(case: Case, body: dict[str, Any]) -> None:
    body["refresh_token"] = log_in(case)["refresh_token"]


def logout(case: Case, body: dict[str, Any]) -> None:
    """People may end their own sessions only."""
    if body.get("refresh_token"):
        body["refresh_token"] = log_in(case)["refresh_token"]


def update_me(_: Case, body: dict[str, Any]) -> None:
    if "email" in body:
        body["current_password"] = PASSWORD


def open_account(case: Case) -> str:
    """The name of somebody new."""
    name = f"u-{uuid.uuid4().hex}"
    account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    call(case, "POST", "/api/auth/register", json=account)
    return name


def call_as_newcomer(case: Case) -> dict[str, str]:
    """Let somebody else make the call; the headers to call with beforehand."""
    headers = {"Authorization": f"Bearer {log_in(case, open_account(case))['access_token']}"}
    case.headers.update(headers)
    return headers


def change_password(case: Case, body: dict[str, Any]) -> None:
    """Let somebody else change theirs: the run needs its account."""
    if is_signed_in(case):
        call_as_newcomer(case)
        body |= {"current_password": PASSWORD, "new_password": strong(body["new_password"], PASSWORD)}


def end_session(case: Case, _: dict[str, Any]) -> None:
    """One of the caller's own that nobody else needs."""
    if is_signed_in(case):
        headers = {"Authorization": f"Bearer {log_in(case)['access_token']}"}
        sessions = call(case, "GET", "/api/auth/sessions", headers=headers)["data"]
        case.path_parameters["session_id"] = next(one["id"] for one in sessions if one["is_current"])


def create_token(case: Case, body: dict[str, Any]) -> None:
    """Nobody may have more than fifty."""
    if is_signed_in(case):
        call_as_newcomer(case)
        body["current_password"] = PASSWORD


def revoke_token(case: Case, _: dict[str, Any]) -> None:
    """People may revoke their own only."""
    if is_signed_in(case):
        headers = call_as_newcomer(case)
        body = {"name": "x", "scopes": ["data:read"], "current_password": PASSWORD}
        case.path_parameters["token_id"] = call(case, "POST", "/api/auth/tokens", json=body, headers=headers)["id"]


def update_user(_: Case, body: dict[str, Any]) -> None:
    """The role says the same, or the opposite."""
    if "role" in body:
        body.pop("is_superuser", None)


def reach_access(case: Case, body: dict[str, Any]) -> None:
    """Of a record of the caller; each grant is for somebody else."""
    if is_signed_in(case):
        headers = {"Authorization": case.headers["Authorization"]}
        case.path_parameters["data_id"] = call(case, "POST", "/api/data/", json={"name": "x"}, headers=headers)["id"]
        for grant in body.get("grants", ()):
            grant["username"] = open_account(case)


def write_data(_: Case, body: dict[str, Any]) -> None:
    if body.get("config"):
        body["config"] = config = storable(body["config"])
        if parse_job(config)[1]:
            del config["target"]  # what a source and a target are is in a schema of its own, /api/etl/schema


def start_run(_: Case, body: dict[str, Any]) -> None:
    if body.get("conf"):
        body["conf"] = storable(body["conf"])
        body["conf"].pop(RESERVED_CONF, None)


def first_page(case: Case, _: dict[str, Any]) -> None:
    """A cursor is what the page before has answered, and here there is none before."""
    case.query.pop("cursor", None)


def list_data(case: Case, _: dict[str, Any]) -> None:
    """A cursor is what the page before answered, for the same order, and it replaces `skip`."""
    if case.query.get("cursor") is not None:
        order = {"order_by": case.query["order_by"]} if case.query.get("order_by") else {}
        case.query["cursor"] = call(case, "GET", "/api/data/", params={**order, "limit": 1})["next_cursor"]
        case.query.pop("skip", None)


POSITIVE: dict[str, Callable[[Case, dict[str, Any]], None]] = {
    "register": register,
    "login": login,
    "refresh": refresh,
    "logout": logout,
    "update_me": update_me,
    "change_password": change_password,
    "end_session": end_session,
    "create_token": create_token,
    "revoke_token": revoke_token,
    "update_user": update_user,
    "get_access": reach_access,
    "set_access": reach_access,
    "create_data": write_data,
    "validate_data": write_data,
    "update_data": write_data,
    "patch_data": write_data,
    "list_data": list_data,
    "start_run": start_run,
    "list_runs": first_page,
    "list_all_runs": first_page,
    "list_audit": first_page,
    "get_data_history": first_page,
}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Let a request that is valid by its schema be valid by the rules as well."""
    operation = case.operation.definition.raw["operationId"]
    if case.meta is not None and case.meta.generation.mode.is_positive and operation in POSITIVE:
        POSITIVE[operation](case, case.body if isinstance(case.body, dict) else {})
    if operation == "update_user" and case.path_parameters.get("user_id") == OWN_ID:
        case.path_parameters["user_id"] = OWN_ID + 1  # or the run would end its own account


@schemathesis.check
def every_error_is_a_problem_document(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """Also those that are in no OpenAPI document: unknown methods, paths that no route has."""
    [request_id] = response.headers["x-request-id"]
    if response.status_code >= 400:
        model = ValidationProblemDocument if response.status_code == 422 else ProblemDocument
        document = TypeAdapter(model).validate_json(response.content, strict=True)
        assert (document.status, document.request_id) == (response.status_code, request_id)
        assert response.headers["content-type"] == ["application/problem+json"]
        assert not any(word in response.content for word in LEAKS)
