"""The Lua files of this folder, put together: a line `--@ file.lua` stands for that file's lines."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

__all__ = ["DELETE", "PASS", "SET", "Script", "around"]

_INCLUDE = re.compile(r"^--@ (\w+\.lua)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script as the server knows it: by its digest, or by its text the first time."""

    text: str
    digest: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script with that text."""
        # SHA-1 is the name that Redis gives to scripts, not a protection.
        return cls(text=text, digest=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(file: str) -> str:
    text = resources.files("backstay.locks.guards.redis").joinpath(file).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda line: _read(line.group(1)), text)


PASS, SET, DELETE = Script.of(_read("pass.lua")), Script.of(_read("set.lua")), Script.of(_read("delete.lua"))
_RUN = _read("run.lua")


@lru_cache(maxsize=256)
def around(body: str) -> Script:
    """Return the script that runs `body` once its fence has passed."""
    before, after = _RUN.split("--@ body\n")
    return Script.of(f"{before}{body.rstrip()}\n{after}")
