"""Spans that cost next to nothing while nobody records."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from backstay import __version__
from backstay.errors import BackstayError
from backstay.telemetry.naming import AttributeValue, attribute_key, full_name

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

__all__ = ["error_type", "span", "traceparent"]

_W3C = TraceContextTextMapPropagator()
_BY_ENVIRONMENT = OTEL_PYTHON_TRACER_PROVIDER in os.environ  # then the API loads an SDK when it is first asked


class _Silence:
    """The context manager of a span that nobody records; one for all, since it keeps nothing."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return trace.INVALID_SPAN

    def __exit__(self, *_: object) -> None:
        return None


_SILENCE = _Silence()


def span(
    name: str, /, *, link: str | None = None, parent: str | None = None, **attributes: AttributeValue
) -> AbstractContextManager[Span]:
    """Return a context manager that is a span `backstay.<name>` around its block.

    Without an OpenTelemetry SDK it costs well under a microsecond and does nothing. An exception that leaves
    the block sets the span's status and `error.type`; a foreign exception's text is left out, since drivers
    print addresses with passwords. Cancellation and interrupts are not errors.

    Args:
        name: lowercase words in dots, with or without the prefix `backstay.`.
        link: a `traceparent` kept from earlier, such as that of the transaction that recovery now ends.
        parent: a `traceparent` received with a message; without it the current span is the parent.
        attributes: exported as `backstay.<keyword>`, `error_type` as `error.type`.
    """
    if _nobody_records():
        return _SILENCE
    return _recorded(name, link, parent, attributes)


def traceparent() -> str | None:
    """Return the current span's W3C `traceparent`, to be stored or sent along; None where there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


def error_type(error: BaseException) -> str:
    """Return the low-cardinality name of an error: the class, with its module unless it is built in (OT-7)."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _nobody_records() -> bool:
    # `trace.get_tracer_provider` looks an environment variable up and costs 0.7 us, more than all the rest.
    # The module's own variable says the same; where a later version lacks it, the public way is taken.
    provider = getattr(trace, "_TRACER_PROVIDER", trace)
    if provider is None:
        return not _provider_by_environment()
    return provider is trace and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _provider_by_environment() -> bool:
    return _BY_ENVIRONMENT and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def _recorded(
    name: str, link: str | None, parent: str | None, attributes: dict[str, AttributeValue]
) -> Generator[Span]:
    tracer = trace.get_tracer("backstay", __version__)
    links = [] if link is None else [trace.Link(trace.get_current_span(_context(link)).get_span_context())]
    with tracer.start_as_current_span(
        full_name(name),
        context=None if parent is None else _context(parent),
        attributes={attribute_key(key): value for key, value in attributes.items()},
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_attribute("error.type", error_type(error))
            text = str(error) if isinstance(error, BackstayError) else type(error).__name__
            current.set_status(trace.StatusCode.ERROR, text)
            raise


def _context(header: str) -> Context:
    return _W3C.extract({"traceparent": header})
