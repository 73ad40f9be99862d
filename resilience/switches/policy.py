"""The switch as a policy: off means that the fallback answers at once and nothing inside runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backstay.errors import Misuse
from backstay.keys import Template

from ..fallback import Fallback
from ..policy import Admit, AdmitAsync, AsyncCall, Call, Served, Settle, Target

if TYPE_CHECKING:
    from .evaluation import Key
    from .switches import Switches

__all__ = ["SwitchPolicy"]


class SwitchPolicy:
    """Asks one switch before each call.

    Args:
        switches: where the switch is.
        name: of the switch.
        fallback: what answers while it is off; `Degraded` is raised where there is none.
        key: whose share of a percentage a call counts to: a template of the function's parameters such as
            `"{customer_id}"`, or a function of the call's arguments.

    Raises:
        Misuse: there is no such switch, or the key is neither.
    """

    kind = "switch"

    def __init__(
        self,
        switches: Switches,
        name: str,
        fallback: Fallback | None = None,
        *,
        key: str | Callable[..., Key] | None = None,
    ) -> None:
        switches.enabled(name)
        given: Any = key
        if given is not None and not isinstance(given, str) and not callable(given):
            raise Misuse(f"switch {name!r}: key is a template such as '{{customer_id}}' or a function, got {key!r:.80}")
        self._key = Template(key) if isinstance(key, str) else key
        self._switches = switches
        self.name = self._name = name
        self._fallback = fallback

    def covered(self, fallback: Fallback) -> SwitchPolicy:
        """Return the same policy with `fallback` to answer while the switch is off, unless it has one."""
        if self._fallback is not None:
            return self
        key = self._key.text if isinstance(self._key, Template) else self._key
        return SwitchPolicy(self._switches, self._name, fallback, key=key)

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the switch."""
        switches, name = self._switches, self._name
        enabled = self._asking(target)
        serve = self._fallback.prepare(target)[0] if self._fallback is not None else None

        def switched(*args: Any, **kwargs: Any) -> Any:
            if enabled(args, kwargs):
                return call(*args, **kwargs)
            refusal = switches.refuse(name)
            if serve is None:
                raise refusal
            return Served(serve(refusal, args, kwargs))

        return switched

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` behind the switch."""
        switches, name = self._switches, self._name
        enabled = self._asking(target)
        serve, awaited = self._fallback.prepare(target) if self._fallback is not None else (None, False)

        async def switched(*args: Any, **kwargs: Any) -> Any:
            if enabled(args, kwargs):
                return await call(*args, **kwargs)
            refusal = switches.refuse(name)
            if serve is None:
                raise refusal
            answer = serve(refusal, args, kwargs)
            return Served(await answer if awaited else answer)

        return switched

    def admit(self, target: Target) -> Admit:
        """Return what lets streams and blocks begin while the switch is on; those under way end as they are.

        Raises:
            Misuse: there is a fallback, which cannot stand in for a stream or a block.
        """
        if self._fallback is not None:
            raise Misuse(f"{target.resource!r}: a fallback cannot stand in for a stream or a block; leave it out there")
        switches, name = self._switches, self._name
        enabled = self._asking(target)

        def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            if not enabled(args, kwargs):
                raise switches.refuse(name)
            return _heard

        return admitted

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return the same for code on an event loop."""
        admit = self.admit(target)

        async def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            return admit(args, kwargs)

        return admitted

    def _asking(self, target: Target) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
        """Return what says of a call whether it may run."""
        name, enabled, key = self._name, self._switches.enabled, self._key
        if key is None:
            return lambda args, kwargs: enabled(name)
        if isinstance(key, Template):
            bound = key.bind(target.function)
            return lambda args, kwargs: enabled(name, bound(args, kwargs))
        found = key
        return lambda args, kwargs: enabled(name, found(*args, **kwargs))


def _heard(error: BaseException | None) -> None:
    """Hear how a call ended, which does not matter to a switch."""
