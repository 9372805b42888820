"""Chromium, and drawing in it with the mouse."""

import os
import shutil
from typing import Any

from playwright.sync_api import Page

from benchmarks.handwriting import Stroke

FLAGS = ("--disable-gpu", "--disable-background-networking", "--disable-sync")


def chromium() -> dict[str, Any]:
    """Return Playwright's arguments to launch Chromium, empty if it is missing."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    # Chromium's sandbox does not run as root
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return {"executable_path": program, "args": flags} if program else {}


def draw(page: Page, strokes: list[Stroke]) -> None:
    """Draw strokes, in the unit square, on the page's drawing area with the mouse."""
    box = page.locator("#drawing").bounding_box()
    if box is None:
        raise RuntimeError("the page shows no drawing area")
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if i == 0:
                page.mouse.down()
        page.mouse.up()
