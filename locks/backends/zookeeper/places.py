"""Where things are in ZooKeeper: `/backstay/<namespace>/locks/<kind>/<name>`, and `documents` beside `locks`."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

from backstay.locks.claims import KINDS, Resource

__all__ = ["Places", "slug"]

_KIND_OF_SLUG = {kind.replace(" ", "-"): kind for kind in KINDS}


def slug(kind: str) -> str:
    """Return a kind as it stands in paths."""
    return kind.replace(" ", "-")


def _escaped(name: str) -> str:
    """Return a name as one component of a path; `.` alone, `/` and control characters are not allowed there."""
    return quote(name, safe="").replace(".", "%2E") if not name.strip(".") else quote(name, safe="")


class Places(NamedTuple):
    """The paths of one namespace.

    Paths begin with the chroot, which is not left to the client: ours is then made with the rest where it is missing.
    """

    chroot: str
    space: str

    @property
    def root(self) -> str:
        """Above all that this namespace has."""
        return f"{self.chroot}/backstay/{self.space}"

    @property
    def epoch(self) -> str:
        """The node whose version rises with every deletion of a document."""
        return f"{self.root}/documents"

    def kind(self, kind: str) -> str:
        """Above all resources of a kind."""
        return f"{self.root}/locks/{slug(kind)}"

    def resource(self, resource: Resource) -> str:
        """Above all contenders for a resource."""
        return f"{self.kind(resource.kind)}/{_escaped(resource.name)}"

    def document(self, resource: Resource) -> str:
        """A document's node."""
        return f"{self.epoch}/{slug(resource.kind)}/{_escaped(resource.name)}"

    def kinds(self) -> list[tuple[str, str]]:
        """Return the kinds of resources, each with the path above its resources."""
        return [(kind, self.kind(kind)) for kind in sorted(_KIND_OF_SLUG.values())]

    @staticmethod
    def name(node: str) -> str:
        """Return the name of the resource whose node is called so."""
        return unquote(node)
