"""`backstay switches` against a replica, as an operator types it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backstay.errors import BackstayError, Misuse, Rejected, Unavailable
from backstay.resilience.switch_service.cli import app
from integration.resilience.switch_replicas import SCOPE, Replica, free_port


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    made = Replica(f"sqlite:///{tmp_path / 'switches.db'}")
    yield made
    made.close()


def run(replica: Replica, *args: str, code: int = 0, token: str = "") -> str:
    environment = {
        "BACKSTAY_SWITCHES_URL": replica.url,
        "BACKSTAY_SWITCHES_TOKEN": token or replica.token,
        "BACKSTAY_SWITCHES_STORE": replica.store,
    }
    result = CliRunner().invoke(app, list(args), env=environment, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_an_operator_turns_a_switch_sees_it_and_goes_back(replica: Replica) -> None:
    tried = run(replica, "set", SCOPE, "recommendations", "off", "--reason", "slow", "--dry-run")
    assert "would be version 1" in tried
    assert "nothing" not in run(replica, "list")
    told = run(replica, "set", SCOPE, "recommendations", "off", "--reason", "slow", "--until", "2099-01-01T00:00:00Z")
    assert f"version 1 of {SCOPE}" in told
    listed = run(replica, "list", SCOPE)
    for word in ("recommendations", "off", "2099-01-01T00:00:00Z", "slow"):
        assert word in listed
    run(replica, "set", SCOPE, "beta", '{"enabled": true, "percentage": 25}', "--reason", "trial")
    assert "on for 25 %" in run(replica, "list", SCOPE)
    assert "nothing changes; version 2 stays" in run(
        replica, "set", SCOPE, "beta", '{"enabled": true, "percentage": 25}', "--reason", "trial"
    )
    assert f"version 3 of {SCOPE}" in run(replica, "rollback", SCOPE, "1", "--reason", "enough")
    assert list(json.loads(run(replica, "list", SCOPE, "--json"))["items"]["switches"]) == ["recommendations"]
    assert SCOPE in run(replica, "list")


def test_a_document_goes_from_one_scope_to_another_as_a_file(replica: Replica, tmp_path: Path) -> None:
    run(replica, "set", SCOPE, "a", "on", "--reason", "x")
    file = tmp_path / "document.toml"
    file.write_text(run(replica, "export", SCOPE))
    assert tomllib.loads(file.read_text())["switches"]["a"]["enabled"] is True
    assert "would be version 1" in run(replica, "import", "shop/staging", str(file), "--dry-run")
    assert "version 1 of shop/staging" in run(replica, "import", "shop/staging", str(file))
    assert "nothing changes" in run(replica, "import", "shop/staging", str(file))
    as_json = tmp_path / "document.json"
    as_json.write_text(run(replica, "export", "shop/staging", "--format", "json"))
    assert "nothing changes" in run(replica, "import", SCOPE, str(as_json))


def test_tokens_are_made_listed_and_ended_on_the_database(replica: Replica) -> None:
    run(replica, "set", SCOPE, "a", "on", "--reason", "x")
    token = run(replica, "token", "create", "web", "--scope", SCOPE).strip()
    assert SCOPE in run(replica, "list", token=token)
    with pytest.raises(Misuse, match="needs the role operator"):
        run(replica, "set", SCOPE, "a", "off", "--reason", "x", token=token)
    listed = run(replica, "token", "list")
    assert "web" in listed
    assert token not in listed
    number = token.split("_")[1]
    assert "ended" in run(replica, "token", "revoke", number)
    run(replica, "token", "revoke", number, code=1)


def test_what_cannot_be_done_is_an_error_that_says_why(replica: Replica) -> None:
    wrong: list[tuple[tuple[str, ...], type[BackstayError]]] = [
        (("list", "nowhere/at-all"), Misuse),
        (("list", "no scope"), Misuse),
        (("set", SCOPE, "a", "perhaps", "--reason", "x"), Misuse),
        (("set", SCOPE, "a", "7", "--reason", "x"), Misuse),
        (("rollback", SCOPE, "9", "--reason", "x"), Misuse),
        (("export", SCOPE, "--format", "xml"), Misuse),
        (("token", "create", "web"), Misuse),
        (("token", "create", "web", "--scope", "*", "--role", "king"), Misuse),
        (("list", "--url", f"http://127.0.0.1:{free_port()}"), Unavailable),
        (("list", "--token", "bst_unknown"), Misuse),
    ]
    for args, kind in wrong:
        with pytest.raises(kind) as caught:
            run(replica, *args)
        assert len(str(caught.value)) > 10


def test_somebody_who_was_faster_is_told(replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(replica, "set", SCOPE, "a", "on", "--reason", "x")
    from backstay.resilience.switch_service.client import Client

    def stale(client: Client, scope: str) -> int:
        return 0

    monkeypatch.setattr(Client, "version", stale)
    with pytest.raises(Rejected, match="has version 1"):
        run(replica, "set", SCOPE, "a", "off", "--reason", "x")


def test_a_token_has_to_be_given_and_tls_needs_both_files(tmp_path: Path) -> None:
    runner = CliRunner()
    with pytest.raises(Misuse, match="BACKSTAY_SWITCHES_TOKEN"):
        runner.invoke(app, ["list"], env={"BACKSTAY_SWITCHES_TOKEN": ""}, catch_exceptions=False)
    with pytest.raises(Misuse, match="ssl-certfile"):
        runner.invoke(app, ["serve", "--ssl-keyfile", "x"], catch_exceptions=False)
    with pytest.raises(Misuse, match="name a file"):
        runner.invoke(app, ["serve", "--store", "sqlite://"], catch_exceptions=False)
    with pytest.raises(Misuse, match="mysql"):
        runner.invoke(app, ["serve", "--store", "mysql+pymysql://u:p@127.0.0.1/x"], catch_exceptions=False)
