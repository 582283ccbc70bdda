"""Screenshots of a report in Chromium, for the documents.

    python benchmarks/screenshot.py runs/digits/report.html docs/images

writes `report.png`, the table and the first curves, and `report-layers.png`, the layer explorer if there is telemetry.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 1480  # where a report of one recipe has its table and its first four curves


def main(report, folder):
    """Open a report; save its first screen and the layer explorer."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("no chromium, chromium-browser or google-chrome on the PATH; see `make browser`")
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chrome.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(Path(report).resolve().as_uri())
        page.locator("#charts .js-plotly-plot").nth(3).wait_for()
        page.screenshot(path=Path(folder) / "report.png")
        layers = page.locator("#layers")
        if layers.is_visible():
            page.add_style_tag(content=".chips { position: static !important }")
            page.locator("#figures label", has_text="Effective step").click()
            page.locator("#rows .name").nth(1).click()
            page.locator("#layer-charts .js-plotly-plot").nth(3).wait_for()
            layers.screenshot(path=Path(folder) / "report-layers.png")
        chrome.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
