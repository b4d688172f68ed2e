"""Who is calling, and with which services?"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.security import OAuth2PasswordBearer

from pyapi.db.airflow_dao import AirflowOutboxDAO, AirflowSeenDAO
from pyapi.db.audit_dao import AuditDAO, AuditJournal
from pyapi.db.auth_dao import UserDAO, UserLookup
from pyapi.db.dao import DataRecordDAO
from pyapi.db.dependencies import (
    DbReadSession,
    DbSession,
    RecordReadSession,
    RecordSession,
    RequestPatience,
    database,
    transaction,
)
from pyapi.db.monitoring_dao import MonitoringDAO
from pyapi.db.revision_dao import RevisionDAO
from pyapi.db.run_dao import RunDAO
from pyapi.db.schedule_dao import ScheduleDAO
from pyapi.db.session_dao import SessionDAO
from pyapi.exceptions import InvalidToken, PermissionDenied, Unauthenticated
from pyapi.schedules.languages import Language, language_of
from pyapi.services.airflow_service import AirflowService
from pyapi.services.audit_service import AuditService
from pyapi.services.audit_trail import NOBODY, AuditStore, AuditTrail, Origin
from pyapi.services.auth_service import Authenticator, AuthService, Caller, Client
from pyapi.services.backfill_service import BackfillService
from pyapi.services.calendar_service import CalendarService
from pyapi.services.data_service import DataService
from pyapi.services.history_service import HistoryService
from pyapi.services.monitoring_service import MonitoringService
from pyapi.services.run_service import RunService
from pyapi.services.runnable_records import RunnableRecords
from pyapi.services.schedule_service import SchedulePreviewer, utc_now
from pyapi.services.user_service import UserService

LOGIN_URL = "auth/login"
"""Relative to /api/openapi.json, so that it also holds behind a proxy that adds a prefix."""

# Only says in OpenAPI how to sign in, which makes Swagger's "Authorize" work; the header is read below.
oauth2_scheme = OAuth2PasswordBearer(tokenUrl=LOGIN_URL, auto_error=False)
OPTIONAL_SIGN_IN: dict[str, Any] = {"security": [{}]}
"""For `openapi_extra`: signing in is possible and not needed."""


def bearer_token(request: Request) -> str | None:
    """The access token of the request; None when there is no Authorization header at all.

    Raises InvalidToken for anything else than one header of the form `Bearer <token>` (RFC 6750, 2.1).
    """
    headers = request.headers.getlist("authorization")
    if not headers:
        return None
    scheme, _, token = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not token:
        raise InvalidToken
    return token.strip(" ")


def user_lookup(request: Request, patience: RequestPatience) -> UserLookup:
    """Reads of users in short sessions of their own."""
    return UserLookup(partial(transaction, database(request).reads, patience=patience))


Lookup = Annotated[UserLookup, Depends(user_lookup)]
Token = Annotated[str | None, Depends(bearer_token)]


async def optional_caller(
    request: Request, token: Token, lookup: Lookup, _: Annotated[str | None, Depends(oauth2_scheme)]
) -> Caller | None:
    """Who is calling; None without a token. A token that does not hold is an error, never "nobody"."""
    if token is None:
        return None
    request.state.caller = caller = await Authenticator(lookup, request.app.state.tokens).authenticate(token)
    return caller


OptionalCaller = Annotated[Caller | None, Depends(optional_caller)]


async def signed_in(caller: OptionalCaller) -> Caller:
    """Who is calling. Raises Unauthenticated when nobody is signed in."""
    if caller is None:
        raise Unauthenticated
    return caller


SignedIn = Annotated[Caller, Depends(signed_in)]


async def superuser(caller: SignedIn) -> Caller:
    """Who is calling. Raises PermissionDenied for everybody but superusers."""
    if not caller.is_superuser:
        raise PermissionDenied("This needs a superuser.")
    return caller


async def reader(request: Request, caller: OptionalCaller) -> Caller | None:
    """Who is reading records; None for somebody who is not signed in, where the settings let such people read."""
    if caller is None and not request.app.state.anonymous_read:
        raise Unauthenticated
    return caller


def client(request: Request) -> Client:
    """The program at the other end, as far as the database can keep it."""
    agent = request.headers.get("user-agent")
    return Client(
        user_agent=agent.replace("\x00", "")[:512] if agent else None,
        address=request.client.host[:45] if request.client else None,
    )


def audit_trail(request: Request, store: AuditStore, caller: Caller | None) -> AuditTrail:
    """What `caller` does in this request; None where nobody is signed in, or not yet."""
    program = client(request)
    origin = Origin(request.state.request_id, program.address, program.user_agent)
    return AuditTrail(store, actor=caller.actor if caller is not None else NOBODY, origin=origin)


def auth_service(request: Request, session: DbSession, lookup: Lookup) -> AuthService:
    """Accounts and sessions, in the transaction of the request."""
    state = request.app.state
    audit = audit_trail(request, AuditDAO(session), None)
    return AuthService(lookup, UserDAO(session), SessionDAO(session), state.passwords, state.tokens, audit)


Superuser = Annotated[Caller, Depends(superuser)]


def user_service(request: Request, caller: Superuser, session: DbSession, lookup: Lookup) -> UserService:
    """Other people's accounts, for superusers only."""
    audit = audit_trail(request, AuditDAO(session), caller)
    return UserService(lookup, UserDAO(session), SessionDAO(session), audit)


