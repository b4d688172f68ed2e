"""Secrets are sealed in their place: nothing of them is readable, nothing of them is lost, and masks stay the same."""

import json
import math
import time
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from pyapi.utils.credentials import MASK, SEALED, mask_text
from pyapi.utils.masking import mask_secrets
from pyapi.utils.sealing import NotExact, Sealer, tokens_in
from pyapi.utils.unmasking import restore_secrets
from tests.unit.test_masking import HOSTILE, ORDINARY_KEYS, WITH_SECRET, WITHOUT_SECRET
from tests.unit.test_masking import texts as odd_texts

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
SEALER = Sealer([NEW, OLD])
FOREIGN = str(Sealer([OTHER]).seal({"password": "x"})["password"])
OWN = str(SEALER.seal({"password": "of another record"})["password"])


def written(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# --- Texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", WITHOUT_SECRET)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert SEALER.seal(text) == text


@pytest.mark.parametrize("text", WITH_SECRET)
def test_no_part_of_a_secret_is_left(text: str) -> None:
    sealed = SEALER.seal({"a": [text]})
    left = SEALED.sub("", written(sealed))  # a token is random text, in which any three letters stand now and then
    assert ("Qz7" in left, "x9W" in left) == (False, False)
    assert SEALER.open(sealed).value == {"a": [text]}


# In all others the token stands in the place of the secret. Where this one ends depends on what is in it.
SEALED_WHOLE = {"Password=Qz7 x9W;Server=host"}


@pytest.mark.parametrize("text", WITH_SECRET)
def test_a_sealed_text_is_masked_as_before(text: str) -> None:
    expected = MASK if text in SEALED_WHOLE else mask_text(text)
    assert mask_secrets(SEALER.seal(text)) == expected


def test_around_a_sealed_password_the_url_can_be_read() -> None:
    sealed = SEALER.seal("postgresql://etl:p@ss@host:5432/db")
    assert SEALED.sub("…", sealed) == "postgresql://etl:…@host:5432/db"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_cost_linear_time(text: str) -> None:
    before = time.process_time()
    assert SEALER.open(SEALER.seal(text)).value == text
    # What is quadratic takes from several seconds to hours.
    assert time.process_time() - before < 4


@pytest.mark.parametrize(
    "text", [FOREIGN, OWN, f"see {OWN}", f"postgresql://u:{OWN}@h", f"{OWN}{FOREIGN}", f"{OWN}==="]
)
def test_who_writes_a_token_does_not_get_it_opened(text: str) -> None:
    for value in (text, {"password": text}, {"secrets": [text]}):
        assert SEALER.open(SEALER.seal(value)).value == value


# --- Values under sensitive keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["geheim", "***", 4711, -1.5, 0, [], {}, [1, None, "x"], {"b": {"a": True}}, "\0[1]", "\ud800", "密碼", "null"],
)
def test_what_stands_under_a_sensitive_key_is_sealed_as_a_whole(value: Any) -> None:
    sealed = SEALER.seal({"password": value})
    assert SEALED.fullmatch(sealed["password"])
    assert written(SEALER.open(sealed).value) == written({"password": value})


@pytest.mark.parametrize("value", [None, True, False, "", math.inf])
def test_what_hides_nothing_stays_readable(value: Any) -> None:
    assert SEALER.seal({"password": value}) == {"password": value}


def test_a_sealer_without_keys_seals_nothing() -> None:
    value = {"password": "p", "url": "https://u:p@h", "old": OWN}
    assert Sealer().seal(value) == value
    assert Sealer().open(value).unreadable == {OWN}


# --- Any JSON ---------------------------------------------------------------------------------------------------------

keys = st.sampled_from(
    ["password", "token", "secrets", "name", "value", "url", "x", "a/b", FOREIGN, *ORDINARY_KEYS.split()[:3]]
)
texts = st.one_of(
    odd_texts, st.text(), st.sampled_from([*WITH_SECRET, "DB_PASSWORD", "DB_PASSWORD", FOREIGN, f"x {OWN}", "\0", MASK])
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts)
values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=4) | st.dictionaries(keys, below, max_size=4), max_leaves=12
)


@given(values)
def test_opening_gives_back_what_was_sealed(value: Any) -> None:
    assert written(SEALER.open(SEALER.seal(value)).value) == written(value)


