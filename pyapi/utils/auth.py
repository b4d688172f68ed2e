"""Passwords and tokens as pure functions: hash, sign, verify, judge. No I/O, no settings; the clock is passed in.

An access token is a JWT (RFC 7519) in JWS compact form (RFC 7515), signed with HS256 and read by the rules of
RFC 8725. Refresh tokens and personal access tokens are random text of which only the digest is kept.
"""

import hashlib
import json
import re
import secrets
import threading
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Final

from jose import jwk, jwt
from jose.backends.base import Key
from jose.exceptions import JWKError
from jose.utils import base64url_encode
from passlib.context import CryptContext  # type: ignore[import-untyped]
from passlib.hash import bcrypt_sha256  # type: ignore[import-untyped]

from pyapi.exceptions import ConfigurationError, InvalidToken

MAX_ACCESS_LIFETIME: Final = timedelta(days=1)
MIN_PASSWORD_LENGTH: Final = 8
MAX_PASSWORD_LENGTH: Final = 128
MIN_KEY_BYTES: Final = 32

_ALGORITHM: Final = "HS256"
_LONGEST_TOKEN: Final = 2048
_LARGEST_USER_ID: Final = 2**31 - 1
_CLOCK_SKEW: Final = timedelta(seconds=60)

# Base64url without padding whose unused trailing bits are zero: one byte string has one spelling (RFC 7515, 2).
_BASE64URL: Final = r"(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?"
# The only header we write, as python-jose writes it; so no `alg`, `kid`, `jku`, `jwk` or `crit` is ever interpreted.
_HEADER: Final = jwt.encode({}, secrets.token_bytes(32), algorithm=_ALGORITHM).partition(".")[0]
_SIGNATURE: Final = r"[\w-]{42}[AEIMQUYcgkosw048]"
_TOKEN: Final = re.compile(rf"{re.escape(_HEADER)}\.{_BASE64URL}\.{_SIGNATURE}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a verified access token says; the times are UTC in whole seconds."""

    user_id: int
    session_id: uuid.UUID
    token_id: uuid.UUID
    issued_at: datetime
    expires_at: datetime


_REMEMBERED_TOKENS: Final = 4096
"""Of at most 2 KiB each; one that does not hold is not remembered."""


class TokenSigner:
    """Writes and reads our access tokens; `previous_key` is still read after a key rotation, and never signs."""

    __slots__ = ("_audience", "_issuer", "_key", "_read", "_reading_keys")

    def __init__(
        self, key: str, *, previous_key: str | None = None, issuer: str = "pyapi", audience: str = "pyapi-api"
    ) -> None:
        self._key = _hmac_key(key)
        # As a JWK set (RFC 7517, 5) of ready keys: python-jose would try to read a bare string as JSON first.
        previous = [] if previous_key is None else [_hmac_key(previous_key)]
        self._reading_keys = {"keys": [self._key, *previous]}
        self._issuer = issuer
        self._audience = audience
        # A client sends its token with each request, and what was signed does not change; only time does.
        self._read = lru_cache(_REMEMBERED_TOKENS)(self._decode)

    def sign(self, *, user_id: int, session_id: uuid.UUID, issued_at: datetime, expires_at: datetime) -> str:
        """Write an access token; ValueError for what `verify` would refuse, such as a lifetime of more than a day."""
        claims = AccessClaims(
            user_id=user_id,
            session_id=session_id,
            token_id=uuid.uuid4(),
            issued_at=_whole_seconds(issued_at),
            expires_at=_whole_seconds(expires_at),
        )
        if not _is_sane(claims):
            raise ValueError("An access token needs a user id of 1 to 2^31-1 and a lifetime of a second to a day.")
        return jwt.encode(self._claims_set(claims), self._key, algorithm=_ALGORITHM)

    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        """Read a token that we signed and that is in force at `now`; InvalidToken (RFC 6750, 3.1) for everything else.

        `exp` has no leeway; `iat` may be 60 seconds ahead, because two machines of a cluster disagree that much.
        """
        try:
            claims = self._read(token)
        except Exception:  # noqa: BLE001  whatever a hostile token makes the parsers raise, RecursionError included
            raise InvalidToken from None
        if not _is_sane(claims) or claims.issued_at > now + _CLOCK_SKEW or claims.expires_at <= now:
            raise InvalidToken
        return claims

    def _claims_set(self, claims: AccessClaims) -> dict[str, Any]:
        return {
            "sub": str(claims.user_id),
            "sid": str(claims.session_id),
            "jti": str(claims.token_id),
            "typ": "access",
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
            "iss": self._issuer,
            "aud": self._audience,
        }

    def _decode(self, token: str) -> AccessClaims:
        """Check signature and form, not time: python-jose asks the machine's clock, and takes claims of loose types.

        The form is settled by writing the payload again: what was signed must be, byte for byte, what `sign` writes
        for the claims read. So every claim is there, once, with our type and spelling, and no other claim is: a
        token of another kind signed with our key is refused (RFC 8725, 3.12), whatever it means by its extra claims.
        """
        if len(token) > _LONGEST_TOKEN or not _TOKEN.fullmatch(token):
            raise InvalidToken
        said = jwt.decode(
            token,
            self._reading_keys,
            algorithms=[_ALGORITHM],
            audience=self._audience,
            issuer=self._issuer,
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        claims = AccessClaims(
            user_id=int(said["sub"]),
            session_id=uuid.UUID(said["sid"]),
            token_id=uuid.UUID(said["jti"]),
            issued_at=datetime.fromtimestamp(said["iat"], UTC),
            expires_at=datetime.fromtimestamp(said["exp"], UTC),
        )
        written = json.dumps(self._claims_set(claims), separators=(",", ":")).encode()
        if base64url_encode(written).decode() != token.split(".")[1]:
            raise InvalidToken
        return claims


def _hmac_key(key: str) -> Key:
    """Prepare a key for python-jose, which would take an empty one: with an empty `previous_key` anyone can sign."""
    if not key:
        raise ConfigurationError("SECRET_KEY and SECRET_KEY_PREVIOUS must not be empty; leave the second one out.")
    try:
        return jwk.construct(key, _ALGORITHM)
    except (JWKError, UnicodeEncodeError):
        # RFC 8725, 3.1: a public key that serves as HMAC secret is a forgery kit.
        raise ConfigurationError(
            "SECRET_KEY and SECRET_KEY_PREVIOUS must be random UTF-8 text, not a PEM or SSH key."
        ) from None


def _is_sane(claims: AccessClaims) -> bool:
    lifetime = claims.expires_at - claims.issued_at
    return 1 <= claims.user_id <= _LARGEST_USER_ID and timedelta(0) < lifetime <= MAX_ACCESS_LIFETIME


def _whole_seconds(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError("Times must be aware: a naive one means something else on every machine.")
    return moment.astimezone(UTC).replace(microsecond=0)


def new_refresh_token() -> str:
    """256 random bits as 43 characters that are safe in a URL and in a header."""
    return secrets.token_urlsafe(32)


def refresh_token_digest(token: str) -> str:
    """SHA-256 as 64 hexadecimal characters: what the database keeps. Any text has one, lone surrogates too.

    No salt and no slow hash: the token is 256 random bits, so there is no list to try, and it must be found by digest.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


PERSONAL_TOKEN_PREFIX: Final = "pyapi_pat_"
"""Begins every personal access token, so that secret scanners find it, and that no other token is taken for one."""

_PERSONAL_TOKEN: Final = re.compile(rf"{PERSONAL_TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}")


def new_personal_token() -> str:
    """256 random bits behind the prefix."""
    return PERSONAL_TOKEN_PREFIX + secrets.token_urlsafe(32)


def personal_token_digest(token: str) -> str:
    """What the database keeps, as of a refresh token. Raises InvalidToken for text that cannot be such a token."""
    if not _PERSONAL_TOKEN.fullmatch(token):
        raise InvalidToken
    return hashlib.sha256(token.encode()).hexdigest()


# --- passwords ---

_LONGEST_HASHED: Final = 4096  # passlib refuses more, and NFC takes quadratic time on long runs of combining marks
_LONGEST_SCORED: Final = 32
_MOST_LOOKALIKES: Final = 10  # every digit is one
_LONGEST_SCORED_WITH_LOOKALIKES: Final = 12
_LONGEST_USER_INPUT: Final = 256
_SHORTEST_OWN_WORD: Final = 4  # or `.com` would count
_COMMON_PASSWORDS: Final = 10_000
_LOWEST_SCORE: Final = 2
_ZXCVBN_LOCK: Final = threading.Lock()  # zxcvbn keeps the user's words in a global dictionary
_TOO_LONG: Final = f"Use at most {MAX_PASSWORD_LENGTH} characters."
_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")
# What `PasswordHasher.hash` writes, including the unused bits of salt and digest, which passlib would warn about.
_OWN_HASH: Final = re.compile(
    r"\$bcrypt-sha256\$v=2,t=2b,r=(?:[4-9]|[12]\d|3[01])"
    r"\$[./A-Za-z0-9]{21}[.Oeu]\$[./A-Za-z0-9]{30}[.CGKOSWaeimquy26]",
    re.ASCII,
)


class PasswordHasher:
    """bcrypt over HMAC-SHA-256 of the NFC text: any script, no limit at 72 bytes.

    A hash has 83 characters (82 below cost 10). `verify` computes exactly one hash whatever it is given, so its time
    tells nothing about an account: ~240 ms at cost 12, and it frees the GIL, so call it in a thread.
    """

    __slots__ = ("_context", "_nobody")

    def __init__(self, *, rounds: int = 12) -> None:
        bcrypt_sha256.get_backend()  # passlib tests its backend at the first use: not in the first login
        self._context = CryptContext(schemes=["bcrypt_sha256"], bcrypt_sha256__rounds=rounds)
        # The form and the cost of a real hash: as dear to verify. `verify` answers False even if it should match.
        self._nobody = f"$bcrypt-sha256$v=2,t=2b,r={rounds}${'.' * 22}${'.' * 31}"

    def hash(self, password: str) -> str:
        """Hash a password; ValueError for text that has no hash: NUL, lone surrogates, more than 4,096 characters."""
        hashed: str = self._context.hash(_normalised(password))
        return hashed

    def verify(self, password: str, hashed: str | None) -> bool:
        """Compare with a stored hash; `None` stands for an unknown user. No text raises anything: it is just wrong."""
        try:
            text = _normalised(password)
        except ValueError:
            text = None
        known = hashed is not None and _OWN_HASH.fullmatch(hashed) is not None
        matches: bool = self._context.verify(text or "", hashed if known else self._nobody)
        return matches and known and text is not None

    def needs_rehash(self, hashed: str) -> bool:
        """Say whether the hash has another cost than ours, or another form."""
        return _OWN_HASH.fullmatch(hashed) is None or bool(self._context.needs_update(hashed))


def _normalised(password: str) -> str:
    """Bring a password to NFC (NIST SP 800-63B-4, 3.1.1.2); ValueError with a sentence for its author."""
    text = unicodedata.normalize("NFC", password) if len(password) <= _LONGEST_HASHED else password
    if len(text) > _LONGEST_HASHED:  # NFC can make text longer as well
        raise ValueError(_TOO_LONG)
    if _UNUSABLE.search(text):
        raise ValueError("Leave out NUL characters and halves of surrogate pairs.")
    return text


def password_weakness(password: str, *, user_inputs: Sequence[str] = ()) -> str | None:
    """Judge a new password: None when it is good enough, or one sentence that says what to do instead.

    `user_inputs` are the author's own name, e-mail address and the like: they may be in it, and do not count. No
    rule asks for kinds of characters (NIST SP 800-63B-4, 3.1.1.2). Time: milliseconds, at worst an eighth of a second.
    """
    try:
        text = _normalised(password)
    except ValueError as problem:
        return str(problem)
    if len(text) < MIN_PASSWORD_LENGTH:
        return f"Use at least {MIN_PASSWORD_LENGTH} characters."
    if len(text) > MAX_PASSWORD_LENGTH:
        return _TOO_LONG
    if text.casefold() in _common_passwords():
        return "Choose another password: this one is among the 10,000 most common."
    own_words = _words_of(user_inputs)
    if len(_without(text, own_words)) < MIN_PASSWORD_LENGTH:
        return f"Use at least {MIN_PASSWORD_LENGTH} characters that are not your own name or address."
    if _score(text, own_words) < _LOWEST_SCORE:
        return "Choose a password that is harder to guess, for example four unrelated words."
    return None


@cache
def _common_passwords() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(word.casefold() for word in FREQUENCY_LISTS["passwords"][:_COMMON_PASSWORDS])


def _words_of(user_inputs: Sequence[str]) -> list[str]:
    """List each text and each word in it, in small letters, the longest first: an address hides three words."""
    texts = [unicodedata.normalize("NFC", text[:_LONGEST_USER_INPUT]).casefold() for text in user_inputs]
    words = {word for text in texts for word in (text, *re.split(r"[\W_]+", text))}
    return sorted(words, key=lambda word: (-len(word), word))


def _without(text: str, own_words: Sequence[str]) -> str:
    rest = text.casefold()
    for word in own_words:
        if len(word) >= _SHORTEST_OWN_WORD:
            rest = rest.replace(word, "")
    return rest


def _score(text: str, own_words: Sequence[str]) -> int:
    """Ask zxcvbn for 0 to 4, for the beginning only: the whole password cannot be easier to guess than that.

    It tries every combination of look-alikes (`4` and `@` for `a`): 24 of them in 72 characters take 5 seconds.
    """
    from zxcvbn import zxcvbn
    from zxcvbn.matching import L33T_TABLE

    beginning = text[:_LONGEST_SCORED]
    if len({sign for signs in L33T_TABLE.values() for sign in signs if sign in beginning}) > _MOST_LOOKALIKES:
        beginning = text[:_LONGEST_SCORED_WITH_LOOKALIKES]
    with _ZXCVBN_LOCK:
        return zxcvbn(beginning, user_inputs=[word[: len(beginning)] for word in own_words])["score"]


# --- the signing key ---

_FEWEST_KEY_CHARACTERS: Final = 8  # 32 random hexadecimal digits have fewer once in 25 million times
_EXAMPLE_KEY: Final = re.compile(r"change-?(?:in-production|me|this)|your-.*secret-key", re.DOTALL)


def key_weakness(key: str) -> str | None:
    """Say why a key must not sign in production (RFC 7518, 3.2), never showing it; None for a good key."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "The key is not valid UTF-8."
    if size < MIN_KEY_BYTES:
        return f"The key is shorter than {MIN_KEY_BYTES} bytes."
    if _EXAMPLE_KEY.search(key.casefold().replace("_", "-")):
        return "The key is an example from the documentation, known to everybody."
    if len(set(key)) < _FEWEST_KEY_CHARACTERS or _repeats_short_unit(key) or _runs_along(key):
        return "The key has too much of a pattern to be random."
    return None


def _repeats_short_unit(key: str) -> bool:
    """Say whether the key is a unit of fewer than 32 bytes, two times or more: it is no better than that unit."""
    periods = (n for n in range(1, len(key) // 2 + 1) if key[n:] == key[:-n])
    return any(len(key[:n].encode()) < MIN_KEY_BYTES for n in periods)


def _runs_along(key: str) -> bool:
    """Say whether most characters follow their neighbour, as in `abcdef012345`; one in six does in random digits."""
    steps = [abs(ord(after) - ord(before)) for before, after in pairwise(key)]
    return sum(step <= 1 for step in steps) * 3 > len(steps) * 2
