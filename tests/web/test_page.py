"""The page in Chromium, with the running service."""

import hashlib
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.handwriting import Stroke, strokes_of
from benchmarks.page import chromium, clear, draw
from service.classifier import load, save
from service.settings import EMBEDDED_WEIGHTS
from service.web.ui import FOLDER, STATIC
from tests.conftest import (
    ROOT,
    answers,
    encode,
    free_port,
    running_service,
    start_service,
    wait_until,
)
from tests.web.conftest import with_detector

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
PICTURE = ROOT / "docs" / "digit.png"  # a five
WIDE, NARROW = (1280, 900), (360, 740)
# Chromium logs this for a reply that is an error, and for a failed connection
FAILED_LOAD = "Failed to load resource"
EMPTY = "No digit yet."
MAX_BYTES = 40 * 2**10  # of the page, its script and its style sheet
SEVEN: list[Stroke] = [[(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)]]

pytestmark = pytest.mark.skipif(not chromium(), reason="needs chromium in the path")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=30_000)  # ms, on a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service():
    with running_service() as service:
        yield service


@contextmanager
def opened(
    browser: Browser, url: str, size: tuple[int, int] = WIDE, refused: bool = False, **how
) -> Iterator[Page]:
    """Open a page; it must log no error and request nothing from another host.

    refused: whether replies that are errors are expected.
    """
    (width, height), origin = size, url.rpartition("/docs")[0] or url
    context = browser.new_context(viewport={"width": width, "height": height}, **how)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: (
            None if refused and message.text.startswith(FAILED_LOAD) else wrong.append(message.text)
        ),
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((origin, f"blob:{origin}", "data:"))
            else wrong.append(request.url)
        ),
    )
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
        assert wrong == []


