"""A server that a test may use but not break."""

from __future__ import annotations

from typing import NoReturn

from .parts import Part


class NotOurs(RuntimeError):
    """A fault was asked of a server that this test does not own."""


class External:
    """A server that others use too: tests may use it, never break it.

    Either it runs outside this test run (its variable names it), or it is the run's shared one.
    """

    def __init__(self, part: Part, url: str, *, why: str) -> None:
        self.part = part
        self.url = url
        self._why = why

    def _refuse(self) -> NoReturn:
        raise NotOurs(f"the {self.part.name} server cannot be broken: {self._why}")

    def kill(self) -> None:
        """Refuse with NotOurs, as all fault controls here do."""
        self._refuse()

    def start(self) -> None:
        """Refuse with NotOurs."""
        self._refuse()

    def stop(self) -> None:
        """Refuse with NotOurs."""
        self._refuse()

    def pause(self) -> None:
        """Refuse with NotOurs."""
        self._refuse()

    def unpause(self) -> None:
        """Refuse with NotOurs."""
        self._refuse()
