"""The problem document (RFC 9457) that every failure is answered with."""

from pydantic import BaseModel, ConfigDict, Field


class ProblemField(BaseModel):
    """One thing wrong with the request."""

    detail: str = Field(description="What to write instead.")
    pointer: str = Field(description="Where: /body/..., /query/..., /path/... (RFC 6901).")


class ProblemDocument(BaseModel):
    """application/problem+json."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="urn:pyapi:problem:<code>", examples=["urn:pyapi:problem:not_found"])
    title: str = Field(description="The kind of problem.")
    status: int = Field(description="The HTTP status, again.")
    detail: str = Field(description="This occurrence, for a person.")
    instance: str = Field(description="The path of the request.")
    code: str = Field(description="The kind of problem, for a program.", examples=["not_found"])
    request_id: str = Field(description="Also in X-Request-ID and in the log.")


class ValidationProblemDocument(ProblemDocument):
    """The problem document of a 422."""

    errors: list[ProblemField] = Field(
        description="What is wrong, 32 reasons at most; 'detail' says when there are more."
    )
