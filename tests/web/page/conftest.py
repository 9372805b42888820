"""Fixtures of the page's tests: Chromium, and the running service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.browser import chromium
from benchmarks.handwriting import Stroke
from tests.conftest import ROOT, Service, running_service

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
PICTURE = ROOT / "docs" / "digit.png"  # a five
WIDE, NARROW = (1280, 900), (360, 740)
# Chromium logs this for a reply that is an error, and for a failed connection
FAILED_LOAD = "Failed to load resource"
EMPTY = "No digit yet. Draw one, or choose a picture."
SEVEN: list[Stroke] = [[(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)]]
BAR = np.full((200, 120), 255, np.uint8)  # a one
BAR[40:160, 54:66] = 0
ONE_AND_SEVEN: list[Stroke] = [
    [(0.25, 0.3), (0.25, 0.7)],
    [(0.5, 0.3), (0.75, 0.3), (0.68, 0.5), (0.6, 0.7)],
]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Return Chromium, or skip the test."""
    if not chromium():
        pytest.skip("needs chromium in the path")
    expect.set_options(timeout=30_000)  # ms, on a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """Run the service with the shipped weights, once for all tests of the page."""
    with running_service() as service:
        yield service


@contextmanager
def opened(
    browser: Browser, url: str, size: tuple[int, int] = WIDE, refused: bool = False, **how
) -> Iterator[Page]:
    """Open a page; it must log no error and request nothing from another host.

    refused: whether replies that are errors are expected. The bars move only if `how` says
    so: drawing their motion takes a quarter of the time of a test.
    """
    how = {"reduced_motion": "reduce", **how}
    (width, height), origin = size, url.rpartition("/docs")[0] or url
    context = browser.new_context(viewport={"width": width, "height": height}, **how)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: (
            None if refused and message.text.startswith(FAILED_LOAD) else wrong.append(message.text)
        ),
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((origin, f"blob:{origin}", "data:"))
            else wrong.append(request.url)
        ),
    )
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
        assert wrong == []


def expect_answer(page: Page, digit: int) -> None:
    expect(page.locator("#digit")).to_have_text(str(digit))
    expect(page.locator("#bars .best")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#bars .best b")).to_have_text(str(digit))


def chosen(page: Page, content: bytes, name: str = "x.png") -> None:
    """Choose a file of the given content."""
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("#file").set_input_files(file)


def n_dark_pixels(page: Page) -> int:
    """Return how many pixels of the drawing area are covered with dark ink."""
    return page.locator("#drawing").evaluate(
        """({ width, height }) => {
            const copy = new OffscreenCanvas(width, height).getContext("2d");
            copy.drawImage(document.getElementById("drawing"), 0, 0);
            const { data } = copy.getImageData(0, 0, width, height);
            let n = 0;
            for (let i = 0; i < data.length; i += 4) n += data[i] < 100 && data[i + 3] > 200;
            return n;
        }"""
    )


def violations(page: Page) -> list[str]:
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]
