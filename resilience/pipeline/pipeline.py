"""Policies round many functions, as one object that can be read, and changed while calls run (CO-1, CO-2)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from backstay.errors import Misuse

from ..forks import renew_in_child
from ..operation import Operation
from ..policy import Admission, Admit, AdmitAsync, Policy, Settle, Target, block_of, target_of
from ..switches.switches import Switches
from .arrangement import Entry, Order, Placed, arrange
from .description import describe
from .overlay import Change, Overlay
from .positions import Position
from .rules import warn_of
from .slots import Slot, face

__all__ = ["Pipeline", "pipeline_of"]

P = ParamSpec("P")
T = TypeVar("T")

_KEPT = 256


class Pipeline:
    """Several policies as one decorator for `def`, `async def`, generators and methods.

        payments = Pipeline("payments", CircuitBreaker("payments"), Retry("payments"), Bulkhead("payments"))

        @payments
        def charge(order_id: int) -> Receipt: ...

    Guarantees: whatever the order of the arguments, policies stand in the order of CO-1, which `print(payments)`
    shows; all functions of a pipeline share its policies and their state; every call is measured once, with its
    outcome; a change takes effect for whole calls, and those under way end as they began. Not guaranteed: that two
    policies of one kind stand otherwise than they were given.

    Args:
        name: the resource, in telemetry and errors.
        policies: what to put round calls. Objects of kinds that the default order does not know come by `placed`.
        order: kinds, outermost first, in place of the default; or `"given"` for the order of the arguments.
            An order that is known to be wrong is kept, and warned of by `OrderWarning`.
        switches: where the switch is that a document may name.

    Raises:
        Misuse: something is no policy, or its place is not known.
    """

    kind = "pipeline"

    def __init__(self, name: str, *policies: Entry, order: Order = None, switches: Switches | None = None) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise Misuse(f"Pipeline needs the resource's name first, as in Pipeline('payments', ...), got {name!r:.80}")
        self.name = name
        self._lock = threading.RLock()
        self._slots: weakref.WeakSet[Slot] = weakref.WeakSet()
        self._blocks: dict[bool, Slot] = {}
        self._calls: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})  # of plain functions, of `async def`
        self._operation = Operation(name)
        self._positions: list[Position] = []
        self._switches = switches
        self.policies: tuple[Policy, ...] = ()
        self._base = Overlay(name, policies, order, switches)
        self._put(policies, order, stacklevel=2)
        renew_in_child(self)

    # --- round what ----------------------------------------------------------------------------------

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return `function` inside the pipeline; name, signature and colour stay.

        Raises:
            Misuse: a policy cannot go round it.
        """
        with self._lock:
            slot = Slot(target_of(function, self.name), self.policies)
            protected: Any = face(slot)
            protected.pipeline = self
            self._slots.add(slot)
        found: Callable[P, T] = protected
        return found

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function through the pipeline.

        Give the same function each time: it is prepared at its first call, and the last 256 stay prepared.

        Raises:
            Misuse: it is `async def` or a generator function, or a policy cannot go round it.
        """
        try:
            protected = self._calls[0][function]
        except (KeyError, TypeError):
            protected = self._prepared(function, is_async=False)
        result: T = protected(*args, **kwargs)
        return result

    async def call_async(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await an `async def` through the pipeline, as `call` does for plain functions.

        Raises:
            Misuse: it is no `async def`, or a policy cannot go round it.
        """
        try:
            protected = self._calls[1][function]
        except (KeyError, TypeError):
            protected = self._prepared(function, is_async=True)
        result: T = await protected(*args, **kwargs)
        return result

    def admission(self) -> Admission:
        """Return the pipeline as a block: `with payments.admission():`, and `async with` likewise.

        Raises, on entry:
            Misuse: a policy calls functions, as retry does, and cannot go round a block.
        """
        return Admission(self, self.name)

    def admit(self, target: Target) -> Admit:
        """Return what admits through all policies: for streams, blocks and middlewares."""
        slot = self._admitting(target, is_async=False)

        def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            settle: Settle = slot.call(args, kwargs)
            return settle

        return admit

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return the same for code on an event loop."""
        slot = self._admitting(target, is_async=True)

        async def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            settle: Settle = await slot.call(args, kwargs)
            return settle

        return admit

    # --- what it is ----------------------------------------------------------------------------------

    @property
    def order(self) -> tuple[str, ...]:
        """The kinds of the policies, outermost first."""
        return tuple(policy.kind for policy in self.policies)

    def __str__(self) -> str:
        return describe(self.name, self.policies)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}: {' > '.join(self.order)})"

    # --- changing ------------------------------------------------------------------------------------

    def replace(self, *policies: Entry, order: Order = None) -> None:
        """Put these policies in place of all others; objects that stay keep their state.

        Settings are as code gave them from now on, until the next document. Everything is prepared before anything
        changes.

            payments.replace(*payments.policies, AttemptTimeout("payments", 0.5))

        Raises:
            Misuse: as for `Pipeline`, or a policy cannot go round a function that is protected; nothing changed.
        """
        with self._lock:
            base = self._base.moved(policies, order)
            self._put(policies, order, stacklevel=2)
            self._base = base
            self.prepare({}).apply()

    def reconfigure(self, document: Mapping[str, Any]) -> None:
        """Change settings, and add and take out policies, as a document says; all or nothing.

            payments.reconfigure({"limit": "200/second", "retry": {"attempts": 2}, "bulkhead": False})

        The same objects are changed, so that no breaker closes and no bucket fills up by it. What an earlier
        document said and this one leaves out is as the code said; False takes a policy out.

        Raises:
            Misuse: a word or a setting is unknown (the known ones are named) or wrong; nothing changed.
        """
        with self._lock:
            change = self.prepare(document)
            change.apply()

    def prepare(self, document: Mapping[str, Any]) -> Change:
        """Return the change that a document stands for, checked and compiled, and change nothing yet.

        Raises:
            Misuse: as for `reconfigure`.
        """
        with self._lock:
            plan = self._base.plan(document)
            policies = self._arranged(plan.entries, plan.order)
            self._compiled(policies)
            return Change(self, plan, policies)

    @classmethod
    def from_config(
        cls, name: str, document: Mapping[str, Any], *policies: Entry, switches: Switches | None = None
    ) -> Pipeline:
        """Return a pipeline of what a document says, and of policies that only code can give.

            Pipeline.from_config("payments", {"limit": "100/second", "retry": 3, "timeout": 2.0})

        Args:
            name: of the resource.
            document: words of `protect` with their short forms or tables of settings; and `order`.
            policies: as for `Pipeline`.
            switches: where the switch is that the document names.

        Raises:
            Misuse: as for `Pipeline` and `reconfigure`.
        """
        made = cls(name, *policies, switches=switches)
        made.reconfigure(document)
        return made

    # --- inside --------------------------------------------------------------------------------------

    def _put(self, entries: Sequence[Entry], order: Order, *, stacklevel: int) -> None:
        policies = self._arranged(entries, order)
        self.swap(policies)
        warn_of(self.name, self.order, stacklevel=stacklevel + 1)

    def _arranged(self, entries: Sequence[Entry], order: Order) -> tuple[Policy, ...]:
        kinds = [entry.policy.kind if isinstance(entry, Placed) else getattr(entry, "kind", "") for entry in entries]
        own = () if "operation" in kinds else (self._operation,)
        return arrange(self.name, (*own, *entries), order)

    def _compiled(self, policies: tuple[Policy, ...]) -> list[tuple[Slot, Any]]:
        return [(slot, slot.compiled(policies)) for slot in self._slots]

    def swap(self, policies: tuple[Policy, ...]) -> None:
        """Let calls that begin from now on pass these policies, outermost first.

        Raises:
            Misuse: one of them cannot go round what is protected; nothing changed.
        """
        with self._lock:
            compiled = self._compiled(policies)
            self.policies = policies
            for slot, call in compiled:
                slot.call = call
            self._positions = [Position(self.name, policy, place) for place, policy in enumerate(policies)]

    def _admitting(self, target: Target, *, is_async: bool) -> Slot:
        """Return a slot that only admits; all blocks share one a colour, which keeps `with` cheap."""
        is_block = target is block_of(self.name, is_async=is_async)
        found = self._blocks.get(is_async) if is_block else None
        if found is None:
            with self._lock:
                found = Slot(target, self.policies, admits=True)
                self._slots.add(found)
                if is_block:
                    self._blocks[is_async] = found
        return found

    def _prepared(self, function: Any, *, is_async: bool) -> Any:
        target = target_of(function, self.name)
        if target.is_stream or target.is_async is not is_async:
            cure = "call_async()" if target.is_async else "call()"
            cure = "decorate it with the pipeline" if target.is_stream else f"use {cure}"
            raise Misuse(f"pipeline {self.name!r}: {target.label}() is a {target.colour.value} function: {cure}")
        protected = self(function)
        calls = self._calls[is_async]
        with self._lock:
            try:
                calls[function] = protected
            except TypeError:  # not hashable: prepared at each call
                return protected
            while len(calls) > _KEPT:
                del calls[next(iter(calls))]
        return protected

    def renew(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()


def pipeline_of(function: object) -> Pipeline:
    """Return the pipeline round a protected function.

    Raises:
        Misuse: there is none.
    """
    found: object = getattr(function, "pipeline", None)
    if not isinstance(found, Pipeline):
        raise Misuse(f"{function!r:.100} is not protected by a pipeline")
    return found
