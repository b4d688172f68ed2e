"""Asks people who are signed in for their password again, before what a stolen access token must not do."""

from pyapi.db.auth_models import User
from pyapi.exceptions import FieldError, ValidationFailed
from pyapi.services.attempt_service import AttemptService
from pyapi.services.password_service import PasswordService


class CurrentPassword:
    """Compares the password of an account, under the limits of a login: no access token finds the password with it."""

    def __init__(self, passwords: PasswordService, attempts: AttemptService) -> None:
        self._passwords = passwords
        self._attempts = attempts

    async def require(self, user: User, password: str | None) -> None:
        """Raises ValidationFailed for a wrong one, TooManyRequests, Busy."""
        if password is None:
            raise wrong_current_password()
        self._passwords.require_room()
        async with self._attempts.password(user.username):
            if not await self._passwords.verify(password, user.hashed_password):
                raise wrong_current_password()


def wrong_current_password() -> ValidationFailed:
    """The refusal; also where the password has changed since it was compared."""
    return ValidationFailed([FieldError("Send your current password.", "/body/current_password")])
