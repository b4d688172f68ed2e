"""Answers requests by plans: what FastAPI finds out for each request about a route is found out once.

FastAPI describes the routes (OpenAPI, types, dependencies) and answers those that have no plan. A plan does what its
`solve_dependencies` and `get_request_handler` do, in the same order and with the same validators, for the kinds of
parameters and dependencies that this service has; for anything else there is none.
"""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import Response
from fastapi._compat import ModelField, field_annotation_is_scalar, get_missing_field_error
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send

from pyapi.exceptions import Problem
from pyapi.schemas.rendered import Rendered
from pyapi.utils.callers import BEFORE_REFUSAL
from pyapi.web.requests import JSON, StrictRequest, StrictRoute, known_parameters, refuse_unknown, require_json


class Unplannable(Exception):
    """The route has something of which plans know nothing."""


class _Collected(Response):
    """What dependencies and the endpoint say of the answer: headers, and a status other than that of the route."""

    def __init__(self) -> None:
        self.status_code = 0  # that of the route
        self.raw_headers = []


@dataclass(slots=True)
class _Run:
    """One request on its way through a plan; `response` collects what dependencies say in headers."""

    request: StrictRequest
    response: Response
    stack: AsyncExitStack | None
    body: Any = PydanticUndefined
    solved: dict[Any, Any] = field(default_factory=dict)
    errors: list[Any] = field(default_factory=list)


class _Parameters:
    """Parameters of one kind: `path`, `query`, or `header`.

    FastAPI looks into the types of each of them for each request. Where they all are single values it is known before
    what it would find: then they are validated at once.
    """

    def __init__(self, fields: Sequence[ModelField], kind: str) -> None:
        self._fields = fields
        self._kind = kind
        self._source = {"path": "path_params", "query": "query_params", "header": "headers"}[kind]
        self._scalars = [(each, each.name, each.alias, (kind, each.alias)) for each in fields]
        self._are_scalars = kind != "header" and all(_is_scalar(each.field_info) for each in fields)
        self._is_model = kind == "query" and len(fields) == 1 and _is_flat_model(fields[0].field_info.annotation)

    def read(self, run: _Run, values: dict[str, Any]) -> None:
        """Validate them; what is not valid goes to `run.errors`."""
        given = getattr(run.request, self._source)
        if self._are_scalars:
            self._read_scalars(given, run, values)
        elif self._is_model:
            (model,) = self._fields
            values[model.name], errors = model.validate(dict(given), {}, loc=(self._kind,))
            run.errors += errors
        else:
            found, errors = request_params_to_args(self._fields, given)
            values.update(found)
            run.errors += errors

    def _read_scalars(self, given: Mapping[str, Any], run: _Run, values: dict[str, Any]) -> None:
        for model, name, alias, place in self._scalars:
            if (value := given.get(alias)) is not None:
                values[name], errors = model.validate(value, values, loc=place)
            elif model.field_info.is_required():
                errors = [get_missing_field_error(place)]
            else:
                values[name], errors = model.get_default(), []
            run.errors += errors


def _is_scalar(info: FieldInfo) -> bool:
    return field_annotation_is_scalar(info.annotation) and not info.validate_default


