"""The news of an election as a value: who was elected and how each term ended, in order of terms.

Terms are the fences of the leases, so they rise for ever; what a leader of an old term has to say when another has
been elected is not written any more. Whoever is elected writes the end of the term before where its leader did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from backstay.locks.register import Next

__all__ = ["HISTORY", "REASONS", "News", "NewsForm", "NewsState", "ended", "since", "started"]

HISTORY = 32
"""News that are kept; who looks more rarely than that misses the oldest, never the latest."""

REASONS = ("resigned", "lease expired", "body failed", "partitioned", "superseded")
"""How a term can end (X9).

`resigned`: its work returned or it was asked to stop. `body failed`: its work raised. `lease expired`: it was not
renewed in time although the store could be reached, or nothing more was heard of the leader. `partitioned`: the store
could not be reached. `superseded`: the lease was taken or freed at the store.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One thing that happened in an election.

    Args:
        number: rises by 1 with each.
        event: a leader was `elected`, or its term `ended`.
        term: the fence of its lease.
        candidate: whose term it is.
        reason: why it ended, one of `REASONS`; empty for an election.
    """

    number: int
    event: Literal["elected", "ended"]
    term: int
    candidate: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsState:
    """The latest news, the oldest first; at least one."""

    news: tuple[News, ...]

    @property
    def last(self) -> News:
        """The latest."""
        return self.news[-1]


class NewsForm:
    """News as JSON."""

    def load(self, body: Mapping[str, Any]) -> NewsState:
        return NewsState(
            news=tuple(
                News(number=number, event=event, term=term, candidate=candidate, reason=reason)
                for number, event, term, candidate, reason in body["news"]
            )
        )

    def dump(self, state: NewsState) -> dict[str, Any]:
        return {"news": [[each.number, each.event, each.term, each.candidate, each.reason] for each in state.news]}


def started(state: NewsState | None, term: int, candidate: str) -> Next[NewsState, None]:
    """Tell that a term has begun; a term before it that nobody ended has expired."""
    if state is not None and state.last.term >= term:
        return Next(None)
    if state is not None and state.last.event == "elected":
        state = _told(state, "ended", state.last.term, state.last.candidate, "lease expired")
    return Next(None, _told(state, "elected", term, candidate))


def ended(state: NewsState | None, term: int, candidate: str, reason: str) -> Next[NewsState, None]:
    """Tell that a term has ended, its work included."""
    if state is not None and (state.last.term > term or (state.last.term == term and state.last.event == "ended")):
        return Next(None)
    begun = started(state, term, candidate).state or state
    return Next(None, _told(begun, "ended", term, candidate, reason))


def since(state: NewsState | None, number: int) -> list[News]:
    """Return the news after `number`, in order; where it is not of this document, only the latest."""
    if state is None:
        return []
    if state.last.number < number:
        return [state.last]
    return [each for each in state.news if each.number > number]


def _told(
    state: NewsState | None, event: Literal["elected", "ended"], term: int, candidate: str, reason: str = ""
) -> NewsState:
    if state is None:
        return NewsState(news=(News(number=1, event=event, term=term, candidate=candidate, reason=reason),))
    piece = News(number=state.last.number + 1, event=event, term=term, candidate=candidate, reason=reason)
    return replace(state, news=(*state.news, piece)[-HISTORY:])
