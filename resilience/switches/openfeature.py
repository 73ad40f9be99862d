"""Switches as an OpenFeature provider: flags of the OpenFeature SDK answered from the snapshot in this process.

from openfeature import api
api.set_provider(SwitchProvider(switches))
api.get_client().get_boolean_value("recommendations", True, EvaluationContext("user-1"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, FlagNotFoundError, InvalidContextError, TypeMismatchError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from backstay.errors import Misuse

from ..delivery.watch import unwatch, watch
from .evaluation import text_of
from .model import Kind, thaw

if TYPE_CHECKING:
    from .reading import Details
    from .switches import Switches

__all__ = ["SwitchProvider"]

_REASONS = {
    "static": Reason.STATIC,
    "default": Reason.DEFAULT,
    "split": Reason.SPLIT,
    "disabled": Reason.DISABLED,
    "stale": Reason.STALE,
}


class SwitchProvider(AbstractProvider):
    """Answers the flags of an OpenFeature client.

    Guarantees: an evaluation does no I/O; a flag that is not there, is of another type, or has an unusable targeting
    key gives the caller's default with the error code that OpenFeature has for it; values are answered in every
    state of the source. Events follow the switches within `interval`: ready, stale, error and configuration changed
    with the names that differ; they are emitted in a forked child as well, whose SDK runs no handlers if it did so
    before the fork. Not guaranteed: one event for each of several changes
    within an interval. A number is an integer flag if it is whole in the document; each number is a float flag. An
    evaluation with a split and without a targeting key answers the default variant.

    Args:
        switches: what is read. It stays open when the provider is shut down: it belongs to whoever made it.
        interval: seconds between two looks for events.

    Raises:
        Misuse: the interval is out of range.
        ImportError: `openfeature-sdk` is not installed; `pip install 'backstay[openfeature]'`.
    """

    def __init__(self, switches: Switches, *, interval: float = 0.1) -> None:
        super().__init__()
        if not 0.01 <= interval <= 3600:
            raise Misuse(f"interval must be from 0.01 to 3600 s, got {interval!r}")
        self.interval = interval
        self._switches = switches
        self._told: str = "ready"
        self._seen = switches.snapshot()

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="backstay")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Begin to tell of events; the SDK itself tells that the provider is ready, which it is at once."""
        self._told, self._seen = "ready", self._switches.snapshot()
        watch(self, self.interval)

    def shutdown(self) -> None:
        """End telling of events."""
        unwatch(self)

    # --- events --------------------------------------------------------------------------------------

    def look(self) -> float:
        """Tell of what happened since the last look; return the seconds to the next one."""
        found, seen = self._switches.snapshot(), self._seen
        if found is not seen:
            self._seen = found
            names = set(found.states) | set(seen.states)
            changed = sorted(name for name in names if found.states.get(name) != seen.states.get(name))
            if changed:
                details = ProviderEventDetails(flags_changed=changed, metadata={"version": found.version})
                self.emit_provider_configuration_changed(details)
        status = self._switches.status()
        state: str = status.state
        if state != self._told:
            self._told = state
            details = ProviderEventDetails(message=status.problem or None, metadata={"version": found.version})
            if state == "ready":
                self.emit_provider_ready(details)
            elif state == "error":
                details.error_code = ErrorCode.GENERAL
                self.emit_provider_error(details)
            else:
                self.emit_provider_stale(details)
        return self.interval

    # --- evaluation ----------------------------------------------------------------------------------

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Return a boolean."""
        found = self._find(flag_key, "boolean", evaluation_context)
        return _resolved(found, bool(found.value))

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Return a text."""
        found = self._find(flag_key, "text", evaluation_context)
        return _resolved(found, str(found.value))

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Return a number that is whole in the document."""
        found = self._find(flag_key, "number", evaluation_context)
        if not isinstance(found.value, int):
            raise TypeMismatchError(f"switch {flag_key!r} is {found.value!r}, no whole number; read it as a float")
        return _resolved(found, found.value)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Return a number."""
        found = self._find(flag_key, "number", evaluation_context)
        return _resolved(found, float(found.value))

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Return a copy of an object."""
        found = self._find(flag_key, "object", evaluation_context)
        value: dict[str, Any] = thaw(found.value)
        return _resolved(found, value)

    def _find(self, name: str, kind: Kind, context: EvaluationContext | None) -> Details:
        key: Any = context.targeting_key if context is not None else None
        if key is not None:
            try:
                key = text_of(key)
            except Misuse as error:
                raise InvalidContextError(str(error)) from error
        try:
            found = self._switches.details(name, key)
        except Misuse as error:
            raise FlagNotFoundError(str(error)) from error
        if found.kind != kind:
            raise TypeMismatchError(f"switch {name!r} is a {found.kind}, not a {kind}")
        return found


def _resolved(found: Details, value: Any) -> FlagResolutionDetails[Any]:
    said: dict[str, Any] = {"version": found.version, "reason": found.reason, "until": found.until}
    return FlagResolutionDetails(
        value=value,
        reason=_REASONS[found.cause],
        variant=found.variant,
        flag_metadata={name: entry for name, entry in said.items() if entry not in (None, "")},
    )
