"""Finds counter updates that lose counts between threads.

CPython with a GIL changes threads at calls, at function entries and at backward jumps. `counter.n += 1` has
none of these between the load and the store, so it is exact; `counter.n += measure()` has one, and lost
60 to 70 % of its counts under eight threads. The same rule keeps a critical section short: a thread that is
preempted while it holds a lock makes all others queue.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType

__all__ = ["code_of", "racy_updates", "switch_points"]

_SWITCHES = ("CALL", "PRECALL", "RESUME", "JUMP_BACKWARD", "YIELD_VALUE", "SEND", "FOR_ITER")


def code_of(code: CodeType) -> Iterator[CodeType]:
    """Yield `code` and the code of every function defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_of(constant)


def switch_points(instructions: list[dis.Instruction]) -> list[dis.Instruction]:
    """Return those of `instructions` at which CPython may change threads."""
    return [step for step in instructions if step.opname.startswith(_SWITCHES)]


def racy_updates(code: CodeType, attribute: str = "n") -> list[str]:
    """Return the places in `code` where `x.<attribute> += ...` may lose a count: empty where there is none.

    Args:
        code: a function's `__code__`, or a compiled module.
        attribute: the name of the counting attribute.
    """
    return [fault for part in code_of(code) for fault in _faults(part, attribute)]


def _faults(code: CodeType, attribute: str) -> Iterator[str]:
    if attribute not in code.co_names:  # most code; taking instructions apart is slow
        return
    loaded: int | None = None
    steps = list(dis.get_instructions(code))
    for place, step in enumerate(steps):
        if step.argval != attribute:
            continue
        # `x.n += y` duplicates x, loads the attribute from the copy and stores it into the original
        if step.opname == "LOAD_ATTR" and place and steps[place - 1].opname in ("COPY", "DUP_TOP"):
            loaded = place
        elif step.opname == "STORE_ATTR" and loaded is not None:
            for switch in switch_points(steps[loaded + 1 : place])[:1]:
                line = step.positions.lineno if step.positions else code.co_firstlineno
                yield f"{code.co_filename}:{line} in {code.co_qualname}: {switch.opname} inside `.{attribute} +=`"
            loaded = None
