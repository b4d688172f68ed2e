"""What /api/openapi.json promises, so that clients can be made from it."""

import re
from typing import Any

import pytest

from pyapi.settings import Settings
from pyapi.web.application import get_app

DOCUMENT = get_app(Settings(_env_file=None)).openapi()
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


@pytest.mark.parametrize(("method", "path", "operation"), ALL)
def test_operation_ids_are_names_of_functions(method: str, path: str, operation: Operation) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])


def test_tags_are_in_both_languages() -> None:
    assert {tag["name"] for tag in DOCUMENT["tags"]} == {"認證 Authentication", "資料管理 Data", "系統監控 Monitoring"}


@pytest.mark.parametrize(("method", "path", "operation"), ALL)
def test_every_operation_has_one_of_the_tags(method: str, path: str, operation: Operation) -> None:
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}


def expected_problems(method: str, path: str, operation: Operation) -> set[str]:
    """The statuses that follow from what a route is: what it takes, who may call it, what it needs."""
    expected = set()
    if "requestBody" in operation:
        expected |= {"400", "413", "415"}
    if "requestBody" in operation or "parameters" in operation:
        expected.add("422")
    if "security" in operation:
        expected.add("401")
    if "{" in path:
        expected.add("404")
    if "/auth/users" in path or ("{data_id}" in path and method != "get"):
        expected.add("403")
    if path.startswith(("/api/auth", "/api/data")) or path in {"/api/health", "/api/health/ready"}:
        expected.add("503")
    return expected


@pytest.mark.parametrize(("method", "path", "operation"), ALL)
def test_every_status_is_documented(method: str, path: str, operation: Operation) -> None:
    assert expected_problems(method, path, operation) <= set(operation["responses"])


@pytest.mark.parametrize(("method", "path", "operation"), ALL)
def test_failures_are_problem_documents(method: str, path: str, operation: Operation) -> None:
    kinds = {
        media_type
        for status, response in operation["responses"].items()
        for media_type in response.get("content", {})
        # The health routes answer the state of the components with a 503 as well.
        if status >= "400" and "/health" not in path
    }
    assert kinds <= {"application/problem+json"}


def example(operation: Operation) -> str:
    reference = operation["requestBody"]["content"]["application/json"]["schema"]
    # An optional body is "this or nothing".
    reference = next((part for part in reference.get("anyOf", ()) if "$ref" in part), reference)
    schema = DOCUMENT["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
    return str(schema["examples"])


@pytest.mark.parametrize(("method", "path", "operation"), WITH_BODY)
def test_every_write_has_an_example(method: str, path: str, operation: Operation) -> None:
    assert example(operation)


@pytest.mark.parametrize("operation_id", ["register", "update_me", "update_user", "create_data", "update_data"])
def test_examples_with_names_are_chinese(operation_id: str) -> None:
    operation = next(found for _, _, found in OPERATIONS if found["operationId"] == operation_id)
    assert HAN.search(example(operation))


@pytest.mark.parametrize("path", ["/api/data/", "/api/data/{data_id}"])
def test_signing_in_to_read_records_is_optional(path: str) -> None:
    assert DOCUMENT["paths"][path]["get"]["security"] == [{"OAuth2PasswordBearer": []}, {}]
