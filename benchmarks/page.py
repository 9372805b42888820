"""The page in Chromium: how many drawn digits it reads, and how soon.

python -m benchmarks.page [--shots]: with pictures of it for the README
"""

import argparse
import os
import re
import shutil
import statistics
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.handwriting import Stroke, written
from benchmarks.servers import ROOT, running, service
from service.web.ui import FOLDER

FLAGS = ("--disable-gpu", "--disable-background-networking", "--disable-sync")
DEBOUNCE = re.compile(r"const DEBOUNCE = (\d+);")  # ms
N_STROKES, STROKE = 40, [[(0.5, 0.2), (0.5, 0.8)]]
PATIENCE = 3_000  # ms for the right answer to come
HEED_A_CLICK = """() => {
  heard = false;
  addEventListener("click", () => { heard = true; }, { capture: true, once: true });
}"""
SHOTS = {"light": (1280, 1000), "dark": (360, 740)}


def chromium() -> dict[str, Any]:
    """Tell Playwright how to launch this machine's Chromium; nothing if it has none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    # its sandbox does not run as root
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return {"executable_path": program, "args": flags} if program else {}


def draw(page: Page, strokes: list[Stroke]) -> None:
    """Draw strokes of the unit square on the page's sheet, by mouse."""
    box = page.locator("#drawing").bounding_box()
    assert box
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if i == 0:
                page.mouse.down()
        page.mouse.up()


def count_right(page: Page) -> None:
    """Print how many of a hundred digits are read."""
    right = 0
    for digit in range(10):
        for hand in range(10):
            draw(page, written(digit, hand))
            try:
                expect(page.locator("#digit")).to_have_text(
                    str(digit), timeout=PATIENCE
                )
                right += 1
            except AssertionError:
                print(f"a {digit} of hand {hand} is read as", end=" ")
                print(page.locator("#digit").inner_text())
            clear(page)
    print(f"{right} of 100 drawn digits are read")


def time_bars(page: Page) -> None:
    """Print how soon the bars move after a stroke that is over before any is sent."""
    (debounce,) = map(int, DEBOUNCE.findall((FOLDER / "script.js").read_text()))
    waits = []
    for _ in range(N_STROKES):
        draw(page, STROKE)
        expect(page.locator("#digit")).to_have_text("1")
        ended, shown = (
            page.evaluate(f"performance.getEntriesByName('{name}').at(-1).startTime")
            for name in ("stroke-end", "bars")
        )
        waits.append(shown - ended - debounce)
        clear(page)
    print(
        "from the end of a stroke to the new bars, above the debounce of "
        f"{debounce} ms: {statistics.median(waits):.0f} ms, median of {len(waits)}"
    )


def clear(page: Page) -> None:
    """Take everything off the sheet; click once more if the page heard no click."""
    page.evaluate(HEED_A_CLICK)
    page.locator("#clear").click()
    try:
        expect(page.locator("#digit")).to_have_text("?")
    except AssertionError:
        # a loaded machine's browser may lose one; what was heard must have been obeyed
        if page.evaluate("heard"):
            raise
        page.locator("#clear").click()
        expect(page.locator("#digit")).to_have_text("?")


def shoot(browser: Browser, url: str) -> None:
    """Take the README's pictures of the page."""
    for scheme, (width, height) in SHOTS.items():
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=1,
        )
        page.goto(url)
        draw(page, written(4, 8))
        expect(page.locator("#digit")).to_have_text("4")
        page.wait_for_timeout(500)
        page.mouse.move(0, 0)
        page.screenshot(path=ROOT / "docs" / f"page-{scheme}.png", full_page=True)


def main() -> None:
    """Read the flag, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", action="store_true")
    shots = parser.parse_args().shots
    with running(service(), "/readyz") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        if shots:
            shoot(browser, server.url)
        page = browser.new_page()
        page.goto(server.url)
        time_bars(page)
        count_right(page)
        browser.close()


if __name__ == "__main__":
    main()
