"""The search page, used as a person would."""

import io
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from tests.browser import looking
from tests.inference.one_matrix import WEIGHT, document, write_onnx

from cmemd.cli.main import main
from cmemd.inference.model_folder import write_model_document
from cmemd.server.app import create_app
from cmemd.server.metrics import Metrics
from cmemd.server.resident import Resident
from cmemd.server.settings import Settings

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>"
TOKEN = "t" * 32


@pytest.fixture(scope="module")
def made(datasets, tmp_path_factory):
    """A model and a gallery of drawn people, some with names that would be HTML."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "model").mkdir()
    (folder / "model/weights.safetensors").write_bytes(WEIGHT.tobytes())
    write_onnx(folder / "model/model.onnx")
    write_model_document(folder / "model", document())
    images = sorted(datasets.glob("SYSU-MM01/cam[12]/*/*.jpg"))[:24]
    lines = ["path,identity,camera,time"] + [
        f"{path},{EVIL if n == 0 else path.parent.name},{path.parts[-3]},2024-05-01T{n:02d}:30Z"
        for n, path in enumerate(images)
    ]
    (folder / "list.csv").write_text("\n".join(lines))
    words = ["--images", folder / "list.csv", "--gallery", folder / "g", "--modality", "visible"]
    assert main(["embed", "--model", str(folder / "model"), *map(str, words)]) == 0
    return folder


@pytest.fixture(scope="module")
def query(datasets):
    return next(datasets.glob("SYSU-MM01/cam3/*/*.jpg"))


def until(look, true, arg=None):
    """Wait until a script's expression holds; Playwright's own wait needs a looser policy."""
    end = time.monotonic() + 20
    while not look.page.evaluate(true, arg):
        assert time.monotonic() < end, true
        time.sleep(0.05)


@contextmanager
def served(made, **settings):
    """Run a server on a copy of the gallery; yields its address."""
    settings = Settings(**{"rate": 1000, **settings})
    with (
        tempfile.TemporaryDirectory() as folder,
        Resident(
            made / "model", shutil.copytree(made / "g", f"{folder}/g"), settings, Metrics()
        ) as resident,
    ):
        config = uvicorn.Config(create_app(resident), port=0, log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def page(made, datasets):
    with served(made, images_roots=(Path(datasets).resolve(),)) as url:
        yield url


def ask(look, query, modality="thermal"):
    look.page.set_default_timeout(10_000)
    look.page.set_input_files("#file", query)
    look.page.check(f"[value={modality}]", force=True)
    cards(look)


def cards(look):
    until(look, "/match|fits|xpected/.test(document.getElementById('status').textContent)")
    look.page.wait_for_load_state("networkidle")
    return look.page.locator(".card")


def said(look):
    return look.page.inner_text("#status")


def test_the_page_in_every_width_and_scheme(browser, page, query):
    for width, scheme in looking.LOOKS:
        with looking.open_page(browser, page, width=width, scheme=scheme) as look:
            look.page.wait_for_load_state("networkidle")
            looking.screenshot(look, "search-empty")
            assert looking.accessibility_faults(look) == [], (width, scheme)
            ask(look, query)
            assert look.page.locator(".card").count() == 12
            until(look, "document.querySelectorAll('.card img:not([hidden])').length == 12")
            for number in (0, 3):
                mark = look.page.locator(".marks button").nth(number)
                if mark.get_attribute("aria-pressed") == "false":
                    mark.click()
            until(look, "document.querySelectorAll('[aria-pressed=true]').length == 2")
            scores = [float(text) for text in look.page.locator(".score b").all_inner_texts()]
            look.page.fill("[name=threshold]", str((scores[4] + scores[5]) / 2))
            look.page.locator("[name=threshold]").blur()
            until(look, "document.querySelectorAll('#matches .card').length == 5")
            look.page.wait_for_load_state("networkidle")
            until(look, "document.querySelectorAll('.card img:not([hidden])').length == 12")
            looking.screenshot(look, "search-matches")
            assert looking.accessibility_faults(look) == [], (width, scheme)
            assert looking.sideways(look) == 0, (width, scheme)
            assert look.errors == [], (width, scheme)
            assert all(url.startswith((page, "blob:")) for url in look.requested)
            look.page.locator(".picture").first.click()
            looking.screenshot(look, "search-open", whole=False)
            assert looking.accessibility_faults(look) == [], (width, scheme)
        with looking.open_page(browser, f"{page}/docs", width=width, scheme=scheme) as look:
            looking.screenshot(look, "search-interface")
            assert looking.accessibility_faults(look) == [], (width, scheme)
            assert looking.sideways(look) == 0, (width, scheme)
            assert look.errors == [], (width, scheme)


def test_the_modality_is_never_guessed(browser, page, query):
    with looking.open_page(browser, page) as look:
        look.page.set_input_files("#file", query)
        look.page.locator("#search").click()
        assert said(look) == "Say how the image was taken: thermal or visible."
        assert not any("/v1/search" in url for url in look.requested)
        ask(look, query)
        assert any("/v1/search" in url for url in look.requested)


def test_filter_no_match_and_warning(browser, page, query, datasets):
    with looking.open_page(browser, page) as look:
        ask(look, query)
        look.page.select_option("[name=camera]", "cam2")
        until(look, "![...document.querySelectorAll('dd')].some(e => e.textContent == 'cam1')")
        assert cards(look).count()
        look.page.select_option("[name=camera]", "")
        look.page.fill("[name=threshold]", "1")
        look.page.locator("[name=threshold]").blur()
        look.page.wait_for_selector("#nomatch:visible")
        assert look.page.locator("#matches .card").count() == 0
        assert look.page.locator("#below .card").count() == 12
        looking.screenshot(look, "search-no-match")
        look.page.fill("[name=threshold]", "")
        look.page.fill("[name=since]", "2030-01-01T00:00")
        look.page.locator("[name=since]").blur()
        until(look, "document.getElementById('status').textContent == 'No image fits the filter.'")
        look.page.fill("[name=since]", "")
        ask(look, next(datasets.glob("SYSU-MM01/cam1/*/*.jpg")))
        look.page.wait_for_selector("#warning:visible")
        assert look.errors == []


def test_names_are_text(browser, page, query):
    with looking.open_page(browser, page) as look:
        ask(look, query)
        look.page.fill("[name=top]", "100")
        look.page.locator("[name=top]").blur()
        until(look, "document.querySelectorAll('.card').length == 24")
        assert EVIL in look.page.locator("dd").all_inner_texts()
        assert look.page.locator("dd img").count() == 0
        assert look.errors == []


def test_marks_stay(browser, page, query):
    with looking.open_page(browser, page) as look:
        ask(look, query)
        right, wrong = look.page.locator(".card").nth(7).locator(".marks button").all()
        for pressed, states in ((right, "tf"), (wrong, "ft"), (wrong, "ff"), (right, "tf")):
            pressed.click()
            until(
                look,
                "want => [...document.querySelectorAll('.card:nth-child(8) .marks button')]"
                ".map(e => e.getAttribute('aria-pressed')[0]).join('') == want",
                arg=states,
            )
    with looking.open_page(browser, page) as look:
        ask(look, query)
        mark = look.page.locator(".card").nth(7).locator(".marks button").first
        assert mark.get_attribute("aria-pressed") == "true"
        with look.page.expect_download() as download:
            look.page.get_by_role("button", name="probes.npz").click()
        assert np.load(download.value.path())["identity"].shape == (1,)


def test_wrong_and_large_files_are_told(browser, made, query, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    deep = io.BytesIO()
    Image.fromarray(np.zeros((64, 32), np.uint16)).save(deep, "PNG")
    (tmp_path / "deep.png").write_bytes(deep.getvalue())
    with served(made, most_bytes=500_000) as url, looking.open_page(browser, url) as look:
        look.page.wait_for_load_state("networkidle")
        look.page.check("[value=thermal]", force=True)
        for name, words in (
            ("text.jpg", "Expected an image in the upload"),
            ("large.png", "at most 0.5 MB, got 1.1 MB"),
            ("deep.png", "8 bits a channel"),
        ):
            look.page.set_input_files("#file", tmp_path / name)
            until(
                look,
                "words => document.getElementById('status').textContent.includes(words)",
                arg=words,
            )
            assert look.page.locator(".card").count() == 0, name
        looking.screenshot(look, "search-wrong-file")
        assert looking.accessibility_faults(look) == []
        ask(look, query)
        look.page.wait_for_selector(".card")
        assert look.page.locator(".card img:visible").count() == 0  # no folder is allowed


def test_the_keyboard_is_enough(browser, page, query):
    with looking.open_page(browser, page, width=1600) as look:
        stops = looking.tab_stops(look)
        for name in (
            "input#file",
            "input Thermal",
            "button#search Search",
            "select",
            "a Interface",
        ):
            assert any(stop.startswith(name.split(" ")[0]) for stop in stops), (name, stops)
        look.page.set_input_files("#file", query)
        look.page.focus("#file")
        look.page.keyboard.press("Tab")
        look.page.keyboard.press("Space")  # thermal
        look.page.keyboard.press("Tab")
        look.page.keyboard.press("Enter")
        cards(look)
        look.page.wait_for_selector(".card img:visible")
        for _ in range(40):
            look.page.keyboard.press("Tab")
            if look.page.evaluate("document.activeElement.className") == "picture":
                break
        look.page.keyboard.press("Enter")
        assert look.page.locator("#viewer").is_visible()
        look.page.keyboard.press("Escape")
        assert not look.page.locator("#viewer").is_visible()
        assert look.page.evaluate("document.activeElement.className") == "picture"
        look.page.keyboard.press("Tab")
        look.page.keyboard.press("Space")
        until(look, "document.activeElement.getAttribute('aria-pressed') == 'true'")
        look.page.keyboard.press("Space")


def test_the_token_is_asked_for_once(browser, made, query):
    with served(made, token=TOKEN) as url, looking.open_page(browser, url) as look:
        look.page.wait_for_selector("#login:visible")
        looking.screenshot(look, "search-token", whole=False)
        assert looking.accessibility_faults(look) == []
        for token, open_ in (("wrong", True), (TOKEN, False)):
            look.page.fill("#token", token)
            look.page.keyboard.press("Enter")
            until(look, "open => document.getElementById('login').open == open", arg=open_)
            if open_:
                until(look, "document.getElementById('refused').textContent")
        ask(look, query)
        look.page.wait_for_selector(".card")
