"""What can go wrong when rows live on several databases, each under one of the library's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backstay.errors import Misuse, OutcomeUnknown, Unavailable

__all__ = [
    "BadKey",
    "CrossShardWrite",
    "MergeOrderError",
    "Misplaced",
    "NotMergeable",
    "PartialCommit",
    "UnitPoisoned",
    "Unkeyed",
    "Unroutable",
]


class BadKey(Misuse):
    """A value cannot be used as a sharding key: wrong type, NULL, or out of range."""


class Unroutable(Misuse):
    """A statement or an object cannot be placed on a shard; the text names the clause and the cure.

    Args:
        message: what could not be placed.
        clause: the part of the statement that prevents it.
        cure: what to write instead.
    """

    def __init__(self, message: str, *, clause: str = "", cure: str = "") -> None:
        super().__init__(f"{message}; {cure}" if cure else message)
        self.clause = clause
        self.cure = cure

    def again(self) -> Unroutable:
        """The same refusal, fresh to raise: a plan keeps refusals, and tracebacks must not pile up on them."""
        fresh = type(self)(str(self), clause=self.clause)
        fresh.cure = self.cure
        return fresh


class Unkeyed(Unroutable):
    """A read without the sharding key would go to more shards than the policy lets it."""


class NotMergeable(Unroutable):
    """A statement would have to run on several shards and its parts cannot be put together rightly."""


class CrossShardWrite(Misuse):
    """A unit of work in commit mode `single` tried to write on a second shard; nothing was sent there."""


class Misplaced(Misuse):
    """A flush would put a row on the wrong shard: a child away from its parent, or a changed sharding key."""


class MergeOrderError(Misuse):
    """A shard delivered rows in another order than the merge expects, so no order is returned at all.

    The usual reason is a collation that compares texts in its own way; order by a binary collation instead.
    """


class UnitPoisoned(Unavailable):
    """A statement failed on one shard, so the whole unit of work was rolled back instead of committed."""


class PartialCommit(OutcomeUnknown):
    """A commit over several shards did not end the same everywhere.

    Args:
        committed: shards that confirmed their commit.
        rolled_back: shards that certainly kept nothing.
        unknown: shards whose answer to COMMIT was lost; ask them before repeating anything.
        errors: the error of each shard that failed.
    """

    def __init__(
        self,
        *,
        committed: Sequence[str],
        rolled_back: Sequence[str],
        unknown: Sequence[str],
        errors: Mapping[str, BaseException],
    ) -> None:
        self.committed = tuple(committed)
        self.rolled_back = tuple(rolled_back)
        self.unknown = tuple(unknown)
        self.errors = dict(errors)
        super().__init__(
            f"the commit did not end the same on all shards: committed {_names(self.committed)}, rolled back"
            f" {_names(self.rolled_back)}, unknown {_names(self.unknown)}; mend or repeat by shard",
            ask={"committed": self.committed, "rolled_back": self.rolled_back, "unknown": self.unknown},
        )


def _names(shards: Sequence[str]) -> str:
    return ", ".join(shards) if shards else "none"
