"""Digits drawn with the mouse, by touch and by keys, and the examples."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from benchmarks.browser import draw
from benchmarks.handwriting import strokes_of
from benchmarks.page import clear
from tests.web.page.conftest import EMPTY, NARROW, SEVEN, expect_answer, opened


def test_digit_drawn_with_the_mouse_is_classified_explained_and_saved(service, browser):
    with opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)

        expect(page.locator("#sentence")).to_have_text(re.compile("7"))
        reason = page.locator("#reason")
        expect(reason).to_contain_text("for a 7 against")
        expect(page.locator("#words")).to_have_text(
            re.compile(r"^The strokes at the [a-z ,]+ speak for a 7, not an? \d\.")
        )
        expect(reason).to_be_hidden()
        page.locator("#numbers summary").click()
        expect(reason).to_be_visible()
        page.locator("#bars button").nth(3).click()
        expect(reason).to_contain_text("for a 3 against a 7")
        expect(reason).to_contain_text(re.compile("a 7 is .* times as likely as a 3"))
        expect(page.locator("#bars button").nth(3)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#model")).to_contain_text("MNIST")
        command = page.locator("#command").inner_text()
        assert command == f"curl -F image=@digit.png {service.url}/predict"
        expect(page.locator("#save")).to_have_text("Save as digit.png")
        with page.expect_download() as download:
            page.locator("#save").click()
        saved = Image.open(download.value.path())
        assert (saved.size, saved.getextrema()[0][0]) == ((280, 280), 0)


def test_pen_width_undo_and_clear_change_the_answer(service, browser):
    with opened(browser, service.url) as page:
        expect(page.locator("#undo")).to_be_disabled()
        draw(page, [[(0.5, 0.2), (0.5, 0.8)]])
        expect_answer(page, 1)
        draw(page, [[(0.5, 0.2), (0.2, 0.5)], [(0.2, 0.5), (0.8, 0.5)]])
        expect_answer(page, 4)
        page.locator("#undo").click()
        page.keyboard.press("Control+z")
        expect_answer(page, 1)
        page.locator("#clear").click()
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        expect(page.locator("#digit")).to_have_text("?")
        page.locator("#pen").fill("40")
        draw(page, SEVEN)
        expect_answer(page, 7)


def test_digit_drawn_by_touch_does_not_scroll_the_page(service, browser):
    with opened(browser, service.url, NARROW, has_touch=True, is_mobile=True) as page:
        box = page.locator("#drawing").bounding_box()
        wire = page.context.new_cdp_session(page)
        places = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            for x, y in strokes_of(2, 0)[0] + strokes_of(2, 0)[1]
        ]
        for place in places:
            kind = "touchStart" if place is places[0] else "touchMove"
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]})
        wire.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        expect_answer(page, 2)
        assert page.evaluate("scrollY") == 0


def test_digit_drawn_with_the_keyboard_alone_is_classified(service, browser):
    with opened(browser, service.url) as page:
        page.keyboard.press("Tab")
        expect(page.locator("#drawing")).to_be_focused()
        for key in ["Space", *["ArrowDown"] * 18, "Space"]:
            page.keyboard.press(key)
        expect_answer(page, 1)
        page.keyboard.press("c")
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        for key in [*["ArrowLeft"] * 6, "Space", *["ArrowRight"] * 10]:
            page.keyboard.press(key)
        for key in [*["ArrowDown", "ArrowDown", "ArrowLeft"] * 6, "Space"]:
            page.keyboard.press(key)
        expect_answer(page, 7)


def test_example_is_answered_at_first_and_a_reload_keeps_the_drawing(service, browser):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)
        expect(page.locator("#sentence")).to_contain_text("An example: ")
        draw(page, SEVEN)
        expect_answer(page, 7)
        page.reload()
        expect_answer(page, 7)
        expect(page.locator("#sentence")).not_to_contain_text("An example")
        page.locator("#examples button").nth(3).click()
        expect_answer(page, 5)
        page.locator("#examples button").nth(4).click()
        expect(page.locator("#digit")).to_have_text("2048")


def test_page_works_where_the_browser_keeps_nothing(service, browser):
    forbidden = "get() { throw new DOMException('denied', 'SecurityError'); }"
    script = f"Object.defineProperty(window, 'sessionStorage', {{ {forbidden} }});"
    full = "Storage.prototype.setItem = () => { throw new DOMException('full'); };"
    for each in (script, full):
        with opened(browser, service.url) as page:
            page.add_init_script(each)
            page.reload()
            draw(page, SEVEN)
            expect_answer(page, 7)
            expect(page.locator("#hint")).to_be_hidden()


@pytest.mark.slow
def test_at_least_97_of_100_synthetic_drawings_are_classified_correctly(service, browser):
    wrong = []
    with opened(browser, service.url) as page:
        for digit in range(10):
            for writer in range(10):
                draw(page, strokes_of(digit, writer))
                try:
                    expect(page.locator("#digit")).to_have_text(str(digit), timeout=2500)
                except AssertionError:
                    wrong.append((digit, writer, page.locator("#digit").inner_text()))
                clear(page)

    assert len(wrong) <= 3, wrong
