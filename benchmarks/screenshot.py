"""A picture of a report as a browser shows it: `python benchmarks/screenshot.py runs/digits/report.html report.png`."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HEIGHT = 960  # where a report of one recipe has its table and its first curves


def main(report, picture):
    """Open a report and save what a reader sees first."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("no chromium, chromium-browser or google-chrome on the PATH; see `make browser`")
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chrome.new_page(viewport={"width": 1280, "height": HEIGHT})
        page.goto(Path(report).resolve().as_uri())
        page.locator("#charts .js-plotly-plot").first.wait_for()
        page.wait_for_timeout(1000)
        page.screenshot(path=picture)
        chrome.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
