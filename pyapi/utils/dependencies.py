"""Which services does a request get?"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated

from fastapi import Depends, Request, Response

from pyapi.db.access_dao import AccessDAO
from pyapi.db.airflow_dao import AirflowOutboxDAO, AirflowSeenDAO
from pyapi.db.attempt_dao import AttemptDAO
from pyapi.db.audience import STRANGER, SessionAudience
from pyapi.db.audit_dao import AuditDAO, AuditJournal
from pyapi.db.auth_dao import AccountLookup, UserDAO
from pyapi.db.dao import DataRecordDAO
from pyapi.db.dependencies import (
    DbReadSession,
    DbSession,
    RecordReadSession,
    RecordSession,
    RequestPatience,
    database,
    patience_of,
    single_statements,
    transaction,
)
from pyapi.db.monitoring_dao import MonitoringDAO
from pyapi.db.patience import Patience
from pyapi.db.record_reads import RecordReads
from pyapi.db.record_writes import RecordWrites
from pyapi.db.revision_dao import RevisionDAO
from pyapi.db.run_dao import RunDAO
from pyapi.db.schedule_dao import ScheduleDAO
from pyapi.db.session_dao import RefreshTokens, SessionDAO
from pyapi.db.token_dao import AccessTokenDAO
from pyapi.schedules.languages import Language, language_of
from pyapi.services.access_service import AccessService
from pyapi.services.airflow_service import AirflowService
from pyapi.services.attempt_service import AttemptService, CountedAttempts, UncountedAttempts
from pyapi.services.audit_service import AuditService
from pyapi.services.audit_trail import NOBODY, AuditStore, AuditTrail, Origin
from pyapi.services.auth_service import AuthService, Caller
from pyapi.services.backfill_service import BackfillService
from pyapi.services.calendar_service import CalendarService
from pyapi.services.check_service import CheckService
from pyapi.services.current_password import CurrentPassword
from pyapi.services.data_reader import DataReader
from pyapi.services.data_service import DataService, LockedRecords
from pyapi.services.history_service import HistoryService
from pyapi.services.monitoring_service import MonitoringService
from pyapi.services.record_views import RecordViews
from pyapi.services.run_results import RunResults
from pyapi.services.run_service import RunService
from pyapi.services.runnable_records import RunnableRecords
from pyapi.services.schedule_service import SchedulePreviewer, utc_now
from pyapi.services.token_service import TokenService
from pyapi.services.user_service import UserService
from pyapi.services.validation_service import RecordValidator
from pyapi.services.writer import Writer
from pyapi.utils.callers import (
    DataInsider,
    DataWriter,
    Lookup,
    Reader,
    RecordAudience,
    RunWriter,
    SignedIn,
    Superuser,
    audience_of,
    client_of,
    data_writer,
    header_values,
)
from pyapi.utils.sealing import Sealer


async def attempt_service(request: Request, patience: RequestPatience) -> AttemptService:
    """The limits for the address that asks, in short transactions of their own."""
    state, opened = request.app.state, database(request)
    if state.attempt_policy is None:
        return UncountedAttempts()

    @asynccontextmanager
    async def lookups() -> AsyncIterator[AttemptDAO]:
        async with transaction(opened.reads, patience=patience) as session:
            yield AttemptDAO(session)

    @asynccontextmanager
    async def stores() -> AsyncIterator[AttemptDAO]:
        async with transaction(opened.transactions, patience=patience, places=state.attempt_places) as session:
            yield AttemptDAO(session)

    address = request.client.host if request.client else None
    return CountedAttempts(lookups, stores, state.attempt_policy, address=address)


def audit_trail(request: Request, store: AuditStore, caller: Caller | None) -> AuditTrail:
    """What `caller` does in this request; None where nobody is signed in, or not yet."""
    program = client_of(request)
    origin = Origin(request.state.request_id, program.address, program.user_agent)
    return AuditTrail(store, actor=caller.actor if caller is not None else NOBODY, origin=origin)


async def auth_service(
    request: Request,
    session: DbSession,
    lookup: Lookup,
    attempts: Annotated[AttemptService, Depends(attempt_service)],
) -> AuthService:
    """Accounts and sessions, in the transaction of the request."""
    state, audit = request.app.state, audit_trail(request, AuditDAO(session), None)
    users, sessions = UserDAO(session), SessionDAO(session)
    statements = single_statements(request)
    accounts, tokens = AccountLookup(statements), RefreshTokens(statements)
    return AuthService(lookup, accounts, users, sessions, tokens, state.passwords, state.tokens, attempts, audit)


async def user_service(request: Request, caller: Superuser, session: DbSession, lookup: Lookup) -> UserService:
    """Other people's accounts, for superusers only."""
    audit = audit_trail(request, AuditDAO(session), caller)
    return UserService(lookup, UserDAO(session), SessionDAO(session), AccessTokenDAO(session), audit)


