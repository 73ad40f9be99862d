"""Writes the public surface of backstay as text, so that a change to it is a visible diff.

    python tests/public_api.py      writes tests/public_api.txt anew (`make public-api`)

A name is public when a public module lists it in its `__all__`. Public modules are those of the kernel, the four
packages themselves (what lies inside a package is offered through its `__init__`), and what is listed in INSIDE. A
class shows the public members that Backstay itself defines; what it inherits from other libraries is theirs to list.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).with_name("public_api.txt")
SHOWN_SPECIALS = ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__call__", "__iter__", "__aiter__")
# Modules inside a package that users import by their full name.
INSIDE = re.compile(
    r"backstay\.testing\.\w+|backstay\.locks\.guards(\.\w+)?|backstay\.txn\.(fastapi|flask)"
    r"|backstay\.resilience\.(bulkhead|circuit_breaker(\.shared)?|concurrency_limit|fallback|hedge|limits|pipeline"
    r"|policy|pybreaker|rate_limiting(\.(policy|client_identity|http_middleware))?|retry|switches(\.openfeature)?|system_guard|timeout"
    r"|delivery|levels|read_chain|write_behind|switch_service"
    r"|frameworks\.\w+)"
)
# The same wherever it appears: `with` and `async with` take no arguments of the user's.
PLAIN_SPECIALS = frozenset(SHOWN_SPECIALS) - {"__init__", "__call__"}


def public_modules() -> Iterator[types.ModuleType]:
    """Every public module that says what it offers, in order of names."""
    import backstay

    names = [backstay.__name__]
    names += [found.name for found in pkgutil.walk_packages(backstay.__path__, "backstay.")]
    for name in sorted(names):
        inside_a_package = name.count(".") > 1 and not INSIDE.fullmatch(name)
        if inside_a_package or any(part.startswith("_") for part in name.split(".")):
            continue
        module = importlib.import_module(name)
        if hasattr(module, "__all__"):
            yield module


def render() -> str:
    modules = list(public_modules())
    homes: dict[int, str] = {}
    for module in sorted(modules, key=lambda m: (m.__name__.count("."), m.__name__)):
        for name in module.__all__:
            homes.setdefault(id(getattr(module, name)), f"{module.__name__}.{name}")
    blocks: list[str] = []
    for module in modules:
        for name in sorted(module.__all__):
            place, value = f"{module.__name__}.{name}", getattr(module, name)
            home = homes[id(value)]
            if home != place and callable(value):
                blocks.append(f"{place} is {home}")
            else:
                blocks.append("\n".join(describe(place, value)))
    return "\n".join(blocks) + "\n"


def describe(place: str, value: object) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {place}({bases})" if bases else f"class {place}"
        for name, member in sorted(members(value).items()):
            yield f"    {member_line(name, member)}"
    elif inspect.isroutine(value):
        yield f"{colour(value)}def {place}{signature(value)}"
    elif callable(value):  # an alias of a type
        yield f"{place} = {value}"
    else:
        yield f"{place}: {type(value).__name__}"


def members(cls: type) -> dict[str, object]:
    """What the class and its bases inside backstay define for users."""
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("backstay"):
            continue
        for name, member in vars(base).items():
            if name in SHOWN_SPECIALS or not name.startswith("_"):
                found[name] = member
        for name in base.__dict__.get("__annotations__", {}):
            if not name.startswith("_"):
                found.setdefault(name, None)
    return found


def member_line(name: str, member: object) -> str:
    if isinstance(member, property):
        return f"{name}: property"
    if isinstance(member, staticmethod | classmethod):
        kind = type(member).__name__
        return f"@{kind} {colour(member.__func__)}def {name}{signature(member.__func__)}"
    if name in PLAIN_SPECIALS:
        return f"def {name}"
    if inspect.isfunction(member):
        return f"{colour(member)}def {name}{signature(member)}"
    return name


def colour(function: object) -> str:
    return "async " if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) else ""


def signature(function: object) -> str:
    """The signature with annotations as they are written: Python's versions print evaluated ones differently."""
    assert callable(function)
    try:
        found = inspect.signature(function)
    except ValueError:
        return "(...)"
    shown: list[str] = []
    seen_keyword_mark = False
    for parameter in found.parameters.values():
        if parameter.name.startswith("_"):
            continue  # a bound constant, no one's argument
        if parameter.kind is parameter.KEYWORD_ONLY and not seen_keyword_mark:
            shown.append("*")
            seen_keyword_mark = True
        if parameter.kind is parameter.VAR_POSITIONAL:
            seen_keyword_mark = True
        stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
        text = stars + parameter.name + annotation(parameter.annotation, ": ")
        if parameter.default is not parameter.empty:
            text += f" = {default(parameter.default)}"
        shown.append(text)
    return f"({', '.join(shown)}){annotation(found.return_annotation, ' -> ')}"


def annotation(written: object, mark: str) -> str:
    if written is inspect.Parameter.empty:
        return ""
    return mark + (written if isinstance(written, str) else getattr(written, "__qualname__", str(written)))


def default(value: object) -> str:
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, frozenset):  # which has no order that lasts
        return f"frozenset({sorted(value, key=repr)!r})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


if __name__ == "__main__":
    TARGET.write_text(render())
    print(f"{TARGET.name}: {len(TARGET.read_text().splitlines())} lines")
