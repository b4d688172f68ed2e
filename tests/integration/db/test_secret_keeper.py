"""Encrypting what is stored, and changing the key, while others read and write: in transactions that really commit."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pyapi.db.database import Database
from pyapi.db.dependencies import transaction
from pyapi.db.engine import parse_database_url
from pyapi.db.secret_dao import Place, SecretDAO
from pyapi.services.secret_keeper import Progress, SecretKeeper
from pyapi.utils.sealing import Sealer
from tests.integration.db.conftest import NewEngine, NewRole

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
ROWS = 300
BOTH = Sealer([NEW, OLD])
RECORDS = "SELECT id, config FROM pyapi_data_records ORDER BY id"
REVISIONS = (
    "SELECT record_id, state -> 'config' FROM pyapi_data_revisions WHERE change_kind <> 'deleted' ORDER BY change_id"
)
ALL_BUT_CONFIGS = """
    SELECT (to_jsonb(r) - 'config')::text FROM pyapi_data_records r
    UNION ALL SELECT (to_jsonb(s) - 'state')::text || (s.state - 'config')::text FROM pyapi_data_revisions s
    UNION ALL SELECT to_jsonb(o)::text FROM pyapi_airflow_outbox o ORDER BY 1
    """


def plain(number: int) -> dict[str, Any]:
    """The config of a record that SQL has written."""
    return {
        "source": f"postgresql://etl:geheim-{number}@h/db",
        "target": {"password": f"geheim-{number}", "at": 1.5},
        "schedule": "0 9 * * *",
    }


@pytest.fixture
async def engine(committing: AsyncEngine) -> AsyncEngine:
    """Tables without a row; the first id is 1."""
    for table in ("pyapi_data_records", "pyapi_data_revisions", "pyapi_airflow_outbox"):
        await write(committing, f"DELETE FROM {table}")
    await write(committing, "SELECT setval('pyapi_data_records_id_seq', 1, false)")
    return committing


async def write(engine: AsyncEngine, statement: str, **parameters: Any) -> Any:
    async with engine.begin() as connection:
        result = await connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else None


async def fill(engine: AsyncEngine, sealer: Sealer, number: int = ROWS) -> None:
    """Records by SQL, half of which were changed once; what follows from their schedules is there."""
    configs = [sealer.seal(plain(place)) for place in range(number)]
    await write(
        engine,
        """INSERT INTO pyapi_data_records (name, config, status, created_at)
        SELECT 'x', c, CASE WHEN n % 2 = 0 THEN 'active' ELSE 'inactive' END, '2026-01-01'
        FROM jsonb_array_elements(CAST(:configs AS jsonb)) WITH ORDINALITY AS t (c, n) ORDER BY n""",
        configs=json.dumps(configs),
    )
    await write(engine, "UPDATE pyapi_data_records SET name = 'y' WHERE id % 2 = 0")


def keeper(engine: AsyncEngine, sealer: Sealer, *, batch: int = 40) -> SecretKeeper:
    return SecretKeeper(stores_of(engine), sealer, batch=batch)


def stores_of(engine: AsyncEngine) -> Callable[[Place], AbstractAsyncContextManager[SecretDAO]]:
    database = Database.on(engine)

    @asynccontextmanager
    async def stores(place: Place) -> AsyncIterator[SecretDAO]:
        async with transaction(database.transactions) as session:
            yield SecretDAO(session, place)

    return stores


async def last_steps(steps: AsyncIterator[Progress]) -> dict[Place, Progress]:
    """How the work on each table has ended."""
    return {step.place: step async for step in steps}


async def opened(engine: AsyncEngine, sealer: Sealer, statement: str) -> list[tuple[int, Any]]:
    return [(row[0], sealer.open(row[1]).value) for row in await write(engine, statement)]


def ended(place: Place, total: int, changed: int, unreadable: int = 0) -> Progress:
    return Progress(place, total, total, changed, unreadable)


# --- Encrypting for the first time ------------------------------------------------------------------------------------


async def test_what_is_stored_readable_is_encrypted(engine: AsyncEngine) -> None:
    await fill(engine, Sealer())
    before = await opened(engine, BOTH, RECORDS), await opened(engine, BOTH, REVISIONS)
    steps = await last_steps(keeper(engine, BOTH).encrypt())
    revisions = ROWS + ROWS // 2
    assert list(steps.values()) == [
        ended(Place.RECORDS, ROWS, ROWS),
        ended(Place.REVISIONS, revisions, revisions),
    ]
    assert "geheim" not in str([await write(engine, RECORDS), await write(engine, REVISIONS)])
    assert (await opened(engine, BOTH, RECORDS), await opened(engine, BOTH, REVISIONS)) == before


async def test_encrypting_again_changes_nothing(engine: AsyncEngine) -> None:
    await fill(engine, BOTH, 10)
    before = await write(engine, RECORDS)
    steps = await last_steps(keeper(engine, BOTH).encrypt())
    assert [step.changed for step in steps.values()] == [0, 0]
    assert await write(engine, RECORDS) == before


async def test_what_cannot_be_kept_exactly_is_left_alone_and_counted(engine: AsyncEngine) -> None:
    configs = [
        '{"password": "p", "x": 1e400}',
        '{"password": "p", "x": ' + "9" * 400 + "}",
        '{"password": "p", "x": ' + "[" * 3000 + "]" * 3000 + "}",
        '{"password": "p", "x": 1.50}',
        "null",
    ]
    for config in configs:
        await write(engine, "INSERT INTO pyapi_data_records (name, config) VALUES ('x', CAST(:c AS jsonb))", c=config)
    before = await write(engine, "SELECT config::text FROM pyapi_data_records ORDER BY id")
    steps = await last_steps(keeper(engine, BOTH).encrypt())
    after = await write(engine, "SELECT config::text FROM pyapi_data_records ORDER BY id")
    assert steps[Place.RECORDS] == ended(Place.RECORDS, 5, 1, unreadable=3)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, True, False, True]


# --- Another key ------------------------------------------------------------------------------------------------------


async def test_after_a_rotation_the_old_key_can_go(engine: AsyncEngine) -> None:
    await fill(engine, Sealer([OLD]))
    before = await opened(engine, BOTH, RECORDS), await opened(engine, BOTH, REVISIONS)
    steps = await last_steps(keeper(engine, BOTH).rotate())
    revisions = ROWS + ROWS // 2
    assert list(steps.values()) == [
        ended(Place.RECORDS, ROWS, ROWS),
        ended(Place.REVISIONS, revisions, revisions),
    ]
    newest = Sealer([NEW])
    assert (await opened(engine, newest, RECORDS), await opened(engine, newest, REVISIONS)) == before


@pytest.mark.parametrize("work", [SecretKeeper.rotate, SecretKeeper.encrypt])
async def test_it_is_no_change_of_any_record(
    engine: AsyncEngine, work: Callable[[SecretKeeper], AsyncIterator[Progress]]
) -> None:
    await fill(engine, Sealer([OLD] if work is SecretKeeper.rotate else []), 20)
    await write(
        engine,
        "WITH w AS (SELECT set_config('pyapi.schedules_computed', 'true', true) AS w) UPDATE pyapi_data_records"
        " SET next_run_at = '2027-01-01', schedule_summary = '{\"kind\": \"cron\"}' FROM w WHERE w.w = 'true'",
    )
    before = await write(engine, ALL_BUT_CONFIGS), await write(engine, "SELECT pyapi_change_counter()")
    assert "2027-01-01" in str(before)
    await last_steps(work(keeper(engine, BOTH)))
    assert (await write(engine, ALL_BUT_CONFIGS), await write(engine, "SELECT pyapi_change_counter()")) == before


async def test_rotating_again_changes_nothing(engine: AsyncEngine) -> None:
    await fill(engine, Sealer([OLD]), 20)
    await last_steps(keeper(engine, BOTH).rotate())
    before = await write(engine, RECORDS)
    assert [step.changed for step in (await last_steps(keeper(engine, BOTH).rotate())).values()] == [0, 0]
    assert await write(engine, RECORDS) == before


async def test_a_rotation_that_was_stopped_can_be_started_again(engine: AsyncEngine) -> None:
    await fill(engine, Sealer([OLD]), 100)
    steps = keeper(engine, BOTH, batch=30).rotate()
    assert (await anext(steps)).changed == 30
    await steps.aclose()  # type: ignore[attr-defined]  # it is a generator
    again = await last_steps(keeper(engine, BOTH).rotate())
    assert (again[Place.RECORDS].changed, again[Place.REVISIONS].changed) == (70, 150)


async def test_what_no_key_opens_stays_and_is_counted(engine: AsyncEngine) -> None:
    await fill(engine, Sealer([OTHER]), 2)
    await fill(engine, Sealer([OLD]), 2)
    before = await write(engine, RECORDS)
    steps = await last_steps(keeper(engine, BOTH).rotate())
    assert (steps[Place.RECORDS].changed, steps[Place.RECORDS].unreadable) == (2, 2)
    assert (await write(engine, RECORDS))[:2] == before[:2]


async def test_no_reader_ever_meets_what_it_cannot_open(engine: AsyncEngine) -> None:
    await fill(engine, Sealer([OLD]))
    done = asyncio.Event()
    unreadable: list[int] = []
    reads: list[int] = []

    async def read() -> None:
        while not done.is_set():
            for statement in (RECORDS, REVISIONS):
                found = [BOTH.open(row[1]) for row in await write(engine, statement)]
                reads.append(len(found))
                unreadable.extend(len(config.unreadable) for config in found)
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    await last_steps(keeper(engine, BOTH, batch=25).rotate())
    done.set()
    await reader
    assert (sum(unreadable), sum(reads) > 2 * ROWS) == (0, True)


async def test_what_others_write_meanwhile_is_not_lost(engine: AsyncEngine) -> None:
    """Somebody has a record open, changes it and commits while the keeper is at it; another one is deleted."""
    await fill(engine, Sealer([OLD]), 60)
    (first, *_), second, *_ = await write(engine, RECORDS)
    changed = Sealer([OLD]).seal({"password": "of the writer"})
    async with engine.connect() as connection:
        work = asyncio.create_task(last_steps(keeper(engine, BOTH, batch=10).rotate()))
        async with connection.begin():
            await connection.execute(
                text("UPDATE pyapi_data_records SET config = CAST(:c AS jsonb) WHERE id = :id"),
                {"c": json.dumps(changed), "id": first},
            )
            await connection.execute(text("DELETE FROM pyapi_data_records WHERE id = :id"), {"id": second[0]})
            await asyncio.sleep(0.3)
            assert not work.done()
    await work
    newest = Sealer([NEW])
    found = dict(await opened(engine, newest, RECORDS))
    assert (found[first], second[0] in found, len(found)) == ({"password": "of the writer"}, False, 59)
    everything = await write(engine, "SELECT record_id, state -> 'config' FROM pyapi_data_revisions")
    assert [newest.open(row[1]).unreadable for row in everything] == [frozenset()] * len(everything)


# --- The right to do it -----------------------------------------------------------------------------------------------

SNEAK = "SET pyapi.reencrypting = 'true'"


async def test_only_a_role_that_could_be_pyapi_changes_a_config_without_a_revision(
    engine: AsyncEngine, engines: NewEngine, new_role: NewRole
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    role_url = await new_role(url)
    role = parse_database_url(role_url).username
    await fill(engine, BOTH, 1)
    await write(engine, f"GRANT SELECT, UPDATE ON pyapi_data_records TO {role}")
    other = engines(role_url)
    async with other.begin() as connection:
        await connection.execute(text(SNEAK))
        await connection.execute(text("UPDATE pyapi_data_records SET config = '{}'"))
    kinds = await write(engine, "SELECT revision, changed_by_name FROM pyapi_data_revisions ORDER BY change_id")
    assert [tuple(row) for row in kinds][1:] == [(2, f"role:{role}")]


async def test_nothing_but_the_config_changes_that_way(engine: AsyncEngine) -> None:
    await fill(engine, BOTH, 1)
    async with engine.begin() as connection:
        await connection.execute(text(SNEAK))
        await connection.execute(text("UPDATE pyapi_data_records SET config = '{}', name = 'z', status = 'pending'"))
        await connection.execute(text("RESET pyapi.reencrypting"))
    rows = await write(engine, "SELECT name, status, config, revision FROM pyapi_data_records")
    assert [tuple(row) for row in rows] == [("x", "inactive", {}, 1)]
