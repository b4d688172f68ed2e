"""What /api/openapi.json promises, so that clients can be made from it."""

import re
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from pyapi.settings import Settings
from pyapi.web.application import get_app

APP = get_app(Settings(_env_file=None))
DOCUMENT = APP.openapi()
Operation = dict[str, Any]
OPERATIONS: list[tuple[str, str, Operation]] = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
ALL = [pytest.param(method, path, operation, id=operation["operationId"]) for method, path, operation in OPERATIONS]
WITH_BODY = [case for case in ALL if "requestBody" in case.values[2]]  # type: ignore[operator]
HAN = re.compile("[\u4e00-\u9fff]")


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert sorted(ids) == sorted(set(ids))


def function_name(method: str, path: str) -> str:
    """The name of the function that serves an operation."""
    served = (
        getattr(route.endpoint, "__name__", "")
        for route in iter_route_contexts(APP.routes)
        if route.path_format == path and method.upper() in (route.methods or ())
    )
    return next(served)


@pytest.mark.parametrize(("method", "path", "operation"), ALL)
def test_operation_ids_are_names_of_functions(method: str, path: str, operation: Operation) -> None:
    assert operation["operationId"] == function_name(method, path)


def test_tags_are_in_both_languages() -> None:
    assert {tag["name"] for tag in DOCUMENT["tags"]} == {
        "認證 Authentication",
        "資料管理 Data",
        "排程 Schedules",
        "搬移 ETL",
        "執行 Runs",
        "稽核 Audit",
        "系統監控 Monitoring",
    }


@pytest.mark.parametrize(("method", "path", "operation"), ALL)
def test_every_operation_has_one_of_the_tags(method: str, path: str, operation: Operation) -> None:
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}


def expected_problems(method: str, path: str, operation: Operation) -> set[str]:
    """The statuses that follow from what a route is: what it takes, who may call it, what it needs."""
    expected = set()
    if "requestBody" in operation:
        expected |= {"400", "408", "413", "415", "501"}
    if "parameters" in operation:
        expected |= {"414", "431"}
    if "requestBody" in operation or "parameters" in operation:
        expected.add("422")
    if "security" in operation or operation["operationId"] in {"login", "refresh"}:
        expected.add("401")
    if "security" in operation:
        expected.add("403")  # at least for personal access tokens
    if operation["operationId"] in {"register", "update_me", "update_user", "create_token"}:
        expected.add("409")
    if operation["operationId"] in {"register", "login", "update_me", "change_password", "create_token"}:
        expected.add("429")
    if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ())):
        expected |= {"400", "412"}
    if "{" in path:
        expected.add("404")
    if path.startswith(("/api/auth", "/api/data", "/api/runs", "/api/airflow", "/api/audit")) or path in {
        "/api/health",
        "/api/health/ready",
    }:
        expected.add("503")
    return expected


@pytest.mark.parametrize(("method", "path", "operation"), ALL)
def test_every_status_is_documented(method: str, path: str, operation: Operation) -> None:
    assert expected_problems(method, path, operation) <= set(operation["responses"])


# The health routes answer the state of the components with a 503 as well.
NO_HEALTH = [case for case in ALL if "/health" not in str(case.values[1])]


@pytest.mark.parametrize(("method", "path", "operation"), NO_HEALTH)
def test_failures_are_problem_documents(method: str, path: str, operation: Operation) -> None:
    failures = [set(response["content"]) for status, response in operation["responses"].items() if status >= "400"]
    assert failures == [{"application/problem+json"}] * len(failures)


def example(operation: Operation) -> str:
    reference = operation["requestBody"]["content"]["application/json"]["schema"]
    # An optional body is "this or nothing".
    reference = next((part for part in reference.get("anyOf", ()) if "$ref" in part), reference)
    schema = DOCUMENT["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
    return str(schema["examples"])


@pytest.mark.parametrize(("method", "path", "operation"), WITH_BODY)
def test_every_write_has_an_example(method: str, path: str, operation: Operation) -> None:
    assert example(operation)


@pytest.mark.parametrize(
    "operation_id", ["register", "update_me", "update_user", "create_data", "update_data", "create_token"]
)
def test_examples_with_names_are_chinese(operation_id: str) -> None:
    operation = next(found for _, _, found in OPERATIONS if found["operationId"] == operation_id)
    assert HAN.search(example(operation))


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{data_id}"])
def test_signing_in_to_read_records_is_optional(path: str) -> None:
    ways = [{}, {"OAuth2PasswordBearer": []}, {"PersonalAccessToken": ["data:read"]}]
    assert sorted(DOCUMENT["paths"][path]["get"]["security"], key=str) == sorted(ways, key=str)
