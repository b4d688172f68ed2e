"""Nothing but an access token of ours opens a door (RFC 8725, 3.1 to 3.12; RFC 7515, 4 and 7; ASVS 5.0, 9.1 and 9.2).

Each token here is one step away from a valid one of a live session and, where it can be, signed with the real key, so
that the oddity itself is the only reason to refuse it. The mutations are those of Wycheproof's json_web_signature and
what broke other services. Every one is a 401 with a challenge (RFC 6750, 3), also where nobody has to sign in. The
guard itself is tested with more of them in tests/unit/test_auth_tokens.py.
"""

import base64
import hashlib
import hmac
import json
import string
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
import rsa
from jose import jwt

from tests.fixtures.application import SECRET_KEY, Account, SignUp, assert_problem

ROUTES = ["/api/auth/me", "/api/data/"]
"""One that needs somebody signed in, and one that does not."""

HEADER = {"alg": "HS256", "typ": "JWT"}
PUBLIC_KEY, PRIVATE_KEY = rsa.newkeys(512)
PUBLIC_PEM, PRIVATE_PEM = (key.save_pkcs1() for key in (PUBLIC_KEY, PRIVATE_KEY))
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def same_bytes(part: str) -> str:
    """The part in another spelling, which a careless decoder takes for the same: an unused bit is set."""
    return part[:-1] + ALPHABET[ALPHABET.index(part[-1]) + 1]


class Forger:
    """Knows the key, and a live session."""

    def __init__(self, account: Account, other: Account) -> None:
        self.account = account
        self.token = account.access_token
        self.claims: dict[str, Any] = jwt.get_unverified_claims(self.token)
        self.head, self.body, self.signature = self.token.split(".")
        self.other_head, self.other_body, self.other_signature = other.access_token.split(".")
        self.other_claims: dict[str, Any] = jwt.get_unverified_claims(other.access_token)

    def signed(self, text: str, *, key: bytes = SECRET_KEY.encode(), digest: Any = hashlib.sha256) -> str:
        return f"{text}.{encoded(hmac.new(key, text.encode(), digest).digest())}"

    def forge(self, header: Any = HEADER, payload: Any = None, **signing: Any) -> str:
        parts = header, self.claims if payload is None else payload
        return self.signed(".".join(encoded(compact(part)) for part in parts), **signing)

    def heading(self, **changes: Any) -> str:
        return self.forge({**HEADER, **changes})

    def claiming(self, **changes: Any) -> str:
        return self.forge(payload={**self.claims, **changes})

    def without(self, name: str) -> str:
        return self.forge(payload={claim: value for claim, value in self.claims.items() if claim != name})

    def sloppy(self) -> str:
        """A signed token whose payload has an unused bit set, and reads the same to a careless decoder."""
        padded = next(part for spaces in range(3) if len(part := encoded(compact(self.claims) + b" " * spaces)) % 4)
        return self.signed(f"{self.head}.{same_bytes(padded)}")


Forge = Callable[[Forger], "str | bytes | list[str]"]

