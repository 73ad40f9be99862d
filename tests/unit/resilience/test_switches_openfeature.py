"""The OpenFeature provider under the real SDK: types, reasons, errors, events, the end, and a fork (SW-5, SW-11)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus

from backstay.errors import Misuse, Unavailable
from backstay.resilience import Switches
from backstay.resilience.switches import MemorySource
from backstay.resilience.switches.evaluation import bucket_of
from backstay.resilience.switches.model import Switch
from backstay.resilience.switches.openfeature import SwitchProvider

SWITCHES: dict[str, Any] = {
    "plain": True,
    "closed": Switch(enabled=False, reason="stock database down"),
    "quarter": Switch(percentage=25),
    "colour": Switch(variants={"a": "red", "b": "blue"}, default="a", split={"b": 50}),
    "size": 20,
    "ratio": 0.5,
    "look": {"tiles": [1, {"x": 2}]},
}


class Source(MemorySource):
    """A document in memory that can be out of reach."""

    error: Exception | None = None

    def poll(self) -> Any:
        if self.error is not None:
            raise self.error
        return super().poll()


@pytest.fixture
def source() -> Source:
    return Source(SWITCHES)


@pytest.fixture
def switches(source: Source) -> Switches:
    return Switches(source, interval=None)


@pytest.fixture
def provider(switches: Switches) -> Iterator[SwitchProvider]:
    """Registered; the long interval leaves all looks to the test."""
    made = SwitchProvider(switches, interval=3600)
    api.set_provider_and_wait(made)
    yield made
    api.clear_providers()


@pytest.fixture
def client(provider: SwitchProvider) -> OpenFeatureClient:
    return api.get_client()


def key_of(name: str, inside: Callable[[int], bool]) -> EvaluationContext:
    return EvaluationContext(next(f"{n}" for n in range(1000) if inside(bucket_of(name, n))))


def test_all_five_types_are_answered(client: OpenFeatureClient) -> None:
    assert client.get_boolean_value("plain", False) is True
    assert client.get_string_value("colour", "none") == "red"
    assert client.get_integer_value("size", 1) == 20
    assert client.get_float_value("ratio", 1.0) == 0.5
    assert client.get_float_value("size", 1.0) == 20.0
    assert client.get_object_value("look", {}) == {"tiles": [1, {"x": 2}]}


def test_all_five_types_are_answered_on_an_event_loop(client: OpenFeatureClient) -> None:
    async def ask() -> tuple[Any, ...]:
        return (
            await client.get_boolean_value_async("plain", False),
            await client.get_string_value_async("colour", "none"),
            await client.get_integer_value_async("size", 1),
            await client.get_float_value_async("ratio", 1.0),
            await client.get_object_value_async("look", {}),
        )

    assert asyncio.run(ask()) == (True, "red", 20, 0.5, {"tiles": [1, {"x": 2}]})


def test_an_object_is_the_callers_own(client: OpenFeatureClient) -> None:
    found: Any = client.get_object_value("look", {})
    found["tiles"].append("mine")
    assert client.get_object_value("look", {}) == {"tiles": [1, {"x": 2}]}


def test_SW5_reasons_variants_and_version_are_told(
    client: OpenFeatureClient, switches: Switches, source: Source
) -> None:
    assert client.get_boolean_details("plain", False).reason == Reason.STATIC
    closed = client.get_boolean_details("closed", True)
    assert (closed.value, closed.reason, closed.variant) == (False, Reason.DISABLED, "off")
    assert closed.flag_metadata == {"version": 1, "reason": "stock database down"}
    inside = client.get_string_details("colour", "none", key_of("colour", lambda bucket: bucket < 50_000))
    assert (inside.value, inside.reason, inside.variant) == ("blue", Reason.SPLIT, "b")
    assert client.get_string_details("colour", "none").reason == Reason.DEFAULT
    assert client.get_boolean_value("quarter", False, key_of("quarter", lambda bucket: bucket < 25_000)) is True
    assert client.get_boolean_value("quarter", True, key_of("quarter", lambda bucket: bucket >= 25_000)) is False
    source.error = Unavailable("down")
    switches.refresh()
    stale = client.get_boolean_details("plain", False)
    assert (stale.value, stale.reason) == (True, Reason.STALE)


@pytest.mark.parametrize(
    ("kind", "name", "key", "code"),
    [
        ("boolean", "plian", None, ErrorCode.FLAG_NOT_FOUND),
        ("boolean", "size", None, ErrorCode.TYPE_MISMATCH),
        ("string", "plain", None, ErrorCode.TYPE_MISMATCH),
        ("integer", "ratio", None, ErrorCode.TYPE_MISMATCH),
        ("float", "colour", None, ErrorCode.TYPE_MISMATCH),
        ("object", "colour", None, ErrorCode.TYPE_MISMATCH),
        ("boolean", "quarter", 1.5, ErrorCode.INVALID_CONTEXT),
    ],
)
def test_an_error_has_its_code_and_the_callers_default(
    client: OpenFeatureClient, kind: str, name: str, key: Any, code: ErrorCode
) -> None:
    found = getattr(client, f"get_{kind}_details")(name, True, EvaluationContext(key))
    assert (found.value, found.reason, found.error_code) == (True, Reason.ERROR, code)
    assert found.error_message


def test_events_follow_the_switches(
    client: OpenFeatureClient, provider: SwitchProvider, switches: Switches, source: Source
) -> None:
    heard: list[tuple[str, EventDetails]] = []
    lock = threading.Lock()

    def hears(what: str) -> Callable[[EventDetails], None]:
        def hear(details: EventDetails) -> None:
            with lock:
                heard.append((what, details))

        return hear

    arrived = threading.Event()
    for event in ProviderEvent:
        client.add_handler(event, hears(event.name))
    heard.clear()  # a handler of a ready provider hears so at once

    def look() -> tuple[str, EventDetails] | None:
        """Look once, and let the SDK run its handlers, which it does in threads of its own."""
        heard.clear()
        provider.look()
        for _ in range(200):
            with lock:
                if heard:
                    return heard[0]
            arrived.wait(0.005)
        return None

    source.publish({**SWITCHES, "plain": False, "new": True})
    switches.refresh()
    what, details = look() or ("", EventDetails())
    assert (what, details.flags_changed) == ("PROVIDER_CONFIGURATION_CHANGED", ["new", "plain"])
    assert details.metadata == {"version": 2}

    source.error = Unavailable("out of reach")
    switches.refresh()
    what, details = look() or ("", EventDetails())
    assert (what, details.message) == ("PROVIDER_STALE", "out of reach")
    assert client.get_provider_status() == ProviderStatus.STALE
    assert client.get_boolean_value("new", False) is True  # values are answered in every state

    source.error = Misuse("no document")
    switches.refresh()
    what, details = look() or ("", EventDetails())
    assert (what, details.error_code) == ("PROVIDER_ERROR", ErrorCode.GENERAL)
    assert client.get_provider_status() == ProviderStatus.ERROR
    assert client.get_boolean_value("new", False) is True

    source.error = None
    switches.refresh()
    what, _ = look() or ("", EventDetails())
    assert what == "PROVIDER_READY"
    assert client.get_provider_status() == ProviderStatus.READY
    assert provider.look() == 3600


def test_a_document_that_changes_nothing_is_no_event(
    provider: SwitchProvider, switches: Switches, source: Source
) -> None:
    emitted: list[ProviderEvent] = []
    provider.attach(lambda provider, event, details: emitted.append(event))
    source.publish(SWITCHES)
    switches.refresh()
    provider.look()
    assert emitted == []
    source.publish({**SWITCHES, "plain": False})
    switches.refresh()
    provider.look()
    provider.look()
    assert emitted == [ProviderEvent.PROVIDER_CONFIGURATION_CHANGED]


def test_events_come_by_themselves_until_the_end(switches: Switches, source: Source) -> None:
    provider = SwitchProvider(switches, interval=0.01)
    api.set_provider_and_wait(provider, "own")
    client = api.get_client("own")
    changed = threading.Event()
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda details: changed.set())
    source.publish({**SWITCHES, "plain": False})
    switches.refresh()
    assert changed.wait(5)
    api.shutdown()
    changed.clear()
    source.publish(SWITCHES)
    switches.refresh()
    assert not changed.wait(0.1)
    assert switches.enabled("plain")  # whoever made them still has them
    api.clear_providers()


def test_SW11_events_go_on_in_a_forked_child(switches: Switches, source: Source) -> None:
    """What the provider emits is heard; the SDK's own handlers run in a pool of threads that no fork survives."""
    provider = SwitchProvider(switches, interval=0.02)
    api.set_provider_and_wait(provider, "forked")
    client = api.get_client("forked")
    changed = threading.Event()
    provider.attach(lambda provider, event, details: changed.set())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            source.publish({**SWITCHES, "plain": False})
            switches.refresh()
            code = 0 if changed.wait(10) and client.get_boolean_value("plain", True) is False else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert switches.enabled("plain")
    api.clear_providers()


def test_an_interval_out_of_range_is_told(switches: Switches) -> None:
    with pytest.raises(Misuse, match=r"0\.01 to 3600"):
        SwitchProvider(switches, interval=0)
