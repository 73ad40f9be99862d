"""What the documents show runs, what they link to is there, and the commands that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snippets import ROOT, SERVERS, blocks, documents, run, script

DOCUMENTS = documents()
MARKS = {"outline", *SERVERS}
ALONE = [path for path in DOCUMENTS if blocks(path) and not any(block.servers for block in blocks(path))]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", ALONE, ids=name)
def test_document_runs_as_it_stands(document: Path, tmp_path: Path) -> None:
    run(document, tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_block_compiles_and_its_marks_are_known(document: Path) -> None:
    for block in blocks(document):
        assert block.marks <= MARKS, f"line {block.line}: {block.marks - MARKS}"
        assert compile(block.code, name(document), "exec").co_filename == name(document)


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"], ids=name
)
def test_links_and_commands_of_a_document_exist(document: Path) -> None:
    text = document.read_text()
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [target for target in targets if not (document.parent / target).exists()] == []
    commands = set(re.findall(r"^ *(?:\$ )?make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE))
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {one or other for one, other in commands} <= known


def test_a_block_that_fails_fails_its_document(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.md"
    wrong.write_text(
        "# Title\n\n```python\nanswer = 42\n```\n\n"
        "```python outline\nmissing()\n```\n\n```python\nassert answer == 43\n```\n"
    )
    assert script(wrong).splitlines()[3] == "answer = 42"
    assert "missing" not in script(wrong)
    with pytest.raises(AssertionError, match="line 12"):
        run(wrong, tmp_path)


def test_addresses_of_servers_are_put_in(tmp_path: Path) -> None:
    document = tmp_path / "redis.md"
    document.write_text('```python redis\nurl = "redis://localhost:6379/0"\n```\n')
    assert 'url = "redis://h:1/2"' in script(document, {"redis": "redis://h:1/2"})
