"""The demo itself, with few baskets: what it prints, what it writes, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from examples.shop.places import Places
from examples.shop.replay.audit import audit
from examples.shop.replay.journal import unfinished

ROOT = Path(__file__).resolve().parents[3]


def start(out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.shop", "--out", str(out), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def children(parent: int) -> dict[int, str]:
    """Command lines of the processes that `parent` started."""
    found = dict[int, str]()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended while we looked
        if int(stat[1]) == parent:
            found[int(path.name)] = command
    return found


def wait_for(what: str, true: object, seconds: float = 40) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def test_both_shops_are_compared_and_the_protected_one_breaks_nothing(tmp_path: Path) -> None:
    demo = start(tmp_path, "--baskets", "60", "--seed", "3")
    printed, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, printed
    assert "transactions left unfinished" in printed
    books = json.loads((tmp_path / "result.json").read_text())["books"]
    assert set(books) == {"naive", "protected"}
    assert books["protected"]["orders"] > 10
    assert sum(books["naive"]["answers"].values()) == sum(books["protected"]["answers"].values()) == 60
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "<!--" not in page.replace("<!-- ", ""), "every gap of the template is filled"
    assert "http://" not in page.replace("http://www.w3.org", ""), "the page needs nothing from elsewhere"


def test_the_services_end_with_the_demo_even_when_it_is_killed(tmp_path: Path) -> None:
    demo = start(tmp_path, "--only", "naive", "--baskets", "500")
    wait_for("three services", lambda: sum("examples.shop.serve" in c for c in children(demo.pid).values()) == 3)
    services = list(children(demo.pid))
    demo.kill()
    demo.communicate()
    wait_for("the services to end", lambda: not any(alive(pid) for pid in services), seconds=10)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_demo_that_was_killed_is_finished_by_one_command(tmp_path: Path) -> None:
    demo = start(tmp_path, "--only", "protected", "--baskets", "600", "--seed", "4")
    journal = tmp_path / "protected" / "journal.db"
    wait_for("orders", lambda: journal.exists() and audit(Places.load(tmp_path / "protected")).orders > 20)
    wait_for("purchases under way", lambda: unfinished(Places.load(tmp_path / "protected")) > 3)
    services = list(children(demo.pid))
    demo.kill()
    demo.communicate()
    wait_for("the services to end", lambda: not any(alive(pid) for pid in services), seconds=10)
    recover = subprocess.run(
        [
            sys.executable,
            "-c",
            "from backstay.cli import main; main()",
            "txn",
            "recover",
            "--app",
            "examples.shop.protected.recovery:manager",
        ],
        cwd=ROOT,
        env={**os.environ, "SHOP_DATA": str(tmp_path / "protected")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert recover.returncode == 0, recover.stdout + recover.stderr
    places = Places.load(tmp_path / "protected")
    books = audit(places)
    assert books.violations == 0, books
    assert books.orders > 0
