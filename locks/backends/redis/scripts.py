"""The Lua files of this folder, put together: a line `--@ file.lua` stands for that file's lines."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

__all__ = ["DELETE", "INSPECT", "INSPECT_SHARED", "LESSEN", "READ", "RELEASE", "RELEASE_SHARED", "RENEW",
           "RENEW_SHARED", "RESIZE", "SCAN", "TAKE", "TAKE_SHARED", "UNWATCH", "WATCH", "WITHDRAW", "WITHDRAW_SHARED",
           "WRITE", "Script", "load"]  # fmt: skip

_INCLUDE = re.compile(r"^--@ (\w+\.lua)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script as the server knows it: by its digest, or by its text the first time."""

    name: str
    text: str
    digest: str

    @property
    def grants(self) -> bool:
        """Whether a lock may be the caller's by its answer, a fence."""
        return self.name.startswith("take")


def load(name: str, package: str = "backstay.locks.backends.redis") -> Script:
    """Read a script of a package, and the files of this folder that it includes."""
    folder = resources.files("backstay.locks.backends.redis")

    def included(text: str) -> str:
        return _INCLUDE.sub(lambda line: included(folder.joinpath(line.group(1)).read_text(encoding="utf-8")), text)

    text = included(resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8"))
    # Comments are for readers of the files; a server that lost its cache need not be sent them.
    text = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("--"))
    # SHA-1 is the name that Redis gives to scripts, not a protection.
    return Script(name=name, text=text, digest=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


TAKE, RELEASE, RENEW, WITHDRAW = load("take"), load("release"), load("renew"), load("withdraw")
TAKE_SHARED, RELEASE_SHARED = load("take_shared"), load("release_shared")
RENEW_SHARED, WITHDRAW_SHARED = load("renew_shared"), load("withdraw_shared")
LESSEN, RESIZE = load("lessen"), load("resize")
INSPECT, INSPECT_SHARED, SCAN = load("inspect"), load("inspect_shared"), load("scan")
READ, WRITE, DELETE = load("document_read"), load("document_write"), load("document_delete")
WATCH, UNWATCH = load("document_watch"), load("document_unwatch")
