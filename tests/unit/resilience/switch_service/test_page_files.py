"""The files of the page: small, all there, nothing inside them that a strict policy would refuse."""

from __future__ import annotations

import re

from backstay.resilience.switch_service.page import files

FILES = files()
SCRIPTS = {path: body.decode() for path, (kind, body) in FILES.items() if kind.startswith("text/javascript")}
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc")


def test_the_page_takes_less_than_200_kilobytes() -> None:
    assert 20_000 < sum(len(body) for _, body in FILES.values()) < 200_000


def test_no_script_makes_markup_of_texts() -> None:
    assert {path: MARKUP.findall(text) for path, text in SCRIPTS.items() if MARKUP.search(text)} == {}


def test_no_script_sets_an_address_or_a_style_from_data() -> None:
    assert [path for path, text in SCRIPTS.items() if re.search(r"\bsrc:|\bstyle:|cssText|javascript:", text)] == []


def test_nothing_is_inside_the_html_or_comes_from_elsewhere() -> None:
    html = FILES["index.html"][1].decode()
    assert re.findall(r"<script(?![^>]* src=)[^>]*>|<style|\son\w+=|\sstyle=", html) == []
    loaded = re.findall(r'(?:src|href)="/([^"]+)"', html)
    assert loaded
    assert set(loaded) <= set(FILES)
    addresses = re.compile(rb"https?://(?!www\.w3\.org/2000/svg)")
    assert [path for path, (_, body) in FILES.items() if addresses.search(body)] == []


def test_every_module_that_is_imported_is_there_with_the_names_that_are_imported() -> None:
    seen = 0
    for path, text in SCRIPTS.items():
        for names, module in re.findall(r'import \{([^}]*)\} from "\./([^"]+)"', text):
            there = SCRIPTS[f"assets/{module}"]
            for name in (each.split(" as ")[0].strip() for each in names.split(",")):
                assert re.search(rf"export (async )?(function|const|class) {name}\b", there), f"{path}: {name}"
                assert len(re.findall(rf"\b{name}\b", text)) >= 2 or " as " in names, f"{path}: {name} is not used"
                seen += 1
    assert seen > 30


def test_every_file_has_the_type_that_browsers_ask_for() -> None:
    wanted = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert {path for path, (kind, _) in FILES.items() if not kind.startswith(wanted[path.rpartition(".")[2]])} == set()
