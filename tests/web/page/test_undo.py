"""Undo and redo of strokes, pictures and crops."""

import pytest
from playwright.sync_api import expect

from benchmarks.browser import draw
from tests.conftest import encode
from tests.web.page.conftest import BAR, EMPTY, PICTURE, SEVEN, chosen, expect_answer, opened


def test_picture_can_be_drawn_over_and_every_step_undone_and_redone(service, browser):
    with opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        chosen(page, encode(BAR))
        expect_answer(page, 1)
        # two strokes make a four of it
        draw(page, [[(0.38, 0.25), (0.35, 0.55)], [(0.35, 0.55), (0.66, 0.55)]])
        expect_answer(page, 4)
        page.locator("#clear").click()
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        for key in ("Control+z", "Control+z", "Control+z"):
            page.keyboard.press(key)
        expect_answer(page, 1)
        page.keyboard.press("Control+z")
        expect_answer(page, 7)
        page.keyboard.press("Control+z")
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        expect(page.locator("#undo")).to_be_disabled()
        for key in ("Control+Shift+Z", "Control+Shift+Z", "Control+Shift+Z", "Control+y"):
            page.keyboard.press(key)
        expect_answer(page, 4)
        page.locator("#redo").click()
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        expect(page.locator("#redo")).to_be_disabled()


@pytest.mark.parametrize("way", ["mouse", "keys", "picture", "example", "button"])
def test_first_input_is_undone_to_an_empty_area_and_redone(service, browser, way):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)  # the example
        expect(page.locator("#undo")).to_be_disabled()
        if way == "keys":
            for key in ["Tab", "Space", *["ArrowDown"] * 18, "Space"]:
                page.keyboard.press(key)
        elif way == "picture":
            chosen(page, PICTURE.read_bytes())
        elif way == "example":
            page.locator("#examples button").nth(2).click()
        else:
            draw(page, SEVEN)
        digit = {"keys": 1, "picture": 5, "example": 2}.get(way, 7)
        expect_answer(page, digit)
        if way == "button":
            page.locator("#undo").click()
        else:
            page.keyboard.press("Control+z")
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        expect(page.locator("#undo")).to_be_disabled()
        page.keyboard.press("Control+y")
        expect_answer(page, digit)


def test_undo_is_not_offered_where_it_changes_nothing(service, browser):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)  # the example
        chosen(page, b"no picture")
        expect(page.locator("#sentence")).to_contain_text("is text")
        expect(page.locator("#undo")).to_be_disabled()
        page.reload()
        expect_answer(page, 4)
        page.locator("#clear").click()
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        expect(page.locator("#undo")).to_be_disabled()


def test_undo_ends_cropping(service, browser):
    with opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        page.set_input_files("#file", PICTURE)
        expect_answer(page, 5)
        page.locator("#crop").click()
        page.keyboard.press("Control+z")

        expect(page.locator("#frame")).to_be_hidden()
        expect(page.locator("#crop-use")).to_be_hidden()
        expect(page.locator("#undo")).to_be_visible()
