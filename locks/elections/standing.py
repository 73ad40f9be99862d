"""The candidates that stand through one object of locks, so that closing it lets them resign first."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from backstay.blocking import drive
from backstay.clock import monotonic

from .campaign import Campaign

__all__ = ["RESIGN_WITHIN", "Standing"]

RESIGN_WITHIN = 5.0
"""Seconds that closing waits for the work of leaders to end."""


class Standing:
    """The campaigns that run now, by who asked for them."""

    __slots__ = ("_campaigns",)

    def __init__(self) -> None:
        self._campaigns: dict[Campaign[Any], object] = {}

    @contextlib.contextmanager
    def entered(self, asker: object, campaign: Campaign[Any]) -> Generator[None, None, None]:
        """Count `campaign` among those that run, while the block does."""
        self._campaigns[campaign] = asker
        try:
            yield
        finally:
            self._campaigns.pop(campaign, None)

    def of(self, asker: object) -> list[Campaign[Any]]:
        """Return those that `asker` runs."""
        return [campaign for campaign, whose in list(self._campaigns.items()) if whose is asker]

    def close(self) -> None:
        """Let all resign; a seat whose leader does not end in time is not given back but runs out (X1)."""
        leading = self._stopped()
        until = monotonic() + RESIGN_WITHIN
        for campaign in leading:
            if not drive(campaign.end(max(0.0, until - monotonic()))):
                campaign.forsake()

    async def aclose(self) -> None:
        """Let all resign; a seat whose leader does not end in time is not given back but runs out (X1)."""
        leading = self._stopped()
        until = monotonic() + RESIGN_WITHIN
        for campaign in leading:
            if not await campaign.end(max(0.0, until - monotonic())):
                campaign.forsake()

    def forget(self) -> None:
        """In a forked child: none of them runs here."""
        self._campaigns.clear()

    def _stopped(self) -> list[Campaign[Any]]:
        campaigns = list(self._campaigns)
        for campaign in campaigns:
            campaign.stop()
        return [campaign for campaign in campaigns if campaign.leads]
