"""What the exception of a participant's function means, in one place for in-process and remote branches."""

from __future__ import annotations

from typing import Any

from .errors import BarrierAlarm, TryRefused
from .values import Answer, Phase, Reply, dump

__all__ = ["done", "judge"]


def done(result: Any, *, what: str) -> Reply:
    """Return the reply of a function that returned; its result must be JSON."""
    if result is not None:
        dump(result, what=what)
    return Reply(answer=Answer.DONE, result=result)


def judge(phase: Phase, error: Exception) -> Reply:
    """Return the reply of a function that raised.

    A refusal counts in try only: confirm and cancel cannot refuse, so there it is as unknown as any other
    exception, and is repeated.
    """
    if isinstance(error, TryRefused) and phase is Phase.TRY:
        return Reply(answer=Answer.REFUSED, text=error.reason, detail=error.detail, error=error)
    if isinstance(error, BarrierAlarm):
        return Reply(answer=Answer.ALARM, text=str(error), error=error)
    return Reply(answer=Answer.UNKNOWN, text=f"{type(error).__name__}: {error}", error=error)
