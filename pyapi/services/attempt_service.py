"""How often a password may be wrong and an account be opened: the contract, the count, and the twin that has none."""

import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final, Protocol

import structlog

from pyapi.db.attempt_dao import AttemptDAO, Limit
from pyapi.exceptions import Busy, TooManyRequests

REGISTRATION_WINDOW: Final = timedelta(hours=1)
HASHING_WINDOW: Final = timedelta(minutes=1)
SWEPT_AT_ONCE: Final = 20
"""Expired rows that each attempt deletes; it adds three at most, so the table shrinks whenever it can."""

log = structlog.get_logger(__name__)


class AttemptService(Protocol):
    """Asked before a password is looked at or an account opened. Both raise TooManyRequests, before anything is done.

    An attempt counts from its beginning, so that of many at once no more get through than of one after the other.
    """

    def password(self, username: str) -> AbstractAsyncContextManager[None]:
        """The password of an account is compared meanwhile; the block fails when it is wrong."""

    def registration(self) -> AbstractAsyncContextManager[None]:
        """An account is opened meanwhile."""


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """How often is too often. `key` hides who tried what: people type their password into the field for the name."""

    passwords_per_minute: int
    wrong_passwords: int
    wrong_passwords_per_address: int
    password_window: timedelta
    registrations: int
    key: bytes = field(repr=False)


Stores = Callable[[], AbstractAsyncContextManager[AttemptDAO]]


class CountedAttempts:
    """The attempts of one address, counted in the database: for all workers, and over restarts.

    `stores` are transactions; `lookups` only read.
    """

    def __init__(
        self,
        lookups: Stores,
        stores: Stores,
        policy: AttemptPolicy,
        *,
        address: str | None,
    ) -> None:
        self._lookups = lookups
        self._stores = stores
        self._policy = policy
        self._network = network_of(address)

    @asynccontextmanager
    async def password(self, username: str) -> AsyncIterator[None]:
        """Count a wrong password for the account and for the address. A right one makes the account's count zero.

        The address keeps its count: with an account of their own, somebody could else try others without end. And any
        password counts for a minute: a right one costs a hash as well, and others wait for it.
        """
        policy = self._policy
        of_minute = Limit(self._key("hashing"), policy.passwords_per_minute, HASHING_WINDOW)
        of_all = Limit(self._key("passwords"), policy.wrong_passwords_per_address, policy.password_window)
        of_one = Limit(self._key("password", username.lower()), policy.wrong_passwords, policy.password_window)
        async with self._counted([of_minute, of_all, of_one]) as moments:
            yield
        async with self._stores() as attempts:
            await attempts.take_back(of_all.key, moments[1])
            await attempts.delete(of_one.key)

    @asynccontextmanager
    async def registration(self) -> AsyncIterator[None]:
        """Count every registration of the address, whatever comes of it: it says whether a name is taken."""
        limit = Limit(self._key("registrations"), self._policy.registrations, REGISTRATION_WINDOW)
        async with self._counted([limit]):
            yield

    @asynccontextmanager
    async def _counted(self, limits: Sequence[Limit]) -> AsyncIterator[list[datetime]]:
        """Count an attempt under each limit, or under none. What was refused for lack of room was no attempt."""
        moments = await self._reserve(limits)
        try:
            yield moments
        except Busy:
            async with self._stores() as attempts:
                for limit, moment in zip(limits, moments, strict=True):
                    await attempts.take_back(limit.key, moment)
            raise

    async def _reserve(self, limits: Sequence[Limit]) -> list[datetime]:
        """In a transaction of its own: it must have happened before a hash is computed, and outlive a 401.

        Whoever is refused already is refused by a read: a flood from one address waits for no lock on its row, and
        keeps no connection from others meanwhile.
        """
        async with self._lookups() as attempts:
            for limit in limits:
                if (seconds := await attempts.seconds_until_room(limit)) is not None:
                    raise _refusal(seconds)
        moments = []
        async with self._stores() as attempts:
            for limit in limits:
                moment = await attempts.reserve(limit)
                if moment is None:
                    raise _refusal(await attempts.seconds_until_room(limit) or 1)
                moments.append(moment)
            await attempts.delete_expired(most=SWEPT_AT_ONCE)
        return moments

    def _key(self, *what: str) -> str:
        """One spelling for what is limited; no access token is signed over text with a NUL in it."""
        text = "\0".join(("attempts", self._network, *what))
        return hmac.digest(self._policy.key, text.encode("utf-8", "surrogatepass"), "sha256").hex()


def _refusal(seconds: int) -> TooManyRequests:
    log.warning("attempts.refused", retry_after_seconds=seconds)
    return TooManyRequests(retry_after_seconds=seconds)


class UncountedAttempts:
    """The limits that are switched off."""

    def password(self, username: str) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - the signature of all
        """Let everybody try."""
        return nullcontext()

    def registration(self) -> AbstractAsyncContextManager[None]:
        """Let everybody register."""
        return nullcontext()


def network_of(address: str | None) -> str:
    """What counts as one address: with IPv6 a household has a network of 64 bits, and every address in it."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:  # a socket without addresses, or a word that a proxy wrote
        return address or ""
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))
