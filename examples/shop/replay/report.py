"""The result as one HTML file that needs nothing else: the table, four plots, the faults, the size of the change."""

from __future__ import annotations

import difflib
import html
from collections.abc import Sequence
from pathlib import Path

from .faults import Kind
from .plots import plots
from .run import Outcome
from .table import VIOLATIONS, measures

__all__ = ["change_size", "write_report"]

SHOP = Path(__file__).resolve().parents[1]
TEMPLATE = Path(__file__).with_name("report.html")


def write_report(outcomes: Sequence[Outcome], path: Path, about: str) -> None:
    """Write the report; `about` says in one line what was replayed."""
    added, removed = change_size()
    page = TEMPLATE.read_text()
    for name, text in {
        "about": html.escape(about),
        "violations": _rows({n: [f"{c(o.books):,}" for o in outcomes] for n, c in VIOLATIONS.items()}, mark=True),
        "measures": _rows({n: [measures(o)[n] for o in outcomes] for n in measures(outcomes[0])}),
        "heads": "".join(f"<th>{outcome.shop}</th>" for outcome in outcomes),
        "plots": "\n".join(f"<figure>{svg}<figcaption>{text}</figcaption></figure>" for svg, text in plots(outcomes)),
        "faults": _rows({kind.value: [f"{o.met.get(kind, 0):,}" for o in outcomes] for kind in Kind}),
        "kills": _rows(
            {
                f"{service} killed with SIGKILL": [str(sum(s == service for s, _ in o.kills)) for o in outcomes]
                for service in ("payments", "orders")
            }
        ),
        "catalogue": _rows(
            {
                f"catalogue answered: {how}": [f"{o.served.catalogue[how]:,}" for o in outcomes]
                for how in sorted(set().union(*(o.served.catalogue for o in outcomes)))
            }
        ),
        "change": f"{added} lines added, {removed} removed",
    }.items():
        page = page.replace(f"<!--{name}-->", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)


def change_size() -> tuple[int, int]:
    """Lines of Python added to and removed from the naive shop to get the protected one."""
    added = removed = 0
    for name in sorted({path.name for shop in ("naive", "protected") for path in (SHOP / shop).glob("*.py")}):
        before, after = (_lines(SHOP / shop / name) for shop in ("naive", "protected"))
        for line in difflib.unified_diff(before, after, n=0, lineterm=""):
            added += line.startswith("+") and not line.startswith("+++")
            removed += line.startswith("-") and not line.startswith("---")
    return added, removed


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _rows(rows: dict[str, list[str]], *, mark: bool = False) -> str:
    def cell(text: str) -> str:
        css = f' class="{"good" if text == "0" else "bad"}"' if mark else ""
        return f"<td{css}>{html.escape(text)}</td>"

    return "\n".join(f"<tr><th>{html.escape(name)}</th>{''.join(map(cell, row))}</tr>" for name, row in rows.items())
