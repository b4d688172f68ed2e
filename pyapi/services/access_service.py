"""Who may see and change a data record; the owner decides, or an admin."""

from collections.abc import Iterator
from typing import Any

from pyapi.db.access_dao import AccessDAO
from pyapi.db.dao import DataRecordDAO, RecordRow
from pyapi.enums import Visibility
from pyapi.exceptions import FieldError, NotFound, PermissionDenied, ValidationFailed
from pyapi.schemas.access_schemas import AccessRead, AccessWrite, GrantRead
from pyapi.services.audit_trail import AuditTrail, Target
from pyapi.services.auth_service import Caller
from pyapi.utils.changes import Change, find_changes


class AccessService:
    """The visibility of records and their grants, for one caller."""

    def __init__(self, records: DataRecordDAO, access: AccessDAO, caller: Caller, audit: AuditTrail) -> None:
        self._records = records
        self._access = access
        self._caller = caller
        self._audit = audit

    async def get(self, record_id: int) -> AccessRead:
        """Who may see and change a record. Raises NotFound, PermissionDenied."""
        return await self._read(self._own(await self._records.get(record_id)))

    async def replace(self, record_id: int, request: AccessWrite) -> AccessRead:
        """Share a record with these people and no others. Raises NotFound, PermissionDenied, ValidationFailed."""
        row = self._own(await self._records.lock(record_id))
        before = await self._read(row)
        await self._access.replace(record_id, await self._permissions(row, request), granted_by=self._caller.user_id)
        changes: dict[str, Any] = request.model_dump(include={"visibility"})
        if changes:
            await self._records.act_as(user_id=self._caller.user_id, username=self._caller.username)
            row = await self._records.update(record_id, **changes)
        after = await self._read(row)
        await self._audit.record("data.shared", Target("record", record_id), changes=_changes(before, after))
        return after

    def _own(self, row: RecordRow | None) -> RecordRow:
        if row is None:
            raise NotFound("There is no data record with this id.")
        if row.owner_id != self._caller.user_id and not self._caller.is_superuser:
            raise PermissionDenied("Only the owner of this record or an admin decides who may see and change it.")
        return row

    async def _permissions(self, row: RecordRow, request: AccessWrite) -> dict[int, str]:
        """What each user may do, by id. Raises ValidationFailed for all names that cannot be meant."""
        known = await self._access.user_ids([grant.username for grant in request.grants])
        permissions: dict[int, str] = {}
        errors = []
        for number, grant in enumerate(request.grants):
            user_id = known.get(grant.username.lower())
            if user_id is None:
                text = "There is no such user."
            elif user_id in permissions:
                text = "Name each user once."
            elif user_id == row.owner_id:
                text = "The owner may do everything already: leave them out."
            else:
                permissions[user_id] = grant.permission.value
                continue
            errors.append(FieldError(text, f"/body/grants/{number}/username"))
        if errors:
            raise ValidationFailed(errors)
        return permissions

    async def _read(self, row: RecordRow) -> AccessRead:
        return AccessRead(
            visibility=Visibility(row.visibility),
            owner=await self._access.username(row.owner_id) if row.owner_id is not None else None,
            revision=row.revision,
            grants=[GrantRead(**grant._asdict()) for grant in await self._access.grants(row.id)],
        )


def _changes(before: AccessRead, after: AccessRead) -> Iterator[Change]:
    old, new = _told(before), _told(after)
    return find_changes(old, new, shown_before=old, shown_after=new)


def _told(access: AccessRead) -> dict[str, Any]:
    """What the audit log keeps: names, because users may be deleted."""
    return {
        "visibility": access.visibility.value,
        "grants": {grant.username: grant.permission.value for grant in access.grants},
    }
