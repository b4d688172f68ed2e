"""Encrypts what a client hands back without reading it, for one person: a place in a list that they see in part."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Opaque:
    """Closes with a key made of the first of `secrets`, and opens with those of all."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._fernet = MultiFernet([_key(secret) for secret in secrets])

    def close(self, text: str, *, user_id: int) -> str:
        """What only `open` reads, for the same user; safe in a URL."""
        return self._fernet.encrypt(f"{user_id} {text}".encode()).decode()

    def open(self, closed: str, *, user_id: int) -> str | None:
        """The text again; None for what is damaged, made up, or somebody else's."""
        try:
            opened = self._fernet.decrypt(closed.encode("utf-8", "replace")).decode()
        except InvalidToken:
            return None
        owner, _, text = opened.partition(" ")
        return text if owner == str(user_id) else None


def _key(secret: str) -> Fernet:
    """A key of its own (RFC 5869): knowing one tells nothing of another that is made of the same secret."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pyapi.opaque").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
