"""The metrics that `resilience/` declares, read from its source: what a page or dashboard may name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parents[3] / "resilience"
INSTRUMENTS = {
    "counter": "counter",
    "accrued": "counter",
    "updown": "updowncounter",
    "level": "updowncounter",
    "histogram": "histogram",
    "gauge": "gauge",
}
_EXPORTED = {"policy_name": "policy.name", "policy_type": "policy.type", "error_type": "error.type"}
_PARAMETERS = {"bounds", "read"}


@dataclass
class Metric:
    name: str
    instrument: str
    unit: str
    attributes: set[str] = field(default_factory=set)

    @property
    def prometheus(self) -> set[str]:
        """Return the names that it may have in Prometheus: exporters differ in `_ratio` for the unit 1."""
        base = self.name.replace(".", "_") + ("_seconds" if self.unit == "s" else "")
        if self.instrument == "counter":
            return {base + "_total"}
        if self.instrument == "histogram":
            return {base + suffix for suffix in ("_bucket", "_sum", "_count")}
        return {base, base + "_ratio"} if self.unit == "1" else {base}

    @property
    def labels(self) -> set[str]:
        """Return its attributes as Prometheus has them."""
        more = {"le"} if self.instrument == "histogram" else set[str]()
        prefixed = {key if key == "error.type" else "backstay." + key for key in self.attributes}
        return {key.replace(".", "_") for key in prefixed} | more


def declared() -> dict[str, Metric]:
    """Return all metrics by their full names."""
    found: dict[str, Metric] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if "backstay.telemetry" not in path.read_text(encoding="utf-8"):
            continue
        for name, instrument, unit, attributes in _calls(tree):
            metric = found.setdefault("backstay." + name, Metric("backstay." + name, instrument, unit))
            assert (metric.instrument, metric.unit) == (instrument, unit), name
            metric.attributes |= attributes
    return found


def policy_types() -> set[str]:
    """Return every value that the source gives the attribute `policy.type`."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            pairs: list[tuple[object, ast.expr]] = []
            if isinstance(node, ast.keyword):
                pairs = [(node.arg, node.value)]
            elif isinstance(node, ast.Dict):
                keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
                pairs = list(zip(keys, node.values, strict=True))
            for key, value in pairs:
                if key == "policy_type" and isinstance(value, ast.Constant):
                    found.add(str(value.value))
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[str, str, str, set[str]]]:
    expansions = _expansions(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in INSTRUMENTS:
            texts = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
            if len(texts) == 2 and all(isinstance(text, str) for text in texts):
                attributes = {keyword.arg for keyword in node.keywords if keyword.arg} - _PARAMETERS
                for keyword in node.keywords:
                    if keyword.arg is None:
                        attributes |= expansions.get(ast.unparse(keyword.value), set())
                names = {_EXPORTED.get(key, key.rstrip("_")) for key in attributes}
                yield str(texts[0]), INSTRUMENTS[node.func.id], str(texts[1]), names


def _expansions(tree: ast.Module) -> dict[str, set[str]]:
    """Return what `**name` may stand for: dict literals of that name, and keywords given to functions that pass on."""
    found: dict[str, set[str]] = {}
    passing: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None:
            passing[node.name] = node.args.kwarg.arg
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(value, ast.Dict):
            keys = {key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
            for target in targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, set()).update(keys)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
            for target in targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, set()).update(key.arg for key in value.keywords if key.arg)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in passing and name not in INSTRUMENTS:
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                found.setdefault(passing[name], set()).update(given)
    return found