async def token_service(
    request: Request,
    caller: SignedIn,
    session: DbSession,
    lookup: Lookup,
    attempts: Annotated[AttemptService, Depends(attempt_service)],
) -> TokenService:
    """Personal access tokens of the caller."""
    audit, current = audit_trail(request, AuditDAO(session), caller), CurrentPassword(
        request.app.state.passwords, attempts
    )
    return TokenService(lookup, UserDAO(session), AccessTokenDAO(session), caller, current, audit)


async def audit_service(_: Superuser, session: DbReadSession) -> AuditService:
    """The audit log, for superusers only."""
    return AuditService(AuditDAO(session))


def answer_language(request: Request, response: Response) -> Language:
    """The language that `Accept-Language` asks for; the answer says which one it is in."""
    language = language_of(",".join(header_values(request, b"accept-language")))
    response.headers["Content-Language"] = language.replace("_", "-")
    response.headers["Vary"] = "Accept-Language"
    return language


def is_linked(request: Request) -> bool:
    """Whether an Airflow is configured."""
    return request.app.state.airflow.url is not None


async def sealer(request: Request) -> Sealer:
    """The keys of the secrets in records."""
    found: Sealer = request.app.state.sealer
    return found


RecordSealer = Annotated[Sealer, Depends(sealer)]


def _record_views(request: Request, response: Response) -> RecordViews:
    return RecordViews(utc_now(), answer_language(request, response), is_linked(request))


@asynccontextmanager
async def _locked_records(request: Request, caller: Caller) -> AsyncIterator[LockedRecords]:
    opened, patience = database(request), patience_of(request)
    async with transaction(opened.transactions, patience=patience, places=opened.record_places) as session:
        yield LockedRecords(DataRecordDAO(session, caller.audience), audit_trail(request, AuditDAO(session), caller))


async def data_service(
    request: Request, response: Response, writer: Annotated[Writer, Depends(data_writer)]
) -> DataService:
    """Data records, to be changed."""
    views, statements = _record_views(request, response), single_statements(request, of_records=True)
    audience = writer.known.audience if writer.unseen is None else SessionAudience(*writer.unseen)
    return DataService(
        RecordReads(statements, audience, with_airflow=views.is_linked),
        RecordWrites(statements, with_airflow=views.is_linked),
        partial(_locked_records, request),
        writer,
        _own_journal(request, patience_of(request), None),
        sealer=request.app.state.sealer,
        views=views,
        default_visibility=request.app.state.default_visibility,
    )


async def data_reader(request: Request, response: Response, audience: RecordAudience) -> DataReader:
    """Data records, to be read."""
    views = _record_views(request, response)
    records = RecordReads(single_statements(request, of_records=True), audience, with_airflow=views.is_linked)
    return DataReader(records, views, request.app.state.list_texts, is_stranger=audience == STRANGER)


async def access_service(request: Request, caller: DataWriter, session: RecordSession) -> AccessService:
    """Who may see and change data records, to be changed."""
    audit = audit_trail(request, AuditDAO(session), caller)
    return AccessService(DataRecordDAO(session, audience_of(caller)), AccessDAO(session), caller, audit)


async def access_reader(request: Request, caller: DataInsider, session: RecordReadSession) -> AccessService:
    """Who may see and change data records, to be read."""
    audit = audit_trail(request, AuditDAO(session), caller)
    return AccessService(DataRecordDAO(session, audience_of(caller)), AccessDAO(session), caller, audit)


async def history_service(caller: DataInsider, session: RecordReadSession, sealer: RecordSealer) -> HistoryService:
    """What has become of records, for people and programs that are signed in."""
    return HistoryService(DataRecordDAO(session, audience_of(caller)), RevisionDAO(session), caller, sealer=sealer)


async def schedule_previewer(request: Request, response: Response) -> SchedulePreviewer:
    """Rules that are not saved; needs no database and nobody signed in."""
    return SchedulePreviewer(language=answer_language(request, response))


async def record_validator(
    request: Request, response: Response, _: DataInsider, sealer: RecordSealer
) -> RecordValidator:
    """Records that are not saved; for everybody who is signed in, because nothing is stored and nothing is shown."""
    return RecordValidator(sealer=sealer, language=answer_language(request, response))


async def calendar_service(request: Request, caller: Reader, patience: RequestPatience) -> CalendarService:
    """The runs of all records that the caller may see.

    Its sessions are short: while a calendar is made, nobody waits for its connection.
    """
    opened = database(request)

    @asynccontextmanager
    async def schedules() -> AsyncIterator[ScheduleDAO]:
        async with transaction(opened.reads, patience=patience, places=opened.record_places) as session:
            yield ScheduleDAO(session)

    return CalendarService(schedules, request.app.state.calendar_desk, audience_of(caller))


