"""The page of the switch service: plain HTML, CSS and ES modules, as they are served; nothing is built."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files as resources

__all__ = ["files"]

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def files() -> Mapping[str, tuple[str, bytes]]:
    """Return the files of the page: path -> (content type, body).

    Guarantees: `index.html` and all that it loads, below `assets/`; less than 200 kB together; no script or style
    inside the HTML, so that `default-src 'self'` is enough.
    """
    here = resources(__name__)
    found = {"index.html": (_TYPES["html"], (here / "index.html").read_bytes())}
    for file in sorted((here / "assets").iterdir(), key=lambda each: each.name):
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            found[f"assets/{file.name}"] = (kind, file.read_bytes())
    return found
