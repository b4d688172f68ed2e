"""Statements about what has to reach Airflow, and about what Airflow was last seen to have."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from pyapi.db.airflow_models import AirflowDag, AirflowLink, AirflowOutbox

LONGEST_REASON: Final = 500
LINK_ID: Final = 1


class OutboxRow(NamedTuple):
    """A record of whose status Airflow is to know; see AirflowOutbox."""

    record_id: int
    revision: int
    is_active: bool
    attempts: int
    told_at: datetime | None


class Backlog(NamedTuple):
    """How much waits to be delivered, and since when."""

    waiting: int
    oldest: datetime | None


class LinkRow(NamedTuple):
    """What is known of Airflow as a whole; see AirflowLink."""

    reached_at: datetime | None
    failing_since: datetime | None
    reason: str | None
    health: dict[str, Any] | None
    runs_seen_until: datetime | None


class SeenDag(NamedTuple):
    """The DAG of a record; see AirflowDag."""

    record_id: int
    revision: int | None
    is_paused: bool
    is_stale: bool
    is_scheduled: bool
    is_invalid: bool
    import_error: str | None


class SeenRun(NamedTuple):
    """The newest run of a record; see AirflowRun."""

    record_id: int
    run_id: str
    state: str
    run_type: str
    began_at: datetime
    start_date: datetime | None
    end_date: datetime | None


class DriftRow(NamedTuple):
    """A record of which Airflow does not have what it should; see `_DRIFT`."""

    record_id: int
    name: str | None
    problem: str
    since: datetime


_NOW = func.clock_timestamp()

# Only what differs is written: a row that stays as it is costs nothing, and `since` says when it began to be so.
_KEEP_DAGS = text("""
    INSERT INTO pyapi_airflow_dags AS d
        (record_id, revision, is_paused, is_stale, is_scheduled, is_invalid, import_error, since)
    SELECT s.*, clock_timestamp() FROM unnest(
        CAST(:record_id AS integer[]), CAST(:revision AS integer[]), CAST(:is_paused AS boolean[]),
        CAST(:is_stale AS boolean[]), CAST(:is_scheduled AS boolean[]), CAST(:is_invalid AS boolean[]),
        CAST(:import_error AS text[])) AS s
    ON CONFLICT (record_id) DO UPDATE SET
        revision = excluded.revision, is_paused = excluded.is_paused, is_stale = excluded.is_stale,
        is_scheduled = excluded.is_scheduled, is_invalid = excluded.is_invalid,
        import_error = excluded.import_error, since = excluded.since
    WHERE (d.revision, d.is_paused, d.is_stale, d.is_scheduled, d.is_invalid, d.import_error) IS DISTINCT FROM
          (excluded.revision, excluded.is_paused, excluded.is_stale, excluded.is_scheduled, excluded.is_invalid,
           excluded.import_error)
    """)
_KEEP_RUNS = text("""
    INSERT INTO pyapi_airflow_runs AS r (record_id, run_id, state, run_type, began_at, start_date, end_date)
    SELECT s.* FROM unnest(
        CAST(:record_id AS integer[]), CAST(:run_id AS text[]), CAST(:state AS text[]), CAST(:run_type AS text[]),
        CAST(:began_at AS timestamptz[]), CAST(:start_date AS timestamptz[]), CAST(:end_date AS timestamptz[])) AS s
    ON CONFLICT (record_id) DO UPDATE SET
        run_id = excluded.run_id, state = excluded.state, run_type = excluded.run_type,
        began_at = excluded.began_at, start_date = excluded.start_date, end_date = excluded.end_date
    WHERE (excluded.run_id = r.run_id OR excluded.began_at >= r.began_at)
      AND (excluded.run_id, excluded.state, excluded.began_at, excluded.start_date, excluded.end_date) IS DISTINCT FROM
          (r.run_id, r.state, r.began_at, r.start_date, r.end_date)
    """)
_PUT = text("""
    INSERT INTO pyapi_airflow_outbox (record_id, revision, is_active)
    SELECT wanted.id, coalesce(r.revision, 0), coalesce(r.status = 'active', false)
    FROM (SELECT CAST(:id AS integer) AS id) AS wanted LEFT JOIN pyapi_data_records r ON r.id = wanted.id
    ON CONFLICT (record_id) DO NOTHING
    """)
_CHANGING = text("""
    SELECT r.id FROM pyapi_data_records r LEFT JOIN pyapi_airflow_dags d ON d.record_id = r.id
    WHERE r.updated_at > clock_timestamp() - make_interval(secs => :within)
      AND CASE WHEN r.status = 'active'
               THEN d.record_id IS NULL OR d.is_stale OR d.revision IS DISTINCT FROM r.revision
               ELSE coalesce(d.is_scheduled AND NOT d.is_stale, false) END
    ORDER BY r.updated_at DESC LIMIT :most
    """)
# What is still on its way is no drift: what waits in the outbox, and what changed a moment ago.
_DRIFT = text("""
    SELECT coalesce(r.id, d.record_id), r.name,
        CASE
            WHEN r.id IS NULL OR r.status <> 'active' THEN 'scheduled'
            WHEN d.record_id IS NULL OR d.is_stale THEN 'missing'
            WHEN d.import_error IS NOT NULL THEN 'import_error'
            WHEN d.revision IS DISTINCT FROM r.revision THEN 'outdated'
            ELSE 'paused'
        END,
        greatest(r.updated_at, d.since)
    FROM pyapi_data_records r FULL JOIN pyapi_airflow_dags d ON d.record_id = r.id
    WHERE CASE
            WHEN r.id IS NULL OR r.status <> 'active' THEN d.is_scheduled AND NOT d.is_stale AND NOT d.is_paused
            ELSE d.record_id IS NULL OR d.is_stale OR d.is_paused OR d.import_error IS NOT NULL
                 OR d.revision IS DISTINCT FROM r.revision
        END
      AND coalesce(r.updated_at, d.since) < clock_timestamp() - make_interval(secs => :grace)
      AND NOT EXISTS (
          SELECT FROM pyapi_airflow_outbox o WHERE o.record_id IN (r.id, d.record_id))
    ORDER BY 1 LIMIT :most
    """)
_FORGET_DAGS = text("""
    DELETE FROM pyapi_airflow_dags d
    WHERE d.is_stale AND NOT EXISTS (SELECT FROM pyapi_data_records r WHERE r.id = d.record_id)
    """)
_FORGET_RUNS = text("""
    DELETE FROM pyapi_airflow_runs x
    WHERE NOT EXISTS (SELECT FROM pyapi_data_records r WHERE r.id = x.record_id)
    """)


class AirflowOutboxDAO:
    """Rows of `pyapi_airflow_outbox`. Each is named with its revision: one that changed meanwhile is another one."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def due(self, *, most: int) -> list[OutboxRow]:
        """What is to be delivered now, in the order in which it changed."""
        columns = [getattr(AirflowOutbox, field) for field in OutboxRow._fields]
        statement = select(*columns).where(AirflowOutbox.next_attempt_at <= _NOW)
        rows = await self._session.execute(
            statement.order_by(AirflowOutbox.queued_at, AirflowOutbox.record_id).limit(most)
        )
        return [OutboxRow._make(row) for row in rows]

    async def put(self, record_id: int) -> None:
        """Tell Airflow again what holds of a record, unless that is about to happen anyway."""
        await self._session.execute(_PUT, {"id": record_id})

    async def delete(self, row: OutboxRow) -> None:
        """Airflow knows."""
        await self._session.execute(delete(AirflowOutbox).where(AirflowOutbox.record_id.in_(_unlocked(row))))

    async def postpone(self, row: OutboxRow, *, seconds: float, is_told: bool) -> None:
        """Look at it again later; `is_told` says whether Airflow knows by now."""
        values: dict[str, Any] = {
            "attempts": AirflowOutbox.attempts + 1,
            "next_attempt_at": _NOW + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
        }
        if is_told:
            values["told_at"] = func.coalesce(AirflowOutbox.told_at, _NOW)
        await self._session.execute(
            update(AirflowOutbox).where(AirflowOutbox.record_id.in_(_unlocked(row))).values(**values)
        )

    async def backlog(self) -> Backlog:
        """What Airflow was not told so far."""
        statement = select(func.count(), func.min(AirflowOutbox.queued_at)).where(AirflowOutbox.told_at.is_(None))
        return Backlog._make((await self._session.execute(statement)).one())


