"""Every failure this project knows by name.

PyAPIError
├── ConfigurationError              the service cannot start; never reaches HTTP
│   ├── DataFolderInUse             another process runs the embedded server
│   └── SchemaOutOfDate             migrations are missing
└── Problem                         becomes an RFC 9457 problem document
    ├── BadRequest                  400
    ├── Unauthenticated             401
    │   ├── InvalidCredentials      wrong name or password, or a closed account
    │   └── InvalidToken            missing claims, expired, revoked, forged
    │       └── TokenReused         a used refresh token came back: its family ends
    ├── PermissionDenied            403
    │   ├── InsufficientScope       a personal access token that was not made for this
    │   └── RegistrationClosed      administrators open accounts here
    ├── NotFound                    404
    ├── RequestTimeout              408
    ├── Conflict                    409
    │   ├── RecordNotActive         Airflow runs active records only
    │   ├── RunEnded                there is nothing left to cancel
    │   ├── RunNotEnded             a run is tried again when it has ended
    │   └── BackfillConflict        another one of this record is at work, or this one has ended
    ├── PreconditionFailed          412
    ├── PayloadTooLarge             413
    ├── UriTooLong                  414
    ├── UnsupportedMediaType        415
    ├── ValidationFailed            422
    ├── TooManyRequests             429
    ├── HeadersTooLarge             431
    ├── TransferCodingUnknown       501
    └── ServiceUnavailable          503
        ├── DatabaseUnavailable     PostgreSQL is away, locked or too slow
        ├── AirflowUnavailable      Airflow is away, too slow, or does not take PyAPI's account
        │   └── AirflowNotReady     Airflow has not read the newest revision yet
        └── Busy                    a bounded queue of this process is full
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class PyAPIError(Exception):
    """The root: `except PyAPIError` catches all that this project raises on purpose."""


class ConfigurationError(PyAPIError):
    """The service cannot start; the text is one line that names the setting and the cure."""


class DataFolderInUse(ConfigurationError):
    """Another process holds the data folder of the embedded PostgreSQL."""


class SchemaOutOfDate(ConfigurationError):
    """The tables are older or newer than this version of the code."""


class Problem(PyAPIError):
    """A failure that a client is told about, as RFC 9457 describes.

    `detail` is written for the person who made the request; it must never hold what they sent.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal server error"
    default_detail: ClassVar[str] = "Something went wrong here. The log has the details under this request id."
    keeps_writes: ClassVar[bool] = False
    """True: what the transaction wrote so far is committed although the request fails."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.default_detail)

    @property
    def detail(self) -> str:
        """One or two sentences about this occurrence."""
        return str(self.args[0])

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers that RFC 9110 asks for with this status."""
        return {}


class BadRequest(Problem):
    """The request cannot be read at all."""

    status = 400
    code = "bad_request"
    title = "Bad request"
    default_detail = "The request could not be read."


class Unauthenticated(Problem):
    """The route needs a signed-in caller."""

    status = 401
    code = "not_authenticated"
    title = "Not authenticated"
    default_detail = "Sign in and send the access token as 'Authorization: Bearer <token>'."
    challenge: ClassVar[str] = "Bearer"

    @property
    def headers(self) -> Mapping[str, str]:
        """The challenge that RFC 9110, 15.5.2, asks for."""
        return {"WWW-Authenticate": self.challenge}


class InvalidCredentials(Unauthenticated):
    """One text for a wrong name, a wrong password and a closed account."""

    code = "invalid_credentials"
    title = "Invalid credentials"
    default_detail = "The username or the password is wrong."
    keeps_writes = True


class InvalidToken(Unauthenticated):
    """A token that is malformed, expired, revoked or of the wrong kind (RFC 6750, 3.1)."""

    code = "invalid_token"
    title = "Invalid token"
    default_detail = "The token is malformed, expired or revoked. Sign in again."
    challenge = 'Bearer error="invalid_token"'


class TokenReused(InvalidToken):
    """A refresh token was presented twice (RFC 9700, 4.14.2); the whole family has ended."""

    keeps_writes = True


class PermissionDenied(Problem):
    """Signed in, and not allowed."""

    status = 403
    code = "permission_denied"
    title = "Permission denied"
    default_detail = "Your account may not do this."


class InsufficientScope(PermissionDenied):
    """A personal access token that was not made for this (RFC 6750, 3.1); without a scope, no such token is."""

    code = "insufficient_scope"
    title = "Insufficient scope"
    default_detail = "Personal access tokens cannot do this: sign in and send the access token of the session."

    def __init__(self, scope: str | None = None) -> None:
        super().__init__(f"This needs a personal access token with the scope '{scope}'." if scope else None)
        self.scope = scope

    @property
    def headers(self) -> Mapping[str, str]:
        """The challenge names the scope that is missing."""
        scope = f', scope="{self.scope}"' if self.scope else ""
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope"{scope}'}


class RegistrationClosed(PermissionDenied):
    """The settings leave it to administrators to open accounts."""

    code = "registration_closed"
    title = "Registration closed"
    default_detail = "Accounts are opened by an administrator here."


class NotFound(Problem):
    """Nothing is there."""

    status = 404
    code = "not_found"
    title = "Not found"
    default_detail = "There is nothing at this address."


