"""Data records as people see them: credentials masked, schedules in words, what Airflow has made of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic_core import to_json

from pyapi.db.dao import RecordRow
from pyapi.exceptions import NotFound
from pyapi.schedules.languages import Language
from pyapi.schemas.constructed import chosen, constructed
from pyapi.schemas.data_schemas import DataItem, DataRead, DataSummary, DataSummaryItem
from pyapi.schemas.rendered import RenderedRecord
from pyapi.services.data_changes import shown_texts
from pyapi.services.deployment_service import deployment_fields
from pyapi.services.schedule_service import next_run_times, schedule_fields
from pyapi.utils.masking import mask_secrets

_SUMMARY_FIELDS: Final = DataSummaryItem.model_fields.keys() - {"schedule"}


@dataclass(frozen=True, slots=True)
class RecordViews:
    """How one request shows records. `is_linked`: what Airflow has of each record is known.

    What is stored is masked without being opened.
    """

    now: datetime
    language: Language
    is_linked: bool

    def record(self, row: RecordRow) -> RenderedRecord:
        """For those who are signed in."""
        fields = self._fields(row)
        fields["next_runs"] = next_run_times(row, now=self.now)
        # A model of it, and what FastAPI does with that, take three times as long as the JSON.
        return RenderedRecord(body=to_json(chosen(DataRead, fields)), id=row.id, revision=row.revision)

    def read(self, row: RecordRow) -> DataRead:
        """The same, to be compared with another."""
        return constructed(DataRead, self._fields(row) | {"next_runs": next_run_times(row, now=self.now)})

    def summary(self, row: RecordRow) -> RenderedRecord:
        """For strangers."""
        fields = self._summary_fields(row) | {"next_runs": next_run_times(row, now=self.now)}
        return RenderedRecord(body=to_json(chosen(DataSummary, fields)), id=row.id, revision=None)

    def item(self, row: RecordRow) -> DataItem:
        """The same in a list."""
        return constructed(DataItem, self._fields(row))

    def deployment(self, row: RecordRow, *, error: str | None) -> dict[str, Any]:
        """What Airflow has made of a record; `error` is why no schedule can be made of it."""
        return deployment_fields(row, error=error, now=self.now, is_linked=self.is_linked)

    def summary_item(self, row: RecordRow) -> DataSummaryItem:
        """The same in a list."""
        return DataSummaryItem.model_construct(**self._summary_fields(row))

    def _fields(self, row: RecordRow) -> dict[str, Any]:
        shown = row._asdict()
        shown |= shown_texts(shown)
        shown["config"] = mask_secrets(row.config)
        shown |= schedule_fields(row, now=self.now, language=self.language)
        shown |= self.deployment(row, error=shown["schedule_error"])
        return shown

    def _summary_fields(self, row: RecordRow) -> dict[str, Any]:
        """Nothing of what it does not show is looked through for secrets: strangers are many."""
        shown = {field: value for field, value in row._asdict().items() if field in _SUMMARY_FIELDS}
        shown |= shown_texts(shown)
        schedule = schedule_fields(row, now=self.now, language=self.language)
        return shown | schedule | {"schedule": _shown_schedule(row.config)}


def no_such_record() -> NotFound:
    """The same for what is not there and for what the caller may not see."""
    return NotFound("There is no data record with this id.")


def _shown_schedule(config: Any) -> Any:
    schedule = config.get("schedule") if isinstance(config, dict) else None
    if isinstance(schedule, bool) or not isinstance(schedule, str | int | float):
        return None
    return mask_secrets(schedule)
