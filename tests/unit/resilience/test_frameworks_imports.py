"""The middlewares need nothing but Python, and each other module names the package that it misses (IN-4)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

OPTIONAL = (
    "celery", "fastapi", "flask", "httpx", "limits", "opentelemetry.sdk", "pybreaker", "redis", "requests", "starlette",
    "tenacity", "werkzeug", "yaml",
)  # fmt: skip

LOADS = """
import importlib, json, sys
importlib.import_module("backstay.resilience.frameworks." + sys.argv[1])
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""

MISSES = """
import importlib, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
try:
    module = importlib.import_module("backstay.resilience.frameworks." + sys.argv[1])
    exec(sys.argv[3])
except ImportError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("module", ["asgi", "wsgi"])
def test_IN4_middlewares_load_no_optional_package(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOADS, module, json.dumps(OPTIONAL)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == []


@pytest.mark.parametrize(
    ("module", "hidden", "use", "extra"),
    [
        ("httpx", "httpx", "", "http"),
        ("requests", "requests", "", "http"),
        ("fastapi", "starlette,fastapi", "", "fastapi"),
        ("flask", "flask,werkzeug", "module.streamed()", "flask"),
        ("celery", "celery", "module.postponed()", "celery"),
    ],
)
def test_IN4_a_missing_package_is_named_with_its_cure(module: str, hidden: str, use: str, extra: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", MISSES, module, hidden, use], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("MissingExtra")
    assert f"pip install 'backstay[{extra}]'" in ended.stdout
