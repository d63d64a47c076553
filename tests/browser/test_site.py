"""The documentation site in Chromium: opened from disk, in both widths and colour schemes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.browser import looking
from tests.conftest import REPOSITORY

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(looking.missing()), reason=str(looking.missing())),
]
pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages() -> list[str]:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    return re.findall(r": (\S+)\.md$", navigation, re.MULTILINE)


@pytest.mark.parametrize(("width", "scheme"), looking.LOOKS)
def test_each_page_loads_from_disk_without_errors_and_is_accessible(site, browser, width, scheme):
    for name in pages():
        with looking.open_page(browser, site / f"{name}.html", width=width, scheme=scheme) as look:
            look.page.wait_for_selector(".md-typeset h1")
            looking.screenshot(look, f"site {name}", whole=False)
            assert not look.errors, (name, look.errors)
            assert looking.sideways(look) == 0, name
            assert not [url for url in look.requested if not url.startswith(("file:", "data:"))]
            assert not looking.accessibility_faults(look), name


def test_the_search_finds_a_page_without_a_network(site, browser):
    with looking.open_page(browser, site / "index.html") as look:
        look.page.keyboard.press("f")
        look.page.keyboard.type("hetero-centre")
        found = look.page.locator(".md-search-result__item a").first
        found.wait_for(timeout=20_000)
        assert not look.errors
        assert "html" in found.get_attribute("href")
