"""A route that has a plan answers what FastAPI answers; FastAPI answers what has none."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from pyapi.web.api.router import ROUTERS
from pyapi.web.plans import Plan, PlannedRoutes, Unplannable, plan_of
from pyapi.web.problems import install_problem_handlers
from pyapi.web.requests import StrictRoute

router = APIRouter(route_class=StrictRoute)
happened: list[str] = []


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(10, ge=1)
    word: str | None = None


class Body(BaseModel):
    name: str = Field(max_length=3)


async def shared(request: Request, response: Response) -> str:
    happened.append("shared")
    response.headers["X-Shared"] = request.method
    return "shared"


Shared = Annotated[str, Depends(shared)]


async def opened(_: Shared) -> AsyncIterator[str]:
    yield "opened"
    happened.append("closed")


async def short(size: Annotated[int, Query(le=5)] = 1) -> int:
    happened.append("short")
    return size


@router.get("/one/{number}")
async def one(number: Annotated[int, Path(ge=1)], first: Shared, size: Annotated[int, Depends(short)]) -> list[int]:
    return [number, size, len(first)]


@router.get("/wanted")
async def wanted(params: Annotated[Wanted, Query()]) -> Wanted:
    return params


@router.get("/opened")
async def both(
    again: Shared, found: Annotated[str, Depends(opened, scope="function")], x_word: Annotated[str, Header()] = "none"
) -> str:
    happened.append("called")
    return f"{again} {found} {x_word}"


@router.post("/body", status_code=201)
async def body(sent: Body, response: Response, dry_run: bool = False) -> Body:
    if dry_run:
        response.status_code = 200
    response.headers["X-Name"] = sent.name
    return sent


@router.delete("/nothing", status_code=204)
async def nothing() -> None:
    return None


@router.get("/response")
async def own(_: Shared) -> Response:
    return Response("text", status_code=202, media_type="text/plain")


@router.get("/later")
async def later(tasks: BackgroundTasks) -> str:
    tasks.add_task(happened.append, "later")
    return "later"


def application(*, planned: bool) -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(router, prefix="/api")
    if planned:
        routes = [route for route in router.routes if isinstance(route, APIRoute)]
        app.router.middleware_stack = PlannedRoutes(
            app.router.middleware_stack, routes, prefix="/api", handlers=app.exception_handlers
        )
    return app


CASES: dict[str, tuple[str, str, object]] = {
    "path": ("GET", "/api/one/7", None),
    "path and query": ("GET", "/api/one/7?size=3", None),
    "a parameter twice": ("GET", "/api/one/7?size=3&size=4", None),
    "path that is no number": ("GET", "/api/one/x", None),
    "path and query that are wrong": ("GET", "/api/one/0?size=9", None),
    "parameter that nobody knows": ("GET", "/api/one/7?sise=3", None),
    "defaults of a model": ("GET", "/api/wanted", None),
    "model": ("GET", "/api/wanted?limit=5&word=%E7%8E%8B", None),
    "empty text in a model": ("GET", "/api/wanted?word=", None),
    "model that is wrong": ("GET", "/api/wanted?limit=0", None),
    "unknown field of a model": ("GET", "/api/wanted?limits=1", None),
    "something to close": ("GET", "/api/opened", None),
    "header": ("GET", "/api/opened", {"X-Word": "a"}),
    "body": ("POST", "/api/body", b'{"name": "ab"}'),
    "body, another status": ("POST", "/api/body?dry_run=true", b'{"name": "ab"}'),
    "body that is wrong": ("POST", "/api/body?dry_run=perhaps", b'{"name": "abcd"}'),
    "body that is no JSON": ("POST", "/api/body", b"{"),
    "body that is no object": ("POST", "/api/body", b"[]"),
    "no body": ("POST", "/api/body", b""),
    "an answer of its own": ("GET", "/api/response", None),
    "what FastAPI answers": ("GET", "/api/later", None),
    "another method": ("DELETE", "/api/wanted", None),
    "nowhere": ("GET", "/api/nowhere", None),
    "outside": ("GET", "/one/7", None),
}
NO_CONTENT = ("DELETE", "/api/nothing", None)


async def ask(case: str, *, planned: bool) -> tuple[int, list[tuple[str, str]], object, list[str]]:
    """Status, headers, content, and what happened meanwhile."""
    happened.clear()
    method, path, sent = CASES[case]
    headers = sent if isinstance(sent, dict) else {"Content-Type": "application/json"} if sent is not None else {}
    transport = httpx.ASGITransport(application(planned=planned))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        content = sent if isinstance(sent, bytes) else None
        answer = await client.request(method, path, headers=headers, content=content)
    return answer.status_code, sorted(answer.headers.items()), answer.text, [*happened]


@pytest.mark.parametrize("case", CASES)
async def test_a_plan_answers_what_fastapi_answers(case: str) -> None:
    assert await ask(case, planned=True) == await ask(case, planned=False)


async def test_where_nothing_is_said_no_type_of_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI names one; there is no content that could have it (RFC 9110, 8.3)."""
    monkeypatch.setitem(CASES, "nothing", NO_CONTENT)
    assert await ask("nothing", planned=True) == (204, [], "", [])


async def test_a_dependency_runs_once_and_is_closed_before_the_answer() -> None:
    assert (await ask("something to close", planned=True))[-1] == ["shared", "called", "closed"]


def test_what_is_not_known_has_no_plan() -> None:
    (route,) = (route for route in router.routes if isinstance(route, APIRoute) and route.name == "later")
    with pytest.raises(Unplannable):
        Plan(route)


async def test_a_scheme_that_asks_for_a_token_is_asked() -> None:
    """Only those that say so themselves are passed by."""
    guarded = APIRouter(route_class=StrictRoute)

    @guarded.get("/guarded")
    async def get_guarded(_: Annotated[object, Depends(HTTPBearer())]) -> str:
        return "secret"

    app = FastAPI()
    routes = [route for route in guarded.routes if isinstance(route, APIRoute)]
    app.router.middleware_stack = PlannedRoutes(
        app.router.middleware_stack, routes, prefix="", handlers=app.exception_handlers
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/guarded")).status_code == 401


def test_nearly_all_routes_have_a_plan() -> None:
    """A new one without a plan is slow: it has to be meant."""
    routes = [route for each in ROUTERS for route in each.routes if isinstance(route, APIRoute)]
    assert {route.path for route in routes if plan_of(route) is None} == {
        "/data/{data_id}/runs/{run_id}/logs",  # sent bit by bit
        *("/health", "/health/live", "/health/ready", "/version"),
    }
