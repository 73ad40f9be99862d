"""Push by server-sent events: a thread that reads one stream until it ends or falls silent."""

from __future__ import annotations

import http.client
import json
import logging
import os
import threading
from typing import Any, cast

from backstay.clock import Clock

from ..port import Hear, Told
from .requests import Answer

__all__ = ["Events"]

logger = logging.getLogger("backstay.resilience")

_LONGEST_LINE = 1 << 16
_MISSED = 2.2
"""Heartbeats after which a stream is dead: one may be missed, two not."""


class Events:
    """One stream, read by a thread of its own.

    Args:
        answer: whose body is the stream.
        hear: what news goes to.
        heartbeat: seconds between two signs of life.
        clock: monotonic seconds.
    """

    def __init__(self, answer: Answer, hear: Hear, *, heartbeat: float, clock: Clock) -> None:
        self._answer = answer
        self._hear = hear
        self._clock = clock
        self._silence = heartbeat * _MISSED
        self._heard_at = clock()
        self._process = os.getpid()
        self._closed = False
        answer.last(silence=self._silence)
        self._thread = threading.Thread(target=self._run, name="backstay-config-events", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the stream is read and spoke lately."""
        return self._thread.is_alive() and not self._closed and self._clock() - self._heard_at <= self._silence

    def close(self) -> None:
        """End the stream; in a forked child nothing happens, for the connection is the parent's."""
        self._closed = True
        if os.getpid() == self._process:
            self._answer.cut()

    def _run(self) -> None:
        with self._answer:
            try:
                self._read()
            except (OSError, ValueError, http.client.HTTPException) as error:
                if not self._closed:
                    logger.info("a stream of news broke: %s", str(error) or type(error).__name__)

    def _read(self) -> None:
        event, data = "", list[str]()
        while not self._closed:
            line = self._answer.line(_LONGEST_LINE)
            if not line.endswith(b"\n"):
                return  # its end, or a line longer than any that a service sends
            self._heard_at = self._clock()
            text = line.decode().rstrip("\r\n")
            if not text:
                if event == "version":
                    self._tell("\n".join(data))
                event, data = "", []
                continue
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                event = value
            elif field == "data":
                data.append(value)

    def _tell(self, data: str) -> None:
        raw: Any = json.loads(data)
        entries = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
        epoch, version = entries.get("epoch"), entries.get("version")
        if type(epoch) is not int or type(version) is not int or epoch < 1 or version < 0:
            raise ValueError(f"an event of a version needs epoch and version, got {data!r:.80}")
        if not self._closed:
            self._hear(Told(epoch=epoch, version=version))
