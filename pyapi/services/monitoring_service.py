"""Whether this service can do its work right now."""

import asyncio

from pyapi.db.monitoring_dao import MonitoringDAO
from pyapi.exceptions import DatabaseUnavailable
from pyapi.schemas.monitoring_schemas import Components, Health

ANSWER_SECONDS = 1.5


class MonitoringService:
    """Asks each component, and never waits long for one."""

    def __init__(self, dao: MonitoringDAO) -> None:
        self._dao = dao

    async def health(self) -> Health:
        """The state of all components, in less than two seconds whatever happens."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._dao.ping()
        except (DatabaseUnavailable, TimeoutError):
            return Health(status="unavailable", components=Components(database="unavailable"))
        return Health(status="ok", components=Components(database="ok"))
