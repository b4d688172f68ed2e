"""What of a config is stored: with its secrets back where they were masked, and none of them readable."""

from itertools import islice
from typing import Any, Final

from pyapi.exceptions import FieldError, ValidationFailed
from pyapi.schedules.rules import RULE_KEYS, parse_rule
from pyapi.services.schedule_service import at_pointer
from pyapi.services.stored_job import job_errors
from pyapi.utils.changes import is_same
from pyapi.utils.credentials import credentials_in, mask_text
from pyapi.utils.masking import JSON, mask_secrets
from pyapi.utils.pointers import escape
from pyapi.utils.sealing import Sealer, tokens_in
from pyapi.utils.unmasking import restore_secrets

FOREIGN_TOKEN = (
    "This is how PyAPI stores an encrypted secret. Write the secret itself, or '***' to keep the stored one."
)
SECRET_NAME = "The names of keys here are shown to everybody: leave credentials out of them."
SHOWN_SECRET = "Airflow shows this to everybody, so it must not hold a secret."
OWNERS_PART = "This record holds secrets: only its owner or an admin changes this part of it."
TOO_MANY = "This config holds more than 1,000 secrets. Name Airflow Connections instead."
MOST_SECRETS = 1000
"""Each costs some microseconds of a core whenever it is written or a task's log is read."""
FREE_KEYS: Final = frozenset({*RULE_KEYS, "batch_size", "mode", "schema_contract"})
"""When and how a record runs: none of them says where a secret is sent or whose it is, or brings one back."""

_MOST_ERRORS = 32


def storable_config(
    config: dict[str, Any] | None, *, stored: Any, sealer: Sealer, is_own: bool
) -> dict[str, Any] | None:
    """The config to store: every `***` is the stored secret again, Airflow can run it, and its secrets are sealed.

    What it moves is described as it has to be. A secret that did not change keeps its token, also one that no key
    opens. `is_own`: the owner of the record writes it, or an admin; others change only `FREE_KEYS` beside a secret.
    Raises ValidationFailed with all that stands against it.
    """
    shown = mask_secrets(stored)
    # Before anything else is judged: what else stands against a guess could tell whether it is right.
    if not is_own and not is_same(shown, stored) and (theirs := _owners_parts(config, stored, shown)):
        raise ValidationFailed(at_pointer(theirs, "/body/config"))
    if config is None:
        return None
    opened = sealer.open(stored)
    restored, errors = restore_secrets(config, opened.value, shown=shown)
    assert isinstance(restored, dict)
    _, wrong = parse_rule(config)
    errors = [
        *secret_names(config),
        *_foreign_tokens(config),
        *errors,
        *wrong,
        *_shown_secrets(restored),
        *_too_many(restored, sealer),
    ]
    # A '***' that nothing stands behind is no password, host or table that could be judged.
    told = {error.pointer for error in errors}
    errors += [error for error in job_errors(restored) if error.pointer not in told]
    if errors:
        raise ValidationFailed(at_pointer(errors, "/body/config"))
    sealed: dict[str, Any] = sealer.seal(restored, stored=stored, unreadable=opened.unreadable)
    return sealed


def _owners_parts(config: dict[str, Any] | None, stored: Any, shown: Any) -> list[FieldError]:
    """What of `config` is another than it is shown, and not for everybody to change who may write.

    A secret is sent where the rest of the config says, and no list of names knows all that say it. So all of the rest
    belongs to the owner; and with a secret instead of its `***` somebody would only learn whether they have guessed it.
    """
    if config is None or not isinstance(stored, dict):
        return [FieldError(OWNERS_PART, "")]
    changed = [
        key
        for key in dict.fromkeys([*config, *stored])
        if (key in config, key in stored) != (True, True) or not is_same(config[key], shown[key])
    ]
    free = {key for key in FREE_KEYS if is_same(shown.get(key), stored.get(key))}
    theirs = [key for key in changed if key not in free]
    return [FieldError(OWNERS_PART, f"/{escape(key)}") for key in theirs[:_MOST_ERRORS]]


def _foreign_tokens(config: dict[str, Any]) -> list[FieldError]:
    """Whoever can read the table could otherwise have the secrets of any record opened in a task of their own."""
    pointers = [_pointer(path) for path in tokens_in(config)]
    return [FieldError(FOREIGN_TOKEN, pointer) for pointer in sorted(pointers)[:_MOST_ERRORS]]


def secret_names(config: dict[str, Any]) -> list[FieldError]:
    """Objects with a credential in the name of a key; their own pointers, as those of the keys would repeat it."""
    errors: list[FieldError] = []
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(config, ())]
    while waiting and len(errors) < _MOST_ERRORS:
        found, path = waiting.pop()
        if isinstance(found, dict) and any(mask_text(key) != key for key in found):
            errors.append(FieldError(SECRET_NAME, _pointer(path)))
            continue
        places = found.items() if isinstance(found, dict) else enumerate(found)
        waiting += [(below, (*path, place)) for place, below in places if isinstance(below, dict | list)]
    return errors


def _pointer(path: tuple[str | int, ...]) -> str:
    return "".join(f"/{escape(str(part))}" for part in path)


def _shown_secrets(config: dict[str, JSON]) -> list[FieldError]:
    rule = {key: config[key] for key in RULE_KEYS if key in config}
    return [FieldError(SHOWN_SECRET, f"/{key}") for key in rule if mask_secrets(rule[key]) != rule[key]]


def _too_many(config: dict[str, Any], sealer: Sealer) -> list[FieldError]:
    count = sum(1 for _ in islice(credentials_in(config), MOST_SECRETS + 1)) if sealer.has_keys else 0
    return [FieldError(TOO_MANY, "")] if count > MOST_SECRETS else []
