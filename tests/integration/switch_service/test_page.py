"""The page of the switch service in a real Chromium, against the service as operators start it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from integration.resilience.switch_replicas import SCOPE, Replica, free_port
from integration.switch_service.chromium import PATIENCE, Site, log_in, until

TESTS = Path(__file__).resolve().parents[2]
expect.set_options(timeout=PATIENCE)


def turn(page: Page, name: str, reason: str) -> None:
    page.locator(f"[data-switch='{name}'] .toggle").click()
    page.get_by_label("Why").fill(reason)
    page.locator("dialog button[type=submit]").click()


@contextmanager
def shop(site: Site) -> Iterator[str]:
    port = free_port()
    place = f"http://:{site.replica.token}@127.0.0.1:{site.replica.port}/{SCOPE}"
    command = [sys.executable, "-m", "uvicorn", "integration.switch_service.example_shop:app", "--port", str(port)]
    environment = {**os.environ, "SWITCHES": place, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    process = subprocess.Popen([*command, "--log-level", "warning"], env=environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def recommended(url: str) -> list[str] | None:
    try:
        found: list[str] = httpx.get(url).json()["recommended"]
    except httpx.TransportError:
        return None
    return found


def test_a_flip_reaches_an_application_in_less_than_a_second_and_is_rolled_back(site: Site) -> None:
    site.patch(0, {"name": "recommendations", "value": True})
    page = site.page()
    with shop(site) as url:
        until(lambda: recommended(url) == ["tea"])
        expect(page.locator("#running")).to_contain_text("1 of 1 instances run it")
        turn(page, "recommendations", "tea is out")
        expect(page.locator("#told")).to_contain_text("version 2")
        until(lambda: recommended(url) == [])
        page.goto(f"{site.replica.url}/#instances")
        row = page.locator("[data-instance]")
        expect(row.locator("[data-label=Version]")).to_have_text("2")
        listed = site.operator.client.get(f"/v1/instances/{SCOPE}").json()["instances"]
        assert [each["version"] for each in listed] == [2]
        assert 0 <= listed[0]["delay_s"] < 1.0  # from the write to its effect, by one clock

        page.goto(f"{site.replica.url}/#history")
        page.locator("[data-version='2']").get_by_text("tea is out", exact=True).wait_for()
        page.get_by_role("button", name="Go back to version 1").click()
        page.get_by_label("Why").fill("tea is back")
        page.locator("dialog button[type=submit]").click()
        expect(page.locator("[data-version='3']")).to_contain_text("back to version 1: tea is back")
        until(lambda: recommended(url) == ["tea"])


def test_a_reason_is_needed_and_who_why_and_the_end_are_shown(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    page = site.page(token=site.token("anna"))
    page.locator("[data-switch=search] .toggle").click()
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("dialog .wrong")).to_contain_text("Say why")
    expect(page.get_by_label("Why")).to_be_focused()
    page.get_by_label("Why").fill("the index is rebuilt")
    page.get_by_label("How long").select_option("60")
    page.locator("dialog button[type=submit]").click()
    card = page.locator("[data-switch=search]")
    expect(card.locator(".toggle")).to_have_attribute("aria-checked", "false")
    for text in ("the index is rebuilt", "anna", "59 min left"):
        expect(card).to_contain_text(text)


def test_a_switch_whose_time_has_passed_says_so_by_itself(site: Site) -> None:
    end = datetime.now(UTC) + timedelta(seconds=4)
    site.patch(0, {"name": "search", "value": False}, until=end.isoformat())
    card = site.page().locator("[data-switch=search]")
    expect(card).to_contain_text("services use the default in their code")
    expect(card.locator(".why")).to_contain_text("ran out")


def test_a_conflict_shows_what_others_changed_and_a_second_try_works(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    page = site.page()
    page.locator("[data-switch=search] .toggle").click()
    page.get_by_label("Why").fill("mine")
    site.patch(1, {"name": "checkout", "value": False}, reason="somebody else's")
    page.locator("dialog button[type=submit]").click()
    wrong = page.locator("dialog .wrong")
    expect(wrong).to_contain_text("meanwhile there is version 2")
    expect(wrong).to_contain_text("somebody else's")
    expect(wrong).to_contain_text("switches › checkout")
    assert site.operator.read()["version"] == 2
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("[data-switch=search] .toggle")).to_have_attribute("aria-checked", "false")
    assert site.operator.read()["version"] == 3


def test_a_change_by_others_appears_by_push(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    page = site.page()
    for version, wanted in ((1, False), (2, True), (3, False)):
        site.patch(version, {"name": "search", "value": wanted})
        toggle = page.locator("[data-switch=search] .toggle")
        expect(toggle).to_have_attribute("aria-checked", str(wanted).lower(), timeout=4000)


def test_a_lost_connection_is_shown_and_comes_back_by_itself(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    page = site.page()
    old = site.replica
    old.kill()
    expect(page.locator("#link")).to_have_text("Connection lost", timeout=11_000)
    expect(page.locator("#alarm")).to_contain_text("may be old")
    site.replica = Replica(old.store, port=old.port)
    old.close()
    site.operator = site.replica.operator(old.token)
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("#alarm")).to_be_empty()
    site.patch(1, {"name": "search", "value": False})
    expect(page.locator("[data-switch=search] .toggle")).to_have_attribute("aria-checked", "false")


@pytest.mark.parametrize("evil", ["<img src=x onerror=alert(1)>", "\"><script>alert(1)</script><b id='x'>"])
def test_no_script_gets_in_by_any_field(site: Site, evil: str) -> None:
    site.operator = site.replica.operator(site.token(evil))
    variants = {"variants": {evil: evil, "b": "javascript:alert(1)"}, "default": evil, "split": {"b": 10}}
    version = site.patch(
        0,
        {"name": "search", "value": variants},
        {"section": "levels", "name": evil, "value": {"pin": {"level": "severe", "until": "2099-01-01T00:00:00Z"}}},
        reason=evil,
    )
    site.beat(
        evil, version, state=evil[:20], levels={evil: evil[:20], "db": "severe"},
        signals={"db": {"cause": evil, evil: 0.5}},
    )  # fmt: skip
    page = site.page()
    seen = {"switches": "[data-switch]", "levels": "[data-resource='db']", "instances": "[data-instance]",
            "history": "[data-version]", "audit": "tbody tr"}  # fmt: skip
    for view, selector in seen.items():
        page.goto(f"{site.replica.url}/#{view}")
        page.locator(selector).first.wait_for()
        for details in page.locator("details").all():
            details.locator("summary").click()
        assert evil in (page.locator("main").text_content() or "")
        assert page.locator("main img, main script, main #x, main [onerror], main a").count() == 0
    page.goto(f"{site.replica.url}/#switches")
    turn(page, "search", evil)
    expect(page.locator("[data-switch=search] .why")).to_have_text(evil)


def test_csp_refuses_scripts_inside_the_page(site: Site) -> None:
    page = site.page(token="none")
    page.get_by_label("Token").wait_for()
    assert page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return 'made'; } catch (e) { return e.name; } }"
    ) == "TypeError"  # fmt: skip
    site.problems.clear()  # the browser reports the attempt
    policy = httpx.get(site.replica.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_a_wrong_token_is_refused_and_logging_out_ends_the_session(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    page = site.page(token="none")
    log_in(page, "bst_wrong_wrong")
    expect(page.locator(".wrong")).to_contain_text("Not logged in")
    log_in(page, site.replica.token)
    page.locator("[data-switch=search]").wait_for()
    page.reload()
    page.locator("[data-switch=search]").wait_for()  # the session is kept by its cookie
    assert page.evaluate("document.cookie + localStorage.length + sessionStorage.length") == "00"
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Token").wait_for()
    page.reload()
    page.get_by_label("Token").wait_for()


def test_a_reader_sees_and_cannot_turn(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    page = site.page(token=site.token("carl", "reader"))
    expect(page.locator("[data-switch=search] .toggle")).to_be_disabled()
    assert page.get_by_role("button", name="Change search").count() == 0


def test_everything_goes_by_keyboard(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    page = site.page(token="none")
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(site.replica.token)
    page.keyboard.press("Enter")
    toggle = page.locator("[data-switch=search] .toggle")
    toggle.wait_for()
    page.reload()  # the focus is at the beginning again
    toggle.wait_for()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(toggle).to_be_focused()
    assert toggle.evaluate("each => getComputedStyle(each).outlineStyle") != "none"
    page.keyboard.press("Space")
    expect(page.get_by_label("Why")).to_be_focused()
    page.keyboard.type("by keyboard")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.locator("dialog button[type=submit]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(toggle).to_have_attribute("aria-checked", "false")
    expect(toggle).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(toggle).to_be_focused()


def test_variants_percentages_new_switches_and_pins_are_made_by_hand(site: Site) -> None:
    sizes = {"variants": {"small": 20, "large": 100}, "default": "small", "split": {"large": 10}}
    site.patch(0, {"name": "size", "value": sizes}, {"name": "search", "value": True})
    page = site.page()
    page.get_by_role("button", name="Change size").click()
    page.get_by_label("large, percent").fill("40")
    page.get_by_label("Why").fill("more")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("[data-switch=size]")).to_contain_text("60 %")
    page.get_by_role("button", name="Change search").click()
    page.get_by_label("Percent of keys").fill("25")
    page.get_by_label("Why").fill("some")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("[data-switch=search] .state")).to_have_text("On 25 %")
    page.get_by_role("button", name="Add a switch").click()
    page.get_by_label("Name").fill("gifts")
    page.get_by_label("Why").fill("Christmas")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("[data-switch=gifts] .state")).to_have_text("On")
    page.goto(f"{site.replica.url}/#levels")
    page.get_by_role("button", name="Pin a level").click()
    page.get_by_label("Resource").fill("database")
    page.get_by_label("Why").fill("it is on fire")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("[data-resource=database]")).to_contain_text("Pinned by hand to severe")
    items = site.operator.read()["items"]
    assert items["switches"]["size"]["split"] == {"large": 40}
    assert items["switches"]["search"]["percentage"] == 25
    assert items["switches"]["gifts"]["reason"] == "Christmas"
    assert items["levels"]["database"]["pin"]["level"] == "severe"
    page.get_by_role("button", name="Let the level of database go").click()
    page.get_by_label("Why").fill("out")
    page.locator("dialog button[type=submit]").click()
    page.get_by_text("none is set by hand").wait_for()
    assert "levels" not in site.operator.read()["items"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_views_without_scrolling_sideways_and_readably(site: Site, scheme: str) -> None:
    version = site.patch(
        0, {"name": "a" * 90, "value": False}, {"name": "search", "value": True}, reason="because " + "x" * 200
    )
    site.beat("host-" + "y" * 100, version, levels={"database": "severe"}, signals={"database": {"errors": 0.5}})
    page = site.page(width=360, height=740, scheme="dark" if scheme == "dark" else "light")
    for view in ("switches", "levels", "instances", "history", "audit"):
        page.goto(f"{site.replica.url}/#{view}")
        page.locator(f"nav a[aria-current][href='#{view}']").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
        assert page.evaluate(CONTRAST) == [], view
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(16, 20, 26)") == (scheme == "dark")


CONTRAST = """() => {
  const parts = (text) => (text.match(/[0-9.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((n) => n / 255).map((n) => (n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4))
    .reduce((sum, n, i) => sum + n * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (each) => { for (; each; each = each.parentElement) { const c = parts(getComputedStyle(each).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const poor = [];
  for (const each of document.querySelectorAll("header *, main *")) {
    if (each.closest("svg") || ![...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(parts(getComputedStyle(each).color)), light(behind(each))].sort();
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5 && !each.closest(":disabled")) poor.push(each.outerHTML.slice(0, 200));
  }
  return poor;
}"""  # noqa: E501  # a script for the browser


def test_what_holds_the_page_is_found_by_assistive_technology(site: Site) -> None:
    site.patch(0, {"name": "search", "value": True})
    site.beat("web", 1, levels={"db": "severe"}, signals={"db": {"errors": 0.5}})
    page = site.page()
    page.locator("[data-switch=search] .toggle").click()
    fields = "input, select, textarea"
    unnamed = (
        "(all) => [...document.querySelector('dialog').querySelectorAll(all)].filter((e) => !e.labels.length).length"
    )
    page.get_by_role("dialog", name="Turn off search").wait_for()
    assert page.evaluate(unnamed, fields) == 0
    page.keyboard.press("Escape")
    page.get_by_role("switch", name="search: On. Turn off").wait_for()
    assert page.locator("#told[aria-live=polite]").count() == page.locator("#alarm[aria-live=assertive]").count() == 1
    page.goto(f"{site.replica.url}/#levels")
    plot = page.get_by_role("img", name="Level of db over the time shown; now severe")
    plot.wait_for()
    assert plot.locator("circle").count() >= 1


def test_the_page_is_small_and_quick(site: Site) -> None:
    site.patch(0, *({"name": f"switch-{number}", "value": True} for number in range(300)))
    page = site.page()
    began = time.monotonic()
    turn(page, "switch-150", "one of many")
    expect(page.locator("[data-switch=switch-150] .toggle")).to_have_attribute("aria-checked", "false")
    assert time.monotonic() - began < 10.0
