"""Policies put together: one object round many functions, in a known order, changed while calls run."""

from __future__ import annotations

from .arrangement import placed
from .pipeline import Pipeline, pipeline_of
from .pipelines import Pipelines, load_pipelines
from .protect import protect
from .rules import RULES, OrderWarning, Rule

__all__ = [
    "RULES",
    "OrderWarning",
    "Pipeline",
    "Pipelines",
    "Rule",
    "load_pipelines",
    "pipeline_of",
    "placed",
    "protect",
]
