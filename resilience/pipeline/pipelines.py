"""All pipelines of a service by name, changed together by one document: all of it or nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backstay.errors import Misuse
from backstay.telemetry import counter

from ..forks import renew_in_child
from ..switches.switches import Switches
from .applying import Applying
from .arrangement import Entry, Order
from .document import Form, read
from .overlay import Change
from .pipeline import Pipeline

__all__ = ["Pipelines", "load_pipelines"]

logger = logging.getLogger("backstay.resilience")


class Pipelines:
    """Pipelines by name, which one document configures.

        pipelines = load_pipelines(Path("pipelines.toml"))

        @pipelines["payments"]
        def charge(order_id: int) -> Receipt: ...

        pipelines.apply({"pipelines": {"payments": {"limit": "200/second", "retry": 2}}})

    Guarantees: a document is checked as a whole, round every function that is protected, before any of it counts;
    one that is wrong changes nothing. The same policies are changed: no breaker closes and no bucket fills up by it.
    What a document leaves out is as code gave it. Not guaranteed: that a request which passes several pipelines
    while a document is applied sees only one of the two.

    Args:
        switches: where switches are that documents name.
    """

    def __init__(self, *, switches: Switches | None = None) -> None:
        self._switches = switches
        self._lock = threading.Lock()
        self._pipelines: dict[str, Pipeline] = {}
        self._applied = {
            result: counter("config.applies", "{apply}", source="pipelines", result=result)
            for result in ("applied", "unchanged", "invalid")
        }
        renew_in_child(self)

    def __getitem__(self, name: str) -> Pipeline:
        """Return the pipeline of this name.

        Raises:
            Misuse: there is none.
        """
        found = self._pipelines.get(name)
        if found is None:
            known = ", ".join(sorted(self._pipelines)) or "none"
            raise Misuse(f"no pipeline {name!r}; known: {known}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._pipelines

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._pipelines))

    def __len__(self) -> int:
        return len(self._pipelines)

    def define(self, name: str, *policies: Entry, order: Order = None) -> Pipeline:
        """Return a new pipeline of this name: what it is until a document says otherwise.

        Raises:
            Misuse: there is one of this name, or see `Pipeline`.
        """
        made = Pipeline(name, *policies, order=order, switches=self._switches)
        self.register(made)
        return made

    def register(self, pipeline: Pipeline) -> None:
        """Let documents change a pipeline that exists.

        Raises:
            Misuse: there is another one of this name.
        """
        with self._lock:
            if self._pipelines.setdefault(pipeline.name, pipeline) is not pipeline:
                raise Misuse(f"there is a pipeline {pipeline.name!r} already: take it by pipelines[...]")

    def apply(self, source: str | Path | Mapping[str, Any], *, form: Form | None = None) -> bool:
        """Apply a document; return whether it changed anything.

        A name that is new becomes a pipeline. One that is left out goes back to what code gave it.

        Args:
            source: a path, a text or a mapping with the table `pipelines`.
            form: of a text: `"toml"` (the default), `"yaml"` or `"json"`.

        Raises:
            Misuse: anything in it is not understood; known names are told, and nothing changed.
            Unavailable: the file cannot be read; nothing changed.
        """
        try:
            document = read(source, form)
            with self._lock:
                changed = self._apply(document)
        except Misuse:
            self._applied["invalid"].n += 1
            raise
        word = "applied" if changed else "unchanged"
        self._applied[word].n += 1
        return changed

    @property
    def section(self) -> str:
        """The section of a delivered document that is about pipelines."""
        return "pipelines"

    def prepare(self, section: Mapping[str, Any]) -> Applying:
        """Return the change that a section stands for, checked and compiled, and change nothing yet.

            plane.attach(pipelines)

        Raises:
            Misuse: as for `apply`.
        """
        document = read({"pipelines": section})
        with self._lock:
            return self._plan(document)

    def _apply(self, document: Mapping[str, Mapping[str, Any]]) -> bool:
        change = self._plan(document)
        change.apply()
        gone = change.emptied - set(document)
        if gone:
            logger.warning("the document no longer has %s: back to what code gave", ", ".join(sorted(gone)[:20]))
        return change.changed

    def _plan(self, document: Mapping[str, Mapping[str, Any]]) -> Applying:
        fresh: dict[str, Pipeline] = {}
        changes: list[Change] = []
        for name in dict.fromkeys((*self._pipelines, *document)):
            pipeline = self._pipelines.get(name)
            if pipeline is None:
                pipeline = fresh[name] = Pipeline(name, switches=self._switches)
            changes.append(pipeline.prepare(document.get(name, {})))
        return Applying(self._pipelines, fresh, changes)

    def renew(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Pipelines({', '.join(sorted(self._pipelines))})"


def load_pipelines(
    source: str | Path | Mapping[str, Any], *, form: Form | None = None, switches: Switches | None = None
) -> Pipelines:
    """Return the pipelines of a document.

    Args:
        source: see `Pipelines.apply`.
        form: see there.
        switches: see `Pipelines`.

    Raises:
        Misuse: anything in it is not understood.
        Unavailable: the file cannot be read.
    """
    made = Pipelines(switches=switches)
    made.apply(source, form=form)
    return made
