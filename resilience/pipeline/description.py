"""A pipeline as text, outermost first: what `print(pipeline)` shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from ..policy import Policy
from ..rate_limiting.rate import Rate

__all__ = ["describe", "settings_text"]


def describe(name: str, policies: Sequence[Policy]) -> str:
    """Return one line a policy: its kind, its name, and the settings that are not the default."""
    width = max((len(policy.kind) for policy in policies), default=0)
    lines = [f"pipeline {name!r}, outermost first:"]
    for policy in policies:
        own: object = getattr(policy, "name", "")
        words = [str(own) if own != name else "", settings_text(getattr(policy, "settings", None))]
        lines.append(f"  {policy.kind:<{width}}  {' '.join(word for word in words if word)}".rstrip())
    return "\n".join(lines)


def settings_text(settings: Any) -> str:
    """Return the fields of a settings dataclass that differ from their defaults."""
    if not dataclasses.is_dataclass(settings):
        return ""
    shown: list[str] = []
    for field in dataclasses.fields(settings):
        value: object = getattr(settings, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.repr and value != default:
            shown.append(f"{field.name}={_text(value):.60}")
    return ", ".join(shown)


def _text(value: Any) -> str:
    if isinstance(value, type | Rate):
        return value.__name__ if isinstance(value, type) else str(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_text, cast("list[Any]", value))) + ")"
    return repr(value)
