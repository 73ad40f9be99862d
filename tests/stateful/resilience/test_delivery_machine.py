"""Delivery beside a model: pushes lost, doubled, late, out of order; answers old, cut, missing (SW-1 to SW-5, SW-12).

Whatever the channel does, what is in force only moves forward, is always a whole document that was published, and
is the newest one within the pull interval after the faults have ended.
"""

from __future__ import annotations

import random

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backstay.errors import Misuse, Unavailable
from backstay.resilience.delivery.envelope import Cursor, Envelope
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.port import Told
from backstay.testing import ManualClock
from unit.resilience.delivery.scripted import Keeping, Pushing, sealed


class Delivery(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16), first=st.integers(0, 3))
    def begin(self, seed: int, first: int) -> None:
        self.clock, self.keeping = ManualClock(), Keeping()
        self.history = [sealed(first, content="first")]
        self.sent: list[Told] = []  # by the source and not heard yet
        self.heard: list[Told] = []
        self.source = Pushing(self.history[-1])
        self.plane = Plane(self.source, clock=self.clock, chance=random.Random(seed).uniform)
        self.plane.attach(self.keeping).start(watched=False)
        self.plane.begin_listening()
        self.highest = self.plane.current
        self.due = self.plane.look()

    @property
    def newest(self) -> Envelope:
        return self.history[-1]

    # --- the source ----------------------------------------------------------------------------------

    @rule(step=st.integers(1, 3), epoch=st.booleans(), whole=st.booleans(), spoilt=st.just(False) | st.booleans())
    def publish(self, step: int, epoch: bool, whole: bool, spoilt: bool) -> None:
        last = self.newest
        cursor = Cursor(last.epoch + 1, step) if epoch else Cursor(last.epoch, last.version + step)
        content = {"spoilt": True} if spoilt else {"content": f"{cursor}"}
        self.history.append(sealed(cursor.version, epoch=cursor.epoch, **content))
        self.source.present = self.newest
        self.sent.append(Told(epoch=cursor.epoch, version=cursor.version, envelope=self.newest if whole else None))

    # --- the channel ---------------------------------------------------------------------------------

    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        """Any one that was sent, in any order."""
        if self.sent and self.source.ear is not None:
            told = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
            self.heard.append(told)
            self.source.ear(told)

    @rule(data=st.data())
    def hear_again(self, data: st.DataObject) -> None:
        if self.heard and self.source.ear is not None:
            self.source.ear(data.draw(st.sampled_from(self.heard)))

    @rule()
    def lose(self) -> None:
        self.sent.clear()

    @rule()
    def cut(self) -> None:
        self.source.streams[-1].alive = False

    @rule(deaf=st.booleans())
    def refuse_streams(self, deaf: bool) -> None:
        self.source.deaf = deaf

    @rule(data=st.data())
    def answer_as_a_replica_behind(self, data: st.DataObject) -> None:
        self.source.present = data.draw(st.sampled_from(self.history))

    @rule(failure=st.sampled_from([None, Unavailable("no answer"), Misuse("no envelope: truncated")]))
    def fail(self, failure: Exception | None) -> None:
        self.source.failure = failure

    # --- time ----------------------------------------------------------------------------------------

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        end = self.clock() + seconds
        while True:
            self.due = self.plane.look()
            if self.clock() + self.due > end:
                break
            self.clock.advance(max(self.due, 0.001))
        self.clock.advance(max(0.0, end - self.clock()))

    @rule()
    def heal(self) -> None:
        """The faults end; what was sent stays lost. A last good document is there within the pull interval."""
        if "spoilt" in self.newest.items["switches"]:
            self.publish(step=1, epoch=False, whole=False, spoilt=False)
        self.source.failure, self.source.present = None, self.newest
        self.sent.clear()
        self.wait(self.plane.pace.pull_interval)
        assert self.plane.current == self.newest
        assert self.plane.status().state == "ready"
        assert self.plane.status().age <= self.plane.pace.pull_interval

    # --- always --------------------------------------------------------------------------------------

    @invariant()
    def what_is_in_force_only_moves_forward_and_is_whole(self) -> None:
        if not hasattr(self, "plane"):
            return
        current = self.plane.current
        assert current is not None
        assert self.highest is None or current.cursor >= self.highest.cursor
        self.highest = current
        assert current in self.history
        assert "spoilt" not in current.items["switches"]
        assert self.keeping.now == dict(current.items["switches"])

    @invariant()
    def ready_means_confirmed(self) -> None:
        if hasattr(self, "plane") and self.plane.status().state == "ready":
            assert self.plane.status().age <= self.plane.pace.lag


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
