"""What a policy is, what it is put round, and how policies are put together. Knows no policy."""

from __future__ import annotations

from .blocks import Admission
from .compose import Layer, chain, compose, compose_as_given
from .order import ORDER
from .port import Admit, AdmitAsync, Admitting, AsyncCall, Call, Colour, Policy, Served, Settle, Target
from .settings import fraction, from_mapping, positive_int, seconds
from .streams import stream, stream_async
from .target import block_of, target_of
from .together import admit_all, admit_all_async

__all__ = [
    "ORDER",
    "Admission",
    "Admit",
    "AdmitAsync",
    "Admitting",
    "AsyncCall",
    "Call",
    "Colour",
    "Layer",
    "Policy",
    "Served",
    "Settle",
    "Target",
    "admit_all",
    "admit_all_async",
    "block_of",
    "chain",
    "compose",
    "compose_as_given",
    "fraction",
    "from_mapping",
    "positive_int",
    "seconds",
    "stream",
    "stream_async",
    "target_of",
]