class RequestTimeout(Problem):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"
    title = "Request timeout"
    default_detail = "The request did not arrive in time. Send it again, over a faster connection."

    @property
    def headers(self) -> Mapping[str, str]:
        """Nobody waits for the rest of it (RFC 9110, 15.5.9)."""
        return {"Connection": "close"}


class Conflict(Problem):
    """The request does not fit what is stored."""

    status = 409
    code = "conflict"
    title = "Conflict"
    default_detail = "The request conflicts with what is stored."


class RecordNotActive(Conflict):
    """Airflow runs active records only; it has no DAG of others."""

    code = "record_not_active"
    title = "Record not active"
    default_detail = (
        'Airflow runs active records only. Set the status to active; with "schedule": null it runs only by hand.'
    )


class RunEnded(Conflict):
    """The run is in its final state."""

    code = "run_ended"
    title = "Run ended"
    default_detail = "The run has ended already."


class RunNotEnded(Conflict):
    """The run is queued or running."""

    code = "run_not_ended"
    title = "Run not ended"
    default_detail = "The run is queued or running. Wait for its end, or cancel it first."


class BackfillConflict(Conflict):
    """Airflow makes one backfill of a DAG at a time, and an ended one cannot be cancelled."""

    code = "backfill_conflict"
    title = "Backfill conflict"
    default_detail = "Another backfill of this record is at work. Wait for its end, or cancel it first."


class PreconditionFailed(Problem):
    """`If-Match` names another revision than the stored one (RFC 9110, 13.1.1)."""

    status = 412
    code = "precondition_failed"
    title = "Precondition failed"
    default_detail = "The record has changed since you read it. Read it again, then repeat your change."


class PayloadTooLarge(Problem):
    """The body is over the limit."""

    status = 413
    code = "payload_too_large"
    title = "Payload too large"
    default_detail = "The request body is too large."


class UriTooLong(Problem):
    """The target alone is longer than a whole head may be (RFC 9110, 15.5.15)."""

    status = 414
    code = "uri_too_long"
    title = "URI too long"
    default_detail = "The address is too long. Send less in the query."


class HeadersTooLarge(Problem):
    """The target and the header fields together are over the limit (RFC 6585, 5)."""

    status = 431
    code = "headers_too_large"
    title = "Headers too large"
    default_detail = "The header fields are too large together. Send at most 16 KiB."


class UnsupportedMediaType(Problem):
    """The body is not of a type this route reads."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"
    default_detail = "Send the body as 'Content-Type: application/json'."


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request: what to write instead, and where.

    `pointer` is one of RFC 6901 whose first part names the place: `/body/name`, `/query/limit`, `/path/data_id`.
    """

    detail: str
    pointer: str


class ValidationFailed(Problem):
    """The request was read and is not acceptable; `errors` lists every reason."""

    status = 422
    code = "validation_failed"
    title = "Validation failed"
    default_detail = "The request is not valid; 'errors' says what to change."

    def __init__(self, errors: Sequence[FieldError], detail: str | None = None) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)


class TooManyRequests(Problem):
    """Tried too often (RFC 6585, 4); the same request is looked at again when `retry_after_seconds` are over."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"
    default_detail = "That was tried too often. Wait as long as 'Retry-After' says, then try again."

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> Mapping[str, str]:
        """When to try again."""
        return {"Retry-After": str(self.retry_after_seconds)}


class TransferCodingUnknown(Problem):
    """The body is encoded for the way in a manner that nobody here reads (RFC 9112, 6.1)."""

    status = 501
    code = "transfer_coding_unknown"
    title = "Transfer coding unknown"
    default_detail = "Send the body with a Content-Length, or with 'Transfer-Encoding: chunked' alone."


class ServiceUnavailable(Problem):
    """Something this service needs is away; the same request may work soon."""

    status = 503
    code = "service_unavailable"
    title = "Service unavailable"
    default_detail = "The service cannot answer right now. Try again shortly."
    retry_after_seconds: ClassVar[int] = 2

    @property
    def headers(self) -> Mapping[str, str]:
        """When to try again."""
        return {"Retry-After": str(self.retry_after_seconds)}


class DatabaseUnavailable(ServiceUnavailable):
    """PostgreSQL is away, locked or too slow."""

    code = "database_unavailable"
    title = "Database unavailable"
    default_detail = "The database does not answer. Nothing was changed unless you were told so; try again shortly."


class AirflowUnavailable(ServiceUnavailable):
    """Airflow is away, too slow, or does not take PyAPI's account."""

    code = "airflow_unavailable"
    title = "Airflow unavailable"
    default_detail = "Airflow does not answer. Records can be read and changed meanwhile; try again shortly."
    retry_after_seconds = 5


class AirflowNotReady(AirflowUnavailable):
    """Airflow has not read the newest revision of the record yet, and would run an older one."""

    code = "airflow_not_ready"
    title = "Airflow not ready"
    default_detail = "Airflow does not have this revision of the record yet; no run was started. Try again shortly."


class Busy(ServiceUnavailable):
    """A bounded queue of this process is full."""

    code = "busy"
    title = "Busy"
    default_detail = "The service is at its limit. Try again shortly."
