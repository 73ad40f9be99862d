"""The read chain as a decorator: reads that go on when the database does not (DG-6)."""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from backstay.blocking import drive
from backstay.clock import Clock, monotonic
from backstay.errors import Misuse
from backstay.url import require

from ..circuit_breaker import CircuitBreaker
from ..fallback import CacheSettings
from ..fallback.settings import NOTHING
from ..policy import AsyncCall, Call, Layer, Target, target_of
from .answer import Answer
from .backend import Shared
from .chain import Chain
from .collected import COLLECTED
from .fitting import checked_key, key_of_target, reading_of, settings_of
from .guarded import Guarded, breaker_of
from .local import LocalCache
from .make import TaskMake, ThreadMake
from .reach import Reach, reaching
from .settings import LocalTier, ReadSettings, RedisTier, StaticTier, tier_of

__all__ = ["ReadChain"]

P = ParamSpec("P")
T = TypeVar("T")

_KeyOf = Callable[[tuple[Any, ...], Mapping[str, Any]], str]


class ReadChain(Layer):
    """Reads from the nearest tier that has a fresh answer, and from the next one down when the origin does not answer.

        catalogue = ReadChain(
            "catalogue", key="product:{product_id}", budget=0.5,
            redis=RedisTier(store="redis://localhost/0", fresh=30, max_stale=3600),
            local=LocalTier(fresh=2, max_stale=600), static=StaticTier(answer=None),
        )

        @catalogue
        @protect("stock-database", breaker=True)
        def product(product_id: int) -> dict: ...

    The decorated function is the origin. It may be `def` or `async def`, and several functions of one chain that make
    the same keys share what is kept. Per key and process one read at a time goes beyond the process; a leader that is
    cancelled hands over to one of those who wait. Every answer has a source and an age: `answers` returns them, and
    `reads()` collects those of a request.

    Not guaranteed: that an answer is of now, within `fresh` or `max_stale`; `forget` ends it after a change. The
    object in the process is kept as it is, not a copy: return what nobody changes. For reads only: the origin may be
    asked again, and an unknown outcome is answered from elsewhere. A plain function is not interrupted at its
    deadline; it can read `remaining()`.

    Args:
        name: of the chain, in telemetry and in the names on Redis; one chain a name.
        local: the cache in the process, as `LocalTier` or a mapping.
        redis: the distributed cache, as `RedisTier` or a mapping.
        static: what is said when nobody else answers: a value, a function of the same arguments, or `StaticTier`.
        key: whose answer it is: a template such as `product:{product_id}`, or a function of the arguments. May be
            left out only where the function takes none.
        reach: says for each read how far it may go, as a word of `reach.WORDS`; what levels of degradation plug into.
        on: see `ReadSettings`, as for the five after it.
        budget: see there.
        absent: see there.
        absent_for: see there.
        jitter: see there.
        refills: see there.
        settings: all of them at once, instead.
        clock: monotonic seconds.
        uniform: a random number between two, for jitter.

    Raises:
        Misuse: there is no tier, or a setting is wrong; when applied, the key or the static answer does not fit the
            function, or it is a stream.
        MissingExtra: there is a `redis` tier and redis-py is not installed.
    """

    kind = "read_chain"

    def __init__(
        self,
        name: str,
        *,
        local: LocalTier | Mapping[str, Any] | None = None,
        redis: RedisTier | Mapping[str, Any] | None = None,
        static: Any = NOTHING,
        key: str | Callable[..., str] | None = None,
        reach: Reach | None = None,
        on: tuple[type[Exception] | str, ...] | type[Exception] | str | None = None,
        budget: float | None = None,
        absent: Callable[[Any], bool] | None = None,
        absent_for: float | None = None,
        jitter: float | None = None,
        refills: int | None = None,
        settings: ReadSettings | None = None,
        clock: Clock = monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise Misuse(f"ReadChain needs its name first, as in ReadChain('catalogue', local=...), got {name!r}")
        if local is None and redis is None and static is NOTHING:
            raise Misuse(f"read chain {name!r} needs a tier behind its origin: local=, redis= or static=")
        told: Any = reach
        if told is not None and not callable(told):
            raise Misuse(f"reach must be a function that returns a word such as 'origin', got {reach!r}")
        self.name = name
        self._settings = settings_of(name, settings, {
            "on": on, "budget": budget, "absent": absent, "absent_for": absent_for, "jitter": jitter,
            "refills": refills,
        })  # fmt: skip
        self._static = static if isinstance(static, StaticTier) else StaticTier(answer=static)
        self._keys = CacheSettings(max_stale=1, key=key)
        self._clock = clock
        self.breaker: CircuitBreaker | None = None
        """Of the distributed cache."""
        self._blocking: Any = None
        self._asyncio: Any = None
        tier: RedisTier | None = None if redis is None else tier_of(RedisTier, redis, f"redis of {name!r}")
        shared: Shared | None = None
        shared_async: Shared | None = None
        if tier is not None:
            require("redis", "redis")
            from .backends.redis import AsyncRedisShared, RedisShared

            self.breaker = breaker_of(name, tier, clock)
            self._blocking = RedisShared(name, tier, self._settings.absent_for, clock)
            self._asyncio = AsyncRedisShared(name, tier, self._settings.absent_for, clock)
            shared, shared_async = Guarded(self._blocking, self.breaker), Guarded(self._asyncio, self.breaker)
        self._local = None
        if local is not None:
            self._local = LocalCache(tier_of(LocalTier, local, f"local of {name!r}"), self._settings, uniform)
        self._reach: Callable[[], str] | None = None if reach is None else reaching(reach, name)
        # what the process has of a key, without asking anybody; an empty cache is falsy
        self._last: Callable[[str], Any] = _nothing if self._local is None else self._local.last
        self._threads, self._tasks = ThreadMake(shared), TaskMake(shared_async)
        self.chain = Chain(
            name, self._settings, local=self._local, tier=tier, clock=clock
        )  # fmt: skip

    @property
    def settings(self) -> ReadSettings:
        """What holds for all tiers."""
        return self._settings

    # -- reads

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` as the origin of the chain."""
        read, key_of = self._reader(call, target), key_of_target(self._static, self._keys, target)
        last, reach, clock, local = self._last, self._reach, self._clock, self.chain.reads.local

        def answered(*args: Any, **kwargs: Any) -> Any:
            key, word = key_of(args, kwargs), "origin" if reach is None else reach()
            kept = last(key)
            if kept is not None and clock() < kept[0].fresh_until and word != "static" and COLLECTED.get() is None:
                local.n += 1
                return kept[0].value
            return read(word, key, args, kwargs).value

        return answered

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` as the origin of the chain."""
        read, key_of = self._reader_async(call, target), key_of_target(self._static, self._keys, target)
        last, reach, clock, local = self._last, self._reach, self._clock, self.chain.reads.local

        async def answered(*args: Any, **kwargs: Any) -> Any:
            key, word = key_of(args, kwargs), "origin" if reach is None else reach()
            kept = last(key)
            if kept is not None and clock() < kept[0].fresh_until and word != "static" and COLLECTED.get() is None:
                local.n += 1
                return kept[0].value
            return (await read(word, key, args, kwargs)).value

        return answered

    @overload
    def answers(  # type: ignore[overload-overlap]  # a coroutine is a value as well; the first that fits is meant
        self, function: Callable[P, Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, Answer[T]]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def answers(self, function: Callable[P, T]) -> Callable[P, Answer[T]]: ...
    def answers(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` as the origin of the chain, with calls that return the whole `Answer`.

        Raises:
            Misuse: as for the chain as a decorator.
        """
        target = target_of(function, self.name)
        if target.is_stream:
            raise Misuse(f"{self.name!r}: {target.label}() is a stream, and a read chain keeps answers")
        key_of, reach = key_of_target(self._static, self._keys, target), self._reach
        if target.is_async:
            read_async = self._reader_async(function, target)

            async def whole_async(*args: Any, **kwargs: Any) -> Any:
                return await read_async("origin" if reach is None else reach(), key_of(args, kwargs), args, kwargs)

            return functools.update_wrapper(whole_async, function)
        read = self._reader(function, target)

        def whole(*args: Any, **kwargs: Any) -> Any:
            return read("origin" if reach is None else reach(), key_of(args, kwargs), args, kwargs)

        return functools.update_wrapper(whole, function)

    # -- changes

    def forget(self, key: str) -> None:
        """Serve nothing any more that the origin was asked for before now: after a change, say.

        Reads that are under way do not bring it back. Other processes serve what they hold themselves for as long as
        their local tier calls it fresh, or allows it while the origin fails.

        Args:
            key: as the template makes it, such as `product:7`.

        Raises:
            Unavailable, OutcomeUnknown, Rejected: this process has forgotten, the distributed cache perhaps not.
        """
        drive(self.chain.forget(self._threads, checked_key(key)))

    async def forget_async(self, key: str) -> None:
        """Forget, as `forget` does, from an event loop."""
        await self.chain.forget(self._tasks, checked_key(key))

    # -- the end

    def close(self) -> None:
        """Close the threads' connections at rest; the chain may be used again."""
        if self._blocking is not None:
            self._blocking.close()

    async def aclose(self) -> None:
        """Close the running loop's connections at rest; the chain may be used again."""
        if self._asyncio is not None:
            await self._asyncio.aclose()

    # -- fitting

    def _reader(self, call: Call, target: Target) -> Callable[..., Answer[Any]]:
        reading, chain = reading_of(self._static, self._keys, call, target), self.chain
        threads, name, last = self._threads, self.name, self._last

        def read(word: str, key: str, args: Any, kwargs: Any) -> Answer[Any]:
            kept = last(key)
            answer = None if kept is None or word == "static" else chain.fresh(kept[0])
            if answer is None:
                answer = drive(chain.read(reading, threads, word, key, args, kwargs))
            collected = COLLECTED.get()
            if collected is not None:
                collected.note(name, answer)
            return answer

        return read

    def _reader_async(self, call: AsyncCall, target: Target) -> Callable[..., Awaitable[Answer[Any]]]:
        reading, chain = reading_of(self._static, self._keys, call, target), self.chain
        tasks, name, last = self._tasks, self.name, self._last

        async def read(word: str, key: str, args: Any, kwargs: Any) -> Answer[Any]:
            kept = last(key)
            answer = None if kept is None or word == "static" else chain.fresh(kept[0])
            if answer is None:
                answer = await chain.read(reading, tasks, word, key, args, kwargs)
            collected = COLLECTED.get()
            if collected is not None:
                collected.note(name, answer)
            return answer

        return read


def _nothing(key: str) -> None:
    return None
