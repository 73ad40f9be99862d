"""The public surface is what tests/public_api.txt says, documented, and alike in both colours."""

from __future__ import annotations

import difflib
import inspect
import re
import types
from collections.abc import Iterator

import pytest

from public_api import TARGET, members, public_modules, render

MODULES = list(public_modules())


def test_public_surface_changes_only_together_with_its_list() -> None:
    written, found = TARGET.read_text().splitlines(), render().splitlines()
    changes = list(difflib.unified_diff(written, found, "tests/public_api.txt", "backstay", lineterm="", n=0))
    assert not changes, "run `make public-api` if this is meant:\n" + "\n".join(changes)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_all_is_sorted_and_true(module: types.ModuleType) -> None:
    offered = list(module.__all__)
    assert len(offered) == len(set(offered))
    assert offered == sorted(offered, key=lambda name: (not name.isupper(), not name[:1].isupper(), name))
    assert [name for name in offered if not hasattr(module, name)] == []


def ours() -> Iterator[tuple[str, object]]:
    seen: set[int] = set()
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if id(value) not in seen and getattr(value, "__module__", "").startswith("backstay") and callable(value):
                seen.add(id(value))
                yield f"{module.__name__}.{name}", value


def first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def test_every_public_name_says_what_it_is_in_a_sentence() -> None:
    wrong = [
        place
        for place, value in ours()
        if not re.search(r"[.:?]$", first_line(value)) or not getattr(value, "__doc__", None)
    ]
    assert wrong == [], "the docstring's first line must be a sentence"


def twins() -> list[tuple[type, type]]:
    found: dict[type, type] = {}
    for module in MODULES:
        for name in module.__all__:
            blocking, asynchronous = getattr(module, name), getattr(module, f"Async{name}", None)
            if inspect.isclass(blocking) and inspect.isclass(asynchronous):
                found[blocking] = asynchronous
    return sorted(found.items(), key=lambda pair: pair[0].__qualname__)


RENAMED = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "aclose": "close"}


ONE_COLOUR = {
    "Locks.forsake": "closes the other colour's twin without waiting",
    "Locks.forked": "what a fork leaves differs: connections here, loops there",
    "RateLimiter.charge": "the port that only a remote store of the asyncio face has",
    "RateLimiter.close": "the connections of all threads here, of the running loop there",
    "Singleton.forked": "a thread is not in the child of a fork; a task goes with its loop",
    "Singleton.stop": "a thread can only be asked, and waited for so long; a task is cancelled",
    "ShardedSession.layout": "an attribute here, read through to it there",
    "WriteBehind.close": "the connections of all threads here, of the running loop there",
    "WriteBehind.leave": "the same; the longer text stands here",
    **{
        f"WriteBehind.{name}": "what operators do, from a thread; the sync itself is a worker of its own"
        for name in ("abandon", "consumer", "create_tables", "forget", "parked", "retry")
    },
    **{
        f"ShardedSession.{name}": "the unit of work; AsyncShardedSession reaches it as `sync_session`"
        for name in ("enlist", "on", "poison", "sync_session", "token_options")
    },
}
"""Differences that are meant, with their reason."""


def surface(cls: type) -> dict[str, object]:
    """What both must offer; what a base class of another library brings is that library's to compare."""
    closing = {*RENAMED, *RENAMED.values()}
    foreign = {
        name for base in cls.__mro__ if not base.__module__.startswith("backstay") for name in vars(base)
    } - closing
    offered = {name: member for name, member in members(cls).items() if name not in foreign}
    return {RENAMED.get(name, name): member for name, member in offered.items() if name != "__init__"}


def unwrap(member: object) -> object:
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def parameters(member: object) -> list[tuple[str, str, str]]:
    found = inspect.signature(member).parameters.values() if inspect.isfunction(member) else ()
    return [(p.name, p.kind.name, repr(p.default)) for p in found]


def differences(blocking: type, asynchronous: type) -> list[str]:
    """Where a pair of faces does not offer the same; `async` and the names of the twins themselves do not count."""
    ours_, theirs = surface(blocking), surface(asynchronous)
    found = [f"{blocking.__qualname__}.{name} stands in one colour only" for name in ours_.keys() ^ theirs.keys()]
    for name in ours_.keys() & theirs.keys():
        one, other = unwrap(ours_[name]), unwrap(theirs[name])
        if type(one) is not type(other):
            found.append(f"{blocking.__qualname__}.{name} is of another kind")
        elif not name.startswith("__"):
            if parameters(one) != parameters(other):
                found.append(f"{blocking.__qualname__}.{name} takes {parameters(one)} and {parameters(other)}")
            if plain(first_line(one)) != plain(first_line(other)):
                found.append(f"{blocking.__qualname__}.{name} says {first_line(one)!r} and {first_line(other)!r}")
    return sorted(found)


def test_both_colours_offer_the_same() -> None:
    found = [
        difference
        for pair in twins()
        for difference in differences(*pair)
        if difference.partition(" ")[0] not in ONE_COLOUR
    ]
    assert not found, "\n".join(found)


def plain(sentence: str) -> str:
    """What a twin must repeat: the sentence up to its first comma. `Async`, `await` and code are no difference."""
    without = re.sub(r"\b(Async|async |await |a?synchronous )|`[^`]*`", "", sentence)
    return re.split(r"[,;:.]", without)[0].strip()


def test_a_difference_between_colours_would_be_seen() -> None:
    class Gate:
        def open(self, wait: float = 1.0) -> None:
            """Opens."""

    class AsyncGate:
        async def open(self, wait: float = 2.0) -> None:
            """Opens."""

    Gate.__module__ = AsyncGate.__module__ = "backstay.gate"
    (found,) = differences(Gate, AsyncGate)
    assert "open takes" in found