def _unlocked(row: OutboxRow) -> Select[int]:
    """The row, unless it has changed or somebody is about to change it: nobody waits for their transaction."""
    return (
        select(AirflowOutbox.record_id)
        .where(AirflowOutbox.record_id == row.record_id, AirflowOutbox.revision == row.revision)
        .with_for_update(skip_locked=True)
    )


class AirflowSeenDAO:
    """What Airflow was last seen to have."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def link(self) -> LinkRow:
        """What is known of Airflow as a whole."""
        columns = [getattr(AirflowLink, field) for field in LinkRow._fields]
        row = (await self._session.execute(select(*columns))).one_or_none()
        return LinkRow._make(row) if row is not None else LinkRow(None, None, None, None, None)

    async def keep_reached(self, health: dict[str, Any]) -> None:
        """Airflow has answered."""
        await self._keep_link(reached_at=_NOW, failing_since=None, reason=None, health=health)

    async def keep_failing(self, reason: str) -> None:
        """Airflow has not answered; since when stays as it is."""
        since = func.coalesce(select(AirflowLink.failing_since).scalar_subquery(), _NOW)
        await self._keep_link(failing_since=since, reason=reason[:LONGEST_REASON])

    async def keep_runs_seen_until(self, moment: datetime) -> None:
        """All changes of runs before this moment are known."""
        await self._keep_link(runs_seen_until=moment)

    async def _keep_link(self, **values: Any) -> None:
        statement = insert(AirflowLink).values(id=LINK_ID, **values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=[AirflowLink.id], set_=values))

    async def keep_dags(self, dags: Sequence[SeenDag]) -> None:
        """Write down DAGs, each of another record."""
        if dags:
            await self._session.execute(_KEEP_DAGS, _columns(SeenDag._fields, dags))

    async def keep_only(self, record_ids: Collection[int]) -> None:
        """All other DAGs are stale; what is left of deleted records goes."""
        await self._session.execute(
            update(AirflowDag)
            .where(AirflowDag.is_stale.is_(False), AirflowDag.record_id != func.all(list(record_ids)))
            .values(is_stale=True, is_scheduled=False, since=_NOW)
        )
        await self._session.execute(_FORGET_DAGS)
        await self._session.execute(_FORGET_RUNS)

    async def keep_runs(self, runs: Sequence[SeenRun]) -> None:
        """Write down runs, each of another record, unless a later one is known."""
        if runs:
            await self._session.execute(_KEEP_RUNS, _columns(SeenRun._fields, runs))

    async def changing(self, *, within_seconds: float, most: int) -> list[int]:
        """Records that changed so recently, and of which Airflow was not yet seen to have the change."""
        return list(await self._session.scalars(_CHANGING, {"within": within_seconds, "most": most}))

    async def drift(self, *, grace_seconds: float, most: int) -> list[DriftRow]:
        """Records of which Airflow does not have what it should, by id.

        `scheduled`: it would start runs, and must not; `missing`: no DAG; `outdated`: an older revision; `paused`,
        `import_error`: as they say.
        """
        rows = await self._session.execute(_DRIFT, {"grace": grace_seconds, "most": most})
        return [DriftRow._make(row) for row in rows]


def _columns(fields: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {field: [row[number] for row in rows] for number, field in enumerate(fields)}
