"""Access tokens, refresh tokens and the key behind them: what is accepted, and that nothing else is."""

import base64
import hashlib
import hmac
import json
import string
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any
from uuid import UUID

import pytest
import rsa
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jose import jwt

from pyapi.exceptions import ConfigurationError, InvalidToken
from pyapi.utils.auth import AccessClaims, TokenSigner, key_weakness, new_refresh_token, refresh_token_digest

KEY = "Zx8-8Q2v_0bT6yWkR3nJ5uLmH1cFgDsA7eP9oI4i"
OLD_KEY = "previous-aWqTz5_rYbNc2KmVx0LpHd7GfJs"
NOW = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)
SECOND = int(NOW.timestamp())
SESSION = UUID("6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
TOKEN_ID = "0b7c3f0e-2f55-4c39-9d0c-5a4f6a1d8e21"
HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS: dict[str, Any] = {
    "sub": "42",
    "sid": str(SESSION),
    "jti": TOKEN_ID,
    "typ": "access",
    "iat": SECOND,
    "exp": SECOND + 1800,
    "iss": "pyapi",
    "aud": "pyapi-api",
}
SIGNER = TokenSigner(KEY)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def forged(
    header: Any = HEADER, payload: Any = CLAIMS, *, key: bytes | str = KEY, digest: Callable[..., Any] = hashlib.sha256
) -> str:
    """A token with a right signature over whatever is given, so that only the oddity itself can be the reason."""
    parts = [value if isinstance(value, bytes) else compact(value) for value in (header, payload)]
    signing_input = ".".join(map(encoded, parts))
    secret = key if isinstance(key, bytes) else key.encode()
    return f"{signing_input}.{encoded(hmac.new(secret, signing_input.encode(), digest).digest())}"


def claiming(**changes: Any) -> str:
    return forged(payload={**CLAIMS, **changes})


def without(claim: str) -> str:
    return forged(payload={name: value for name, value in CLAIMS.items() if name != claim})


def resigned(signing_input: str) -> str:
    return f"{signing_input}.{encoded(hmac.new(KEY.encode(), signing_input.encode(), hashlib.sha256).digest())}"


def same_bytes(part: str) -> str:
    """The part with another last character that decodes to the same bytes (its unused bits set)."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    return part[:-1] + alphabet[alphabet.index(part[-1]) + 1]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


PUBLIC_KEY, PRIVATE_KEY = rsa.newkeys(512)
PUBLIC_PEM = PUBLIC_KEY.save_pkcs1().decode()
PRIVATE_PEM = PRIVATE_KEY.save_pkcs1().decode()
PUBLIC_DER = PUBLIC_KEY.save_pkcs1("DER")

VALID = forged()
HEAD, BODY, SIGNATURE = VALID.split(".")
MORE_BODY = encoded(compact(CLAIMS | {"iat": SECOND + 10**9}))

ODD_VALUES: tuple[Any, ...] = (None, True, 1.5, "", [], ["access"], {}, -1)

HOSTILE = {
    # no token at all
    "empty": "",
    "space": " ",
    "dots": "..",
    "three dots": "...",
    "many dots": "." * 2000,
    "NUL": "\0",
    "word": "null",
    "JSON": json.dumps({"payload": BODY, "protected": HEAD, "signature": SIGNATURE}),
    # the algorithm and the header (RFC 8725, 3.1; RFC 7515, 4.1)
    "alg none, no signature": forged({"alg": "none", "typ": "JWT"}).rpartition(".")[0] + ".",
    "alg none, signed": forged({"alg": "none", "typ": "JWT"}),
    "alg None": forged({"alg": "None", "typ": "JWT"}).rpartition(".")[0] + ".",
    "alg nOnE": forged({"alg": "nOnE", "typ": "JWT"}),
    "alg null": forged({"alg": None, "typ": "JWT"}),
    "alg missing": forged({"typ": "JWT"}),
    "alg empty": forged({"alg": "", "typ": "JWT"}),
    "alg list": forged({"alg": ["HS256"], "typ": "JWT"}),
    "alg hs256": forged({"alg": "hs256", "typ": "JWT"}),
    "alg HS384": forged({"alg": "HS384", "typ": "JWT"}, digest=hashlib.sha384),
    "alg HS512": forged({"alg": "HS512", "typ": "JWT"}, digest=hashlib.sha512),
    "alg HS512 under our header": forged(digest=hashlib.sha512),
    "alg RS256, real signature": jwt.encode(dict(CLAIMS), PRIVATE_PEM, algorithm="RS256"),
    "alg RS256, our key as HMAC": forged({"alg": "RS256", "typ": "JWT"}),
    "HS256 with a PEM public key as secret": forged(key=PUBLIC_PEM),
    "HS256 with a DER public key as secret": forged(key=PUBLIC_DER),
    "alg dir": forged({"alg": "dir", "enc": "A256GCM", "typ": "JWT"}),
    "JWE of five parts": f"{HEAD}.{BODY}.{BODY}.{BODY}.{SIGNATURE}",
    "typ of header wrong": forged({"alg": "HS256", "typ": "at+jwt"}),
    "typ of header missing": forged({"alg": "HS256"}),
    "header in another order": forged(b'{"typ":"JWT","alg":"HS256"}'),
    "header with spaces": forged(b'{"alg": "HS256", "typ": "JWT"}'),
    "header with a duplicate": forged(b'{"alg":"none","alg":"HS256","typ":"JWT"}'),
    "header with a byte order mark": forged(b"\xef\xbb\xbf" + compact(HEADER)),
    "header in UTF-16": forged(json.dumps(HEADER).encode("utf-16")),
    "header not UTF-8": forged(b"\xff\xfe\xfd"),
    "header is a list": forged([HEADER]),
    "header is null": forged(None),
    "header is empty": "." + BODY + "." + SIGNATURE,
    "header with crit": forged({**HEADER, "crit": ["exp"]}),
    "header with b64 false": forged({**HEADER, "b64": False, "crit": ["b64"]}),
    "header with kid": forged({**HEADER, "kid": "../../dev/null"}),
    "header with jku": forged({**HEADER, "jku": "https://evil.example/keys"}),
    "header with x5u": forged({**HEADER, "x5u": "https://evil.example/cert"}),
    "header with jwk": forged({**HEADER, "jwk": {"kty": "oct", "k": encoded(b"evil")}}, key=b"evil"),
    "header with zip": forged({**HEADER, "zip": "DEF"}),
    "header 33,000 deep": encoded(b"[" * 33_000) + ".e30.AA",
    "header 33,000 deep and closed": forged(nested(33_000)),
    "header 700 deep": forged(nested(700)),
    # the signature
    "signature missing": f"{HEAD}.{BODY}",
    "signature empty": f"{HEAD}.{BODY}.",
    "signature of zeros": f"{HEAD}.{BODY}.{encoded(bytes(32))}",
    "signature cut": f"{HEAD}.{BODY}.{SIGNATURE[:-4]}",
    "signature longer": f"{HEAD}.{BODY}.{SIGNATURE}AAAA",
    "signature twice": f"{VALID}.{SIGNATURE}",
    "signature in hexadecimal": f"{HEAD}.{BODY}.{base64.urlsafe_b64decode(SIGNATURE + '=').hex()}",
    "signature of another token": f"{HEAD}.{MORE_BODY}.{SIGNATURE}",
    "signed with another key": forged(key="another-key-of-more-than-thirty-two-bytes"),
    "signed with the empty key": forged(key=b""),
    "signed with one byte": forged(key=b"\0"),
    "signed with the README's key": forged(key="your-super-secret-key-change-in-production-min-32-chars"),
    # the spelling of the parts (RFC 7515, 2)
    "parts swapped": f"{BODY}.{HEAD}.{SIGNATURE}",
    "part in front": f"{HEAD}.{VALID}",
    "dot at the end": VALID + ".",
    "dot in front": "." + VALID,
    "padding on the signature": VALID + "=",
    "padding on the payload": resigned(f"{HEAD}.{BODY}=="),
    "padding on the header": resigned(f"{HEAD}==.{BODY}"),
    "last character of the signature": f"{HEAD}.{BODY}.{same_bytes(SIGNATURE)}",
    "last character of the payload": resigned(f"{HEAD}.{same_bytes(encoded(compact(CLAIMS | {'sub': '7'})))}"),
    "standard base64 in the signature": f"{HEAD}.{BODY}.{SIGNATURE[:-2]}+/",
    "space at the end": VALID + " ",
    "space in front": " " + VALID,
    "newline at the end": VALID + "\n",
    "newline in the payload": resigned(f"{HEAD}.{BODY[:8]}\n{BODY[8:]}"),
    "ignored character in the payload": resigned(f"{HEAD}.{BODY[:8]}!!!!{BODY[8:]}"),
    "tab": VALID.replace(".", ".\t", 1),
    "CRLF and a header": VALID + "\r\nX-Admin: 1",
    "Bearer twice": "Bearer " + VALID,
    "quoted": f'"{VALID}"',
    "full-width dot": VALID.replace(".", "．"),
    "full-width letter": "ｅ" + VALID[1:],
    "accent": VALID + "é",
    "accent in the payload": f"{HEAD}.é{BODY[1:]}.{SIGNATURE}",
    "accent in the signature": f"{HEAD}.{BODY}.é{SIGNATURE[1:]}",
    "zero-width space": VALID + "\u200b",
    "lone surrogate": VALID + "\ud800",
    "only lone surrogates": "\ud800.\udfff.\ud800",
    "digit of another script": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}٤",
    "1 MB": "A" * 1_000_000,
    "1 MB behind our header": f"{HEAD}.{'A' * 1_000_000}.{SIGNATURE}",
    "1 MB, signed": claiming(jti="A" * 750_000),
    "over 2,048 characters, signed": forged(payload=compact(CLAIMS) + b" " * 1400),
    # the payload, signed with our key
    "payload empty": resigned(f"{HEAD}."),
    "payload is not JSON": forged(payload=b"access"),
    "payload is a list": forged(payload=[CLAIMS]),
    "payload is a string": forged(payload="access"),
    "payload is null": forged(payload=None),
    "payload is an empty object": forged(payload={}),
    "payload not UTF-8": forged(payload=b'{"sub":"\xff"}'),
    "payload 33,000 deep": forged(payload=nested(33_000)),
    "payload 700 deep": forged(payload=nested(700)),
    "payload 1,400 open": forged(payload=b"[" * 1400),
    "payload with spaces": forged(payload=json.dumps(CLAIMS).encode()),
    "payload in another order": forged(payload=dict(reversed(CLAIMS.items()))),
    "payload with a duplicate": forged(payload=b'{"sub":"1",' + compact(CLAIMS)[1:]),
    "payload with an escape": forged(payload=compact(CLAIMS).replace(b"access", b"\\u0061ccess")),
    "payload with NaN": forged(payload=compact(CLAIMS).replace(b'"42"', b"NaN")),
    "payload with a lone surrogate": claiming(jti="\ud800"),
    "payload with 1e400": forged(payload=compact(CLAIMS).replace(b'"42"', b"1e400")),
    "payload with a claim we do not write": claiming(is_superuser=True),
    "payload with nbf": claiming(nbf=SECOND - 10),
    "payload with at_hash": claiming(at_hash="x"),
    # each claim
    **{f"{claim} missing": without(claim) for claim in CLAIMS},
    **{f"{claim} is {value!r}": claiming(**{claim: value}) for claim in CLAIMS for value in ODD_VALUES},
    "sub is a number": claiming(sub=42),
    "sub is 0": claiming(sub="0"),
    "sub is negative": claiming(sub="-1"),
    "sub is 2^31": claiming(sub=str(2**31)),
    "sub is huge": claiming(sub="9" * 900),
    "sub starts with 0": claiming(sub="042"),
    "sub has a sign": claiming(sub="+42"),
    "sub has a space": claiming(sub=" 42"),
    "sub has an underscore": claiming(sub="4_2"),
    "sub in Arabic digits": claiming(sub="٤٢"),
    "sub in full-width digits": claiming(sub="４２"),
    "sub has a fraction": claiming(sub="42.0"),
    "sub is a name": claiming(sub="admin"),
    "sid in capitals": claiming(sid=str(SESSION).upper()),
    "sid without hyphens": claiming(sid=SESSION.hex),
    "sid as URN": claiming(sid=SESSION.urn),
    "sid in braces": claiming(sid=f"{{{SESSION}}}"),
    "sid is no UUID": claiming(sid="6f9619ff"),
    "jti in capitals": claiming(jti=TOKEN_ID.upper()),
    "jti is no UUID": claiming(jti="1"),
    "typ refresh": claiming(typ="refresh"),
    "typ Access": claiming(typ="Access"),
    "iat as float": claiming(iat=float(SECOND)),
    "iat as text": claiming(iat=str(SECOND)),
    "iat huge": claiming(iat=10**400),
    "iat 61 seconds ahead": claiming(iat=SECOND + 62),
    "exp as float": claiming(exp=float(SECOND + 1800)),
    "exp as text": claiming(exp=str(SECOND + 1800)),
    "exp huge": claiming(exp=10**400),
    "exp in a thousand years": claiming(exp=SECOND + 10**10),
    "exp passed": claiming(iat=SECOND - 1800, exp=SECOND - 1),
    "exp this second": claiming(iat=SECOND - 1800, exp=SECOND),
    "exp before iat": claiming(iat=SECOND + 50, exp=SECOND + 40),
    "exp a day and a second after iat": claiming(exp=SECOND + 86_401),
    "iss of another service": claiming(iss="airflow"),
    "iss with a slash": claiming(iss="pyapi/"),
    "iss as list": claiming(iss=["pyapi"]),
    "aud of another service": claiming(aud="airflow"),
    "aud as list": claiming(aud=["pyapi-api"]),
    "aud as longer list": claiming(aud=["pyapi-api", "airflow"]),
}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that got as far as python-jose."""
    seen: list[str] = []
    decode = jwt.decode

    def spy(token: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        seen.append(token)
        return decode(token, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", spy)
    return seen


def sign(signer: TokenSigner = SIGNER, **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "user_id": 42,
        "session_id": SESSION,
        "issued_at": NOW,
        "expires_at": NOW + timedelta(minutes=30),
    }
    return signer.sign(**(arguments | changes))


# --- what is refused ---


def test_hostile_tokens_are_many_and_differ_from_the_valid_one() -> None:
    assert len(set(HOSTILE.values())) >= 67
    assert VALID not in HOSTILE.values()


@pytest.mark.parametrize("token", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_token_is_invalid(token: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        SIGNER.verify(token, now=NOW)
    assert caught.type is InvalidToken
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert caught.value.detail == InvalidToken.default_detail


@pytest.mark.parametrize("name", [name for name, token in HOSTILE.items() if len(token) > 1000])
def test_long_token_is_refused_in_short_time(name: str) -> None:
    start = time.process_time()
    with pytest.raises(InvalidToken):
        SIGNER.verify(HOSTILE[name], now=NOW)
    assert time.process_time() - start < 0.05


@pytest.mark.parametrize("token", [None, 42, b"", VALID.encode(), [VALID]], ids=str)
def test_what_is_not_text_is_invalid(token: Any) -> None:
    with pytest.raises(InvalidToken):
        SIGNER.verify(token, now=NOW)


@pytest.mark.parametrize(
    "name",
    [
        *[name for name in HOSTILE if name.startswith(("alg ", "header ")) and "under our header" not in name],
        "signature empty",
        "signature cut",
        "signature longer",
        "padding on the signature",
        "padding on the payload",
        "last character of the signature",
        "last character of the payload",
        "newline at the end",
        "ignored character in the payload",
        "accent",
        "accent in the payload",
        "accent in the signature",
        "lone surrogate",
        "1 MB, signed",
        "over 2,048 characters, signed",
    ],
)
def test_guard_stands_before_the_library(name: str, decoded: list[str]) -> None:
    with pytest.raises(InvalidToken):
        SIGNER.verify(HOSTILE[name], now=NOW)
    assert decoded == []


def test_library_is_told_the_one_algorithm_and_who_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    decode = jwt.decode

    def spy(token: str, key: Any, **kwargs: Any) -> dict[str, Any]:
        told.update(kwargs)
        return decode(token, key, **kwargs)

    monkeypatch.setattr(jwt, "decode", spy)
    TokenSigner(KEY).verify(VALID, now=NOW)
    assert (told["algorithms"], told["audience"], told["issuer"]) == (["HS256"], "pyapi-api", "pyapi")


def test_recursion_error_of_the_library_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(*args: Any, **kwargs: Any) -> None:
        raise RecursionError

    monkeypatch.setattr(jwt, "decode", deep)
    with pytest.raises(InvalidToken) as caught:
        TokenSigner(KEY).verify(VALID, now=NOW)
    assert caught.type is InvalidToken


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_token_is_never_accepted(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(VALID) - 1))
    removed = data.draw(st.integers(0, 4))
    added = data.draw(st.text(st.sampled_from(string.ascii_letters + string.digits + "-_.="), max_size=4))
    mutated = VALID[:position] + added + VALID[position + removed :]
    assume(mutated != VALID)
    with pytest.raises(InvalidToken):
        SIGNER.verify(mutated, now=NOW)


@pytest.mark.parametrize("position", range(len(VALID)))
def test_no_character_of_a_token_may_change(position: int) -> None:
    for other in "A_9":
        if VALID[position] != other:
            with pytest.raises(InvalidToken):
                SIGNER.verify(VALID[:position] + other + VALID[position + 1 :], now=NOW)


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_is_invalid(text: str) -> None:
    for token in (text, f"{HEAD}.{text}.{SIGNATURE}", f"{HEAD}.{BODY}.{text}"):
        assume(token != VALID)
        with pytest.raises(InvalidToken):
            SIGNER.verify(token, now=NOW)


@given(
    st.dictionaries(
        st.sampled_from(sorted(CLAIMS)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.lists(st.integers()),
        min_size=1,
    )
)
@settings(max_examples=300, deadline=None)
def test_signed_claims_of_any_value_are_invalid_or_true(changes: dict[str, Any]) -> None:
    """Even with our key: what comes out is what `sign` could have written, or nothing."""
    token = claiming(**changes)
    try:
        claims = SIGNER.verify(token, now=NOW)
    except InvalidToken:
        return
    assert {**CLAIMS, **changes} == {
        **CLAIMS,
        "sub": str(claims.user_id),
        "iat": int(claims.issued_at.timestamp()),
        "exp": int(claims.expires_at.timestamp()),
    }
    assert 1 <= claims.user_id < 2**31
    assert claims.expires_at > NOW


# --- what is accepted ---


def test_a_token_that_was_read_before_ends_all_the_same() -> None:
    signer = TokenSigner(KEY)
    token = signer.sign(user_id=1, session_id=UUID(int=5), issued_at=NOW, expires_at=NOW + timedelta(minutes=1))
    signer.verify(token, now=NOW)
    with pytest.raises(InvalidToken):
        signer.verify(token, now=NOW + timedelta(minutes=1))


def test_round_trip() -> None:
    claims = SIGNER.verify(sign(), now=NOW)
    issued = NOW.replace(microsecond=0)
    assert claims == AccessClaims(42, SESSION, claims.token_id, issued, issued + timedelta(minutes=30))
    assert isinstance(claims.token_id, UUID)
    assert claims.issued_at.utcoffset() == timedelta(0)


def test_token_that_the_hostile_ones_are_made_of_is_valid() -> None:
    assert SIGNER.verify(VALID, now=NOW).token_id == UUID(TOKEN_ID)


def test_claims_on_the_wire() -> None:
    header, payload, _ = sign().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == HEADER
    assert {**claims, "jti": TOKEN_ID} == CLAIMS
    assert len(sign(user_id=2**31 - 1)) < 400


def test_two_tokens_of_one_second_differ() -> None:
    first, second = (SIGNER.verify(sign(), now=NOW) for _ in range(2))
    assert first.token_id != second.token_id


@pytest.mark.parametrize("user_id", [1, 2**31 - 1])
def test_edges_of_user_id(user_id: int) -> None:
    assert SIGNER.verify(sign(user_id=user_id), now=NOW).user_id == user_id


def test_clock_is_the_one_passed_in() -> None:
    for year in (1999, 2126):
        now = datetime(year, 1, 1, tzinfo=UTC)
        token = sign(issued_at=now, expires_at=now + timedelta(seconds=5))
        assert SIGNER.verify(token, now=now + timedelta(seconds=4, microseconds=999_999)).user_id == 42
        with pytest.raises(InvalidToken):
            SIGNER.verify(token, now=now + timedelta(seconds=5))


def test_other_time_zone_is_the_same_instant() -> None:
    taipei = NOW.astimezone(timezone(timedelta(hours=8)))
    assert SIGNER.verify(sign(issued_at=taipei), now=taipei).issued_at == NOW.replace(microsecond=0)


def test_clock_of_another_machine_may_be_a_minute_ahead() -> None:
    assert SIGNER.verify(claiming(iat=SECOND + 60), now=NOW).issued_at.timestamp() == SECOND + 60


def test_longest_lifetime_is_a_day() -> None:
    token = sign(expires_at=NOW + timedelta(days=1))
    assert SIGNER.verify(token, now=NOW).expires_at.timestamp() == SECOND + 86_400


def test_issuer_and_audience_are_part_of_the_signer() -> None:
    other = TokenSigner(KEY, issuer="pyapi-staging", audience="staging")
    assert other.verify(sign(other), now=NOW).user_id == 42
    for reader, token in ((SIGNER, sign(other)), (other, sign())):
        with pytest.raises(InvalidToken):
            reader.verify(token, now=NOW)


def test_previous_key_is_read_and_never_signs() -> None:
    old, rotated = TokenSigner(OLD_KEY), TokenSigner(KEY, previous_key=OLD_KEY)
    assert rotated.verify(sign(old), now=NOW).user_id == 42
    assert SIGNER.verify(sign(rotated), now=NOW).user_id == 42
    for reader, token in ((old, sign(rotated)), (SIGNER, sign(old))):
        with pytest.raises(InvalidToken):
            reader.verify(token, now=NOW)


@pytest.mark.parametrize("name", HOSTILE)
def test_previous_key_opens_no_other_door(name: str) -> None:
    with pytest.raises(InvalidToken):
        TokenSigner(OLD_KEY, previous_key=KEY).verify(HOSTILE[name], now=NOW)


@pytest.mark.parametrize(
    "key", ['{"keys":[]}', '["a","b"]', "12345678901234567890", " true ", '"quoted"', "1e400", "密" * 20]
)
def test_key_is_taken_as_it_is(key: str) -> None:
    """python-jose reads a key as JSON when it can, but only to verify."""
    assert TokenSigner(key).verify(sign(TokenSigner(key)), now=NOW).user_id == 42
    assert TokenSigner(key).verify(forged(key=key), now=NOW).user_id == 42


# --- what the signer itself refuses ---


@pytest.mark.parametrize(
    "key",
    ["", PUBLIC_PEM, PRIVATE_PEM, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB", "\ud800" * 40],
    ids=["empty", "public PEM", "private PEM", "SSH", "lone surrogates"],
)
def test_signer_refuses_a_key_anyone_may_know(key: str) -> None:
    for arguments in ({"key": key}, {"key": KEY, "previous_key": key}):
        with pytest.raises(ConfigurationError) as caught:
            TokenSigner(**arguments)
        assert not key or key not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": 0},
        {"user_id": -1},
        {"user_id": 2**31},
        {"expires_at": NOW},
        {"expires_at": NOW - timedelta(seconds=1)},
        {"expires_at": NOW + timedelta(milliseconds=700)},
        {"expires_at": NOW + timedelta(days=1, seconds=1)},
        {"issued_at": NOW.replace(tzinfo=None)},
        {"expires_at": NOW.replace(tzinfo=None)},
    ],
    ids=str,
)
def test_sign_refuses_what_verify_would(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        sign(**changes)


def test_clock_without_zone_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError):
        SIGNER.verify(VALID, now=NOW.replace(tzinfo=None))


def test_key_is_not_in_what_a_log_may_show() -> None:
    assert KEY not in repr(SIGNER)
    assert not hasattr(SIGNER, "__dict__")


# --- refresh tokens ---


def test_refresh_token_has_256_bits_and_a_safe_alphabet() -> None:
    tokens = {new_refresh_token() for _ in range(1000)}
    assert len(tokens) == 1000
    for token in tokens:
        assert len(base64.urlsafe_b64decode(token + "=")) == 32
        assert token.isascii()
        assert not set(token) - set(string.ascii_letters + string.digits + "-_")


def test_refresh_token_digest_is_sha_256() -> None:
    assert refresh_token_digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.text(st.characters()))
def test_any_text_has_a_digest(text: str) -> None:
    digest = refresh_token_digest(text)
    assert len(digest) == 64
    assert set(digest) <= set("0123456789abcdef")


def test_lone_surrogates_have_digests_that_differ() -> None:
    odd = ["\ud800", "\udfff", "\ud800\udfff", "?", "\ufffd", "\0", ""]
    assert len({refresh_token_digest(text) for text in odd}) == len(odd)


# --- the key ---

WEAK_KEYS = {
    "empty": "",
    "31 bytes": KEY[:31],
    "31 bytes of Chinese": "我們每天早上九點鐘開會"[:10] + "a",
    "one letter": "a" * 64,
    "one letter, 32 bytes": "a" * 32,
    "spaces": " " * 40,
    "seven letters": "edbgacfgdabcefbgadecgfbdaegcbfadgebcfdga",
    "word, repeated": "password" * 8,
    "unit of ten": "k7Rq2Zx9Lw" * 4,
    "unit of 16": "k7Rq2Zx9LwPm4TvB" * 2,
    "unit of 31": KEY[:31] * 2,
    "unit of 31, cut": (KEY[:31] * 3)[:80],
    "alphabet": "abcdefghijklmnopqrstuvwxyz0123456789",
    "alphabet backwards": "zyxwvutsrqponmlkjihgfedcba9876543210",
    "letters in pairs": "aabbccddeeffgghhiijjkkllmmnnoopp",
    "README .env": "your-super-secret-key-change-in-production-min-32-chars",
    "README production": "your-production-secret-key-at-least-32-characters",
    "README in capitals": "YOUR-SUPER-SECRET-KEY-CHANGE-IN-PRODUCTION-MIN-32-CHARS",
    "README with underscores": "your_production_secret_key_at_least_32_characters",
    "README and more": "x9-your-very-secret-key-of-the-team-Qw7Zp2",
    "change in production": "Zq7-change-in-production-Xw4Rt8Lm2Kp6",
    "change me": "Zq7Xw4Rt8Lm2Kp6-changeme-Bn3Vc9",
    "lone surrogates": "\ud800" * 40,
}


@pytest.mark.parametrize("key", WEAK_KEYS.values(), ids=list(WEAK_KEYS))
def test_weak_key_is_named_and_not_shown(key: str) -> None:
    weakness = key_weakness(key)
    assert weakness is not None
    assert weakness.endswith(".")
    assert "\n" not in weakness
    assert not key or key not in weakness


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        KEY[:32],
        KEY[:32] * 2,
        hashlib.sha256(b"1").hexdigest(),
        hashlib.sha256(b"1").hexdigest()[:32],
        str(SESSION),
        "明月松間照清泉石上流竹喧",
        "correct horse battery staple, said the walrus",
    ],
)
def test_good_key(key: str) -> None:
    assert key_weakness(key) is None


def test_random_keys_are_good() -> None:
    random = Random(1)
    for _ in range(2000):
        key = random.randbytes(32)
        assert key_weakness(encoded(key)) is None
        assert key_weakness(key[:16].hex()) is None


@pytest.mark.parametrize(
    ("key", "reason"), [(KEY[:31], "32 bytes"), (WEAK_KEYS["README .env"], "example"), ("a" * 64, "pattern")]
)
def test_weakness_says_which_one(key: str, reason: str) -> None:
    assert reason in (key_weakness(key) or "")
