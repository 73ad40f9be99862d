"""Where locks live: one module or package for each store, all behind `backstay.locks.backend`."""

from __future__ import annotations
