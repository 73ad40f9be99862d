"""The Python blocks of the README and of docs/: found, compiled, and run as one script per document.

```python              runs; the blocks of one document share their names, top to bottom
```python redis        runs against a real server (redis, postgres or mariadb; several words for several servers)
```python outline      only has to compile
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVERS = {
    "redis": "redis://localhost:6379/0",
    "postgres": "postgresql+psycopg://localhost/shop",
    "mariadb": "mysql+pymysql://localhost/shop",
}
"""How the documents write the address of each server; the tests put the real one in its place."""

_BLOCK = re.compile(r"^```(?P<mark>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    line: int
    marks: frozenset[str]
    code: str

    @property
    def servers(self) -> set[str]:
        return set(SERVERS) & self.marks

    @property
    def runs(self) -> bool:
        return "outline" not in self.marks


def documents() -> list[Path]:
    """Everything that a user reads and that shows code."""
    found = [ROOT / "README.md", ROOT / "examples" / "shop" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if path.is_file()]


def blocks(document: Path) -> list[Block]:
    return list(_python_blocks(document.read_text()))


def _python_blocks(text: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        language, *marks = match["mark"].split() or [""]
        if language == "python":
            line = text.count("\n", 0, match.start("code"))
            yield Block(line=line, marks=frozenset(marks), code=match["code"])


def script(document: Path, addresses: Mapping[str, str] | None = None) -> str:
    """One program of all blocks that run, each on the line where the document has it."""
    lines: list[str] = []
    for block in blocks(document):
        if block.runs:
            lines += [""] * (block.line - len(lines)) + block.code.splitlines()
    text = "\n".join(lines)
    for server, address in (addresses or {}).items():
        text = text.replace(SERVERS[server], address)
    return text


def run(document: Path, place: Path, addresses: Mapping[str, str] | None = None) -> None:
    """Run a document in the empty folder `place`; a warning is an error, as in every test."""
    program = place / f"{document.stem}.py"
    program.write_text(script(document, addresses))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::ImportWarning", program.name],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    shown = f"{done.stdout}{done.stderr}".replace(program.name, document.name)
    assert done.returncode == 0, f"{document.name} does not run as it stands:\n{shown}"
