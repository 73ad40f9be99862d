"""One breaker of this process among those of the other instances: what it asks, and what it does with the answer.

Counting stays local. An instance tells only what it saw itself: one that was opened by the others has no opinion,
or two broken instances would keep a thousand open. So a quorum holds for as long as enough instances have failures
of their own, and those that it opened close when it is gone; an instance with failures of its own proves with probes
that it may close. Probes need permits, which are shared by all instances; whoever gets none stays open.

Where the store does not answer, the breaker is what it is without one: local.
"""

from __future__ import annotations

from backstay.clock import Clock

from ..circuit import Circuit
from ..states import Cause, State
from .opinion import OVERRIDES, Answer, Question, quorum

__all__ = ["Member"]

_OWN = (Cause.FAILURE_RATE, Cause.SLOW_RATE, Cause.CONSECUTIVE, Cause.PROBES_FAILED)
_BEARABLE = 30.0  # s: a lease of permits ends by then although its holder is dead
_UNUSED = 2.0  # s for which permits are kept although no call comes; another instance may have traffic


class Member:
    """What one breaker knows of the others. Used by one thread at a time."""

    def __init__(self, circuit: Circuit, *, share: float) -> None:
        self.circuit = circuit
        self.share = share
        self.answer: Answer | None = None
        """The last one, None while the store does not answer."""
        self._clock: Clock = circuit.clock
        self._version = 0
        self._held = 0
        self._since = 0.0
        self._rests = False  # gave unused permits back: others go first, for one exchange
        self._proved = False  # closed by its own probes, beside a quorum of those who have not probed yet
        self._was: State = circuit.episode.state
        self._override: State | None = None

    def question(self) -> Question:
        """Return what to tell and to ask now."""
        circuit, settings = self.circuit, self.circuit.settings
        state, wait, hold = circuit.episode.state, circuit.wait(), 0.0
        self._version += 1
        if self._was in (State.OPEN, State.HALF_OPEN) and state is State.CLOSED:
            self._proved = True
        if self._held and state is State.OPEN:
            if circuit.allowance == 0:  # it has probed, and opened again: nobody need try before it does
                self._held, hold = 0, wait or 0.0
            elif self._clock() - self._since >= _UNUSED and circuit.allow(0):
                self._held, self._rests = 0, True
        elif state is not State.HALF_OPEN:
            self._held = 0
        wanted = settings.probes if wait == 0 and not self._held and not self._rests else 0
        self._rests = False
        return Question(
            version=self._version,
            is_open=state in (State.OPEN, State.HALF_OPEN) and circuit.opened_by in _OWN,
            wanted=wanted,
            held=self._held,
            permits=settings.probes,
            lease=min(settings.lease, _BEARABLE),
            hold=hold,
        )

    def hear(self, answer: Answer) -> None:
        """Do what follows from an answer."""
        self.answer = answer
        self._act(answer)
        self._was = self.circuit.episode.state

    def _act(self, answer: Answer) -> None:
        if answer.granted:
            self._held, self._since = answer.granted, self._clock()
            self.circuit.allow(answer.granted)
        elif not self._held:
            self.circuit.allow(0)
        if answer.override is not None:
            self._override = answer.override
            if self.circuit.episode.state is not answer.override:  # wins over whatever was done locally
                self.circuit.move(OVERRIDES[answer.override])
            return
        if self._override is not None:
            self._override = None
            self.circuit.move(Cause.MANUAL_CLOSE)
        self._follow(answer.open >= quorum(answer.live, self.share))

    def _follow(self, is_quorum: bool) -> None:
        if not is_quorum:
            self._proved = False
            if self.circuit.opened_by is Cause.QUORUM_OPENED:
                self.circuit.move(Cause.QUORUM_ENDED)
        elif not self._proved:
            self.circuit.move(Cause.QUORUM_OPENED)

    def lose(self) -> None:
        """Go on alone: the store does not answer."""
        self.answer, self._held = None, 0
        self.circuit.allow(None)

    def leave(self) -> Question:
        """Return the last thing to tell; the breaker is local again."""
        self.lose()
        self._version += 1
        return Question(version=self._version, permits=self.circuit.settings.probes, leaves=True)
