"""Corrections of answers on the page."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from benchmarks.browser import draw
from benchmarks.page import clear
from service.classifier import load, save
from service.feedback import corrections, erase
from service.images import read_image
from service.settings import DEFAULT_LIMITS, EMBEDDED_WEIGHTS
from tests.conftest import running_service
from tests.web.conftest import with_detector
from tests.web.page.conftest import ONE_AND_SEVEN, SEVEN, expect_answer, opened


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a service that keeps corrections, and their folder."""
    folder = tmp_path_factory.mktemp("corrections")
    with running_service(DIGITS_FEEDBACK_DIR=str(folder)) as service:
        yield service.url, folder


@pytest.fixture
def url(keeping) -> str:
    """The URL of a service that keeps corrections and has none."""
    erase(keeping[1])
    return keeping[0]


@pytest.fixture
def folder(keeping) -> Path:
    return keeping[1]


def test_answer_is_corrected_beside_the_bars_where_the_service_keeps_that(browser, url, folder):
    with opened(browser, url) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        expect(page.locator("#correct")).to_be_hidden()
        page.locator("#bars button").nth(3).click()

        button, said = page.locator("#correct"), page.locator("#kept")
        expect(button).to_have_text("No, it is a 3")
        expect(said).to_contain_text("The service then keeps the picture")
        assert corrections(folder) == []
        button.click()

        expect(said).to_contain_text("Kept by the service.")
        expect(button).to_be_disabled()
        clear(page)
        expect(page.locator("#correction")).to_be_hidden()
    (kept,) = corrections(folder)
    assert (kept.digit, kept.answer["digit"]) == (3, 7)
    with Image.open(kept.picture) as picture:
        assert picture.width == picture.height > 100


def test_picture_that_is_refused_is_corrected_too(browser, tmp_path):
    refusing, path = with_detector(load(EMBEDDED_WEIGHTS), -4.0, 0.3), tmp_path / "w"
    save(refusing, path)
    settings = {"DIGITS_WEIGHTS": str(path), "DIGITS_FEEDBACK_DIR": str(tmp_path / "kept")}
    with running_service(**settings) as service, opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect(page.locator("#sentence")).to_contain_text("Not a digit yet; the nearest is a 7")
        expect(page.locator("#none")).to_be_hidden()
        page.locator("#bars button").nth(7).click()
        page.locator("#correct").click()

        expect(page.locator("#kept")).to_contain_text("Kept by the service")
    assert [each.digit for each in corrections(tmp_path / "kept")] == [7]


def test_card_of_the_drawing_ends_with_its_tools_beside_a_longer_answer(browser, url):
    with opened(browser, url) as page:
        draw(page, SEVEN)
        expect(page.locator("#none")).to_be_visible()
        boxes = [page.locator(name).bounding_box() for name in (".draw", "#tools")]
        card, tools = (box["y"] + box["height"] for box in boxes)
        assert 0 < card - tools < 20


def test_answer_is_corrected_to_no_digit(browser, url, folder):
    with opened(browser, url) as page:
        expect_answer(page, 4)  # the example
        expect(page.locator("#correction")).to_be_hidden()
        draw(page, SEVEN)
        expect_answer(page, 7)
        page.locator("#none").click()

        expect(page.locator("#kept")).to_contain_text("Kept by the service")
        expect(page.locator("#none")).to_be_disabled()
    (kept,) = corrections(folder)
    assert (kept.digit, kept.answer["digit"]) == (None, 7)


def test_digits_of_a_number_are_corrected_one_by_one(browser, url, folder):
    with opened(browser, url) as page:
        draw(page, ONE_AND_SEVEN)
        expect(page.locator("#answer:not(.stale) #digit")).to_have_text("17")
        page.locator("#digits button").nth(1).click()
        page.locator("#bars button").nth(9).click()
        expect(page.locator("#correct")).to_have_text("No, it is a 9")
        page.locator("#correct").click()
        expect(page.locator("#kept")).to_contain_text("Kept by the service")
        page.locator("#digits button").nth(0).click()
        page.locator("#none").click()
        expect(page.locator("#kept")).to_contain_text("Kept by the service")

    kept = corrections(folder)
    assert {(each.digit, each.answer["digit"]) for each in kept} == {(9, 7), (None, 1)}
    for each in kept:
        with Image.open(each.picture) as picture:
            assert picture.size == (28, 28)
            image = np.asarray(picture.convert("L"))
        np.testing.assert_array_equal(
            read_image(each.picture.read_bytes(), DEFAULT_LIMITS.max_pixels), image
        )


def test_page_offers_no_correction_where_the_service_keeps_none(service, browser):
    with opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        page.locator("#bars button").nth(3).click()

        expect(page.locator("#bars button").nth(3)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#correction")).to_be_hidden()
