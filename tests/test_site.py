"""The documentation as a site: what a reader finds, and that no request leaves the page."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from support.paths import ROOT
from tangential import SGDP, Blocks
from tangential.paper.toys import CIRCLE, run

REFERENCE = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
PUBLIC = ("tangential", "tangential.radial", "tangential.telemetry")
SEARCHES = {
    "huggingface": "trainers/",
    "trainer": "trainers/",
    "learning rate": "choosing/",
    "table 4": "#table-4-adversarial",
    "scale-invariant": "invariance/",
}
"""What a reader types, and a page that must be among the first answers."""


@pytest.mark.parametrize("room", PUBLIC)
def test_every_public_name_is_in_the_reference(room):
    module = importlib.import_module(room)
    known = {name.rsplit(".", 1)[-1] for name in REFERENCE}
    assert set(module.__all__) <= known


def test_every_name_of_the_reference_exists_once_and_has_a_docstring():
    assert len(set(REFERENCE)) == len(REFERENCE) > 30
    for name in REFERENCE:
        module, _, own = name.rpartition(".")
        assert (getattr(importlib.import_module(module), own).__doc__ or "").strip(), name


def test_the_gallery_is_what_was_found():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        gallery = importlib.import_module("gallery")
    finally:
        sys.path.pop(0)
    found = json.loads(gallery.FOUND.read_text())
    text = gallery.page(found)
    assert gallery.PAGE.read_text() == text
    assert text.count("\n| `") >= 100
    assert (
        "| `densenet121` | torchvision | 120 of 121: 120 channel |  | compare AdamP with AdamW, SGDP with SGD |" in text
    )
    assert "| `vit_tiny_patch16_224` | timm | none of 52 |  | keep AdamW |" in text


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_no_page_asks_for_anything_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*", page.read_text())
        foreign = [tag for tag in tags if re.search(r'(?:src|href)="?(?:https?:)?//', tag) and "canonical" not in tag]
        assert foreign == [], page


@pytest.fixture(scope="module")
def address(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_toy_search_mathematics_and_gallery_work_in_a_browser(address):
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    errors, asked = [], []
    with api.sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = chrome.new_page(viewport={"width": 390, "height": 900})
        tab.set_default_timeout(60_000)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("response", lambda answer: errors.append(answer.url) if answer.status >= 400 else None)
        tab.goto(address)
        check_toy(tab)
        tab.locator("label.md-header__button[for=__search]").click()
        for words, page in SEARCHES.items():
            check_search(tab, words, page)
        tab.goto(f"{address}algorithm/")
        tab.wait_for_selector("mjx-container")
        assert tab.evaluate("document.fonts.ready.then(() => [...document.fonts].some((f) => f.status === 'loaded'))")
        tab.goto(f"{address}gallery/#find=timm+resnet".replace("+", "%20"))
        tab.wait_for_selector("article tbody tr:not([hidden])")
        shown = tab.locator("article tbody tr:not([hidden])").all_inner_texts()
        assert shown and all("resnet" in text and "timm" in text for text in shown)
        chrome.close()
    assert errors == []
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)


def check_toy(tab):
    """The page's formulas are the Python toy's, and the sliders draw them."""
    for lr, momentum, decay in ((0.01, 0.9, 0.0), (0.03, 0.5, 0.02)):
        found = tab.evaluate("(settings) => toy.run(settings)", {"lr": lr, "momentum": momentum, "decay": decay})
        own = {"lr": lr, "momentum": momentum, "weight_decay": decay}
        makers = {"SGD": partial(torch.optim.SGD, **own), "SGDP": partial(SGDP, blocks=Blocks(), **own)}
        for name, make in makers.items():
            points = torch.tensor(found[name]["points"], dtype=torch.float64)
            torch.testing.assert_close(points, run(CIRCLE, make).points, rtol=1e-6, atol=1e-6)
    before = tab.locator(".toy-result").inner_text()
    tab.locator("#toy input[name=momentum]").fill("0.99")
    after = tab.locator(".toy-result").inner_text()
    assert "SGD ends with norm 2.93" in before and "SGD ends with norm 27.87" in after
    assert tab.locator("#toy polyline").count() == 6
    widths = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], "the page does not scroll sideways on a phone"


def check_search(tab, words, page):
    """The search shows a page among its first answers."""
    answers = "document.querySelector('.md-search-result__meta').textContent.includes('matching')"
    for text, condition in (("", f"!{answers}"), (words, answers)):
        tab.locator("input[name=query]").fill(text)
        tab.keyboard.press("End")  # the search listens to keys
        tab.wait_for_function(condition)
    links = tab.locator("a.md-search-result__link").evaluate_all("(all) => all.map((link) => link.href)")
    assert any(page in link for link in links[:5]), (words, links[:5])
