"""A Redis small enough for the simulator: the shipped Lua files run, by lupa, over a dict with a virtual clock.

It stands for a real server because interleavings, clocks and crashes must be chosen by a seed; the scripts are the
real ones. `test_scripts_against_redis.py` in the integration tests compares its commands with a real server's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from math import ceil
from typing import Any

from lupa import lua51

Publish = Callable[[str, str], int]

_runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
_table = _runtime.table_from
_current: LuaRedis | None = None


def _call(command: str, *parts: Any) -> Any:
    assert _current is not None
    return _current.command(command, *parts)


_runtime.globals()["redis"] = _table({"call": _call})


@lru_cache(maxsize=256)
def _compiled(text: str) -> Callable[[Any, Any], Any]:
    compiled: Callable[[Any, Any], Any] = _runtime.eval("function(KEYS, ARGV)\n" + text + "\nend")
    return compiled


class SortedSet(dict[str, float]):
    """Members and their scores."""


class LuaRedis:
    """Keys with expiry, and the commands that the scripts use; `now` gives seconds."""

    def __init__(self, now: Callable[[], float], publish: Publish) -> None:
        self._now, self._announce = now, publish
        self.data: dict[str, Any] = {}
        self.ends: dict[str, int] = {}  # ms
        self.grants: list[tuple[str, int]] = []  # what was ever written to an owner key or a hash of holders

    def run(self, text: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Run a script in one step and return what a client would read."""
        global _current
        _current = self
        answer = _compiled(text)(_table(list(keys)), _table([str(part) for part in arguments]))
        return _reply(answer)

    def flush(self) -> None:
        self.data.clear()
        self.ends.clear()

    def live(self, key: str) -> Any:
        """Return the value at `key`, None where there is none or it has expired."""
        ends = self.ends.get(key)
        if ends is not None and ends <= int(self._now() * 1000):
            self.data.pop(key, None)
            del self.ends[key]
        return self.data.get(key)

    def living(self) -> list[str]:
        return [key for key in list(self.data) if self.live(key) is not None]

    def command(self, name: str, *parts: Any) -> Any:
        return getattr(self, "_" + name.lower())(*parts)

    def _time(self) -> Any:
        micros = int(self._now() * 1_000_000)
        return _table([str(micros // 1_000_000), str(micros % 1_000_000)])

    def _exists(self, *keys: str) -> int:
        return sum(self.live(key) is not None for key in keys)

    def _get(self, key: str) -> Any:
        value = self.live(key)
        return False if value is None else value

    def _set(self, key: str, value: str, px: str = "", ms: Any = 0) -> str:
        assert px in ("", "PX") and (not px or int(ms) > 0)
        self.data[key] = str(value)
        self.ends.pop(key, None)
        if px:
            self.ends[key] = int(self._now() * 1000) + int(ms)
        if key.endswith(":owner"):
            token, fence = str(value).split("|")
            self.grants.append((token, int(fence)))
        return "OK"

    def _del(self, *keys: str) -> int:
        found = self._exists(*keys)
        for key in keys:
            self.data.pop(key, None)
            self.ends.pop(key, None)
        return found

    def _pexpire(self, key: str, ms: Any) -> int:
        if self.live(key) is None:
            return 0
        self.ends[key] = int(self._now() * 1000) + ceil(float(ms))
        return 1

    def _pexpireat(self, key: str, ms: Any) -> int:
        if self.live(key) is None:
            return 0
        self.ends[key] = int(ms)
        return 1

    def _pttl(self, key: str) -> int:
        if self.live(key) is None:
            return -2
        return self.ends[key] - int(self._now() * 1000) if key in self.ends else -1

    def _made(self, key: str, empty: Any) -> Any:
        value = self.live(key)
        if value is None:
            value = self.data[key] = empty
        assert type(value) is type(empty), f"WRONGTYPE of {key}"
        return value

    def _hset(self, key: str, field: str, value: str) -> int:
        table = self._made(key, {})
        new = field not in table
        table[field] = str(value)
        if key.endswith(":holders") and not field.startswith("="):
            grant = (field, int(table[field].partition("|")[0]))
            if grant not in self.grants:  # it may go on with less
                self.grants.append(grant)
        return int(new)

    def _hincrby(self, key: str, field: str, by: Any) -> int:
        table = self._made(key, {})
        table[field] = str(int(table.get(field, 0)) + int(by))
        return int(table[field])

    def _hmget(self, key: str, *fields: str) -> Any:
        table = self.live(key) or {}
        return _table([table.get(field, False) for field in fields])

    def _hgetall(self, key: str) -> Any:
        return _table([part for pair in (self.live(key) or {}).items() for part in pair])

    def _hget(self, key: str, field: str) -> Any:
        return (self.live(key) or {}).get(field, False)

    def _hdel(self, key: str, *fields: str) -> int:
        table = self.live(key) or {}
        found = sum(table.pop(field, None) is not None for field in fields)
        if not table:
            self._del(key)
        return found

    def _rpush(self, key: str, value: str) -> int:
        queue = self.live(key)
        if queue is None:
            queue = self.data[key] = []
        queue.append(value)
        return len(queue)

    def _lpop(self, key: str) -> Any:
        queue = self.live(key)
        if not queue:
            return False
        value = queue.pop(0)
        if not queue:
            self._del(key)
        return value

    def _lrem(self, key: str, count: Any, value: str) -> int:
        queue = self.live(key) or []
        found = min(queue.count(value), int(count))
        for _ in range(found):
            queue.remove(value)
        if not queue:
            self._del(key)
        return found

    def _llen(self, key: str) -> int:
        return len(self.live(key) or [])

    def _lrange(self, key: str, start: Any, stop: Any) -> Any:
        last = int(stop)
        return _table((self.live(key) or [])[int(start) : None if last == -1 else last + 1])

    def _zadd(self, key: str, score: Any, member: str) -> int:
        ordered = self._made(key, SortedSet())
        new = member not in ordered
        ordered[member] = float(score)
        return int(new)

    def _zrem(self, key: str, member: str) -> int:
        ordered = self.live(key) or {}
        found = ordered.pop(member, None) is not None
        if not ordered:
            self._del(key)
        return int(found)

    def _zscore(self, key: str, member: str) -> Any:
        score = (self.live(key) or {}).get(member)
        return False if score is None else f"{score:.17g}"

    def _ordered(self, key: str) -> list[tuple[str, float]]:
        return sorted((self.live(key) or {}).items(), key=lambda each: (each[1], each[0]))

    def _zrange(self, key: str, start: Any, stop: Any, scores: str = "") -> Any:
        last = int(stop)
        return _scored(self._ordered(key)[int(start) : None if last == -1 else last + 1], scores)

    def _zrevrange(self, key: str, start: Any, stop: Any, scores: str) -> Any:
        return _scored(self._ordered(key)[::-1][int(start) : int(stop) + 1], scores)

    def _zrangebyscore(self, key: str, low: str, high: Any) -> Any:
        assert low == "-inf"
        return _scored([each for each in self._ordered(key) if each[1] <= float(high)], "")

    def _scan(self, cursor: str, match: str, pattern: str, count: str, at_most: str) -> Any:
        assert (match, count) == ("MATCH", "COUNT")
        keys, begin = sorted(self.living()), int(cursor)
        end = begin + int(at_most)
        found = [key for key in keys[begin:end] if fnmatchcase(key, pattern.replace("[", "[[]"))]
        return _table([str(end) if end < len(keys) else "0", _table(found)])

    def _publish(self, channel: str, message: str) -> int:
        return self._announce(channel, message)

    def _pubsub(self, what: str, channel: str) -> Any:
        assert what == "NUMSUB"
        return _table([channel, 1])  # there is one server only: who is there shows when it is sent


def _scored(members: list[tuple[str, float]], scores: str) -> Any:
    assert scores in ("", "WITHSCORES")
    return _table([part for name, score in members for part in ((name, f"{score:.17g}") if scores else (name,))])


def _reply(answer: Any) -> Any:
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, bool) or answer is None:
        return None if not answer else 1
    if isinstance(answer, (int, float)):
        return int(answer)
    return [_reply(answer[place]) for place in range(1, len(answer) + 1)]
