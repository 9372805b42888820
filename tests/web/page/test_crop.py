"""Cropping a picture by dragging, by keys and by touch."""

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from benchmarks.browser import draw
from tests.conftest import encode
from tests.web.page.conftest import (
    AXE,
    BAR,
    NARROW,
    PICTURE,
    chosen,
    expect_answer,
    opened,
    violations,
)

SMALL: Image.Image = Image.new("L", (1280, 800), 120)  # a five in a window of a screenshot
SMALL.paste(Image.open(PICTURE).convert("L").resize((200, 200)), (700, 300))
AROUND = ((0.53, 0.4), (0.72, 0.62))  # shares of the surface


def test_part_of_a_picture_is_cropped_by_dragging_or_keys(service, browser):
    two = np.hstack([BAR] * 3)
    two[40:52, 270:330] = 0  # the last is a seven
    with opened(browser, service.url) as page:
        chosen(page, encode(two))
        page.locator("#crop").click()
        box = page.locator("#surface").bounding_box()
        at = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"])
            for x, y in ((0.02, 0.25), (0.33, 0.75))
        ]
        page.mouse.move(*at[0])
        page.mouse.down()
        page.mouse.move(*at[1])
        page.mouse.up()
        page.locator("#crop-use").click()
        expect_answer(page, 1)
        page.keyboard.press("Control+z")  # the whole picture
        page.locator("#crop").click()
        for key in ["ArrowRight"] * 3 + ["Shift+ArrowLeft"] * 20:
            page.keyboard.press(key)
        page.keyboard.press("Escape")
        expect(page.locator("#frame")).to_be_hidden()
        expect(page.locator("#tools")).to_be_visible()


def test_crop_is_advised_where_a_digit_may_be_small_and_the_first_drag_chooses_it(service, browser):
    with opened(browser, service.url) as page:
        chosen(page, encode(SMALL))
        expect(page.locator("#sentence")).to_contain_text("crop to it")
        expect(page.locator("#crop")).to_have_class("advised")
        page.evaluate(AXE)
        assert violations(page) == []
        page.locator("#crop").click()
        drag(page, *AROUND)
        drag(page, AROUND[1], (0.74, 0.64))  # a corner
        drag(page, (0.6, 0.5), (0.59, 0.49))  # the box
        page.evaluate(AXE)
        assert violations(page) == []
        page.keyboard.press("Enter")
        expect_answer(page, 5)
        expect(page.locator("#sentence")).not_to_contain_text("crop to it")
        expect(page.locator("#crop")).not_to_have_class("advised")


def test_strokes_over_a_picture_stay_on_the_part_that_is_cropped(service, browser):
    with opened(browser, service.url) as page:
        chosen(page, encode(BAR))
        expect_answer(page, 1)
        draw(page, [[(0.38, 0.25), (0.35, 0.55)], [(0.35, 0.55), (0.66, 0.55)]])
        expect_answer(page, 4)
        page.locator("#crop").click()
        page.keyboard.press("Enter")
        expect(page.locator("#recent button")).to_have_text("4")
        expect_answer(page, 4)
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        expect_answer(page, 1)


def test_digit_is_cropped_by_keys_alone(service, browser):
    with opened(browser, service.url) as page:
        chosen(page, encode(SMALL))
        expect(page.locator("#crop")).to_have_class("advised")
        page.locator("#crop").press("Enter")
        for key in ["Shift+ArrowLeft"] * 25 + ["Shift+ArrowUp"] * 10 + ["ArrowRight"] * 19:
            page.keyboard.press(key)
        for key in ["ArrowDown"] * 5 + ["Enter"]:
            page.keyboard.press(key)
        expect_answer(page, 5)
        expect(page.locator("#drawing")).to_be_focused()


def test_digit_is_cropped_by_two_fingers(service, browser):
    touch = {"has_touch": True, "is_mobile": True}
    with opened(browser, service.url, NARROW, **touch) as page:
        chosen(page, encode(SMALL))
        expect(page.locator("#crop")).to_have_class("advised")
        page.locator("#crop").tap()
        box = page.locator("#surface").bounding_box()
        wire = page.context.new_cdp_session(page)

        def touched(kind: str, *places: tuple[float, float]) -> None:
            points = [
                {"id": i, "x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
                for i, (x, y) in enumerate(places)
            ]
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touched("touchStart", (0.55, 0.45))
        touched("touchStart", (0.55, 0.45), (0.65, 0.55))
        touched("touchMove", *AROUND)
        touched("touchEnd")
        page.locator("#crop-use").tap()
        expect_answer(page, 5)
        assert page.evaluate("[scrollX, scrollY]") == [0, 0]


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag between two places, as shares of the drawing area."""
    box = page.locator("#surface").bounding_box()
    for i, (x, y) in enumerate((start, end)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.up() if i else page.mouse.down()