def hides_the_same(sealed: Any, plain: Any) -> bool:
    """The same mask, or a text that is hidden as a whole."""
    if isinstance(plain, dict):
        return sealed.keys() == plain.keys() and all(hides_the_same(sealed[key], plain[key]) for key in plain)
    if isinstance(plain, list):
        return len(sealed) == len(plain) and all(map(hides_the_same, sealed, plain))
    return bool(sealed == plain or (sealed == MASK and isinstance(plain, str)))


@given(values)
def test_a_sealed_value_is_masked_as_the_plain_one(value: Any) -> None:
    assert hides_the_same(mask_secrets(SEALER.seal(value)), mask_secrets(value))


@given(values)
def test_nothing_secret_is_left_readable(value: Any) -> None:
    """With a mask in the place of each token, nothing is found that would have to be hidden."""
    bare = json.loads(SEALED.sub(MASK, written(SEALER.seal(value))))
    assert written(mask_secrets(bare)) == written(mask_infinite(bare))


@given(values)
def test_sealing_the_same_again_changes_nothing(value: Any) -> None:
    sealed = SEALER.seal(value)
    assert written(SEALER.seal(value, stored=sealed)) == written(sealed)


@given(values)
def test_what_was_shown_can_be_sent_back(value: Any) -> None:
    sealed = SEALER.seal({"top": value})
    shown = mask_secrets(sealed)
    restored, errors = restore_secrets(shown, SEALER.open(sealed).value, shown=shown)
    if errors:  # plain SQL may have stored "***" where it means nothing, or what is too deep
        return
    assert written(restored) == written(mask_infinite({"top": value}))