RunStores = Callable[[], AbstractAsyncContextManager[RunDAO]]


def _run_stores(request: Request, patience: Patience, caller: Caller) -> RunStores:
    """Short sessions: while Airflow is asked, no connection to the database waits."""
    opened = database(request)

    @asynccontextmanager
    async def stores() -> AsyncIterator[RunDAO]:
        async with transaction(opened.reads, patience=patience, places=opened.record_places) as session:
            yield RunDAO(session, audience_of(caller))

    return stores


def _own_journal(request: Request, patience: Patience, caller: Caller | None) -> AuditTrail:
    """Rows of the audit log in transactions of their own, for what happens in Airflow."""
    opened = database(request)
    journal = AuditJournal(partial(transaction, opened.transactions, patience=patience, places=opened.record_places))
    return audit_trail(request, journal, caller)


def _runs(request: Request, patience: Patience, caller: Caller, sealer: Sealer) -> RunService:
    stores, audit = _run_stores(request, patience, caller), _own_journal(request, patience, caller)
    state = request.app.state
    return RunService(state.airflow, stores, caller, audit, sealer=sealer, cursors=state.cursors)


async def run_service(
    request: Request, caller: RunWriter, sealer: RecordSealer, patience: RequestPatience
) -> RunService:
    """Runs of records, to be started and ended."""
    return _runs(request, patience, caller, sealer)


async def run_reader(
    request: Request, caller: DataInsider, sealer: RecordSealer, patience: RequestPatience
) -> RunService:
    """Runs of records, to be read; for people and programs that are signed in."""
    return _runs(request, patience, caller, sealer)


async def check_service(
    request: Request, caller: RunWriter, sealer: RecordSealer, patience: RequestPatience
) -> CheckService:
    """Checks of records, to be started."""
    airflow, stores = request.app.state.airflow, _run_stores(request, patience, caller)
    records = RunnableRecords(airflow, stores, clock=utc_now)
    results = RunResults(airflow, stores, records, sealer=sealer)
    return CheckService(airflow, records, results, _own_journal(request, patience, caller))


def _backfills(request: Request, patience: Patience, caller: Caller) -> BackfillService:
    airflow, stores = request.app.state.airflow, _run_stores(request, patience, caller)
    audit = _own_journal(request, patience, caller)
    return BackfillService(airflow, stores, RunnableRecords(airflow, stores, clock=utc_now), audit)


async def backfill_service(request: Request, caller: RunWriter, patience: RequestPatience) -> BackfillService:
    """Backfills of records, to be started and ended."""
    return _backfills(request, patience, caller)


async def backfill_reader(request: Request, caller: DataInsider, patience: RequestPatience) -> BackfillService:
    """Backfills of records, to be read."""
    return _backfills(request, patience, caller)


async def airflow_service(request: Request, caller: Superuser, patience: RequestPatience) -> AirflowService:
    """The link to Airflow, for superusers only."""
    opened, audit = database(request), _own_journal(request, patience, caller)

    @asynccontextmanager
    async def stores() -> AsyncIterator[tuple[AirflowOutboxDAO, AirflowSeenDAO]]:
        async with transaction(opened.transactions) as session:
            yield AirflowOutboxDAO(session), AirflowSeenDAO(session)

    return AirflowService(request.app.state.airflow, stores, audit)


async def monitoring_service(request: Request) -> MonitoringService:
    """The state of what this service needs."""
    return MonitoringService(MonitoringDAO(partial(transaction, database(request).reads)))


Auth = Annotated[AuthService, Depends(auth_service)]
PersonalTokens = Annotated[TokenService, Depends(token_service)]
Users = Annotated[UserService, Depends(user_service)]
Data = Annotated[DataService, Depends(data_service)]
Audit = Annotated[AuditService, Depends(audit_service)]
Histories = Annotated[HistoryService, Depends(history_service)]
RecordReader = Annotated[DataReader, Depends(data_reader)]
Access = Annotated[AccessService, Depends(access_service)]
AccessReader = Annotated[AccessService, Depends(access_reader)]
Previewer = Annotated[SchedulePreviewer, Depends(schedule_previewer)]
Validator = Annotated[RecordValidator, Depends(record_validator)]
RunCalendar = Annotated[CalendarService, Depends(calendar_service)]
Runs = Annotated[RunService, Depends(run_service)]
RunReader = Annotated[RunService, Depends(run_reader)]
BackfillReader = Annotated[BackfillService, Depends(backfill_reader)]
Checks = Annotated[CheckService, Depends(check_service)]
Backfills = Annotated[BackfillService, Depends(backfill_service)]
AirflowLinkAdmin = Annotated[AirflowService, Depends(airflow_service)]
Monitoring = Annotated[MonitoringService, Depends(monitoring_service)]