def _is_flat_model(annotation: Any) -> bool:
    """Whether it is a model of single values under their own names."""
    if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
        return False
    return all(_is_scalar(info) and info.alias is None for info in annotation.model_fields.values())


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
        # What only stands in OpenAPI answers None, to whoever asks.
        shown = [part for part in dependant.dependencies if getattr(part.call, "is_only_shown", False)]
        self._nothing = {part.name: None for part in shown if part.name}
        self._parts = [_Step(part) for part in dependant.dependencies if part not in shown]
        self._parameters = [
            _Parameters(fields, kind)
            for fields, kind in (
                (dependant.path_params, "path"),
                (dependant.query_params, "query"),
                (dependant.header_params, "header"),
            )
            if fields
        ]
        self.opens: bool = self._is_generator or any(part.opens for part in self._parts)
        """Whether something has to be closed afterwards."""
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
            assert run.stack is not None
            found = await run.stack.enter_async_context(self._enter(**values))
        else:
            found = await self._call(**values)
        run.solved[self._key] = found
        return found

    async def values(self, run: _Run) -> dict[str, Any]:
        """The arguments of the function; what is not valid stands in `run.errors`."""
        values: dict[str, Any] = dict(self._nothing)
        for part in self._parts:
            found = await part.result(run)
            if part.name is not None:
                values[part.name] = found
        for parameters in self._parameters:
            parameters.read(run, values)
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
        is_plain = isinstance(route, StrictRoute) and len(route.dependant.body_params) <= 1
        if not is_plain or route.response_model_include or route.response_model_exclude:
            raise Unplannable(route.name)
        self._endpoint = _Step(route.dependant)
        self._known = known_parameters(route)
        self._opens = self._endpoint.opens
        self._takes_body = bool(route.dependant.body_params)

    async def answer(self, request: StrictRequest) -> ASGIApp:
        """The answer to one request, ready to be sent."""
        if not self._opens:
            return await self._answer(_Run(request, _Collected(), None))
        async with AsyncExitStack() as stack:
            return await self._answer(_Run(request, _Collected(), stack))

    async def _answer(self, run: _Run) -> ASGIApp:
        try:
            return await self._found(run)
        except (Problem, RequestValidationError) as refusal:
            # Who may not come in hears that, and not what else is wrong.
            is_refused = not isinstance(refusal, Problem) or refusal.status < 500
            if is_refused and (ask := _state_of(run.request).get(BEFORE_REFUSAL)) is not None:
                await ask()
            raise
        finally:
            # It knows the request, which knows it: together they would stay until the collector of cycles comes.
            _state_of(run.request).pop(BEFORE_REFUSAL, None)

    async def _found(self, run: _Run) -> ASGIApp:
        request = run.request
        refuse_unknown(request, self._known)
        if self._takes_body:
            run.body = await _body(request)
        values = await self._endpoint.values(run)
        if run.errors:
            raise RequestValidationError(run.errors)
        return self._render(await self._endpoint.call(values), run.response)

    def _render(self, answer: Any, collected: Response) -> ASGIApp:
        """As JSON, by the type that the route promises."""
        if isinstance(answer, Response):
            return answer
        headers = collected.raw_headers
        field, status = self.route.response_field, collected.status_code or self.route.status_code or 200
        if field is None:
            return _Answer(status, headers, b"")
        body = answer.body if isinstance(answer, Rendered) else field.serialize_json(answer)
        head = [(b"content-length", str(len(body)).encode()), (b"content-type", JSON.encode())]
        return _Answer(status, head + headers, body)


def _state_of(request: StrictRequest) -> dict[str, Any]:
    state: dict[str, Any] = request.scope.get("state", {})
    return state


@dataclass(frozen=True, slots=True)
class _Answer:
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


async def _body(request: StrictRequest) -> Any:
    """The body as FastAPI hands it to its validators."""
    if not await request.body():
        return PydanticUndefined
    require_json(request)
    try:
        return await request.json()
    except json.JSONDecodeError as error:
        reason = {
            "type": "json_invalid",
            "loc": ("body", error.pos),
            "msg": "",
            "input": {},
            "ctx": {"error": error.msg},
        }
        raise RequestValidationError([reason], body=error.doc) from error


_Plans = dict[str, list[tuple[re.Pattern[str], Plan | None]]]
"""By method: the pattern of a path, and its plan; None for what the router answers."""


class PlannedRoutes:
    """Stands before a router and answers what has a plan; the router answers the rest, what is not found included."""

    def __init__(self, app: ASGIApp, routes: Sequence[APIRoute], *, prefix: str, handlers: Mapping[Any, Any]) -> None:
        """`routes` in the order in which the router tries them; their paths begin after `prefix`.

        `handlers` are those of the application: what turns a failure of a class into an answer.
        """
        self._app = app
        self._handlers = handlers
        self._prefix = prefix
        self._plans: _Plans = {}
        for route in routes:
            plan = plan_of(route)
            for method in route.methods or ():
                self._plans.setdefault(method, []).append((route.path_regex, plan))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        plan = self._find(scope) if scope["type"] == "http" else None
        if plan is None:
            await self._app(scope, receive, send)
            return
        request = StrictRequest(scope, receive)
        try:
            answer = await plan.answer(request)
        except Exception as failure:
            if (handle := self._handler_of(failure)) is None:
                raise
            answer = await handle(request, failure)
        await answer(scope, receive, send)

    def _handler_of(self, failure: Exception) -> Any:
        """What makes an answer of a failure; None for one that nobody has foreseen."""
        return next((self._handlers[each] for each in type(failure).__mro__ if each in self._handlers), None)

    def _find(self, scope: Scope) -> Plan | None:
        """The plan of a request; the scope is told what Starlette tells it of a route."""
        path = get_route_path(scope)
        if not path.startswith(self._prefix):
            return None
        path = path[len(self._prefix) :]
        for pattern, plan in self._plans.get(scope["method"], ()):
            if found := pattern.match(path):
                if plan is not None:
                    scope["route"], scope["endpoint"] = plan.route, plan.route.endpoint
                    scope["path_params"] = found.groupdict()
                return plan
        return None


def plan_of(route: APIRoute) -> Plan | None:
    """The plan of a route; None for one that FastAPI has to answer."""
    try:
        return Plan(route)
    except Unplannable:
        return None
