"""What of a config is stored: with its secrets back where they were masked, and none of them readable."""

from itertools import islice
from typing import Any

from pyapi.exceptions import FieldError, ValidationFailed
from pyapi.schedules.rules import RULE_KEYS, parse_rule
from pyapi.services.schedule_service import at_pointer
from pyapi.services.stored_job import job_errors
from pyapi.utils.credentials import credentials_in
from pyapi.utils.masking import JSON, mask_secrets
from pyapi.utils.pointers import escape
from pyapi.utils.sealing import Sealer, tokens_in
from pyapi.utils.unmasking import restore_secrets

FOREIGN_TOKEN = (
    "This is how PyAPI stores an encrypted secret. Write the secret itself, or '***' to keep the stored one."
)
SHOWN_SECRET = "Airflow shows this to everybody, so it must not hold a secret."
TOO_MANY = "This config holds more than 1,000 secrets. Name Airflow Connections instead."
MOST_SECRETS = 1000
"""Each costs some microseconds of a core whenever it is written or a task's log is read."""

_MOST_ERRORS = 32


def storable_config(config: dict[str, Any] | None, *, stored: Any, sealer: Sealer) -> dict[str, Any] | None:
    """The config to store: every `***` is the stored secret again, Airflow can run it, and its secrets are sealed.

    What it moves is described as it has to be. A secret that did not change keeps its token, also one that no key
    opens. Raises ValidationFailed with all that stands against it.
    """
    if config is None:
        return None
    opened = sealer.open(stored)
    restored, errors = restore_secrets(config, opened.value, shown=mask_secrets(stored))
    assert isinstance(restored, dict)
    _, wrong = parse_rule(config)
    errors = [*_foreign_tokens(config), *errors, *wrong, *_shown_secrets(restored), *_too_many(restored, sealer)]
    # A '***' that nothing stands behind is no password, host or table that could be judged.
    told = {error.pointer for error in errors}
    errors += [error for error in job_errors(restored) if error.pointer not in told]
    if errors:
        raise ValidationFailed(at_pointer(errors, "/body/config"))
    sealed: dict[str, Any] = sealer.seal(restored, stored=stored, unreadable=opened.unreadable)
    return sealed


def _foreign_tokens(config: dict[str, Any]) -> list[FieldError]:
    """Whoever can read the table could otherwise have the secrets of any record opened in a task of their own."""
    pointers = ["".join(f"/{escape(str(part))}" for part in path) for path in tokens_in(config)]
    return [FieldError(FOREIGN_TOKEN, pointer) for pointer in sorted(pointers)[:_MOST_ERRORS]]


def _shown_secrets(config: dict[str, JSON]) -> list[FieldError]:
    rule = {key: config[key] for key in RULE_KEYS if key in config}
    return [FieldError(SHOWN_SECRET, f"/{key}") for key in rule if mask_secrets(rule[key]) != rule[key]]


def _too_many(config: dict[str, Any], sealer: Sealer) -> list[FieldError]:
    count = sum(1 for _ in islice(credentials_in(config), MOST_SECRETS + 1)) if sealer.has_keys else 0
    return [FieldError(TOO_MANY, "")] if count > MOST_SECRETS else []
