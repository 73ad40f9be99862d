"""What type checkers see of the framework modules: checked, never run."""

from __future__ import annotations

from typing import assert_type

import httpx
import requests

from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.frameworks import asgi, flask, wsgi
from backstay.resilience.frameworks.celery import postponed
from backstay.resilience.frameworks.httpx import AsyncTransport, Transport
from backstay.resilience.frameworks.requests import Adapter
from backstay.resilience.pipeline import Pipeline

pipeline = Pipeline("typing")
isolated = Bulkhead("typing")


@postponed(most=60)
def task(number: int) -> str:
    return str(number)


@flask.streamed(isolated)
def view(number: int) -> str:
    return str(number)


@flask.streamed(isolated, pipeline)
async def view_async(number: int) -> str:
    return str(number)


async def use(app: asgi.Protect, site: wsgi.Protect) -> None:
    assert_type(task(1), str)
    assert_type(view(1), str)
    assert_type(await view_async(1), str)
    asgi.Protect(app, policies=[pipeline, isolated])
    asgi.Protect(app, policies=isolated)
    wsgi.Protect(site, policies=(isolated,), failures={500})
    httpx.Client(transport=Transport(pipeline=pipeline))
    httpx.AsyncClient(transport=AsyncTransport(per_host=Pipeline))
    requests.Session().mount("https://", Adapter(pipeline=pipeline))
    task("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the task's own parameters survive
    view()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # and a view's
