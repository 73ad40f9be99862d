"""What to do where a server does not serve a bucket: pure, but for what the route learns."""

from __future__ import annotations

from typing import NamedTuple

from backstay.redis import ClusterRoute, Place, Redirected, Route

from ...backend import StoreFailed

__all__ = ["Onward", "elsewhere"]

_PAUSE = 0.005  # s; a slot moves in milliseconds, and budgets are short
_NOT_NOW = ("READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "TRYAGAIN")


class Onward(NamedTuple):
    """Where to ask next."""

    place: Place
    once: bool
    """Only this request goes there, after ASKING."""
    pause: float
    """Seconds to wait before."""


def elsewhere(route: Route, place: Place, failure: StoreFailed) -> Onward | None:
    """Return where to ask after `failure` at `place`; None where asking again does not help or may charge twice."""
    text = str(failure)
    if failure.reason == "reply" and isinstance(route, ClusterRoute):
        word, _, rest = text.partition(" ")
        if word in ("MOVED", "ASK"):
            slot, _, address = rest.partition(" ")
            host, _, port = address.rpartition(":")
            answer = Redirected(text, slot=int(slot), host=host, port=int(port), once=word == "ASK")
            return Onward(route.redirected(answer, place), answer.once, 0.0)
    if failure.reason == "reply" and text.startswith(_NOT_NOW):
        route.doubt(place)
        return Onward(place, False, _PAUSE)
    if failure.reason in ("connection", "timeout"):
        route.doubt(place)  # the next call asks who serves; this one may have charged
    return None
