"""Which records somebody may see and change, as conditions of statements: what nobody may see is never loaded."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, false, or_, select, true

from pyapi.db.models import DataGrant, DataRecord
from pyapi.enums import Permission, Visibility


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is looking; `user_id` is None for somebody who is not signed in. Admins see and change everything."""

    user_id: int | None
    is_admin: bool = False

    @property
    def visibilities(self) -> tuple[Visibility, ...]:
        """The records that need neither an owner nor a grant to be seen."""
        if self.is_admin:
            return tuple(Visibility)
        return (Visibility.PUBLIC,) if self.user_id is None else (Visibility.PUBLIC, Visibility.INTERNAL)

    def sees(self) -> ColumnElement[bool]:
        """Records that may be seen."""
        if self.is_admin:
            return true()
        by_all = DataRecord.visibility.in_(self.visibilities)
        if self.user_id is None:
            return by_all
        # A list of ids, not EXISTS: PostgreSQL reads the grants once for a whole page, and only if a row needs them.
        granted = select(DataGrant.record_id).where(DataGrant.user_id == self.user_id)
        return or_(by_all, DataRecord.owner_id == self.user_id, DataRecord.id.in_(granted))

    def writes(self) -> ColumnElement[bool]:
        """Records that may be changed and run."""
        if self.is_admin:
            return true()
        if self.user_id is None:
            return false()
        granted = select(DataGrant.record_id).where(
            DataGrant.user_id == self.user_id, DataGrant.permission == Permission.WRITE.value
        )
        return or_(DataRecord.owner_id == self.user_id, DataRecord.id.in_(granted))
