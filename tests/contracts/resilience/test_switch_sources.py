"""The contract of switch sources over the file and memory makes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from backstay.resilience.switches import FileSource, MemorySource, Source
from backstay.testing.resilience import SwitchSourceContract


class _InFile(SwitchSourceContract):
    suffix = ""

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / f"switches{self.suffix}"

    def text(self, switches: dict[str, bool]) -> str:
        raise NotImplementedError

    def source(self, switches: dict[str, bool]) -> Source:
        self.publish(None, switches)
        return FileSource(self.path, sleep=lambda seconds: None)

    def publish(self, source: Source | None, switches: dict[str, bool]) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(self.text(switches))
        os.replace(new, self.path)


class TestToml(_InFile):
    suffix = ".toml"

    def text(self, switches: dict[str, bool]) -> str:
        return "[switches]\n" + "".join(f"{name} = {str(state).lower()}\n" for name, state in switches.items())


class TestJson(_InFile):
    suffix = ".json"

    def text(self, switches: dict[str, bool]) -> str:
        return json.dumps({"schema": 1, "switches": switches})


class TestMemory(SwitchSourceContract):
    def source(self, switches: dict[str, bool]) -> Source:
        return MemorySource(switches)

    def publish(self, source: Source, switches: dict[str, bool]) -> None:
        assert isinstance(source, MemorySource)
        source.publish(switches)
