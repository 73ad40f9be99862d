"""How far up the chain reads may go now: the port through which levels of degradation are heard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

__all__ = ["WORDS", "Reach", "Word", "reaching"]

logger = logging.getLogger("backstay.resilience")

Word: TypeAlias = Literal["origin", "distributed_cache", "local_cache", "static"]
"""The first tier that is asked: the origin and all below it, the caches only, the process only, nothing."""

Reach: TypeAlias = Callable[[], str]
"""Says a `Word` for each read. It is asked on every read, so it must be quick, and it may let a share of reads
through to the origin while the others stay below."""

WORDS: Final[tuple[str, ...]] = get_args(Word)


def reaching(reach: Reach, name: str) -> Callable[[], Any]:
    """Return `reach` so that it never fails a read: what it raises, or says wrong, stands for `origin`.

    The first fault is logged, and then the first after each good word.
    """
    known = frozenset(WORDS)
    faults: list[str] = []

    def word() -> str:
        try:
            said = reach()
            if said in known:
                if faults:
                    faults.clear()
                return said
            fault = f"said {said!r}, not one of {', '.join(WORDS)}"
        except Exception as error:
            fault = f"raised {type(error).__name__}: {error}"
        if not faults:
            faults.append(fault)
            logger.warning("read chain %r asks its origin: what says how far it reaches %s", name, fault)
        return "origin"

    return word
