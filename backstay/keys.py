"""Key templates: `order:{order_id}`, filled from a call's arguments by name.

A decorator binds its template to the function once, when the module is imported, so a misspelt name is
an error there and not at the first call. What a filled key guarantees: two calls with different values
never share a key, and a value that has no text of its own (`None`, a plain object) is refused rather
than turned into a key that nobody else can make.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from backstay.errors import Misuse

__all__ = ["Template"]

_ESCAPES = str.maketrans({"%": "%25", ":": "%3A"})
_formatter = Formatter()


class Template:
    """A text with fields in braces that name parameters of the function it is bound to.

    Fields may go down attributes and items (`{order.id}`, `{line[sku]}`) and may carry a format
    (`{day:%Y-%m-%d}`, `{shard:03d}`). Where a template has several fields, `:` and `%` inside values are
    escaped, so that `{a}:{b}` cannot give one key for two pairs.

    Args:
        text: the template; `{{` and `}}` stand for braces.

    Raises:
        Misuse: the text is empty, its braces do not match, or a field is positional (`{}`, `{0}`).
    """

    __slots__ = ("_escape", "_parts", "names", "text")

    def __init__(self, text: str) -> None:
        if not text:
            raise Misuse("a key template must not be empty; write something like 'order:{order_id}'")
        try:
            parts = tuple(_formatter.parse(text))
        except ValueError as error:
            raise Misuse(f"key template {text!r}: {error}; write braces as '{{{{' and '}}}}'") from None
        fields = [field for _, field, _, _ in parts if field is not None]
        roots = [field.split(".")[0].split("[")[0] for field in fields]
        for field, root in zip(fields, roots, strict=True):
            if not root.isidentifier():
                raise Misuse(f"key template {text!r}: {{{field}}} must name a parameter, as in 'order:{{order_id}}'")
            if "._" in field:
                raise Misuse(f"key template {text!r}: field {{{field}}} reaches for a private attribute")
        self.text = text
        self.names = tuple(dict.fromkeys(roots))
        self._escape = len(fields) > 1
        self._parts = parts  # parsed once: parsing costs more than all the rest of a key

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def bind(self, function: Callable[..., Any]) -> Callable[[tuple[Any, ...], Mapping[str, Any]], str]:
        """Check the template against `function` and return what makes a key from a call's `(args, kwargs)`.

        Raises:
            Misuse: a field names no parameter of `function`; the text lists those that there are. When
                called, the returned function raises it for a value that has no text of its own.
        """
        if not self.names:
            constant = self.text.format()
            return lambda args, kwargs: constant
        signature = inspect.signature(function)
        parameters = signature.parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        named = [n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        for name in self.names:
            if name not in named and not open_ended:
                known = ", ".join(named) or "none"
                label = getattr(function, "__qualname__", repr(function))
                raise Misuse(
                    f"key template {self.text!r} names {name!r}, but {label}() has no such parameter; it has: {known}"
                )
        order = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        position = {name: order.index(name) if name in order else -1 for name in self.names}
        # `f(1, a=2)` is legal for `def f(a, /, **more)`, and that 2 is not the parameter
        by_name = {
            n for n in self.names if n not in parameters or parameters[n].kind is not inspect.Parameter.POSITIONAL_ONLY
        }
        default = {n: p.default for n, p in parameters.items() if p.default is not p.empty}

        def key(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
            values: dict[str, Any] = {}
            for name, index in position.items():
                if name in by_name and name in kwargs:
                    values[name] = kwargs[name]
                elif 0 <= index < len(args):
                    values[name] = args[index]
                elif name in default:
                    values[name] = default[name]
                else:
                    signature.bind(*args, **kwargs)  # raises the TypeError that the call itself would raise
                    raise Misuse(f"key template {self.text!r}: this call passes no {name!r}")
            return self.fill(values)

        return key

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the key for `values`, one for each name in the template.

        Raises:
            Misuse: a value is None or an object without a text of its own, or a field leads nowhere.
        """
        key = ""
        for literal, field, spec, conversion in self._parts:
            key += literal
            if field is None:
                continue
            value = values.get(field)
            if not (conversion or spec) and (type(value) is int or type(value) is str):
                text = str(value)
            else:
                text = self._text(field, values, spec or "", conversion)
            key += text.translate(_ESCAPES) if self._escape else text
        return key

    def _text(self, field: str, values: Mapping[str, Any], spec: str, conversion: Any) -> str:
        try:
            value, _ = _formatter.get_field(field, (), values)
        except (AttributeError, LookupError, TypeError) as error:
            raise Misuse(f"key template {self.text!r}: field {{{field}}} leads nowhere: {error}") from None
        if _has_no_text(value):
            kind = "None" if value is None else "a " + type(value).__name__
            raise Misuse(
                f"key template {self.text!r}: {{{field}}} is {kind}, "
                "which has no text of its own; pass an identifier or go down to one, as in {order.id}"
            )
        try:
            return format(_formatter.convert_field(value, conversion), spec)
        except (TypeError, ValueError) as error:
            raise Misuse(f"key template {self.text!r}: field {{{field}}}: {error}") from None


def _has_no_text(value: object) -> bool:
    """Whether the text of `value` would be `None` or an address in memory, another one in each process."""
    kind: type[object] = type(value)
    return value is None or (kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__)
