"""The switch as a policy: off means that the fallback answers at once and nothing inside runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..fallback import Fallback
from ..policy import AsyncCall, Call, Served, Target

if TYPE_CHECKING:
    from .switches import Switches

__all__ = ["SwitchPolicy"]


class SwitchPolicy:
    """Asks one switch before each call.

    Args:
        switches: where the switch is.
        name: of the switch.
        fallback: what answers while it is off; `Degraded` is raised where there is none.

    Raises:
        Misuse: there is no such switch.
    """

    kind = "switch"

    def __init__(self, switches: Switches, name: str, fallback: Fallback | None = None) -> None:
        switches.enabled(name)
        self._switches = switches
        self._name = name
        self._fallback = fallback

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the switch."""
        switches, name = self._switches, self._name
        enabled = switches.enabled
        serve = self._fallback.prepare(target)[0] if self._fallback is not None else None

        def switched(*args: Any, **kwargs: Any) -> Any:
            if enabled(name):
                return call(*args, **kwargs)
            refusal = switches.refuse(name)
            if serve is None:
                raise refusal
            return Served(serve(refusal, args, kwargs))

        return switched

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` behind the switch."""
        switches, name = self._switches, self._name
        enabled = switches.enabled
        serve, awaited = self._fallback.prepare(target) if self._fallback is not None else (None, False)

        async def switched(*args: Any, **kwargs: Any) -> Any:
            if enabled(name):
                return await call(*args, **kwargs)
            refusal = switches.refuse(name)
            if serve is None:
                raise refusal
            answer = serve(refusal, args, kwargs)
            return Served(await answer if awaited else answer)

        return switched
