"""A switch service over HTTP: pull with an entity tag, push by server-sent events or by long polls (SW-4, SW-10)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from backstay.clock import monotonic
from backstay.errors import Misuse, Unavailable
from backstay.url import parse

from ..envelope import LARGEST, Cursor, Envelope
from ..port import Hear, Subscription
from .events import Events
from .polls import Polls
from .requests import Answer, Place

__all__ = ["HttpSource"]


class HttpSource:
    """A scope of a switch service.

    Guarantees: a pull ends within `timeout` (plus `wait`, where it may wait for news), however slowly the service
    speaks; the token goes only to the host of the URL, for redirects are not followed. Not guaranteed: that looking
    up the host's name is limited too.

    Args:
        url: `http://:TOKEN@host:8321/shop/production`, or `https://`.
        token: instead of the one in the URL.
        push: `"events"` for server-sent events, `"poll"` for long polls, where something on the way holds streams up.
        timeout: seconds.
        heartbeat: seconds between two signs of life on a stream.

    Raises:
        Misuse: an argument is wrong.
    """

    kind = "http"

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        push: Literal["events", "poll"] = "events",
        timeout: float = 3.0,
        heartbeat: float = 5.0,
    ) -> None:
        if push not in ("events", "poll"):
            raise Misuse(f"push must be 'events' or 'poll', got {push!r}")
        for what, seconds in (("timeout", timeout), ("heartbeat", heartbeat)):
            if not 0.01 <= seconds <= 600:
                raise Misuse(f"{what} must be from 0.01 to 600 s, got {seconds!r}")
        self.place = Place(parse(url), token=token)
        self.timeout = timeout
        self._push = push
        self._heartbeat = heartbeat
        self._answered: Envelope | None = None

    @property
    def name(self) -> str:
        """The URL without its token."""
        return self.place.name

    @property
    def scope(self) -> str:
        """The scope that the URL names."""
        return self.place.scope

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the service's document, or None where it has nothing but `known`.

        Raises:
            Unavailable: it gave no answer in time, or one of a server in trouble.
            Misuse: it refuses the token, or answers no document.
        """
        answered = self._answered
        headers: dict[str, str] = {}
        if known is not None:
            same = answered is not None and answered.cursor == known
            headers["If-None-Match"] = answered.etag if answered is not None and same else f'"{known}"'
        path = self.place.path()
        if wait > 0:
            path += f"?wait={wait:g}"
        with self.place.ask(path, within=self.timeout + wait, headers=headers) as answer:
            if answer.status == 304 and known is not None:
                return None
            check(answer, self.name)
            found = Envelope.parse(answer.read(LARGEST))
        if answered is None or answered.cursor != found.cursor:
            self._answered = found  # another content at the same version must not become what is asked about
        return None if known is not None and same_content(found, known, answered) else found

    def subscribe(self, hear: Hear) -> Subscription:
        """Begin to tell `hear` of news.

        Raises:
            Unavailable: the service cannot be reached.
            Misuse: it refuses the token.
        """
        if self._push == "poll":
            return Polls(self, hear, clock=monotonic)
        path = self.place.path(end="/events")
        answer = self.place.ask(path, within=self.timeout, headers={"Accept": "text/event-stream"})
        try:
            check(answer, self.name)
            return Events(answer, hear, heartbeat=self._heartbeat, clock=monotonic)
        except BaseException:
            answer.__exit__(None, None, None)
            raise

    def report(self, body: Mapping[str, Any]) -> None:
        """Tell the service what this instance runs.

        Raises:
            Unavailable: it does not answer.
            Misuse: it refuses the report.
        """
        sent = json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        path = f"{self.place.prefix}/v1/instances"
        with self.place.ask(path, within=self.timeout, method="POST", headers=headers, body=sent) as answer:
            if not 200 <= answer.status < 300:
                check(answer, self.name)

    def close(self) -> None:
        """Do nothing: no connection stays open between two pulls."""


def same_content(found: Envelope, known: Cursor, answered: Envelope | None) -> bool:
    """Return whether what a service without entity tags answered is what it answered before."""
    return answered is not None and found.cursor == known and found.checksum == answered.checksum


def check(answer: Answer, name: str) -> None:
    """Raise what the status of an answer means, unless that is 200.

    Raises:
        Unavailable: the service cannot answer now, or has no such document yet.
        Misuse: it will not answer however often it is asked.
    """
    status = answer.status
    if status == 200:
        return
    if status in (401, 403):
        raise Misuse(f"{name} refuses the token ({status}); give one that may read this scope: http://:TOKEN@host/...")
    if status == 404:
        raise Unavailable(f"{name} has no such document yet (404); publish a first one, or check the path")
    if status in (408, 425, 429) or status >= 500:
        raise Unavailable(f"{name} answers {status}")
    raise Misuse(f"{name} answers {status}, which is no answer of a switch service; redirects are not followed")
