"""The answer on the page: its words, its evidence, and the boxes of a number."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from benchmarks.browser import draw
from service.classifier import load, save
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import encode, running_service
from tests.web.conftest import with_detector
from tests.web.page.conftest import (
    AXE,
    ONE_AND_SEVEN,
    PICTURE,
    SEVEN,
    chosen,
    expect_answer,
    opened,
    violations,
)


def test_evidence_is_shown_only_with_an_answer(service, browser):
    with opened(browser, service.url) as page:
        shown = page.locator("#heatmap, .legend, #numbers")
        awaited = page.get_by_text("The image that the model classifies appears here.")
        for i in range(2):
            expect_answer(page, 4)
            expect(shown.filter(visible=True)).to_have_count(3)
            expect(awaited).to_be_hidden()
            if i:
                chosen(page, encode(np.zeros((50, 50), np.uint8)))
                expect(page.locator("#sentence")).to_contain_text("No prediction")
            else:
                page.locator("#clear").click()
            expect(shown.filter(visible=True)).to_have_count(0)
            expect(awaited).to_be_visible()
            page.locator("#examples button").first.click()


def test_words_of_the_evidence_follow_its_colours(service, browser):
    with opened(browser, service.url) as page:
        page.locator("#examples button").last.click()  # a letter
        expect(page.locator("#words")).to_have_text(
            re.compile(
                r"^The strokes at the [a-z ,]+ speak against a digit\. "
                r"Those at the [a-z ,]+ speak for one\."
            )
        )
        page.locator("#examples button").nth(1).click()
        expect_answer(page, 7)
        for bar, against in ((7, "against it"), (4, "for a 4")):
            page.locator("#bars button").nth(bar).click()
            expect(page.locator("#words")).to_have_text(
                re.compile(rf"speak for a 7, not a 4\. Those at the [a-z ,]+ speak {against}\.")
            )


@contextmanager
def service_with(tmp_path: Path, log_odds: float) -> Iterator[str]:
    """Run the service with a detector that has one answer; yield its URL."""
    path = tmp_path / "digits.safetensors"
    save(with_detector(load(EMBEDDED_WEIGHTS), log_odds, 0.3), path)
    with running_service(DIGITS_WEIGHTS=str(path)) as service:
        yield service.url


def test_drawing_that_is_no_digit_yet_is_no_error_and_has_a_nearest_digit(browser, tmp_path):
    with service_with(tmp_path, -9.0) as url, opened(browser, url) as page:
        draw(page, SEVEN)
        expect(page.locator("#sentence")).to_have_text("Not a digit yet; the nearest is a 7.")
        expect(page.locator("#digit")).to_have_text("?")
        expect(page.locator("#bars .best")).to_have_count(0)
        expect(page.locator("#bars button").first).to_be_disabled()
        # what the model saw, and why it is none
        expect(page.locator("#reason")).to_contain_text("for a digit against something else")
        expect(page.locator("#reason")).to_contain_text("something else is 8,103 times as likely")
        page.locator("#file").set_input_files(PICTURE)
        expect(page.locator("#sentence")).to_have_text(
            "This does not look like a digit; the nearest is a 5."
        )
        page.locator("#examples button").first.click()
        expect(page.locator("#sentence")).to_have_text(
            "This does not look like a digit; the nearest is a 4."
        )
        draw(page, [[(0.1, 0.9), (0.1, 0.91)]])
        expect(page.locator("#sentence")).to_contain_text("Not a digit yet")
        page.reload()
        expect(page.locator("#sentence")).to_contain_text("This does not look like a digit")


def test_words_of_confidence_follow_both_probabilities(browser, tmp_path):
    with service_with(tmp_path, 0.0) as url, opened(browser, url) as page:
        page.locator("#file").set_input_files(PICTURE)
        expect_answer(page, 5)
        expect(page.locator("#sentence")).to_have_text(
            "Uncertain: perhaps a 5. It may not be a digit: P(digit) is 50.0 %."
        )


def test_refusal_is_shown_with_the_detail_of_the_service(service, browser):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)  # the example
        with page.expect_response("**/predict*") as reply:
            chosen(page, encode(np.zeros((50, 50), np.uint8)))
        detail = reply.value.json()["predictions"][0]["error"]["detail"]
        sentence = f"No prediction. {detail[0].upper()}{detail[1:]}."
        expect(page.locator("#sentence")).to_have_text(sentence)
        expect(page.locator("#digit")).to_have_text("?")


def test_number_is_shown_with_a_box_and_the_evidence_of_each_digit(service, browser):
    url = service.url
    with opened(browser, url) as page:
        draw(page, ONE_AND_SEVEN)
        expect(page.locator("#answer:not(.stale) #digit")).to_have_text("17")
        expect(page.locator("#sentence")).to_have_text(re.compile("17\\.$"))
        expect(page.locator("#reason")).to_contain_text("for a 1 against")
        command = page.locator("#command").inner_text()
        assert command == f'curl -F image=@digit.png "{service.url}/predict?several=1"'
        surface, boxes = page.locator("#surface").bounding_box(), page.locator("#boxes span")
        expect(boxes).to_have_count(2)
        for i, stroke in enumerate(ONE_AND_SEVEN):
            box, (x, y) = boxes.nth(i).bounding_box(), stroke[0]
            assert 0 <= surface["x"] + x * surface["width"] - box["x"] <= 20
            assert 0 <= surface["y"] + y * surface["height"] - box["y"] <= 20
        page.locator("#digits button").nth(1).click()
        expect(page.locator("#reason")).to_contain_text("for a 7 against")
        expect(page.locator("#bars .best b")).to_have_text("7")
        expect(boxes.nth(1)).to_have_class("shown")
        page.evaluate(AXE)
        assert violations(page) == []
        page.locator("#clear").click()
        expect(boxes).to_have_count(0)
        expect(page.locator("#digits button")).to_have_count(0)


def test_boxes_lie_on_a_chosen_picture_of_any_shape(service, browser):
    wide = np.full((200, 800), 255, np.uint8)
    wide[60:140, 200:210] = wide[60:140, 600:610] = 0
    with opened(browser, service.url) as page:
        file = {"name": "x.png", "mimeType": "image/png", "buffer": encode(wide)}
        page.locator("#file").set_input_files(file)
        expect(page.locator("#digit")).to_have_text("11")
        surface = page.locator("#surface").bounding_box()
        for i, left in enumerate((200, 600)):
            box = page.locator("#boxes span").nth(i).bounding_box()
            centre = (box["x"] + box["width"] / 2 - surface["x"]) / surface["width"]
            middle = (box["y"] + box["height"] / 2 - surface["y"]) / surface["height"]
            assert (centre, middle) == pytest.approx(((left + 5) / 800, 0.5), abs=0.03)
