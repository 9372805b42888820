"""The random sequences of actions on the page: their deadline and their seed."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from benchmarks import page_sequences
from benchmarks.browser import chromium
from benchmarks.page_sequences import DELAYS, WATCH, stale_answers
from tests.conftest import running_service

SEND = """() => {
  const delays = [];
  window.expected = {};
  window.setTimeout = (act, delay) => delays.push(delay);
  for (let i = 0; i < 20; i++) new XMLHttpRequest().send();
  return delays;
}"""

pytestmark = pytest.mark.skipif(not chromium(), reason="needs chromium in the path")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        yield browser
        browser.close()


def test_answer_that_never_settles_ends_the_sequences(browser, monkeypatch):
    monkeypatch.setattr(page_sequences, "NEVER", 0.5)
    with running_service() as service:
        page = browser.new_page()
        page.route("**/predict*", lambda _: None)  # never answered

        with pytest.raises(RuntimeError, match=r"no answer within 0\.5 s"):
            list(stale_answers(page, service.url, 1))

        page.close()


def test_delays_are_those_of_the_seed(browser):
    def delays(seed: int) -> list[float]:
        page = browser.new_page()
        page.evaluate(WATCH, {**DELAYS, "seed": seed})
        drawn = page.evaluate(SEND)
        page.close()
        return drawn

    first, again, other = (delays(seed) for seed in (0, 0, 1))

    assert first == again != other
    assert all(0 <= delay < DELAYS["request"] for delay in first + other)
    assert len(set(first)) == 20
