from __future__ import annotations

import pickle
import traceback

import pytest

from backstay.errors import MissingExtra, Misuse
from backstay.url import Url, choose, mask, parse, require

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "scheme", "hosts", "path"),
    [
        ("memory://", "memory", (), ""),
        ("redis://localhost/0", "redis", (("localhost", None),), "/0"),
        ("rediss://h:6380/2", "rediss", (("h", 6380),), "/2"),
        ("redis://[::1]:6379/0", "redis", (("::1", 6379),), "/0"),
        ("redis://[::1]/0", "redis", (("::1", None),), "/0"),
        (
            "zookeeper://a:2181,b:2182,c/chroot/deep",
            "zookeeper",
            (("a", 2181), ("b", 2182), ("c", None)),
            "/chroot/deep",
        ),
        ("file:///etc/shop/switches.toml", "file", (), "/etc/shop/switches.toml"),
        ("postgresql+psycopg://db/journal", "postgresql+psycopg", (("db", None),), "/journal"),
        ("  REDIS://localhost  ", "redis", (("localhost", None),), ""),
    ],
)
def test_urls_are_taken_apart(text: str, scheme: str, hosts: tuple[tuple[str, int | None], ...], path: str) -> None:
    url = parse(text)
    assert (url.scheme, url.hosts, url.path) == (scheme, hosts, path)
    assert (url.host, url.port) == (hosts[0] if hosts else ("", None))


def test_user_password_and_query_are_unescaped() -> None:
    url = parse("redis://us%40er:p%2Fw%40d@h:1/0?db=3&empty=&name=a%20b")
    assert (url.username, url.password) == ("us@er", "p/w@d")
    assert url.query == {"db": "3", "empty": "", "name": "a b"}
    assert parse("redis://:only@h").password == "only"
    assert parse("redis://h").password is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no backend URL"),
        ("localhost:6379", "no backend URL"),
        ("://x", "no backend URL"),
        ("redis:/localhost", "no backend URL"),
        ("redis://h:port/0", "'port' is no port"),
        ("redis://h:0", "no port"),
        ("redis://h:70000", "no port"),
        ("redis://h:", "no port"),
        ("redis://h:٣", "no port"),
        ("zookeeper://a,,c", "host is missing"),
        ("redis://:6379", "host is missing"),
        ("redis://[::1", "malformed"),
        (f"redis://:{SECRET}/x@h/0", "%2F"),
    ],
)
def test_mistakes_are_named_when_the_url_is_read(text: str, says: str) -> None:
    with pytest.raises(Misuse) as caught:
        parse(text)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", [None, 7, b"redis://h", object()])
def test_what_is_no_text_is_no_url(given: object) -> None:
    with pytest.raises(Misuse, match=type(given).__name__):
        parse(given)  # type: ignore[arg-type]  # untyped callers do this


@pytest.mark.parametrize(
    "text",
    [
        f"redis://user:{SECRET}@h:6379/0",
        f"redis://:{SECRET}@h",
        f"redis://user:{SECRET}%2F@h/0",
        f"redis://u:pre@{SECRET}@h/0",
        f"redis://u:{SECRET}/1@h/0",
        f"postgresql+psycopg://u:{SECRET}@h/db",
        f"https://switches:8000/?token={SECRET}&x=1",
        f"mysql+pymysql://h/db?ssl=1&password={SECRET}",
        f"redis://h/0?PASSWORD={SECRET}",
        f"redis://h/0?my_api_key={SECRET}#frag",
        f"connecting to redis://u:{SECRET}@h failed, then redis://u:{SECRET}@g as well",
    ],
)
def test_no_secret_survives_masking(text: str) -> None:
    masked = mask(text)
    assert SECRET not in masked
    assert "***" in masked
    assert mask(masked) == masked


@pytest.mark.parametrize("text", ["redis://user@h/0", "redis://h:6379/0?db=1", "mail a@b.example", "12:30 @ noon", ""])
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert mask(text) == text


def test_a_url_shows_itself_masked_everywhere() -> None:
    url = parse(f"redis://user:{SECRET}@h:6379/0?password={SECRET}")
    for shown in (str(url), repr(url), f"{url}", f"{url!r}", repr([url]), repr({"url": url})):
        assert SECRET not in shown
        assert "***" in shown
    with pytest.raises(AttributeError) as caught:
        url.scheme = "x"  # type: ignore[misc]  # frozen
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_url_is_a_value() -> None:
    one, other = parse("redis://h/0"), parse("redis://h/0")
    assert one == other
    assert pickle.loads(pickle.dumps(one)) == one
    assert parse("redis://h/1") != one


def test_an_unknown_scheme_is_told_which_there_are() -> None:
    url = parse(f"rediz://u:{SECRET}@h/0")
    with pytest.raises(Misuse) as caught:
        choose(url, {"redis": 1, "memory": 2}, what="lock")
    text = str(caught.value)
    assert "no lock backend for 'rediz'" in text
    assert "memory://, redis://" in text
    assert SECRET not in text
    assert choose(parse("redis://h"), {"redis": 1}, what="lock") == 1


def test_a_missing_extra_names_the_install_that_mends_it() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'backstay\[zookeeper\]'") as caught:
        require("no_such_module_anywhere", "zookeeper")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_missing_submodule_of_a_missing_package_is_a_missing_extra() -> None:
    with pytest.raises(MissingExtra):
        require("no_such_package.deep.down", "redis")


def test_an_installed_package_that_is_broken_says_so_itself(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_driver.py").write_text("import a_dependency_that_is_gone\n")  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_dependency_that_is_gone") as caught:
        require("broken_driver", "redis")
    assert not isinstance(caught.value, MissingExtra)


def test_require_returns_the_module() -> None:
    import json

    assert require("json", "none") is json


def test_url_hides_password_and_raw_from_the_generated_repr_too() -> None:
    assert "password" not in repr(Url(scheme="redis", raw="redis://h", password=SECRET))
