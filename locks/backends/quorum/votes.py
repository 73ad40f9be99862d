"""What masters answered to one question, and what that means: values and counting, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from backstay.errors import BackstayError, OutcomeUnknown
from backstay.locks.backend import Busy, Freed, Holding, Kept, Survey
from backstay.locks.backends.redis.answers import granted
from backstay.locks.claims import MUTEX

__all__ = ["Enough", "Outcome", "busy", "freed", "granted", "kept", "majority", "said", "survey", "unknown",
           "yes_or_hopeless"]  # fmt: skip

Outcome = tuple[Any, bool] | BackstayError | None
"""A master's answer, and whether an earlier copy of the question may have been answered as well; an error; or None
where the answer was not waited for: it is read, or its connection dropped, before anything else is asked there."""

Enough = Callable[[Sequence[Outcome]], bool]
"""Says whether the answers so far will do."""


def majority(masters: int) -> int:
    """Return how many of `masters` any two majorities share at least one of."""
    return masters // 2 + 1


def said(outcomes: Sequence[Outcome], yes: Callable[[Any], bool]) -> int:
    """Return how many answered, and said yes."""
    return sum(type(outcome) is tuple and yes(outcome[0]) for outcome in outcomes)


def yes_or_hopeless(yes: Callable[[Any], bool], quorum: int) -> Enough:
    """Return the rule that stops at `quorum` times yes, or where that cannot be had any more."""

    def enough(outcomes: Sequence[Outcome]) -> bool:
        good = said(outcomes, yes)
        return good >= quorum or good + outcomes.count(None) < quorum

    return enough


def busy(outcomes: Sequence[Outcome]) -> Busy:
    """Return why a majority could not be had: who holds most, and until when."""
    refusals: list[Any] = [
        outcome[0] for outcome in outcomes if type(outcome) is tuple and isinstance(outcome[0], list)
    ]
    if not refusals:
        return Busy(None, 0.0, 1, "")
    holders = Counter(_token(refusal[2]) for refusal in refusals)
    owner, held_at = holders.most_common(1)[0]
    left: int = max(refusal[0] for refusal in refusals if _token(refusal[2]) == owner)
    # A minority held by somebody is two who came at once: neither may count on the other's time.
    ends = left / 1000.0 if left >= 0 and held_at >= majority(len(outcomes)) else None
    return Busy(ends, int(refusals[0][1]) / 1e6, 1, owner)


def kept(answers: Sequence[Any], quorum: int) -> Kept:
    """Return what became of one renewal: only a majority keeps a lease (K3), and what is gone is not made anew."""
    renewed = sum(answer == 1 for answer in answers)
    if renewed >= quorum:
        return Kept.RENEWED
    endless = sum(answer == -1 for answer in answers)
    if len(answers) - sum(answer == 0 for answer in answers) < quorum:
        return Kept.NOT_OWNER
    return Kept.NO_EXPIRY if endless and renewed + endless >= quorum else Kept.FAILED


def freed(outcomes: Sequence[Outcome], quorum: int) -> Freed | None:
    """Return how a release ended; None where too few answered."""
    gone = said(outcomes, lambda answer: answer == 1)
    perhaps = sum(type(outcome) is tuple and outcome == (0, True) for outcome in outcomes)
    if gone >= quorum:
        return Freed.FREED
    if gone + perhaps >= quorum:
        return Freed.PERHAPS_EARLIER
    never = sum(type(outcome) is tuple and outcome == (0, False) for outcome in outcomes)
    return Freed.NOT_OWNER if len(outcomes) - never < quorum else None


def survey(answers: Sequence[Sequence[Any]], quorum: int) -> Survey:
    """Return who holds a lock: only whoever a majority names does."""
    owners = Counter(_token(owner) for _, owner, _, _ in answers if owner)
    holders: list[Holding] = []
    for token, count in owners.items():
        if count >= quorum:
            own = [answer for answer in answers if answer[1] and _token(answer[1]) == token]
            fence = max(int(answer[3]) for answer in own)
            age = max(0.0, (int(own[0][0]) - fence) / 1e6) if fence else 0.0
            lefts = sorted((answer[2] for answer in own), reverse=True)
            holders.append(Holding(token, MUTEX.units, fence, age, max(0.0, lefts[quorum - 1] / 1000.0)))
    return Survey(0, holders, [])


def unknown(outcome: Outcome) -> bool:
    """Return whether the question may have been answered and we do not know how."""
    return outcome is None or isinstance(outcome, OutcomeUnknown)


def _token(owner: Any) -> str:
    return str(owner, errors="replace").rpartition("|")[0]
