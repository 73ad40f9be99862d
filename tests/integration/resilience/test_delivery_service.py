"""The delivery beside the real service: news at once, reports of instances, a new store (SW-1, SW-4, SW-6)."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from backstay.errors import Unavailable
from backstay.resilience import Switches
from backstay.resilience.delivery.pace import Pace
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.sources.http import HttpSource
from integration.resilience.switch_replicas import CONFIG, SCOPE, Operator, Replica
from integration.resilience.test_delivery_http import FAST, wait_for


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Replica]:
    replica = Replica(f"sqlite:///{tmp_path / 'service.db'}")
    yield replica
    replica.close()


def turn(operator: Operator, base: int, name: str, value: Any) -> int:
    changes = [{"section": "switches", "name": name, "value": value}]
    answer = operator.client.patch(CONFIG, json={"base": base, "reason": "tests", "changes": changes})
    assert answer.status_code == 200, answer.text
    version: int = answer.json()["version"]
    return version


def source(service: Replica) -> HttpSource:
    return HttpSource(f"{service.url}/{SCOPE}", token=service.token, timeout=2.0)


def test_SW4_a_change_at_the_service_is_in_force_at_once_and_the_service_sees_it(service: Replica) -> None:
    operator = service.operator()
    version = turn(operator, 0, "recommendations", True)
    plane = Plane(source(service), pace=FAST)
    switches = Switches(plane, defaults={"recommendations": False})
    plane.start()
    assert switches.enabled("recommendations")
    assert plane.status().connected
    version = turn(operator, version, "recommendations", False)
    assert wait_for(lambda: not switches.enabled("recommendations"), 1)
    assert switches.status().version == version

    def reported() -> bool:
        found = operator.client.get(f"/v1/instances/{SCOPE}").json()
        mine = [entry for entry in found["instances"] if f"-{os.getpid()}-" in entry["instance"]]
        return bool(mine) and mine[0]["version"] == version and mine[0]["state"] == "ready"

    assert wait_for(reported, 5)
    plane.close()


def test_SW1_a_service_with_an_empty_store_starts_a_new_epoch_and_wins(tmp_path: Path) -> None:
    first = Replica(f"sqlite:///{tmp_path / 'one.db'}")
    plane = Plane(source(first), pace=FAST)
    switches = Switches(plane, defaults={"a": False})
    try:
        version = turn(first.operator(), 0, "a", False)
        turn(first.operator(), version, "a", True)
        plane.start()
        assert switches.enabled("a")
        old = plane.status()
        first.kill()
        second = Replica(f"sqlite:///{tmp_path / 'two.db'}", port=first.port)
        try:
            plane.source = source(second)  # the same place, and a token of the new store
            turn(second.operator(), 0, "a", False)
            assert wait_for(lambda: not switches.enabled("a"), 15)
            assert wait_for(lambda: plane.status().state == "ready", 15)
            assert plane.status().epoch > old.epoch
        finally:
            second.close()
    finally:
        plane.close()
        first.close()


def test_SW7_switches_connect_by_url_with_a_kept_copy_and_outlive_the_service(service: Replica, tmp_path: Path) -> None:
    turn(service.operator(), 0, "a", False)
    url = f"http://:{service.token}@127.0.0.1:{service.port}/{SCOPE}"
    kept = tmp_path / "kept.json"
    switches = Switches.connect(url, keep=kept)
    assert (switches.enabled("a"), switches.status().state) == (False, "ready")
    assert service.token not in repr(switches)
    switches.plane.close()
    service.kill()
    again = Switches.connect(url, keep=kept)
    assert (again.enabled("a"), again.status().state) == (False, "stale")
    again.plane.close()


def test_a_service_behind_tls_is_read_and_heard_and_another_one_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key, chain, trusted = tmp_path / "key.pem", tmp_path / "chain.pem", tmp_path / "trusted.pem"
    certificate.private_key_pem.write_to_path(key)
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    authority.cert_pem.write_to_path(trusted)
    options = ("--ssl-keyfile", str(key), "--ssl-certfile", str(chain))
    service = Replica(f"sqlite:///{tmp_path / 'service.db'}", options=options)
    try:
        operator = service.operator(verify=ssl.create_default_context(cafile=str(trusted)))
        version = turn(operator, 0, "a", True)
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
            source(service).fetch(None, 0.0)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        plane = Plane(source(service), pace=Pace(pull_interval=60))
        switches = Switches(plane)
        plane.start()
        assert plane.status().connected
        turn(operator, version, "a", False)
        assert wait_for(lambda: not switches.enabled("a"), 2)
        plane.close()
        assert wait_for(lambda: not any(thread.name == "backstay-config-events" for thread in threading.enumerate()))
    finally:
        service.close()