def audit_service(_: Superuser, session: DbReadSession) -> AuditService:
    """The audit log, for superusers only."""
    return AuditService(AuditDAO(session))


def answer_language(request: Request, response: Response) -> Language:
    """The language that `Accept-Language` asks for; the answer says which one it is in."""
    language = language_of(",".join(request.headers.getlist("accept-language")))
    response.headers["Content-Language"] = language.replace("_", "-")
    response.headers["Vary"] = "Accept-Language"
    return language


AnswerLanguage = Annotated[Language, Depends(answer_language)]
Reader = Annotated[Caller | None, Depends(reader)]


def is_linked(request: Request) -> bool:
    """Whether an Airflow is configured."""
    return request.app.state.airflow.url is not None


Linked = Annotated[bool, Depends(is_linked)]


def data_service(
    request: Request, caller: SignedIn, session: RecordSession, language: AnswerLanguage, is_linked: Linked
) -> DataService:
    """Data records, to be changed. The caller comes first: who may not come in waits for no place."""
    audit = audit_trail(request, AuditDAO(session), caller)
    return DataService(DataRecordDAO(session), caller, audit, is_linked=is_linked, language=language)


def data_reader(
    request: Request, caller: Reader, session: RecordReadSession, language: AnswerLanguage, is_linked: Linked
) -> DataService:
    """Data records, to be read."""
    audit = audit_trail(request, AuditDAO(session), caller)
    return DataService(DataRecordDAO(session), caller, audit, is_linked=is_linked, language=language)


def history_service(caller: SignedIn, session: RecordReadSession) -> HistoryService:
    """What has become of records, for people signed in."""
    return HistoryService(DataRecordDAO(session), RevisionDAO(session), caller)


def schedule_previewer(language: AnswerLanguage) -> SchedulePreviewer:
    """Rules that are not saved; needs no database and nobody signed in."""
    return SchedulePreviewer(language=language)


def calendar_service(request: Request, _: Reader, patience: RequestPatience) -> CalendarService:
    """The runs of all records, for those who may read records.

    Its sessions are short: while a calendar is made, nobody waits for its connection.
    """
    opened = database(request)

    @asynccontextmanager
    async def schedules() -> AsyncIterator[ScheduleDAO]:
        async with transaction(opened.reads, patience=patience, places=opened.record_places) as session:
            yield ScheduleDAO(session)

    return CalendarService(schedules, request.app.state.calendar_desk)


RunStores = Callable[[], AbstractAsyncContextManager[RunDAO]]


def run_stores(request: Request, _: SignedIn, patience: RequestPatience) -> RunStores:
    """Short sessions: while Airflow is asked, no connection to the database waits. Runs are for people signed in."""
    opened = database(request)

    @asynccontextmanager
    async def stores() -> AsyncIterator[RunDAO]:
        async with transaction(opened.reads, patience=patience, places=opened.record_places) as session:
            yield RunDAO(session)

    return stores


def own_journal(request: Request, caller: SignedIn, patience: RequestPatience) -> AuditTrail:
    """Rows of the audit log in transactions of their own, for what happens in Airflow."""
    opened = database(request)
    journal = AuditJournal(partial(transaction, opened.transactions, patience=patience, places=opened.record_places))
    return audit_trail(request, journal, caller)


OwnJournal = Annotated[AuditTrail, Depends(own_journal)]


def run_service(
    request: Request, caller: SignedIn, stores: Annotated[RunStores, Depends(run_stores)], audit: OwnJournal
) -> RunService:
    """Runs of records."""
    return RunService(request.app.state.airflow, stores, caller, audit)


def backfill_service(
    request: Request, caller: SignedIn, stores: Annotated[RunStores, Depends(run_stores)], audit: OwnJournal
) -> BackfillService:
    """Backfills of records."""
    airflow = request.app.state.airflow
    return BackfillService(airflow, stores, RunnableRecords(airflow, stores, caller, clock=utc_now), audit)


def airflow_service(request: Request, _: Superuser, audit: OwnJournal) -> AirflowService:
    """The link to Airflow, for superusers only."""
    opened = database(request)

    @asynccontextmanager
    async def stores() -> AsyncIterator[tuple[AirflowOutboxDAO, AirflowSeenDAO]]:
        async with transaction(opened.transactions) as session:
            yield AirflowOutboxDAO(session), AirflowSeenDAO(session)

    return AirflowService(request.app.state.airflow, stores, audit)


def monitoring_service(request: Request) -> MonitoringService:
    """The state of what this service needs."""
    return MonitoringService(MonitoringDAO(partial(transaction, database(request).reads)))


CallingClient = Annotated[Client, Depends(client)]
Auth = Annotated[AuthService, Depends(auth_service)]
Users = Annotated[UserService, Depends(user_service)]
Data = Annotated[DataService, Depends(data_service)]
Audit = Annotated[AuditService, Depends(audit_service)]
Histories = Annotated[HistoryService, Depends(history_service)]
DataReader = Annotated[DataService, Depends(data_reader)]
Previewer = Annotated[SchedulePreviewer, Depends(schedule_previewer)]
RunCalendar = Annotated[CalendarService, Depends(calendar_service)]
Runs = Annotated[RunService, Depends(run_service)]
Backfills = Annotated[BackfillService, Depends(backfill_service)]
AirflowLinkAdmin = Annotated[AirflowService, Depends(airflow_service)]
Monitoring = Annotated[MonitoringService, Depends(monitoring_service)]
