"""What all routes share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from backstay.errors import Misuse, OutcomeUnknown, RateLimited

from ..rate_limiting import RateLimiter
from .access import Access, Caller
from .board import Board, Posted
from .errors import Conflict, Refused
from .fields import wrong
from .scopes import check_scope
from .store import Store
from .validation import Validation
from .values import Action, Items, Published, Role
from .watch import Watch

__all__ = ["Service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of one replica.

    Attributes:
        store: the database.
        board: what is in force, and who listens.
        watch: keeps the board as the database is.
        access: who may do what.
        validation: what may be published.
        heartbeat: seconds between two signs of life on a stream.
        epochs: how often readers may begin one, a scope.
        public_url: where clients reach the service, without a slash at its end; empty to take it from requests.
    """

    store: Store
    board: Board
    watch: Watch
    access: Access
    validation: Validation
    epochs: RateLimiter
    heartbeat: float = 5.0
    public_url: str = ""

    async def admit(self, request: Request, role: Role, app: str, env: str) -> tuple[Caller, str]:
        """Return who asks and the scope, if they may.

        Raises:
            Refused: 404, no such scope can be; or see `Access.require`.
            RateLimited: refused too often.
        """
        try:
            scope = check_scope(f"{app}/{env}")
        except Misuse as error:
            await self.access.require(request, role)
            raise Refused(404, "No scope", str(error)) from None
        return await self.access.require(request, role, scope), scope

    async def present(self, scope: str) -> Posted:
        """Return the present document.

        Raises:
            Refused: 404, the scope was never written.
            Unavailable: the database does not answer.
        """
        posted = self.board[scope]
        if posted is None:
            await self.watch.fetch(scope)
            posted = self.board[scope]
        if posted is None:
            raise Refused(404, "No scope", f"nothing was written for {scope} yet; the first change makes it")
        return posted

    async def notice(self, scope: str, cursor: tuple[int, int], *, by: str) -> None:
        """Hear that somebody has seen this document; begin a new epoch if the database is older than that (SW-12).

        Readers may invent what they saw. An epoch more does no harm, and there are a few an hour at most.
        """
        posted = self.board[scope]
        if posted is None or cursor <= posted.cursor:
            return
        await self.watch.fetch(scope)  # another replica may have written it just now
        posted = self.board[scope] or posted
        if cursor <= posted.cursor:
            return
        try:
            self.epochs.acquire(scope)
        except RateLimited:
            return
        made = await asyncio.to_thread(self.store.documents.overtaken, scope, *cursor, by=by)
        if made is not None:
            self.board.post(made)

    async def publish(
        self,
        request: Request,
        caller: Caller,
        scope: str,
        base: int,
        items: Items,
        *,
        why: str,
        action: Action,
        dry_run: bool = False,
    ) -> Published:
        """Check a document, write it as the next version and tell whoever listens; refusals go into the audit (SW-8).

        Raises:
            Conflict: `base` is not the present version.
            Refused: 422, the document is wrong.
            Unavailable: nothing was written.
            OutcomeUnknown: the database did not answer the commit.
        """
        try:
            self.validation.check(items)
            published = await asyncio.to_thread(
                self.store.documents.publish,
                scope, base, items,
                who=caller.holder.name, why=why, action=action, address=caller.address, dry_run=dry_run,
            )  # fmt: skip
        except (Conflict, Misuse, OutcomeUnknown) as error:
            if not dry_run:
                await self.note(request, caller, scope, str(error), unknown=isinstance(error, OutcomeUnknown))
            if isinstance(error, Misuse):
                raise wrong(error) from error
            raise
        if not dry_run:
            self.board.post(published.envelope)
        return published

    async def note(self, request: Request, caller: Caller, scope: str, why: str, *, unknown: bool = False) -> None:
        """Write a refused attempt of somebody known into the audit."""
        await self.access.note(
            who=caller.holder.name,
            address=caller.address,
            action=f"{request.method} {request.url.path}",
            scope=scope,
            why=why,
            unknown=unknown,
        )
