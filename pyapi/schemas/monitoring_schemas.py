"""Health and version on the wire."""

from typing import Literal

from pydantic import BaseModel, Field


class Components(BaseModel):
    """What the service needs, each by itself."""

    database: Literal["ok", "unavailable"]


class Health(BaseModel):
    """Whether the service can do its work."""

    status: Literal["ok", "unavailable"]
    components: Components


class Liveness(BaseModel):
    """The process answers; nothing is said about what it needs."""

    status: Literal["alive"] = "alive"


class Version(BaseModel):
    """Which version answers."""

    name: str = Field(examples=["pyapi"])
    version: str = Field(examples=["0.1.0"])
