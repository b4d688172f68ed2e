"""What a worker opens when it starts and closes when it stops."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
from fastapi import FastAPI

from pyapi.db.airflow_dao import AirflowOutboxDAO, AirflowSeenDAO
from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.db.embedded import attach_or_start
from pyapi.db.engine import RESERVED_CONNECTIONS, create_engine
from pyapi.db.leadership import lead
from pyapi.db.run_result_dao import RunResultDAO
from pyapi.db.schedule_dao import ScheduleDAO
from pyapi.db.schema_version import prepare_schema
from pyapi.gateways.account import PasswordAccount, TokenAccount
from pyapi.gateways.airflow import Airflow
from pyapi.gateways.connection import HttpConnection, NullConnection
from pyapi.services.airflow_courier import AirflowCourier
from pyapi.services.airflow_observer import AirflowObserver
from pyapi.services.attempt_service import AttemptPolicy
from pyapi.services.auth_service import TokenPolicy
from pyapi.services.calendar_service import CalendarDesk
from pyapi.services.list_items import ListTexts
from pyapi.services.password_service import PasswordService
from pyapi.services.result_keeper import ResultKeeper
from pyapi.services.schedule_keeper import ScheduleKeeper
from pyapi.services.worker_threads import WorkerThreads
from pyapi.settings import Settings
from pyapi.utils.auth import PasswordHasher, TokenSigner
from pyapi.utils.opaque import Opaque
from pyapi.utils.sealing import Sealer
from pyapi.web import metrics

CALENDAR_QUEUE = 4
"""Different calendars that may wait to be made; each takes a second of a core for 10,000 records."""

ATTEMPT_PLACES = 2
"""Attempts that a worker counts at once: those of one address wait for each other, and each keeps a connection."""


@asynccontextmanager
async def lifespan(app: FastAPI, *, settings: Settings) -> AsyncIterator[None]:
    """Open the database and everything else that `pyapi.utils.dependencies` hands out.

    Without DATABASE_URL the embedded server is used: the one that `python -m pyapi` runs or, under a bare `uvicorn` or
    `gunicorn`, one that the first worker starts. It is started on this thread, because Linux ties a child's fate to the
    thread that made it.
    """
    server = None
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    else:
        url, server = attach_or_start(settings.data_dir)
    try:
        await prepare_schema(url, migrate=settings.migrate_on_start)
        size = settings.database_pool_size
        engine = create_engine(url, pool_size=size)
        passwords = PasswordService(PasswordHasher(rounds=settings.password_hash_rounds), threads=os.cpu_count() or 1)
        calendar_threads = WorkerThreads("calendar", threads=1, queue=1)
        app.state.database = database = Database.on(engine, record_places=max(1, size - RESERVED_CONNECTIONS))
        app.state.passwords = passwords
        app.state.list_texts = ListTexts()
        app.state.calendar_desk = CalendarDesk(calendar_threads, waiting=CALENDAR_QUEUE)
        app.state.tokens = token_policy(settings)
        app.state.sealer = Sealer(settings.sealing_keys())
        app.state.cursors = opaque(settings)
        app.state.attempt_policy = attempt_policy(settings)
        app.state.attempt_places = asyncio.Semaphore(ATTEMPT_PLACES)
        app.state.anonymous_read = settings.anonymous_read
        app.state.registration_open = settings.registration_open
        app.state.default_visibility = settings.default_visibility
        app.state.airflow = airflow = airflow_of(settings)
        try:
            # With places and a circuit of its own: whatever people ask of Airflow, it hears of their changes.
            async with kept_schedules(database), kept_link(airflow_of(settings), database, url):
                yield
        finally:
            await airflow.close()
            passwords.close()
            calendar_threads.close()
            await engine.dispose()
    finally:
        if server is not None:
            server.stop()


@asynccontextmanager
async def kept_schedules(database: Database) -> AsyncIterator[None]:
    """What is stored about next runs is kept true meanwhile."""

    @asynccontextmanager
    async def schedules() -> AsyncIterator[ScheduleDAO]:
        async with transaction(database.transactions) as session:
            yield ScheduleDAO(session)

    keeper = asyncio.create_task(ScheduleKeeper(schedules).run(), name="schedule-keeper")
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])


@asynccontextmanager
async def kept_link(airflow: Airflow, database: Database, url: str) -> AsyncIterator[None]:
    """One of all workers tells Airflow what it has to know, and keeps what Airflow has; nobody without an Airflow."""
    if airflow.url is None:
        yield
        return

    @asynccontextmanager
    async def outbox() -> AsyncIterator[AirflowOutboxDAO]:
        async with transaction(database.transactions) as session:
            yield AirflowOutboxDAO(session)

    @asynccontextmanager
    async def seen() -> AsyncIterator[AirflowSeenDAO]:
        async with transaction(database.transactions) as session:
            yield AirflowSeenDAO(session)

    @asynccontextmanager
    async def results() -> AsyncIterator[RunResultDAO]:
        async with transaction(database.transactions) as session:
            yield RunResultDAO(session)

    async def work(woken: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(AirflowCourier(airflow, outbox).run(woken))
            # Only this worker counts, and the numbers of all workers are added up.
            keeper = ResultKeeper(airflow, results, metrics)
            group.create_task(AirflowObserver(airflow, seen, keeper).run())

    link = asyncio.create_task(lead(url, work), name="airflow-link")
    try:
        yield
    finally:
        link.cancel()
        await asyncio.wait([link])
        await airflow.close()


def airflow_of(settings: Settings) -> Airflow:
    """The Airflow of the settings, or the one that is not there."""
    if settings.airflow_url is None:
        return Airflow(NullConnection())
    return Airflow(HttpConnection(settings.airflow_url, _account(settings, settings.airflow_url)))


def _account(settings: Settings, url: str) -> httpx.Auth:
    if settings.airflow_token is not None:
        return TokenAccount(settings.airflow_token.get_secret_value())
    assert settings.airflow_username is not None
    assert settings.airflow_password is not None
    password = settings.airflow_password.get_secret_value()
    return PasswordAccount(url, username=settings.airflow_username, password=password)


def opaque(settings: Settings) -> Opaque:
    """What this installation encrypts for those who hand it back."""
    previous = _previous_key(settings)
    return Opaque([settings.signing_key(), *([previous] if previous is not None else [])])


def _previous_key(settings: Settings) -> str | None:
    return settings.secret_key_previous.get_secret_value() if settings.secret_key_previous is not None else None


def token_policy(settings: Settings) -> TokenPolicy:
    """How this installation signs tokens and how long they live."""
    return TokenPolicy(
        signer=TokenSigner(settings.signing_key(), previous_key=_previous_key(settings)),
        access_lifetime=timedelta(minutes=settings.access_token_expire_minutes),
        session_lifetime=timedelta(days=settings.refresh_token_expire_days),
    )


def attempt_policy(settings: Settings) -> AttemptPolicy | None:
    """How often something may be tried; None when the limits are switched off."""
    if not settings.rate_limit_enabled:
        return None
    return AttemptPolicy(
        passwords_per_minute=settings.login_max_per_minute,
        wrong_passwords=settings.login_max_failures,
        wrong_passwords_per_address=settings.login_max_failures_per_address,
        password_window=timedelta(minutes=settings.login_window_minutes),
        registrations=settings.register_max_per_hour,
        key=settings.signing_key().encode(),
    )
