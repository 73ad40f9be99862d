"""The config plane: one versioned document a scope, brought to every process by pull and by push.

    plane = Plane.connect("http://:TOKEN@switches:8321/shop/production", keep="/var/lib/shop/config.json")
    plane.attach(switches).attach(pipelines)
    plane.start()

Sources that need more than the standard library are in `backends`; all are chosen by URL.
"""

from __future__ import annotations

from .envelope import Cursor, Envelope
from .pace import Pace
from .plane import Plane, Status
from .port import Change, Consumer, PushSource, Source, Subscription, Told
from .sources.file import FileSource
from .sources.memory import MemorySource

__all__ = [
    "Change",
    "Consumer",
    "Cursor",
    "Envelope",
    "FileSource",
    "MemorySource",
    "Pace",
    "Plane",
    "PushSource",
    "Source",
    "Status",
    "Subscription",
    "Told",
]