def expect_answer(page: Page, digit: int) -> None:
    expect(page.locator("#digit")).to_have_text(str(digit))
    expect(page.locator("#bars .best")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#bars .best b")).to_have_text(str(digit))


def test_digit_drawn_with_the_mouse_is_classified_explained_and_saved(service, browser):
    with opened(browser, service.url, refused=True) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)

        expect(page.locator("#sentence")).to_have_text(re.compile("7"))
        reason = page.locator("#reason")
        expect(reason).to_contain_text("for a 7 against")
        page.locator("#bars button").nth(3).click()
        expect(reason).to_contain_text("for a 3 against a 7")
        expect(reason).to_contain_text(re.compile("a 7 is .* times as likely as a 3"))
        expect(page.locator("#bars button").nth(3)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#model")).to_contain_text("MNIST")
        command = page.locator("#command").inner_text()
        assert command == f"curl -F image=@digit.png {service.url}/predict"
        with page.expect_download() as download:
            page.locator("#save").click()
        saved = Image.open(download.value.path())
        assert (saved.size, saved.getextrema()[0][0]) == ((280, 280), 0)


def test_pen_width_undo_and_clear_change_the_answer(service, browser):
    with opened(browser, service.url, refused=True) as page:
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
    with opened(browser, service.url, NARROW, refused=True, has_touch=True, is_mobile=True) as page:
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
    with opened(browser, service.url, refused=True) as page:
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


TRANSFER = """([kind, bytes]) => {
    const transfer = new DataTransfer();
    const file = new File([new Uint8Array(bytes)], "it's a.png", {type: "image/png"});
    transfer.items.add(file);
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
        : new DragEvent("drop", {dataTransfer: transfer, bubbles: true});
    document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["chosen", "drop", "paste"])
def test_chosen_dropped_or_pasted_picture_is_shown_and_classified(service, browser, way):
    with opened(browser, service.url) as page:
        if way == "chosen":
            page.locator("#file").set_input_files(PICTURE)
        else:
            page.evaluate(TRANSFER, [way, list(PICTURE.read_bytes())])
        expect_answer(page, 5)
        expect(page.locator("#picture")).to_be_visible()
        expect(page.locator("#drawing")).to_be_hidden()
        quoted = "digit.png" if way == "chosen" else "'it'\\''s a.png'"
        expect(page.locator("#command")).to_contain_text(f"image=@{quoted} ")
        page.locator("#clear").click()
        expect(page.locator("#drawing")).to_be_visible()
        expect(page.locator("#sentence")).to_have_text(EMPTY)


@pytest.mark.parametrize(
    ("upload", "sentence"),
    [
        (b"no picture", "Cannot read this picture."),
        (encode(np.zeros((50, 50), np.uint8)), "No prediction."),
        (b"", "Cannot read this picture."),
    ],
)
def test_refusal_is_shown_with_the_detail_of_the_service(service, browser, upload, sentence):
    with opened(browser, service.url, refused=True) as page:
        file = {"name": "x.png", "mimeType": "image/png", "buffer": upload}
        with page.expect_response("**/predict*") as reply:
            page.locator("#file").set_input_files(file)
        detail = reply.value.json()["detail"]
        expect(page.locator("#sentence")).to_have_text(
            f"{sentence} {detail[0].upper()}{detail[1:]}."
        )
        expect(page.locator("#digit")).to_have_text("?")
        page.locator("#file").set_input_files(PICTURE)
        expect_answer(page, 5)


@contextmanager
def service_with(tmp_path: Path, log_odds: float) -> Iterator[str]:
    """Run the service with a detector that has one answer; yield its URL."""
    path = tmp_path / "digits.safetensors"
    save(with_detector(load(EMBEDDED_WEIGHTS), log_odds, 0.3), path)
    with running_service(DIGITS_WEIGHTS=str(path)) as service:
        yield service.url


def test_drawing_that_is_no_digit_yet_is_no_error_and_has_a_nearest_digit(browser, tmp_path):
    with service_with(tmp_path, -9.0) as url, opened(browser, url, refused=True) as page:
        draw(page, SEVEN)
        expect(page.locator("#sentence")).to_have_text("Not a digit yet. The nearest is a 7.")
        expect(page.locator("#digit")).to_have_text("?")
        expect(page.locator("#bars .best")).to_have_count(0)
        expect(page.locator("#bars button").first).to_be_disabled()
        # what the model saw, and why it is none
        expect(page.locator("#reason")).to_contain_text("for a digit against no digit")
        expect(page.locator("#reason")).to_contain_text("no digit is 8,103 times as likely")
        page.locator("#file").set_input_files(PICTURE)
        expect(page.locator("#sentence")).to_have_text(
            "This does not look like a digit. The nearest is a 5."
        )


def test_doubt_about_a_digit_is_shown_beside_the_confidence(browser, tmp_path):
    with service_with(tmp_path, 0.0) as url, opened(browser, url) as page:
        page.locator("#file").set_input_files(PICTURE)
        expect_answer(page, 5)
        expect(page.locator("#sentence")).to_have_text(
            "Almost certainly a 5. It may be no digit: 50.0 % that it is one."
        )


ONE_AND_SEVEN: list[Stroke] = [
    [(0.25, 0.3), (0.25, 0.7)],
    [(0.5, 0.3), (0.75, 0.3), (0.68, 0.5), (0.6, 0.7)],
]


def test_number_is_shown_with_a_box_and_the_evidence_of_each_digit(browser, tmp_path):
    with service_with(tmp_path, 9.0) as url, opened(browser, url, refused=True) as page:
        draw(page, ONE_AND_SEVEN)
        expect(page.locator("#digit")).to_have_text("17")
        expect(page.locator("#sentence")).to_have_text(re.compile("17\\.$"))
        expect(page.locator("#reason")).to_contain_text("for a 1 against")
        command = page.locator("#command").inner_text()
        assert command == f'curl -F image=@digit.png "{url}/predict?several=1"'
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


def test_boxes_lie_on_a_chosen_picture_of_any_shape(browser, tmp_path):
    wide = np.full((200, 800), 255, np.uint8)
    wide[60:140, 200:210] = wide[60:140, 600:610] = 0
    with service_with(tmp_path, 9.0) as url, opened(browser, url, refused=True) as page:
        file = {"name": "x.png", "mimeType": "image/png", "buffer": encode(wide)}
        page.locator("#file").set_input_files(file)
        expect(page.locator("#digit")).to_have_text("11")
        surface = page.locator("#surface").bounding_box()
        for i, left in enumerate((200, 600)):
            box = page.locator("#boxes span").nth(i).bounding_box()
            centre = (box["x"] + box["width"] / 2 - surface["x"]) / surface["width"]
            middle = (box["y"] + box["height"] / 2 - surface["y"]) / surface["height"]
            assert (centre, middle) == pytest.approx(((left + 5) / 800, 0.5), abs=0.03)


def test_one_request_is_in_flight_and_a_stale_reply_is_dropped(service, browser):
    with opened(browser, service.url, refused=True) as page:  # the start of a stroke may be
        held: list = []
        page.route("**/predict*", lambda route: held.append(route))
        draw(page, SEVEN)
        page.wait_for_timeout(300)
        draw(page, SEVEN)
        page.wait_for_timeout(700)
        assert len(held) == 1
        page.locator("#clear").click()
        held[0].continue_()
        page.wait_for_timeout(500)
        expect(page.locator("#digit")).to_have_text("?")
        expect(page.locator("#sentence")).to_have_text(EMPTY)


# holds the body of the next prediction back until release() is called
HOLD_BODY = """() => {
    const json = Response.prototype.json;
    Response.prototype.json = async function () {
        const body = await json.call(this);
        if (this.url.includes("predict")) await new Promise((go) => { release = go; });
        return body;
    };
}"""


def test_reply_is_dropped_if_the_drawing_is_cleared_while_its_body_arrives(service, browser):
    with opened(browser, service.url, refused=True) as page:  # the start of a stroke may be
        page.evaluate(HOLD_BODY)
        draw(page, SEVEN)
        wait_until(lambda: page.evaluate("typeof release === 'function'"))
        page.locator("#clear").click()
        page.evaluate("release()")
        page.wait_for_timeout(300)
        expect(page.locator("#digit")).to_have_text("?")
        expect(page.locator("#sentence")).to_have_text(EMPTY)


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
        page.locator("#file").set_input_files(PICTURE)
        expect(page.locator("#ask")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#ask")).to_be_hidden()
        expect(page.locator("#sentence")).to_have_text("This service requires an API key.")
        page.locator("#file").set_input_files(PICTURE)
        for key in ("wrong", "s3cret"):
            expect(page.locator("#ask")).to_be_visible()
            page.locator("#key").fill(key)
            page.keyboard.press("Enter")
        expect_answer(page, 5)
        expect(page.locator("#ask")).to_be_hidden()
        expect(page.locator("#command")).to_contain_text("Bearer $KEY")
        assert page.evaluate("sessionStorage.getItem('key')") == "s3cret"
        assert page.evaluate("localStorage.length") == 0
        assert page.context.cookies() == []


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
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


def violations(page: Page) -> list[str]:
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


def test_bars_are_not_animated_with_reduced_motion(service, browser):
    for preference in ("no-preference", "reduce"):
        with opened(browser, service.url, reduced_motion=preference) as page:
            duration = page.locator("#bars button span span").first.evaluate(
                "(bar) => getComputedStyle(bar).transitionDuration"
            )
            assert (duration == "0s") == (preference == "reduce")


@pytest.mark.slow
def test_at_least_97_of_100_synthetic_drawings_are_classified_correctly(service, browser):
    wrong = []
    with opened(browser, service.url, refused=True) as page:
        for digit in range(10):
            for writer in range(10):
                draw(page, strokes_of(digit, writer))
                try:
                    expect(page.locator("#digit")).to_have_text(str(digit), timeout=2500)
                except AssertionError:
                    wrong.append((digit, writer, page.locator("#digit").inner_text()))
                clear(page)

    assert len(wrong) <= 3, wrong


def test_page_script_and_style_are_small():
    files = [FOLDER / "templates" / "index.html", *STATIC.iterdir()]

    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
