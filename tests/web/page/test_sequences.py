"""Random sequences of actions on the page: their answers, their deadline and their seed."""

import pytest

from benchmarks import page_sequences
from benchmarks.page_sequences import DELAYS, WATCH, stale_answers
from tests.web.page.conftest import WIDE

SEND = """() => {
  const delays = [];
  window.expected = {};
  window.setTimeout = (act, delay) => delays.push(delay);
  for (let i = 0; i < 20; i++) new XMLHttpRequest().send();
  return delays;
}"""

N_SEQUENCES = 12  # python -m benchmarks.page --sequences 500 plays more


@pytest.mark.slow
def test_no_answer_to_an_earlier_input_is_shown(service, browser):
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    stale = list(stale_answers(context.new_page(), service.url, N_SEQUENCES))
    context.close()

    assert stale == []


def test_answer_that_never_settles_ends_the_sequences(service, browser, monkeypatch):
    monkeypatch.setattr(page_sequences, "NEVER", 0.5)
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
