"""Applies each mutant of tests/mutants.md to a copy of the tree and checks that its test notices.

    python tests/run_mutants.py [ID...]     exit 0: every mutant was caught

The work tree is never touched. A mutant counts as caught only when its test ran and failed: an error while collecting
(a change that does not even import) proves nothing about the test, and is reported as broken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "mutants.md"
COPIES = 2
LIMIT_SECONDS = 300
PASSED, FAILED = 0, 1  # pytest's exit status


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    id: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, tree: Path) -> str:
        """Change the file and return what it held."""
        path = tree / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"mutant {self.id}: {self.old!r} occurs {text.count(self.old)} times in {self.file}, not once"
            )
        path.write_text(text.replace(self.old, self.new))
        return text


def parse(text: str) -> list[Mutant]:
    rows: list[Mutant] = []
    for line in text.splitlines():
        cells = _cells(line)
        if len(cells) != 5 or cells[0] in {"id", "---"}:
            continue
        rows.append(Mutant(id=cells[0], file=cells[1], old=cells[2], new=cells[3], test=cells[4]))
    return rows


def _cells(line: str) -> list[str]:
    if not line.startswith("|"):
        return []
    bar = "\0"
    cells = line.strip().strip("|").replace(r"\|", bar).split("|")
    return [_unquoted(cell.strip()).replace(bar, "|").replace(r"\n", "\n") for cell in cells]


def _unquoted(cell: str) -> str:
    for mark in ("``", "`"):
        if cell.startswith(mark) and cell.endswith(mark) and len(cell) >= 2 * len(mark):
            inside = cell[len(mark) : -len(mark)]
            return inside[1:-1] if mark == "``" and inside.startswith(" ") and inside.endswith(" ") else inside
    return cell


def copy_tree(target: Path) -> None:
    """What is committed and what is new, with links as links; nothing that is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in sorted(set(filter(None, listed.split("\0")))):
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


def run(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )


def judge(tree: Path, mutant: Mutant) -> tuple[str, str]:
    """The verdict on one mutant and the last lines of its run."""
    before = mutant.apply(tree)
    try:
        done = run(tree, mutant.test)
    except subprocess.TimeoutExpired:
        return "TIMED OUT", f"no answer in {LIMIT_SECONDS} s"
    finally:
        (tree / mutant.file).write_text(before)
    verdict = {PASSED: "SURVIVED", FAILED: "caught"}.get(done.returncode, "BROKEN")
    return verdict, "\n".join(done.stdout.splitlines()[-15:] + done.stderr.splitlines()[-5:])


@contextmanager
def copies() -> Iterator[SimpleQueue[Path]]:
    with tempfile.TemporaryDirectory(prefix="backstay-mutants-") as scratch:
        free: SimpleQueue[Path] = SimpleQueue()
        for number in range(COPIES):
            tree = Path(scratch, f"tree-{number}")
            copy_tree(tree)
            free.put(tree)
        yield free


def check(mutants: list[Mutant]) -> bool:
    with copies() as free:
        tree = free.get()
        place = subprocess.run(
            [sys.executable, "-c", "import backstay; print(backstay.__file__)"],
            cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        if not place.startswith(str(tree)):
            raise RuntimeError(f"the copy's backstay is not the one that is imported, but {place}")
        unchanged = run(tree, *dict.fromkeys(mutant.test for mutant in mutants))
        if unchanged.returncode != PASSED:
            print(unchanged.stdout[-4000:], unchanged.stderr[-2000:], sep="\n")
            print("these tests must pass on the unchanged tree first", file=sys.stderr)
            return False
        free.put(tree)

        def one(mutant: Mutant) -> tuple[Mutant, str, str, float]:
            mine, start = free.get(), time.monotonic()
            try:
                return (mutant, *judge(mine, mutant), time.monotonic() - start)
            finally:
                free.put(mine)

        caught = 0
        with ThreadPoolExecutor(COPIES) as pool:
            for mutant, verdict, last, seconds in pool.map(one, mutants):
                print(f"{verdict:<10}{seconds:6.1f} s  {mutant.id:<38}{mutant.test}", flush=True)
                caught += verdict == "caught"
                if verdict != "caught":
                    print(last)
    print(f"\n{caught} of {len(mutants)} mutants caught")
    return caught == len(mutants)


def main() -> int:
    listed = parse(LIST.read_text())
    wanted = sys.argv[1:]
    if unknown := set(wanted) - {mutant.id for mutant in listed}:
        print(f"no mutant named {', '.join(sorted(unknown))} in {LIST.name}", file=sys.stderr)
        return 2
    chosen = [mutant for mutant in listed if not wanted or mutant.id in wanted]
    if not chosen:
        print(f"{LIST.name} lists no mutant", file=sys.stderr)
        return 2
    return 0 if check(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
