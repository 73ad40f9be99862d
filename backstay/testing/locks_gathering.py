"""The contracts of latches and barriers under the name that they had first; see `backstay.testing.locks`."""

from __future__ import annotations

from backstay.testing.locks.gathering import BarrierContract, LatchContract

__all__ = ["BarrierContract", "LatchContract"]
