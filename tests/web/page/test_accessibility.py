"""The pages for screen readers, forced colours and reduced motion."""

import re

import pytest
from playwright.sync_api import expect

from benchmarks.browser import draw
from benchmarks.handwriting import strokes_of
from tests.web.page.conftest import AXE, NARROW, PICTURE, WIDE, expect_answer, opened, violations


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        (WIDE, "light"),
        (NARROW, "dark"),
        pytest.param(WIDE, "dark", marks=pytest.mark.slow),
        pytest.param(NARROW, "light", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_axe_finds_no_accessibility_violation(service, browser, size, scheme, path):
    with opened(browser, service.url + path, size, color_scheme=scheme, bypass_csp=True) as page:
        states = 1
        if path == "/":
            page.evaluate(AXE)
            assert violations(page) == []
            page.locator("#file").set_input_files(PICTURE)
            expect_answer(page, 5)
            page.locator("#keys-box summary").click()
            states += 1
        page.evaluate(AXE)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 3 * 128
        assert light == (scheme == "light")


def test_screen_reader_hears_the_answer_once_while_a_digit_is_drawn(service, browser):
    with opened(browser, service.url) as page:
        expect(page.locator("#spoken")).to_contain_text("An example")
        page.evaluate(
            """() => {
                const region = document.getElementById("spoken");
                spoken = [];
                new MutationObserver(() => spoken.push(region.textContent))
                    .observe(region, { childList: true });
            }"""
        )
        draw(page, strokes_of(5, 0))
        expect(page.locator("#spoken")).to_contain_text("a 5")
        assert len(page.evaluate("spoken")) <= 2  # another if the machine is slow


def test_bars_are_seen_in_forced_colours(service, browser):
    with opened(browser, service.url, forced_colors="active") as page:
        expect_answer(page, 4)
        of = "(each) => getComputedStyle(each).backgroundColor"
        track = page.locator("#bars .best > span").evaluate(of)
        assert page.locator("#bars .best > span > span").evaluate(of) != track


def test_bars_are_not_animated_with_reduced_motion(service, browser):
    for preference in ("no-preference", "reduce"):
        with opened(browser, service.url, reduced_motion=preference) as page:
            duration = page.locator("#bars button span span").first.evaluate(
                "(bar) => getComputedStyle(bar).transitionDuration"
            )
            assert (duration == "0s") == (preference == "reduce")
