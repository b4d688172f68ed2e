"""Routes that say how the service is."""

from importlib.metadata import version as installed_version
from typing import Any

from fastapi import APIRouter, Response

from pyapi.exceptions import ServiceUnavailable
from pyapi.schemas.monitoring_schemas import Health, Liveness, Version
from pyapi.utils.dependencies import Monitoring
from pyapi.web.metrics import render_metrics

TAGS = ["系統監控 Monitoring"]
router = APIRouter(tags=[*TAGS])
metrics_router = APIRouter(tags=[*TAGS])

UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "Something the service needs is away."}
}


@router.get("/health", responses=UNAVAILABLE)
async def get_health(monitoring: Monitoring, response: Response) -> Health:
    """Say how each component is; 503 when the service cannot do its work."""
    health = await monitoring.health()
    if health.status != "ok":
        response.status_code = ServiceUnavailable.status
        response.headers.update(ServiceUnavailable().headers)
    return health


@router.get("/health/live")
async def get_liveness() -> Liveness:
    """Say that the process answers. Never asks the database: restarting this process would not bring that back."""
    return Liveness()


@router.get("/health/ready", responses=UNAVAILABLE)
async def get_readiness(monitoring: Monitoring, response: Response) -> Health:
    """Say whether requests should be sent here; the same as /api/health."""
    return await get_health(monitoring, response)


@router.get("/version")
async def get_version() -> Version:
    """Say which version answers."""
    return Version(name="pyapi", version=installed_version("pyapi"))


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text format"}
    },
)
async def get_metrics() -> Response:
    """Answer the numbers of all workers for Prometheus."""
    body, media_type = render_metrics()
    return Response(body, media_type=media_type)