def mask_infinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: mask_infinite(below) for key, below in value.items()}
    if isinstance(value, list):
        return [mask_infinite(below) for below in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def test_other_secrets_than_before_get_other_tokens() -> None:
    before = SEALER.seal({"password": "a", "url": "https://u:p@h/x?token=t", "list": [{"token": "1"}]})
    after = SEALER.seal({"password": "b", "url": "https://u:p@h/y?token=t2", "list": [{"token": "1"}]}, stored=before)
    assert after["password"] != before["password"]
    assert SEALED.findall(after["url"])[0] == SEALED.findall(before["url"])[0]
    assert SEALED.findall(after["url"])[1] != SEALED.findall(before["url"])[1]
    assert after["list"] == before["list"]


def test_what_somebody_has_sealed_stays_sealed_wherever_it_goes() -> None:
    stored = [OWN, "x"]
    assert SEALER.seal(["of another record", "y"], stored=stored) == [OWN, "y"]
    moved = SEALER.seal(["y", "of another record"], stored=stored)
    assert (moved[0], SEALER.open(moved).value) == ("y", ["y", "of another record"])
    assert SEALED.fullmatch(moved[1])


def test_a_password_elsewhere_makes_no_secret_of_a_name() -> None:
    stored = SEALER.seal({"user": "etl", "password": "etl"})
    assert SEALER.seal({"user": "etl", "password": "etl"}, stored=stored)["user"] == "etl"


def test_equal_secrets_have_different_tokens() -> None:
    sealed = SEALER.seal({"password": "a", "token": "a"})
    assert sealed["password"] != sealed["token"]


# --- Tokens that no key opens -----------------------------------------------------------------------------------------

UNREADABLE: Any = {
    "password": FOREIGN,
    "note": FOREIGN,
    "url": f"postgresql://u:{FOREIGN}@h/db?token=plain",
    "secrets": {"a": FOREIGN, "b": "plain"},
}


def test_what_cannot_be_opened_stays_where_it_is() -> None:
    opened = SEALER.open(UNREADABLE)
    assert tuple(opened) == (UNREADABLE, [], {FOREIGN})


def test_what_cannot_be_opened_is_kept_and_the_rest_is_sealed() -> None:
    sealed = SEALER.seal(UNREADABLE, stored=UNREADABLE, unreadable={FOREIGN})
    assert "plain" not in written(sealed)
    assert SEALER.open(sealed).value == UNREADABLE
    found = Sealer([OTHER, NEW]).open(sealed).value
    assert found == json.loads(written(UNREADABLE).replace(FOREIGN, "x"))


def test_what_cannot_be_opened_is_masked() -> None:
    assert mask_secrets(UNREADABLE) == {
        "password": MASK,
        "note": MASK,
        "url": f"postgresql://u:{MASK}@h/db?token={MASK}",
        "secrets": MASK,
    }


def test_what_is_damaged_cannot_be_opened() -> None:
    damaged = [OWN[:-8], f"fernet:{Fernet(NEW).encrypt(bytes([255])).decode()}"]
    damaged += [f"fernet:{Fernet(NEW).encrypt(text).decode()}" for text in (bytes(1), b"\0{", b"\0" + b"[" * 100_000)]
    assert SEALER.open(damaged).unreadable == set(damaged)


def test_what_was_in_a_token_is_not_opened_again() -> None:
    assert SEALER.open(SEALER.seal({"password": OWN})).value == {"password": OWN}


def test_any_depth_is_opened_and_sealed() -> None:
    value: Any = {"url": "https://u:geheim@h"}
    for _ in range(5000):
        value = [value]
    sealed = SEALER.seal(value)
    opened = SEALER.open(sealed).value
    for _ in range(5000):
        (sealed,), (opened,) = sealed, opened
    assert "geheim" not in sealed["url"]
    assert opened == {"url": "https://u:geheim@h"}


def test_the_secrets_that_were_opened_are_told() -> None:
    sealed = SEALER.seal({"url": "https://u:p1@h/?token=p2", "password": "p3", "secrets": {"a": ["p4", 47], "b": None}})
    assert sorted(SEALER.open(sealed).secrets) == ["47", "p1", "p2", "p3", "p4"]


def test_places_that_hold_what_looks_like_a_token() -> None:
    value = {"a": [1, {"b/c": f"x{FOREIGN}"}], "b": FOREIGN[:12], FOREIGN: 1, "fernet": "fernet: my drink"}
    assert list(tokens_in(value)) == [("a", 1, "b/c")]


# --- Documents: what the tables hold, as text -------------------------------------------------------------------------


def test_a_document_is_renewed_and_nothing_else_in_it() -> None:
    by_old = str(Sealer([OLD]).seal({"password": "p"})["password"])
    document = (
        f'{{"a": "{by_old}", "{by_old}": 1.50, "b": ["\\"{by_old} \\f{by_old[1:]}", "{OWN}", "{FOREIGN}", 1e999]}}'
    )
    renewed = SEALER.renew(document)
    tokens = SEALED.findall(renewed.document)
    assert renewed.unreadable == 1
    assert SEALED.sub("…", renewed.document) == SEALED.sub("…", document)
    assert [found in document for found in tokens] == [False, True, False, True, True, True]
    assert Sealer([NEW]).open([f"fernet:{tokens[0]}", f"fernet:{tokens[2]}"]).value == ["p", "p"]


@given(values)
def test_a_renewed_document_holds_the_same(value: Any) -> None:
    sealed = Sealer([OLD]).seal({"top": value})
    renewed = json.loads(SEALER.renew(json.dumps(sealed, ensure_ascii=False)).document)
    assert written(Sealer([NEW]).open(renewed).value) == written(Sealer([OLD]).open(sealed).value)
    assert SEALER.renew(json.dumps(renewed)).document == json.dumps(renewed)


def test_a_plain_document_is_sealed_except_for_its_rule() -> None:
    document = f'{{"tags": ["token=t"], "url": "https://u:p@h", "old": "{OWN}", "password": {{"a": 1}}}}'
    sealed = json.loads(SEALER.seal_document(document, left=("tags", "schedule")))
    assert (sealed["tags"], sealed["old"]) == (["token=t"], OWN)
    assert SEALER.open(sealed).value == json.loads(document.replace(OWN, "of another record"))
    assert SEALER.seal_document(json.dumps(sealed), left=("tags",)) == json.dumps(sealed)


@pytest.mark.parametrize("document", ["{}", "[1, 2.50, null]", '"x"', "5", "null", '{"a": 1.50}'])
def test_a_document_without_secrets_is_the_same_text(document: str) -> None:
    assert SEALER.seal_document(document, left=()) == document


@pytest.mark.parametrize(
    "document",
    [f'{{"password": {number}}}' for number in ("1e400", "0.12345678901234567890123", "9" * 400)] + ["[" * 100_000],
)
def test_a_document_that_python_would_change_is_left_alone(document: str) -> None:
    with pytest.raises(NotExact):
        SEALER.seal_document(document, left=())
