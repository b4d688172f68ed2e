"""The rules of the house that a linter can hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pyapi"
ROUTES = sorted((PACKAGE / "web" / "api").glob("*.py"))
LONGEST_HANDLER = 10


def test_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_one_module_commits() -> None:
    committing = [
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if ".commit(" in path.read_text()
    ]
    assert committing == ["db/dependencies.py"]


def names_http_exception(path: Path) -> bool:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return "HTTPException" in imported or any(
        isinstance(node, ast.Attribute) and node.attr == "HTTPException" for node in nodes
    )


def test_only_the_renderer_of_problems_knows_the_exception_of_the_framework() -> None:
    knowing = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if names_http_exception(path)]
    assert knowing == ["web/problems.py"]


def handlers() -> list[tuple[str, ast.AsyncFunctionDef]]:
    return [
        (f"{path.stem}.{node.name}", node)
        for path in ROUTES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list
    ]


@pytest.mark.parametrize("handler", [pytest.param(node, id=name) for name, node in handlers()])
def test_a_handler_only_parses_delegates_and_returns(handler: ast.AsyncFunctionDef) -> None:
    assert (handler.end_lineno or 0) - handler.body[0].lineno < LONGEST_HANDLER