HOSTILE: dict[str, Forge] = {
    # the algorithm
    "alg none without a signature": lambda f: f.heading(alg="none").rpartition(".")[0] + ".",
    "alg none, signed": lambda f: f.heading(alg="none"),
    "alg nOnE without a signature": lambda f: f.heading(alg="nOnE").rpartition(".")[0] + ".",
    "alg null": lambda f: f.heading(alg=None),
    "alg missing": lambda f: f.forge({"typ": "JWT"}),
    "alg list": lambda f: f.heading(alg=["HS256"]),
    "alg HS384": lambda f: f.forge({**HEADER, "alg": "HS384"}, digest=hashlib.sha384),
    "alg HS512": lambda f: f.forge({**HEADER, "alg": "HS512"}, digest=hashlib.sha512),
    "HS512 under our header": lambda f: f.forge(digest=hashlib.sha512),
    "alg RS256 over our HMAC": lambda f: f.heading(alg="RS256"),
    "alg RS256, signed with a private key": lambda f: jwt.encode(f.claims, PRIVATE_PEM.decode(), algorithm="RS256"),
    "a PEM public key as secret": lambda f: f.forge(key=PUBLIC_PEM),
    "a DER public key as secret": lambda f: f.forge(key=PUBLIC_KEY.save_pkcs1("DER")),
    "alg dir": lambda f: f.heading(alg="dir", enc="A256GCM"),
    "JWE of five parts": lambda f: f"{f.head}.{f.body}.{f.body}.{f.body}.{f.signature}",
    # other keys
    "another key": lambda f: f.forge(key=b"another-key-of-more-than-thirty-two-bytes"),
    "the empty key": lambda f: f.forge(key=b""),
    "the seed's example key": lambda f: f.forge(key=b"your-super-secret-key-change-in-production-min-32-chars"),
    "the key in hexadecimal": lambda f: f.forge(key=SECRET_KEY.encode().hex().encode()),
    # the header names a key, or what must be understood
    "header with crit": lambda f: f.heading(crit=["exp"]),
    "header with an empty crit": lambda f: f.heading(crit=[]),
    "header with b64 false": lambda f: f.heading(b64=False, crit=["b64"]),
    "header with kid": lambda f: f.heading(kid="../../../../dev/null"),
    "header with kid as SQL": lambda f: f.heading(kid="' UNION SELECT 'key' --"),
    "header with jku": lambda f: f.heading(jku="https://evil.example/keys.json"),
    "header with x5u": lambda f: f.heading(x5u="https://evil.example/cert.pem"),
    "header with jwk": lambda f: f.forge({**HEADER, "jwk": {"kty": "oct", "k": encoded(b"evil")}}, key=b"evil"),
    "header with x5c": lambda f: f.heading(x5c=[base64.b64encode(PUBLIC_KEY.save_pkcs1("DER")).decode()]),
    "header with zip": lambda f: f.heading(zip="DEF"),
    "header with another typ": lambda f: f.heading(typ="at+jwt"),
    "header in another order": lambda f: f.forge(b'{"typ":"JWT","alg":"HS256"}'),
    "header with a name twice": lambda f: f.forge(b'{"alg":"none","alg":"HS256","typ":"JWT"}'),
    "header with spaces": lambda f: f.forge(b'{"alg": "HS256", "typ": "JWT"}'),
    "header is no object": lambda f: f.forge([HEADER]),
    "header is no JSON": lambda f: f.forge(b"\xff\xfe"),
    "header 11,000 deep": lambda f: f"{encoded(b'[' * 11_000)}.{f.body}.{f.signature}",
    "header 5,000 deep and closed": lambda f: f.forge(b"[" * 5_000 + b"]" * 5_000),
    "header 700 deep": lambda f: f.forge(b"[" * 700 + b"]" * 700),
    # spellings of the same bytes
    "payload in another spelling": lambda f: f.sloppy(),
    "signature in another spelling": lambda f: f"{f.head}.{f.body}.{same_bytes(f.signature)}",
    "header padded": lambda f: f.signed(f"{f.head}==.{f.body}"),
    "payload padded": lambda f: f.signed(f"{f.head}.{f.body}=="),
    "signature padded": lambda f: f.token + "=",
    "header with an ignored character": lambda f: f.signed(f"{f.head[:4]}!!!!{f.head[4:]}.{f.body}"),
    "payload with an ignored character": lambda f: f.signed(f"{f.head}.{f.body[:8]}!!!!{f.body[8:]}"),
    "signature with an ignored character": lambda f: f"{f.head}.{f.body}.{f.signature[:8]}!!!!{f.signature[8:]}",
    "signature in the standard alphabet": lambda f: f"{f.head}.{f.body}.{f.signature[:-2]}+/",
    "signature in hexadecimal": lambda f: f"{f.head}.{f.body}.{base64.urlsafe_b64decode(f.signature + '=').hex()}",
    # parts
    "signature missing": lambda f: f"{f.head}.{f.body}",
    "signature empty": lambda f: f"{f.head}.{f.body}.",
    "signature of zeros": lambda f: f"{f.head}.{f.body}.{encoded(bytes(32))}",
    "signature cut": lambda f: f"{f.head}.{f.body}.{f.signature[:-4]}",
    "signature longer": lambda f: f.token + "AAAA",
    "a part more": lambda f: f"{f.token}.{f.signature}",
    "a part before": lambda f: f"{f.head}.{f.token}",
    "header and payload swapped": lambda f: f.signed(f"{f.body}.{f.head}"),
    "the payload of another token": lambda f: f"{f.head}.{f.other_body}.{f.signature}",
    "the signature of another token": lambda f: f"{f.head}.{f.body}.{f.other_signature}",
    "the user of another token": lambda f: f.claiming(sub=f.other_claims["sub"]),
    "the session of another token": lambda f: f.claiming(sid=f.other_claims["sid"]),
    "JSON serialisation": lambda f: json.dumps({"payload": f.body, "protected": f.head, "signature": f.signature}),
    # claims, signed with our key
    "no claims": lambda f: f.forge(payload={}),
    "payload is no object": lambda f: f.forge(payload=b'"access"'),
    "payload 11,000 deep": lambda f: f.forge(payload=b"[" * 11_000),
    "payload with a name twice": lambda f: f.forge(payload=b'{"sub":"1",' + compact(f.claims)[1:]),
    "sub missing": lambda f: f.without("sub"),
    "sid missing": lambda f: f.without("sid"),
    "jti missing": lambda f: f.without("jti"),
    "typ missing": lambda f: f.without("typ"),
    "iat missing": lambda f: f.without("iat"),
    "exp missing": lambda f: f.without("exp"),
    "iss missing": lambda f: f.without("iss"),
    "aud missing": lambda f: f.without("aud"),
    "typ refresh": lambda f: f.claiming(typ="refresh"),
    "iss of another service": lambda f: f.claiming(iss="airflow"),
    "aud of another service": lambda f: f.claiming(aud="airflow"),
    "aud list": lambda f: f.claiming(aud=[f.claims["aud"]]),
    "sub is a number": lambda f: f.claiming(sub=int(f.claims["sub"])),
    "sub starts with 0": lambda f: f.claiming(sub="0" + f.claims["sub"]),
    "sub beyond 32 bits": lambda f: f.claiming(sub=str(2**31)),
    "sid of no session": lambda f: f.claiming(sid=str(uuid4())),
    "exp passed": lambda f: f.claiming(iat=int(time.time()) - 60, exp=int(time.time()) - 1),
    "exp never": lambda f: f.claiming(exp=f.claims["exp"] + 10**9),
    "exp as text": lambda f: f.claiming(exp=str(f.claims["exp"])),
    "exp beyond a double": lambda f: f.claiming(exp=10**400),
    "iat an hour ahead": lambda f: f.claiming(iat=f.claims["iat"] + 3600, exp=f.claims["exp"] + 3600),
    "a claim that we do not write": lambda f: f.claiming(is_superuser=True),
    # tokens of another kind
    "refresh token": lambda f: f.account.refresh_token,
    "digest of the refresh token": lambda f: hashlib.sha256(f.account.refresh_token.encode()).hexdigest(),
    "personal access token that was never made": lambda f: "pyapi_pat_" + "A" * 43,
    "prefix of personal access tokens": lambda f: "pyapi_pat_",
    "personal prefix before an access token": lambda f: f"pyapi_pat_{f.token}",
    # no token at all
    "empty": lambda f: "",
    "spaces": lambda f: "   ",
    "dots": lambda f: "..",
    "2,000 dots": lambda f: "." * 2000,
    "null": lambda f: "null",
    "two words": lambda f: f"{f.token} {f.token}",
    "quoted": lambda f: f'"{f.token}"',
    "Bearer twice": lambda f: f"Bearer {f.token}",
    "not ASCII": lambda f: f"{f.token}é".encode(),
    "not UTF-8": lambda f: f.token.encode() + b"\xff",
    "full-width letter": lambda f: f.token.replace("e", "ｅ", 1).encode(),
    "full-width dots": lambda f: f.token.replace(".", "．").encode(),
    "NUL": lambda f: f.token.encode() + b"\0",
    "over 2,048 characters, signed": lambda f: f.claiming(jti="A" * 2000),
    "as long as a head may be": lambda f: "A" * 15_000,
    "as long under our header": lambda f: f"{f.head}.{'A' * 15_000}.{f.signature}",
    "two headers": lambda f: [f.token, f.token],
    "two headers, one of them bad": lambda f: [f.token, "garbage"],
}


def headers(sent: str | bytes | list[str]) -> list[tuple[bytes, bytes]]:
    tokens = sent if isinstance(sent, list) else [sent]
    return [(b"authorization", b"Bearer " + (t if isinstance(t, bytes) else t.encode())) for t in tokens]


@pytest.fixture
async def forger(sign_up: SignUp) -> Forger:
    return Forger(await sign_up(), await sign_up())


def test_there_are_many() -> None:
    assert len(HOSTILE) >= 100


async def test_the_forger_can_write_a_valid_token(client: httpx.AsyncClient, forger: Forger) -> None:
    """So it is the oddity for which the others are refused."""
    assert forger.forge() == forger.token
    answer = await client.get(ROUTES[0], headers=headers(forger.claiming(jti=str(uuid4()))))
    assert answer.status_code == 200


@pytest.mark.parametrize("forge", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_token_is_a_401_and_nothing_else(
    client: httpx.AsyncClient, forger: Forger, forge: Forge
) -> None:
    for route in ROUTES:
        answer = await client.get(route, headers=headers(forge(forger)))
        problem = assert_problem(answer, 401, "invalid_token")
        assert problem["detail"] == "The token is malformed, expired or revoked. Sign in again."
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
