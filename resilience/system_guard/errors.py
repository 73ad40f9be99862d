"""Refused because the process itself has too much to do."""

from __future__ import annotations

from typing import ClassVar

from backstay.errors import Rejected

__all__ = ["Overloaded"]


class Overloaded(Rejected):
    """The process is overloaded and took no more work; another instance may have room."""

    title: ClassVar[str] = "Overloaded"
