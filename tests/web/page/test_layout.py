"""The layout of the page on screens of any size, and the size of its files."""

import pytest
from playwright.sync_api import expect

from benchmarks.browser import draw
from service.web.ui import FOLDER, STATIC
from tests.web.page.conftest import NARROW, PICTURE, SEVEN, WIDE, chosen, expect_answer, opened

MAX_BYTES = 60 * 2**10  # of the page, its script and its style sheet


@pytest.mark.parametrize("size", [(740, 360), (640, 450), (2560, 1300)])
def test_drawing_and_answer_are_on_one_screen(service, browser, size):
    with opened(browser, service.url, size) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        for name in ("#drawing", "#digit", "#sentence"):
            box = page.locator(name).bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= size[1], name
        widths = page.evaluate("[...document.querySelectorAll('main')].map((m) => m.clientWidth)")
        assert widths[0] > 0.7 * size[0]


def test_verdict_and_first_bars_are_seen_beneath_the_drawing_on_a_phone(service, browser):
    touch = {"has_touch": True, "is_mobile": True}
    with opened(browser, service.url, NARROW, **touch) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        assert page.evaluate("scrollY") == 0
        for name in ("#digit", "#sentence", *(f"#bars li:nth-child({i})" for i in (1, 2, 3))):
            box = page.locator(name).bounding_box()
            assert box["y"] + box["height"] <= NARROW[1], name
        names = ("#undo", "#redo", "#clear", "#pen", "[for=file]", "[for=photo]")
        boxes = [page.locator(name).bounding_box() for name in names]
        middles = {round(box["y"] + box["height"] / 2) for box in boxes}
        assert len(middles) == 2, "rows of tools"


def test_tools_begin_at_the_edge_of_the_drawing_area(service, browser):
    with opened(browser, service.url) as page:
        for width, height in (WIDE, NARROW, (600, 900), (740, 360)):
            page.set_viewport_size({"width": width, "height": height})
            edges = [page.locator(name).bounding_box()["x"] for name in ("#surface", "#undo")]
            assert edges[0] == edges[1], width


def test_command_wraps_on_a_phone(service, browser):
    with opened(browser, service.url, NARROW) as page:
        expect_answer(page, 4)
        chosen(page, PICTURE.read_bytes(), f"{'long' * 30}.png")
        expect_answer(page, 5)
        expect(page.locator("#save")).to_have_text(f"Save as {'long' * 30}.png")
        command = page.locator("pre")
        assert command.evaluate("(pre) => pre.scrollWidth <= pre.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_page_script_and_style_are_small():
    files = [FOLDER / "templates" / "index.html", STATIC / "style.css", *STATIC.glob("*.js")]

    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
