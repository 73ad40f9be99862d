"""docker/: the images are small and hold what they should, and compose.yaml describes the same servers."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are one more dependency for one call

from servers import PARTS, engine

DOCKER = Path(__file__).resolve().parents[3] / "docker"


def dockerfile(name: str) -> str:
    return (DOCKER / name / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_compose_has_every_server_and_nothing_else(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == set(PARTS)
    assert {path.parent.name for path in DOCKER.glob("*/Dockerfile")} == set(PARTS)


@pytest.mark.parametrize("name", list(PARTS))
def test_compose_agrees_with_the_dockerfile_and_the_fixtures(compose: dict[str, Any], name: str) -> None:
    service, part = compose["services"][name], PARTS[name]
    assert service["build"] == {"context": ".", "dockerfile": f"{name}/Dockerfile"}
    assert service["image"] == f"backstay-{name}:local", "the name under which images.sh tags the newest"
    assert service["ports"] == [f"127.0.0.1:{part.port}:{part.port}"]
    assert re.search(rf"^EXPOSE {part.port}$", dockerfile(name), re.MULTILINE)
    kind, *command = service["healthcheck"]["test"]
    if kind == "CMD-SHELL":  # compose replaces $NAME by itself unless the dollar is doubled
        command = ["sh", "-c", command[0].replace("$$", "$")]
    assert tuple(command) == part.ready
    (volume,) = service["volumes"]
    assert volume == f"{name}:/data"
    assert name in compose["volumes"]
    assert re.search(r"^WORKDIR /data$", dockerfile(name), re.MULTILINE)


@pytest.mark.parametrize("name", list(PARTS))
def test_each_dockerfile_builds_on_the_trimmed_base_and_runs_without_root(name: str) -> None:
    text = dockerfile(name)
    assert text.count("FROM ") == 1, "the legacy builder runs unrelated stages"
    assert "ARG BASE=debian:bookworm-slim\nFROM ${BASE}\n" in text
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE)


# Named here so that collection sees which images must be there; a cold build takes longer than a test may.
ALL_PARTS = pytest.mark.usefixtures("own_redis", "own_postgres", "own_mariadb", "own_zookeeper")


@ALL_PARTS
def test_what_is_there_is_not_built_again() -> None:
    first = engine.images(list(PARTS))
    start = time.monotonic()
    assert engine.images(list(PARTS)) == first
    assert time.monotonic() - start < 15
    for name, tag in first.items():
        inspect = ["docker", "image", "inspect", "--format", "{{.Size}} {{.Config.User}}", tag]
        size, user = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.split()
        assert int(size) < 300_000_000, f"{name} is too large"
        assert user != "root"


def test_an_unknown_image_is_refused_by_name() -> None:
    done = subprocess.run([str(DOCKER / "images.sh"), "oracle"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "docker/images.sh: no image 'oracle'; there are: redis postgres mariadb zookeeper\n"


def test_where_debootstrap_cannot_run_the_base_is_the_public_image(tmp_path: Path) -> None:
    """With a stand-in for docker, since no public registry can be relied on."""
    stand_in = tmp_path / "docker"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    stand_in.chmod(0o755)
    (tmp_path / "os-release").write_text("ID=fedora\n")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "BACKSTAY_OS_RELEASE": str(tmp_path / "os-release")}
    subprocess.run([str(DOCKER / "base.sh"), "backstay-base:x"], env=environment, check=True)
    assert (tmp_path / "asked").read_text().splitlines() == [
        "pull -q debian:bookworm-slim",
        "tag debian:bookworm-slim backstay-base:x",
    ]
