"""Documents whose examples need a real server run against one."""

from __future__ import annotations

from pathlib import Path

import pytest

from snippets import ROOT, blocks, documents, run

WITH_SERVERS = {path: sorted(set().union(*(block.servers for block in blocks(path)))) for path in documents()}


@pytest.mark.parametrize(
    "document",
    [path for path, servers in WITH_SERVERS.items() if servers],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_document_runs_against_real_servers(document: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    addresses = {server: str(request.getfixturevalue(f"{server}_url")) for server in WITH_SERVERS[document]}
    assert addresses
    run(document, tmp_path, addresses)
