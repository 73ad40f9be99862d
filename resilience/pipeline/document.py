"""Documents of pipelines: TOML, YAML or JSON as text or file, or the same as a mapping.

schema = 1                       # may be left out
[pipelines.payments]
limit = "100/second;burst=200"
retry = { attempts = 3 }
timeout = 2.0
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from backstay.errors import Misuse, Unavailable
from backstay.url import require

__all__ = ["Form", "read", "tables"]

Form: TypeAlias = Literal["toml", "yaml", "json"]

SCHEMA = 1
LARGEST = 1 << 20
MOST = 1_000
_FORMS: dict[str, Form] = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def read(source: str | Path | Mapping[str, Any], form: Form | None = None) -> Mapping[str, Mapping[str, Any]]:
    """Return what a document says of each pipeline.

    Args:
        source: a path (its ending tells the form), a text, or a mapping.
        form: of a text; TOML where it is left out.

    Raises:
        Misuse: it is not of that form, or is no document of pipelines.
        Unavailable: the file cannot be read.
        MissingExtra: it is YAML, and PyYAML is not installed.
    """
    if isinstance(source, Mapping):
        return tables(source)
    if isinstance(source, Path):
        if form is None and source.suffix not in _FORMS:
            raise Misuse(f"{source}: a document ends in {', '.join(sorted(_FORMS))}, or say form=")
        form = form or _FORMS[source.suffix]
        try:
            text = source.read_bytes().decode()
        except (OSError, ValueError) as error:
            raise Unavailable(f"{source} cannot be read: {error}") from error
    else:
        given: Any = source
        if not isinstance(given, str):
            raise Misuse(f"a document is a path, a text or a mapping, got {given!r:.80}")
        text = given
    return tables(_parsed(text, form or "toml"))


def _parsed(text: str, form: Form) -> Any:
    if len(text) > LARGEST:
        raise Misuse(f"a document of pipelines has at most {LARGEST:,} characters, this one has {len(text):,}")
    try:
        if form == "toml":
            return tomllib.loads(text)
        if form == "json":
            return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misuse(f"no {form.upper()}: {error}") from None
    if form != "yaml":
        raise Misuse(f"form must be 'toml', 'yaml' or 'json', got {form!r}")
    yaml: Any = require("yaml", "yaml")
    try:
        return yaml.load(text, Loader=_loader(yaml))  # made from the safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Misuse(f"no YAML: {error}") from None


def _loader(yaml: Any) -> Any:
    """Return the safe loader with the booleans of YAML 1.2: `on`, a setting, must not be read as true."""
    boolean = "tag:yaml.org,2002:bool"
    safe: Any = yaml.SafeLoader
    loader: Any = type("Loader", (safe,), {})
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != boolean]
        for first, resolvers in safe.yaml_implicit_resolvers.items()
    }
    loader.add_implicit_resolver(boolean, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    return loader


def tables(given: Any) -> Mapping[str, Mapping[str, Any]]:
    """Check the outside of a document, and return its tables by the names of pipelines.

    Raises:
        Misuse: it is no document of pipelines.
    """
    document: Mapping[str, Any] = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}
    if not isinstance(document.get("pipelines"), Mapping):
        raise Misuse("a document needs a table 'pipelines', as in [pipelines.payments] retry = 3")
    unknown = set(document) - {"schema", "pipelines"}
    if unknown:
        raise Misuse(f"unknown entry {min(map(str, unknown))!r} in a document of pipelines; known: schema, pipelines")
    schema = document.get("schema", SCHEMA)
    if type(schema) is not int or schema != SCHEMA:
        raise Misuse(f"documents of schema {schema!r} are not understood; this version reads schema {SCHEMA}")
    pipelines: Mapping[Any, Any] = document["pipelines"]
    if len(pipelines) > MOST:
        raise Misuse(f"a document has at most {MOST:,} pipelines, this one has {len(pipelines):,}")
    for name, table in pipelines.items():
        if not isinstance(name, str) or not name:
            raise Misuse(f"a pipeline is named by a text, got {name!r}")
        if not isinstance(table, Mapping):
            raise Misuse(f"pipeline {name!r}: expected a table such as {{ retry = 3 }}, got {table!r:.80}")
    return pipelines
