"""Answers requests by plans: what FastAPI finds out for each request about a route is found out once.

FastAPI describes the routes (OpenAPI, types, dependencies) and answers those that have no plan. A plan does what its
`solve_dependencies` and `get_request_handler` do, in the same order and with the same validators, for the kinds of
parameters and dependencies that this service has; for anything else there is none.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import PydanticUndefined
from starlette.routing import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send

from pyapi.web.requests import JSON, StrictRequest, known_parameters, refuse_unknown, require_json


class Unplannable(Exception):
    """The route has something of which plans know nothing."""


@dataclass(slots=True)
class _Run:
    """One request on its way through a plan; `response` collects what dependencies say in headers."""

    request: Request
    response: Response
    stack: AsyncExitStack
    body: Any = PydanticUndefined
    solved: dict[Any, Any] = field(default_factory=dict)
    errors: list[Any] = field(default_factory=list)


class _Step:
    """A function and its parameters: a dependency, or the endpoint."""

    def __init__(self, dependant: Dependant) -> None:
        call = dependant.call
        self._call = call if inspect.isroutine(call) else type(call).__call__.__get__(call)
        self._key = call
        self.name = dependant.name
        self._is_generator = inspect.isasyncgenfunction(self._call)
        if self._is_generator:
            self._enter = asynccontextmanager(self._call)
        self._parts = [_Step(part) for part in dependant.dependencies]
        self._sources = [
            (params, source)
            for params, source in (
                (dependant.path_params, "path_params"),
                (dependant.query_params, "query_params"),
                (dependant.header_params, "headers"),
            )
            if params
        ]
        self._body_params = dependant.body_params
        self._request_name = dependant.request_param_name or dependant.http_connection_param_name
        self._response_name = dependant.response_param_name
        self._check(dependant)

    def _check(self, dependant: Dependant) -> None:
        is_planned = self._is_generator or inspect.iscoroutinefunction(self._call)
        unknown = (
            dependant.cookie_params,
            dependant.websocket_param_name,
            dependant.background_tasks_param_name,
            dependant.security_scopes_param_name,
            dependant.concurrency,
            not dependant.use_cache,
            # What runs after the response was sent would have to be kept.
            self._is_generator and dependant.scope != "function",
        )
        if not is_planned or any(unknown):
            raise Unplannable(f"{dependant.call}")

    async def result(self, run: _Run) -> Any:
        """What the function answers, once for each request. None when something below was not valid."""
        if self._key in run.solved:
            return run.solved[self._key]
        before = len(run.errors)
        values = await self.values(run)
        if len(run.errors) > before:
            return None
        if self._is_generator:
            found = await run.stack.enter_async_context(self._enter(**values))
        else:
            found = await self._call(**values)
        run.solved[self._key] = found
        return found

    async def values(self, run: _Run) -> dict[str, Any]:
        """The arguments of the function; what is not valid stands in `run.errors`."""
        values: dict[str, Any] = {}
        for part in self._parts:
            found = await part.result(run)
            if part.name is not None:
                values[part.name] = found
        for params, source in self._sources:
            found, errors = request_params_to_args(params, getattr(run.request, source))
            values.update(found)
            run.errors += errors
        if self._body_params:
            found, errors = await request_body_to_args(
                body_fields=self._body_params, received_body=run.body, embed_body_fields=False
            )
            values.update(found)
            run.errors += errors
        if self._request_name:
            values[self._request_name] = run.request
        if self._response_name:
            values[self._response_name] = run.response
        return values

    async def call(self, values: Mapping[str, Any]) -> Any:
        """Call the endpoint."""
        return await self._call(**values)


class Plan:
    """How one route is answered."""

    def __init__(self, route: APIRoute) -> None:
        """Raises Unplannable."""
        self.route = route
        if route.response_model_include or route.response_model_exclude or len(route.dependant.body_params) > 1:
            raise Unplannable(route.name)
        self._endpoint = _Step(route.dependant)
        self._known = known_parameters(route)
        self._takes_body = bool(route.dependant.body_params)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = StrictRequest(scope, receive)
        async with AsyncExitStack() as stack:
            response = await self._answer(request, stack)
        await response(scope, receive, send)

    async def _answer(self, request: StrictRequest, stack: AsyncExitStack) -> Response:
        refuse_unknown(request, self._known)
        run = _Run(request, Response(), stack)
        if self._takes_body:
            run.body = await _body(request)
        values = await self._endpoint.values(run)
        if run.errors:
            raise RequestValidationError(run.errors)
        return self._render(await self._endpoint.call(values), run.response)

    def _render(self, answer: Any, collected: Response) -> Response:
        """As JSON, by the type that the route promises."""
        route = self.route
        if isinstance(answer, Response):
            response = answer
        elif route.response_field is None:
            response = Response(status_code=route.status_code or 200)
        else:
            response = Response(
                route.response_field.serialize_json(answer),
                status_code=route.status_code or 200,
                media_type=JSON,
            )
        response.raw_headers += [header for header in collected.raw_headers if header[0] != b"content-length"]
        return response


async def _body(request: StrictRequest) -> Any:
    """The body as FastAPI hands it to its validators."""
    if not await request.body():
        return PydanticUndefined
    require_json(request)
    try:
        return await request.json()
    except json.JSONDecodeError as error:
        reason = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "", "input": {}, "ctx": {"error": error.msg}}
        raise RequestValidationError([reason], body=error.doc) from error


class PlannedRoutes:
    """Stands before a router and answers what has a plan; the router answers the rest, what is not found included."""

    def __init__(self, app: ASGIApp, routes: Sequence[APIRoute], *, prefix: str) -> None:
        self._app = app
        self._prefix = prefix
        self._plans: dict[str, list[Plan]] = {}
        for route in routes:
            plan = Plan(route)
            for method in route.methods or ():
                self._plans.setdefault(method, []).append(plan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            path = get_route_path(scope)
            if path.startswith(self._prefix):
                path = path[len(self._prefix) :]
                for plan in self._plans.get(scope["method"], ()):
                    if found := plan.route.path_regex.match(path):
                        scope["route"] = plan.route
                        scope["endpoint"] = plan.route.endpoint
                        scope["path_params"] = found.groupdict()
                        await plan(scope, receive, send)
                        return
        await self._app(scope, receive, send)
