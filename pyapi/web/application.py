"""Puts the application together."""

import sys
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pyapi.exceptions import ConfigurationError
from pyapi.log import configure_logging, warn_of_settings
from pyapi.settings import Settings
from pyapi.web.api import docs
from pyapi.web.api.monitoring import metrics_router
from pyapi.web.api.router import ROUTERS, router
from pyapi.web.denials import install_denial_record
from pyapi.web.hosts import HeadGuard
from pyapi.web.lifespan import lifespan
from pyapi.web.middleware import API_PREFIX, LastResort, RequestRecorder, StartReport
from pyapi.web.openapi import DESCRIPTION, TAGS, install_openapi
from pyapi.web.origins import Origins
from pyapi.web.plans import PlannedRoutes
from pyapi.web.problems import install_problem_handlers

CANNOT_START = 3
"""Exit status by which gunicorn knows that starting the worker again is of no use; uvicorn has the same."""


def get_app(settings: Settings | None = None) -> FastAPI:
    """Make the application; the factory that uvicorn and gunicorn call.

    Exits with one line on stderr for settings that cannot work, so that no traceback hides it.
    """
    is_alone = settings is None  # under a bare uvicorn or gunicorn; `python -m pyapi` has said it for all workers
    try:
        settings = settings or Settings.load()
        settings.require_safe()
    except ConfigurationError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(CANNOT_START)
    configure_logging(level=settings.log_level, style=settings.log_format)
    warn_of_settings(settings.warnings() if is_alone else ())
    app = Service(
        title="PyAPI",
        version=version("pyapi"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url="/api/openapi.json" if settings.docs_enabled else None,
        docs_url=None,
        redoc_url=None,
        # A redirect to the other spelling would name the Host header, and clients lose their body on the way.
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        generate_unique_id_function=_operation_id,
        lifespan=partial(lifespan, settings=settings),
    )
    app.include_router(router)
    if settings.docs_enabled:
        app.include_router(docs.router, prefix="/api")
    if settings.metrics_enabled:
        app.include_router(metrics_router)
    install_openapi(app)
    install_problem_handlers(app)
    install_denial_record(app)
    _install_middleware(app, settings)
    return app


class Service(FastAPI):
    """FastAPI with its handlers of failures and its router, and with no middleware but that of this service.

    What it puts around that itself is here already: `LastResort` answers what nobody foresaw, `StrictRequest` bounds
    bodies, and what a request took stands in our log and numbers; spans of OpenTelemetry there are none.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the start and the end of the service."""
        if scope["type"] != "http" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """From the inside: routes, what turns failures into answers, what was added."""
        routes = [route for each in ROUTERS for route in each.routes if isinstance(route, APIRoute)]
        app: ASGIApp = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)
        app = PlannedRoutes(app, routes, prefix=API_PREFIX, handlers=self.exception_handlers)
        for middleware, arguments, options in reversed(self.user_middleware):
            app = middleware(app, *arguments, **options)
        return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _install_middleware(app: FastAPI, settings: Settings) -> None:
    """The last one added is the outermost."""
    app.add_middleware(LastResort)
    if settings.cors_origins:
        app.add_middleware(Origins, allowed=settings.cors_origins)
    app.add_middleware(HeadGuard, trusted=settings.trusted_hosts)
    app.add_middleware(RequestRecorder)
    app.add_middleware(StartReport)
