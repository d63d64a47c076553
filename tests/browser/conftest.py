"""The browser that all tests of pages share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.browser.looking import chromium, missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium; tests are skipped with the reason where it cannot run."""
    if lacking := missing():
        pytest.skip(f"pages cannot be looked at here: {lacking}")
    with chromium() as running:
        yield running
