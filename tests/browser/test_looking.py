"""The helper itself: it sees what it says that it sees."""

import pytest
from tests.browser import looking

pytestmark = pytest.mark.browser

GOOD = """<!doctype html><html lang=en><title>Good</title><main><h1>Good</h1>
<a href="#end">On</a> <button id=b>Press</button><p id=end>End</p></main>"""


def write(tmp_path, text):
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_page_has_no_finding(browser, tmp_path):
    for width, scheme in looking.LOOKS:
        with looking.open_page(browser, write(tmp_path, GOOD), width=width, scheme=scheme) as look:
            assert look.errors == [], (width, scheme)
            assert looking.accessibility_faults(look) == [], (width, scheme)
            assert looking.sideways(look) == 0, (width, scheme)


def test_script_errors_and_failed_loads_are_seen(browser, tmp_path):
    for text, seen in (
        ("<script>throw new Error('broken')</script>", "script: "),
        ("<script>console.error('said')</script>", "console: said"),
        ("<img alt='' src='missing.png'>", "failed load: "),
    ):
        with looking.open_page(browser, write(tmp_path, GOOD + text)) as look:
            assert any(line.startswith(seen) for line in look.errors), text


def test_serious_findings_and_wide_pages_are_seen(browser, tmp_path):
    bad = write(tmp_path, GOOD + "<img src='data:,'><div style='width:2000px'>wide</div>")
    with looking.open_page(browser, bad, width=400) as look:
        assert any("image-alt" in line for line in looking.accessibility_faults(look))
        assert looking.sideways(look) > 1000


def test_the_keyboard_reaches_links_and_buttons_once(browser, tmp_path):
    with looking.open_page(browser, write(tmp_path, GOOD)) as look:
        assert looking.tab_stops(look) == ["a On", "button#b Press"]


def test_a_screenshot_is_named_by_width_and_scheme(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "SCREENSHOTS", tmp_path / "shots")
    with looking.open_page(browser, write(tmp_path, GOOD), width=400, scheme="dark") as look:
        path = looking.screenshot(look, "a good page")
    assert path.name == "a-good-page-400-dark.png"
    assert path.read_bytes().startswith(b"\x89PNG")
