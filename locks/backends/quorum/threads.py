"""All masters asked from the calling thread: send to all, then read them in turn, and stop when that is enough.

No thread is started where all masters answer. A master that is away is left out until a thread of its own has found
it again, unless too few are there without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import cast

from redis import exceptions

from backstay.blocking import BlockingRuntime
from backstay.clock import monotonic
from backstay.errors import BackstayError, Misuse, Unavailable
from backstay.locks.backends.redis.answers import Request, not_reached, refusal, unanswered
from backstay.locks.backends.redis.packing import pack
from backstay.locks.backends.redis.wire import BlockingWire

from .fan import Connection, Fan, Line
from .scripts import CONFIRM, GIVE_BACK, LOOK, RENEW, TAKE
from .votes import Enough, Outcome, majority

__all__ = ["BlockingMasters"]

KEPT = 64  # fans that are kept for later
AWAY = 0.5  # s for which a master that was not reached is left alone

_NOTHING = TimeoutError("nothing came in time")


class BlockingMasters:
    """The masters, for threads.

    Args:
        wires: one to each; they open the connections, and serve what is not asked of all at once.
        labels: their names in errors.
        connect_within: seconds for opening a connection, and for an answer that is owed before it is dropped.
    """

    def __init__(self, wires: Sequence[BlockingWire], labels: Sequence[str], connect_within: float) -> None:
        self.wires = wires
        self._labels, self._within = labels, connect_within
        self._quorum = majority(len(wires))
        self._runtime = BlockingRuntime()
        self._begin()

    def _begin(self) -> None:
        self._idle: deque[Fan] = deque()  # append and pop are atomic
        self._found: list[deque[Line]] = [deque() for _ in self.wires]
        self._ask_again = [0.0] * len(self.wires)  # when a master that is away may be tried
        self._away: list[BackstayError | None] = [None] * len(self.wires)
        self._keep = KEPT

    # -- one question

    async def ask(
        self, request: Request, enough: Enough, timeout: float, of: Sequence[int] | None = None
    ) -> list[Outcome]:
        """See `Masters.ask`."""
        try:
            fan = self._idle.pop()
        except IndexError:
            fan = Fan(len(self.wires))
        try:
            outcomes = await self._asked(fan, request, enough, timeout, range(len(fan.lines)) if of is None else of)
        except GeneratorExit:
            raise
        except BaseException:  # interrupted between a question and its answer
            fan.close()
            raise
        if len(self._idle) < self._keep:
            self._idle.append(fan)
        else:
            fan.close()
        return outcomes

    async def _asked(
        self, fan: Fan, request: Request, enough: Enough, timeout: float, of: Sequence[int]
    ) -> list[Outcome]:
        now = monotonic()
        until = now + timeout
        outcomes: list[Outcome] = [None] * len(fan.lines)
        for line in fan.lines:
            if line is None or line.slow:
                await self._mend(fan, now)
                break
        script = request.script
        command = pack(("EVALSHA", script.digest, len(request.keys), *request.keys, *request.arguments))
        pending: deque[int] = deque()
        answered, behind, copies = 0, 0, set[int]()
        for number in of:
            line = fan.lines[number]
            if line is None:
                outcomes[number] = self._away[number] or Unavailable(f"{self._labels[number]} was not reached")
                continue
            try:
                line.send(command, now)
            except exceptions.RedisError as error:
                self._cut(fan, number, error, outcomes, request, pending, copies, sent=False, until=until)
            else:
                if line.slow:
                    pending.append(number)
                else:  # whoever owes an answer comes first: else it might never be read
                    pending.insert(behind if not line.owed > 1 else 0, number)
                    behind += 1
        while pending:
            number = pending.popleft()
            line = fan.lines[number]
            if line is None:
                continue
            try:
                outcomes[number] = line.receive(), number in copies
            except exceptions.TimeoutError:
                line.slow = True
                if monotonic() >= until:
                    for each in (number, *pending):
                        outcomes[each] = unanswered(self._labels[each], _NOTHING)
                    return outcomes
                pending.append(number)
                continue
            except exceptions.NoScriptError:  # SCRIPT FLUSH, a restart (R9)
                self._send_text(fan, number, request, outcomes, pending)
                continue
            except exceptions.ConnectionError as error:
                self._cut(fan, number, error, outcomes, request, pending, copies, sent=True, until=until)
            except exceptions.ResponseError as error:
                refused = refusal(self._labels[number], error)
                if isinstance(refused, Misuse):
                    raise refused from error
                outcomes[number] = refused
            answered += 1
            if answered >= self._quorum and enough(outcomes):  # fewer decide nothing, and counting is not free
                break
        return outcomes

    def _send_text(self, fan: Fan, number: int, request: Request, outcomes: list[Outcome], pending: deque[int]) -> None:
        line = fan.lines[number]
        if line is None:
            return
        script = request.script
        try:
            line.send(pack(("EVAL", script.text, len(request.keys), *request.keys, *request.arguments)), monotonic())
        except exceptions.RedisError as error:
            fan.drop(number)
            outcomes[number] = not_reached(self._labels[number], error)
        else:
            pending.appendleft(number)

    def _cut(
        self,
        fan: Fan,
        number: int,
        error: exceptions.RedisError,
        outcomes: list[Outcome],
        request: Request,
        pending: deque[int],
        copies: set[int],
        *,
        sent: bool,
        until: float,
    ) -> None:
        """Go on after a connection broke: the server may have closed it while it was idle, so once more on a new one.

        Sending it twice is safe: every script knows its token, and its attempt.
        """
        again = number not in copies
        fan.drop(number)
        left = min(self._within, until - monotonic())
        # Refused as it was sent or read: nothing says that the script has not run.
        lost = unanswered(self._labels[number], error) if sent else not_reached(self._labels[number], error)
        outcomes[number] = lost
        if not again or left <= 0.0:
            self._leave_alone(number, lost)
            return
        try:
            line = fan.lines[number] = self._connected(number, left)
            line.send(pack(("EVAL", request.script.text, len(request.keys), *request.keys, *request.arguments)),
                      monotonic())  # fmt: skip
        except exceptions.RedisError:
            fan.drop(number)
            return
        except Unavailable as away:
            self._leave_alone(number, away)
            return
        outcomes[number] = None
        pending.append(number)
        copies.add(number)

    # -- the way to the masters

    async def _mend(self, fan: Fan, now: float) -> None:
        """Find lines for the masters that have none, and let go of those on which no answer has come for too long."""
        missing: list[int] = []
        for number, line in enumerate(fan.lines):
            if line is not None and line.slow:
                self._catch_up(fan, number, line, now)
            if fan.lines[number] is None:
                try:
                    fan.lines[number] = self._found[number].pop()
                except IndexError:
                    missing.append(number)
        if not missing:
            return
        known = [number for number in missing if self._away[number] is None]
        if len(fan.lines) - len(missing) + len(known) < self._quorum:
            known = missing  # without them nothing can be had, so they are worth the wait
        for number in missing:
            if number not in known and now >= self._ask_again[number]:
                self._ask_again[number] = now + self._within + AWAY
                self._runtime.spawn(partial(self._look_for, number), name="backstay-locks-master")
        outcomes = await self._runtime.gather(*(partial(self._opened, number) for number in known))
        for number, outcome in zip(known, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            fan.lines[number] = outcome

    def _catch_up(self, fan: Fan, number: int, line: Line, now: float) -> None:
        try:
            line.catch_up()
        except exceptions.RedisError as error:
            fan.drop(number)
            self._leave_alone(number, unanswered(self._labels[number], error))
            return
        if line.slow and now - line.since > self._within:
            fan.drop(number)
            self._leave_alone(number, unanswered(self._labels[number], _NOTHING))

    async def _opened(self, number: int) -> Line | None:
        try:
            line = self._connected(number, self._within)
        except Unavailable as error:
            self._leave_alone(number, error)
            return None
        self._away[number] = None
        return line

    async def _look_for(self, number: int) -> None:
        """Run beside the callers: find a master again."""
        try:
            line = await self._opened(number)
        except Misuse as error:  # its settings changed while it was away; it stays away
            self._leave_alone(number, error)
            return
        if line is not None:
            self._found[number].append(line)

    def _connected(self, number: int, within: float) -> Line:
        line = Line(cast("Connection", self.wires[number].connected(within)))
        try:
            # Now, since an answer that nobody reads may be the one that says that a script is not known.
            for script in (TAKE, CONFIRM, RENEW, GIVE_BACK, LOOK):
                line.send(pack(("SCRIPT", "LOAD", script.text)), 0.0)
            until = monotonic() + within
            while line.owed:
                try:
                    line.receive()
                except exceptions.TimeoutError:
                    if monotonic() >= until:
                        raise
        except exceptions.RedisError as error:
            line.close()
            raise not_reached(self._labels[number], error) from error
        return line

    def _leave_alone(self, number: int, error: BackstayError) -> None:
        self._away[number] = Unavailable(f"{self._labels[number]} is left out for a while: {error}")
        self._ask_again[number] = monotonic() + AWAY

    # -- the end

    async def close(self) -> None:
        """See `Masters.close`."""
        self._keep = 0
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last one
                break
        for found in self._found:
            while found:
                found.pop().close()
        for wire in self.wires:
            await wire.close()

    def forked(self) -> None:
        """See `Masters.forked`."""
        self._begin()
        for wire in self.wires:
            wire.forked()
