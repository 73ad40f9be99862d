"""Limits in memory under several workers: each worker has its own, and together they admit a multiple (P11).

It is looked for where it can be seen: in the command line and environment of known servers, and in forks of a
process that has such limits. It is said once a process, as a warning in the log, since a limit that is too wide
breaks nothing until the day it is needed.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

__all__ = ["expected_workers", "warn_of_workers"]

logger = logging.getLogger("backstay.resilience")

_SERVERS = {"gunicorn", "uvicorn", "hypercorn", "granian", "fastapi"}
_OPTION = re.compile(r"(?:-w|--workers)(?:=|(?=\d))(\d+)")


def expected_workers(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return how many workers the server was told to start, as far as its command line and environment say; else 1."""
    found = _number(environ.get("WEB_CONCURRENCY", ""))
    found = _in(environ.get("GUNICORN_CMD_ARGS", "").split()) or found
    if argv and _SERVERS & set(re.split(r"[/\\.]", argv[0])):  # also .../uvicorn/__main__.py
        found = _in(argv[1:]) or found
    return max(1, found)


def _in(words: Sequence[str]) -> int:
    found = 0
    for word, following in pairwise([*words, ""]):
        match = _OPTION.fullmatch(word)
        if match:
            found = int(match[1])
        elif word in ("-w", "--workers"):
            found = _number(following) or found
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


class _Watch:
    """What this process has said already, and how often it was forked with limits in memory."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.said = False
        self.forks = 0

    def say(self, workers: str) -> None:
        """Warn, once."""
        if not self.said:
            self.said = True
            logger.warning(
                "rate limiter %r is in memory, and %s: each worker counts alone, so together they admit a multiple of "
                "the rate. Put it on Redis (redis://...), or give each worker its share of the rate",
                self.name,
                workers,
            )

    def forked(self) -> None:
        """Count a fork, in the parent. One child may be a helper; two are workers."""
        if self.name is not None:
            self.forks += 1
            if self.forks == 2:
                self.say("this process has forked twice")


def warn_of_workers(name: str) -> None:
    """Note that a limiter in memory was made, and warn if there are several workers."""
    _watch.name = _watch.name or name
    if _watch.said:
        return
    workers = expected_workers(sys.argv, os.environ)
    if workers > 1:
        _watch.say(f"{workers} workers are configured")


_watch = _Watch()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_watch.forked)
