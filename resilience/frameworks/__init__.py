"""Policies round what frameworks call and what leaves for other services.

    from backstay.resilience.frameworks import asgi, wsgi          middleware, standard library only
    from backstay.resilience.frameworks import flask, fastapi      one view, one dependency, to the end of the stream
    from backstay.resilience.frameworks import celery              refused tasks are tried again later
    from backstay.resilience.frameworks import httpx, requests     outgoing calls

Nothing is imported here: each module asks for its own framework only.
"""

from __future__ import annotations

__all__: list[str] = []
