"""Who asks, and whether they may: tokens, sessions of the page, roles, scopes, and attempts that are refused.

A token that is good costs two look-ups and one hash. What is refused is limited by address and written into the audit.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from dataclasses import dataclass

from starlette.requests import Request

from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError

from ..rate_limiting import RateLimiter
from ..rate_limiting.backends.memory import MemoryBuckets
from ..rate_limiting.rate import Rate
from .errors import Refused
from .store import Store
from .tokens import matches, split
from .values import Holder, Role
from .watch import Watch

__all__ = ["COOKIE", "Access", "Caller", "address_of", "csrf_of", "limiter"]

COOKIE = "backstay_session"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
REMEMBERED = 10_000
REMEMBERED_MS = 10_000
LOOKUPS = "600/minute;burst=300"
"""Tokens that this replica does not remember, an address: also good ones, after a restart."""

logger = logging.getLogger("backstay.resilience")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, from where, and by which session if it is the page."""

    holder: Holder
    address: str
    session: str = ""

    def __repr__(self) -> str:
        return f"Caller({self.holder.name!r}, {self.holder.role}, {self.address!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A token that was looked up: good as long as nothing changed in the database."""

    holder: Holder
    digest: str
    generation: int
    until_ms: int


class Access:
    """The door of the service.

    Args:
        store: where tokens are.
        watch: tells when they change.
        login_rate: attempts to log in, an address.
        refusal_rate: refused requests, an address; beyond it the answer is 429 and nothing is written.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: Store,
        watch: Watch,
        *,
        login_rate: str = "10/minute;burst=10",
        refusal_rate: str = "60/minute;burst=30",
        clock: Clock = monotonic,
    ) -> None:
        self._store = store
        self._watch = watch
        self._known: dict[str, _Known] = {}
        self._logins = limiter("switch_service.login", login_rate, clock)
        self._refusals = limiter("switch_service.refusals", refusal_rate, clock)
        self._lookups = limiter("switch_service.lookups", LOOKUPS, clock)

    async def require(self, request: Request, role: Role, scope: str = "") -> Caller:
        """Return who asks, if they may.

        Args:
            request: with a token in `Authorization: Bearer ...` or `X-API-Key`, or the page's cookie.
            role: that is needed.
            scope: application/environment, or an empty text where none is concerned.

        Raises:
            Refused: 401, nobody known; 403, not allowed.
            RateLimited: refused too often.
        """
        caller = await self.caller(request)
        holder = caller.holder
        if not holder.may(role):
            why = f"this needs the role {role}; {holder.name} is {holder.role}"
            await self.refuse(
                caller.address, Refused(403, "Not allowed", why), who=holder.name, of=request, scope=scope
            )
        if scope and not holder.reaches(scope):
            why = f"this token is not for {scope}; it is for {', '.join(holder.scopes)}"
            await self.refuse(
                caller.address, Refused(403, "Not allowed", why), who=holder.name, of=request, scope=scope
            )
        return caller

    async def caller(self, request: Request) -> Caller:
        """Return who asks.

        Raises:
            Refused: 401, nobody known; 403, a change by cookie without its CSRF token.
            RateLimited: refused too often.
        """
        address = address_of(request)
        given = _token_of(request)
        if given is not None:
            holder = await self.holder(given, address)
            if holder is not None:
                return Caller(holder=holder, address=address)
            unknown = Refused(401, "Not known", "this token is not good here, or no longer", headers=_CHALLENGE)
            await self.refuse(address, unknown, who="", of=request)
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            raise Refused(401, "Not known", "send a token: Authorization: Bearer bst_...", headers=_CHALLENGE)
        found = await asyncio.to_thread(self._store.holders.session, cookie)
        if found is None:
            raise Refused(401, "Not known", "the session has ended; log in again", headers=_CHALLENGE)
        if request.method not in SAFE and not self._of_the_page(request, cookie):
            why = "a change by cookie needs the header X-CSRF-Token that POST or GET /v1/session answers"
            await self.refuse(address, Refused(403, "Not from the page", why), who=found[0].name, of=request)
        return Caller(holder=found[0], address=address, session=cookie)

    async def holder(self, text: str, address: str) -> Holder | None:
        """Return whose token this is, or None.

        Raises:
            RateLimited: too many unknown tokens came from this address.
        """
        parts = split(text)
        if parts is None:
            return None
        token_id, secret = parts
        if token_id not in self._known:
            self._lookups.acquire(address)  # before the database is asked: nobody may have it asked at will
        known = await self._look_up(token_id)
        return known.holder if known is not None and matches(secret, known.digest) else None

    async def _look_up(self, token_id: str) -> _Known | None:
        """Return what the database has of a token, asking it only if something changed there since, or every 10 s."""
        now = self._store.wall()
        known = self._known.get(token_id)
        if known is not None and known.generation == self._watch.generation and now < known.until_ms:
            return known
        generation = self._watch.generation
        found = await asyncio.to_thread(self._store.holders.find, token_id)
        if found is None:
            self._known.pop(token_id, None)
            return None
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        ends = now + REMEMBERED_MS
        known = self._known[token_id] = _Known(
            holder=found[0],
            digest=found[1],
            generation=generation,
            until_ms=ends if found[0].expires_ms is None else min(ends, found[0].expires_ms),
        )
        return known

    async def still(self, caller: Caller) -> bool:
        """Return whether the caller's token is good still: streams outlast tokens."""
        if await self.good(caller.holder.token_id, caller.holder) is None:
            return False
        return not caller.session or await asyncio.to_thread(self._store.holders.session, caller.session) is not None

    async def good(self, token_id: str, expected: Holder | None = None) -> Holder | None:
        """Return whose token this is, if it is good, and still what it was if `expected` says what."""
        known = await self._look_up(token_id)
        return None if known is None or expected not in (None, known.holder) else known.holder

    def forget(self, token_id: str) -> None:
        """Look a token up anew at its next use."""
        self._known.pop(token_id, None)

    def attempt_login(self, address: str) -> None:
        """Count an attempt to log in, before it is looked at.

        Raises:
            RateLimited: too many from this address.
        """
        self._logins.acquire(address)

    async def refuse(self, address: str, refused: Refused, *, who: str, of: Request, scope: str = "") -> None:
        """Write a refused attempt into the audit, and raise the refusal.

        Raises:
            Refused: always, unless
            RateLimited: too many came from this address; then nothing is written.
        """
        self._refusals.acquire(address)
        await self.note(who=who, address=address, action=f"{of.method} {of.url.path}", scope=scope, why=refused.detail)
        raise refused

    async def note(self, *, who: str, address: str, action: str, scope: str, why: str, unknown: bool = False) -> None:
        """Write an attempt that changed nothing into the audit; a database that is away does not hide the refusal."""
        try:
            await asyncio.to_thread(
                self._store.records.refused,
                who=who, address=address, action=action, scope=scope, why=why,
                outcome="unknown" if unknown else "refused",
            )  # fmt: skip
        except BackstayError as error:
            logger.warning("no room in the audit for a refused attempt of %r: %s", who, error)

    def _of_the_page(self, request: Request, cookie: str) -> bool:
        sent = request.headers.get("x-csrf-token", "")
        site = request.headers.get("sec-fetch-site", "same-origin")
        return site in ("same-origin", "none") and hmac.compare_digest(sent.encode(), csrf_of(cookie).encode())


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="backstay switches"'}


def csrf_of(cookie: str) -> str:
    """Return what the page must send beside its cookie; other sites can make a browser send cookies, but not read."""
    return hashlib.sha256(b"csrf:" + cookie.encode()).hexdigest()


def address_of(request: Request) -> str:
    """Return where a request comes from; behind a proxy uvicorn's `--proxy-headers` puts the client's address there."""
    return request.client.host if request.client is not None else "local"


def _token_of(request: Request) -> str | None:
    sent = request.headers.get("authorization")
    if sent is not None:
        kind, _, text = sent.partition(" ")
        return text.strip() if kind.lower() == "bearer" else ""
    return request.headers.get("x-api-key")


def limiter(name: str, rate: str, clock: Clock) -> RateLimiter:
    """Return a limiter of this application's own, by address or scope."""
    buckets = MemoryBuckets(Rate.of(rate), max_keys=100_000, clock_ns=lambda: int(clock() * 1e9))
    return RateLimiter(buckets, name=name)
