"""Levels of degradation: how bad it is, judged by what calls and policies show, and what each level means."""

from __future__ import annotations

from .actions import Actions
from .events import LevelChange, Listener
from .levels import EVERYTHING, Levels
from .policy import LevelPolicy
from .resource import Resource
from .settings import Bands, LevelSettings
from .words import Level

__all__ = [
    "EVERYTHING",
    "Actions",
    "Bands",
    "Level",
    "LevelChange",
    "LevelPolicy",
    "LevelSettings",
    "Levels",
    "Listener",
    "Resource",
]
