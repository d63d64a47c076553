"""The page of a run, looked at as a reader would."""

import pytest
from tests.browser.looking import (
    LOOKS,
    accessibility_faults,
    open_page,
    screenshot,
    sideways,
    tab_stops,
)
from tests.report.conftest import finished_run  # noqa: F401  a fixture

from cmemd.report.page import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(finished_run, tmp_path_factory):  # noqa: F811
    return write_report(finished_run, tmp_path_factory.mktemp("report"))


def test_the_page_is_whole_in_every_width_and_colour_scheme(browser, report):
    for width, scheme in LOOKS:
        case = width, scheme
        with open_page(browser, report, width=width, scheme=scheme) as look:
            screenshot(look, "report")
            assert look.errors == [], case
            assert [u for u in look.requested if not u.startswith(("file:", "data:"))] == [], case
            assert accessibility_faults(look) == [], case
            assert sideways(look) == 0, case
            assert look.page.locator("section").count() == 10, case
            assert look.page.locator("img").evaluate_all("e => e.every(i => i.naturalWidth)"), case


def test_the_keyboard_reaches_every_section(browser, report):
    with open_page(browser, report) as look:
        stops = tab_stops(look)
        assert stops[0].startswith("a Skip")
        links = look.page.locator("nav a").all_inner_texts()
        assert [s for s in stops if s.startswith("a ")][1 : len(links) + 1] == [
            f"a {link[:40]}" for link in links
        ]
        assert any(stop.startswith("summary") for stop in stops)
        assert not [stop for stop in stops if "no visible focus" in stop]
