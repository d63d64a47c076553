"""Open a page in Chromium: errors, axe-core, keyboard and screenshots.

Every page that this project shows is looked at through these functions.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = [
    "LOOKS",
    "WIDTHS",
    "Look",
    "accessibility_faults",
    "chromium",
    "missing",
    "open_page",
    "screenshot",
    "sideways",
    "tab_stops",
]

SCHEMES = ("light", "dark")
WIDTHS = (400, 1600)  # pixels: a telephone and a desk
LOOKS = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
SCREENSHOTS = Path(os.getenv("CMEMD_SCREENSHOTS", "logs/screenshots"))

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SERIOUS = ("serious", "critical")


@dataclass
class Look:
    """A page in the browser, and what went wrong in it so far.

    Attributes:
        page: Playwright's page.
        errors: script errors, messages of the console at level "error", loads that failed, and
            answers of status 400 and above; a test that provokes one clears the list.
        requested: every address that the page asked for, in order.
    """

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


def missing() -> str | None:
    """Return what a browser test lacks on this machine; None where it has everything."""
    try:
        import axe_playwright_python  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed (pip install -e '.[browser]')"
    return None if _executable() else "no Chromium (apt-get install chromium)"


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Run Debian's Chromium without a window; see ``missing`` first."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_executable(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: "Browser",
    place: Path | str,
    *,
    width: int = 1600,
    scheme: str = "light",
    headers: Mapping[str, str] | None = None,
) -> Iterator[Look]:
    """Open a file or a URL in a browser context of its own, and wait until it has loaded.

    Args:
        browser: of ``chromium``.
        place: a file's path, or a URL.
        width: of the window, in pixels.
        scheme: "light" or "dark", what ``prefers-color-scheme`` says.
        headers: sent with every request, such as a token.
    """
    url = place if "://" in str(place) else Path(place).resolve().as_uri()
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
        extra_http_headers=dict(headers or {}),
    )
    try:
        page = context.new_page()
        look = Look(page)
        page.on("pageerror", lambda error: look.errors.append(f"script: {error}"))
        page.on(
            "console",
            lambda told: told.type == "error" and look.errors.append(f"console: {told.text}"),
        )
        page.on(
            "requestfailed", lambda request: look.errors.append(f"failed load: {request.url[:200]}")
        )
        page.on("request", lambda request: look.requested.append(request.url))
        page.on(
            "response",
            lambda answer: (
                answer.status >= 400
                and look.errors.append(f"status {answer.status}: {answer.url[:200]}")
            ),
        )
        page.goto(str(url), wait_until="load")
        yield look
    finally:
        context.close()


def accessibility_faults(look: Look) -> list[str]:
    """Return axe-core's serious and critical findings, a line each; an empty list is good."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(look.page).response["violations"]
    return [
        f"{fault['impact']} {fault['id']}: {fault['help']}; {node['target']} {node['html'][:160]}"
        for fault in found
        if fault["impact"] in _SERIOUS
        for node in fault["nodes"][:3]
    ]


def sideways(look: Look) -> int:
    """Return by how many pixels the whole page scrolls sideways; 0 is good."""
    return look.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def tab_stops(look: Look, most: int = 200) -> list[str]:
    """Press Tab from the page's start; return each element that the focus reaches, once around.

    Returns:
        Tag, id and first words of each, such as ``a#toc Results``. An element without a visible
        mark of the focus is followed by `` (no visible focus)``.
    """
    look.page.evaluate("document.activeElement && document.activeElement.blur()")
    stops, seen = [], set()
    for _ in range(most):
        look.page.keyboard.press("Tab")
        stop = look.page.evaluate(
            """() => {
                const e = document.activeElement;
                if (!e || e === document.body) return null;
                window.cmemdStops = window.cmemdStops || new Map();
                if (!window.cmemdStops.has(e)) window.cmemdStops.set(e, window.cmemdStops.size);
                const s = getComputedStyle(e);
                const seen = (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0)
                    || s.boxShadow !== 'none';
                const words = (e.innerText || e.getAttribute('aria-label') || e.value || '');
                return [window.cmemdStops.get(e), e.tagName.toLowerCase()
                    + (e.id ? '#' + e.id : '') + ' ' + words.trim().slice(0, 40)
                    + (seen ? '' : ' (no visible focus)')];
            }"""
        )
        if stop is None or stop[0] in seen:
            break
        seen.add(stop[0])
        stops.append(stop[1])
    return stops


def screenshot(look: Look, name: str, *, whole: bool = True) -> Path:
    """Write a picture of the page to the folder of screenshots; return its path.

    ``CMEMD_SCREENSHOTS`` names the folder, by default ``logs/screenshots``.

    Args:
        look: the page.
        name: of the picture; width and colour scheme are added.
        whole: the whole page, or only what the window shows.
    """
    scheme = look.page.evaluate(
        "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
    )
    name = re.sub(r"[^\w-]+", "-", name)
    path = SCREENSHOTS / f"{name}-{look.page.viewport_size['width']}-{scheme}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    look.page.screenshot(path=str(path), full_page=whole)
    return path


def _executable() -> str | None:
    return next(filter(None, map(shutil.which, _BROWSERS)), None)
