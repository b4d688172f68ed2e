"""FastAPI runs what is not `async def` in a thread, which costs each request more than most dependencies do."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from pyapi.settings import Settings
from pyapi.web.application import get_app


def dependencies_of(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for below in dependant.dependencies:
        if below.call is not None:
            yield below.call
        yield from dependencies_of(below)


def is_asynchronous(call: Callable[..., Any]) -> bool:
    called = call if inspect.isroutine(call) else type(call).__call__
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


def test_no_route_and_no_dependency_waits_for_a_thread() -> None:
    calls: list[Callable[..., Any]] = []
    for context in iter_route_contexts(get_app(Settings(_env_file=None)).routes):
        if isinstance(route := context.original_route, APIRoute):
            calls += [route.endpoint, *dependencies_of(route.dependant)]
    assert len(calls) > 100
    assert sorted({call.__name__ for call in calls if not is_asynchronous(call)}) == []
