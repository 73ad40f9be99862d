"""Whether a function can answer for another: checked when the module is imported."""

from __future__ import annotations

import inspect

from backstay.errors import Misuse

from ..policy import Call, Target

__all__ = ["wants_refusal"]

_REFUSAL = "refusal"


def wants_refusal(answer: Call, label: str, target: Target) -> bool:
    """Check that every call of the target is one of the fallback; return whether it wants the refusal.

    Raises:
        Misuse: there is a call of the target that the fallback would not take.
    """
    try:
        theirs = inspect.signature(answer).parameters
        ours = inspect.signature(target.function).parameters
    except ValueError:  # a builtin without a signature: its own TypeError will say what is wrong
        return False
    takes_any_name = any(p.kind is p.VAR_KEYWORD for p in theirs.values())
    takes_any_place = any(p.kind is p.VAR_POSITIONAL for p in theirs.values())
    places = [p for p in theirs.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for index, parameter in enumerate(ours.values()):
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        name = parameter.name
        same_place = index < len(places) and places[index].name == name
        by_place = parameter.kind is parameter.KEYWORD_ONLY or takes_any_place or same_place
        by_name = parameter.kind is parameter.POSITIONAL_ONLY or takes_any_name or name in theirs
        if not (by_place and by_name):
            raise Misuse(
                f"fallback {label}() does not take {name!r} as {target.label}() does; "
                "give it the same parameters (and, if you like, `refusal`), or (*args, **kwargs)"
            )
    wanted = [
        p.name for p in theirs.values()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and p.name not in ours and p.name != _REFUSAL
    ]  # fmt: skip
    if wanted and not any(p.kind is p.VAR_POSITIONAL for p in ours.values()):
        raise Misuse(f"fallback {label}() needs {wanted[0]!r}, which {target.label}() does not have")
    return _REFUSAL in theirs and _REFUSAL not in ours
