"""What both READMEs and `.env.example` say is what the code does."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from pyapi.settings import Settings, render_env_example, variable_name
from pyapi.web.application import get_app

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh-TW.md"))
READMES = [pytest.param(path, id=path.name) for path in (ENGLISH, CHINESE)]

ROUTE = re.compile(r"^\| `([A-Z]+)` \| `(/[^`]*)` \|", re.MULTILINE)
CODE = re.compile(r"^```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
SEED_VARIABLES = {
    "PYAPI_HOST",
    "PYAPI_PORT",
    "PYAPI_ENVIRONMENT",
    "PYAPI_LOG_LEVEL",
    "PYAPI_RELOAD",
    "PYAPI_WORKERS_COUNT",
    "PYAPI_ACCESS_TOKEN_EXPIRE_MINUTES",
    "PYAPI_REFRESH_TOKEN_EXPIRE_DAYS",
    "DATABASE_URL",
    "SECRET_KEY",
}
# Pages for people; they are not part of the OpenAPI document.
PAGES = {("GET", "/api/docs"), ("GET", "/api/redoc"), ("GET", "/api/openapi.json")}


def app() -> FastAPI:
    return get_app(Settings(_env_file=None))


@pytest.mark.parametrize("readme", READMES)
def test_the_route_tables_are_the_routes(readme: Path) -> None:
    documented = {
        (method.upper(), path) for path, operations in app().openapi()["paths"].items() for method in operations
    }
    assert set(ROUTE.findall(readme.read_text(encoding="utf-8"))) == documented | PAGES


def test_no_other_route_is_served() -> None:
    """What the OpenAPI document leaves out: the pages, what they load, and the records without the slash."""
    hidden = {
        (method, route.path)
        for route in iter_route_contexts(app().routes)
        if not route.include_in_schema
        for method in (route.methods or ())
        if method != "HEAD"
    }
    others = {("GET", "/api/static/{path:path}"), ("GET", "/api/data"), ("POST", "/api/data")}
    assert hidden == PAGES | others


def commands(readme: Path) -> list[str]:
    """The lines of all code blocks; comments are in the language of the page."""
    blocks = CODE.findall(readme.read_text(encoding="utf-8"))
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith(("#", "--"))]


def test_both_readmes_have_the_same_commands() -> None:
    assert commands(ENGLISH) == commands(CHINESE)


def headings(readme: Path) -> list[int]:
    text = CODE.sub("", readme.read_text(encoding="utf-8"))
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def test_both_readmes_have_the_same_chapters() -> None:
    assert headings(ENGLISH) == headings(CHINESE)


@pytest.mark.parametrize("readme", READMES)
def test_every_setting_is_explained(readme: Path) -> None:
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", readme.read_text(encoding="utf-8"), re.MULTILINE))
    assert {variable_name(field) for field in Settings.model_fields} <= explained


def test_every_variable_of_the_seed_exists() -> None:
    assert {variable_name(field) for field in Settings.model_fields} >= SEED_VARIABLES


def test_env_example_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == render_env_example()
