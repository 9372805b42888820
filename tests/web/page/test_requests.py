"""Requests of the page: aborted, repeated, refused, and answered by others."""

import hashlib
import signal
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import Route, expect

from benchmarks.browser import draw
from tests.conftest import answers, free_port, running_service, start_service, wait_until
from tests.web.page.conftest import EMPTY, PICTURE, SEVEN, expect_answer, opened


def test_one_request_is_in_flight_and_is_aborted_when_the_drawing_is_cleared(service, browser):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)
        held: list[Route] = []
        page.route("**/predict*", lambda route: held.append(route))
        draw(page, SEVEN)
        page.wait_for_timeout(300)
        draw(page, SEVEN)
        page.wait_for_timeout(700)
        n = len(held)
        assert n <= 2  # that of the example was replaced
        with page.expect_event("requestfailed"):
            page.locator("#clear").click()
        page.wait_for_timeout(300)
        expect(page.locator("#digit")).to_have_text("?")
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        page.unroute("**/predict*")
        draw(page, SEVEN)
        expect_answer(page, 7)


def test_answer_to_earlier_strokes_is_not_kept_as_a_recent_one(service, browser):
    with opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        page.route("**/predict*", lambda route: None)
        draw(page, [[(0.2, 0.9), (0.9, 0.9)]])
        page.locator("#clear").click()

        expect(page.locator("#recent button")).to_have_count(0)


def test_page_retries_while_the_service_is_down(browser):
    port = str(free_port())
    process = start_service(PORT=port)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/readyz"))
    try:
        with opened(browser, url, refused=True) as page:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            draw(page, SEVEN)
            expect(page.locator("#sentence")).to_contain_text("does not respond")
            process = start_service(PORT=port)
            expect_answer(page, 7)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_key_is_asked_for_and_kept_in_this_tab_only(browser):
    digest = hashlib.sha256(b"s3cret").hexdigest()
    with (
        running_service(DIGITS_API_KEYS=digest) as service,
        opened(browser, service.url, refused=True) as page,
    ):
        expect(page.locator("#sentence")).to_have_text("This service requires an API key.")
        expect(page.locator("#ask")).to_be_hidden()  # nothing was asked for yet
        page.locator("#file").set_input_files(PICTURE)
        expect(page.locator("#ask")).to_be_visible()
        page.locator("#cancel").click()
        expect(page.locator("#ask")).to_be_hidden()
        page.locator("#clear").click()
        page.locator("#file").set_input_files(PICTURE)
        expect(page.locator("#ask")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#ask")).to_be_hidden()
        expect(page.locator("#sentence")).to_have_text("This service requires an API key.")
        page.locator("#file").set_input_files(PICTURE)
        titles = ("This service requires an API key", "This key is not valid")
        for key, title in zip(("wrong", " s3cret "), titles, strict=True):
            expect(page.locator("#ask-title")).to_have_text(title)
            expect(page.locator("#ask")).to_be_visible()
            page.locator("#key").fill(key)
            page.keyboard.press("Enter")
        expect_answer(page, 5)
        expect(page.locator("#ask")).to_be_hidden()
        expect(page.locator("#command")).to_contain_text("Bearer $KEY")
        assert page.evaluate("sessionStorage.getItem('key')") == "s3cret"
        assert page.evaluate("localStorage.length") == 0
        assert page.context.cookies() == []


FOREIGN = [
    (413, "<html>too large</html>", "A server before the service answered with status 413."),
    (403, '{"message": "Forbidden"}', "A server before the service answered with status 403."),
    (400, '{"detail": [1]}', "A server before the service answered with status 400."),
    (200, "<html>log in</html>", "The service does not respond; retrying…"),
    (200, "null", "The service does not respond; retrying…"),
    (200, "{}", "The service does not respond; retrying…"),
    (200, '{"probabilities": [0.5], "digit": 3}', "The service does not respond; retrying…"),
    (200, '{"number": "1", "digits": []}', "The service does not respond; retrying…"),
    (422, '{"detail": "no", "is_digit": 0.1}', "No prediction. No."),
    (502, '"bad gateway"', "The service does not respond; retrying…"),
]


def answering(status: int, body: str) -> Callable[[Route], None]:
    """Return a handler that answers every request by the same reply."""
    return lambda route: route.fulfill(status=status, body=body)


@pytest.mark.parametrize(
    "half",  # of the replies, on a page each
    [0, pytest.param(1, marks=pytest.mark.slow)],
)
def test_foreign_reply_is_named_and_does_not_stop_the_page(service, browser, half):
    with opened(browser, service.url, refused=True) as page:
        expect(page.locator("#bars .best")).to_be_visible()  # the example
        for status, body, sentence in FOREIGN[half::2]:
            page.route("**/predict*", answering(status, body))
            draw(page, SEVEN)
            expect(page.locator("#sentence")).to_contain_text(sentence)

            page.unroute("**/predict*")
            draw(page, [[(0.1, 0.9), (0.1, 0.91)]])
            expect_answer(page, 7)
            page.locator("#clear").click()
            expect(page.locator("#sentence")).to_have_text(EMPTY)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("2", 2),
        ("99999999999", 60),
        ("Wed, 21 Oct 2037", 1),
        pytest.param("-1", 1, marks=pytest.mark.slow),
    ],
)
def test_busy_service_is_asked_again_no_sooner_than_it_says(service, browser, retry_after, seconds):
    asked: list[float] = []

    def answer(route: Route) -> None:
        asked.append(time.monotonic())
        route.fulfill(status=503, body='{"detail": "busy"}', headers={"Retry-After": retry_after})

    with opened(browser, service.url, refused=True) as page:
        expect(page.locator("#bars .best")).to_be_visible()  # the example
        page.route("**/predict*", answer)
        with page.expect_response("**/predict*"):
            draw(page, SEVEN)
        if seconds > 2:
            expect(page.locator("#sentence")).to_have_text("The service is busy; retrying…")
            page.wait_for_timeout(2_500)
            page.locator("#clear").click()
            page.locator("#undo").click()
            expect(page.locator("#sentence")).to_have_text("Waiting for the service…")
        else:
            with page.expect_response("**/predict*"):
                expect(page.locator("#sentence")).to_have_text("The service is busy; retrying…")

    assert len(asked) == 1 if seconds > 2 else len(asked) > 1
    assert all(b - a >= 0.9 * seconds for a, b in pairwise(asked))
