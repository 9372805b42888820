"""The page in a real browser, before the real service."""

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

from benchmarks.handwriting import Stroke, written
from benchmarks.page import chromium, clear, draw
from service.web.ui import FOLDER
from tests.conftest import (
    ROOT,
    answers,
    encode,
    free_port,
    running_service,
    start_service,
    wait_until,
)

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
PICTURE = ROOT / "docs" / "digit.png"  # of a five
WIDE, NARROW = (1280, 900), (360, 740)
# how Chromium tells of every reply that is no success, and of none at all
TOLD = "Failed to load resource"
SEVEN: list[Stroke] = [[(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)]]

pytestmark = pytest.mark.skipif(
    not chromium(), reason="needs chromium, of Debian's package or in the path"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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
    browser: Browser,
    url: str,
    size: tuple[int, int] = WIDE,
    refused: bool = False,
    **how,
) -> Iterator[Page]:
    """Open the page; nothing of it may fail, or be asked of anyone else."""
    (width, height), origin = size, url.rpartition("/docs")[0] or url
    context = browser.new_context(viewport={"width": width, "height": height}, **how)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: (
            None
            if refused and message.text.startswith(TOLD)
            else wrong.append(message.text)
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


def is_read(page: Page, digit: int) -> None:
    expect(page.locator("#digit")).to_have_text(str(digit))
    expect(page.locator("#bars .best")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#bars .best b")).to_have_text(str(digit))


def test_digit_drawn_by_mouse_is_read_explained_and_offered(service, browser):
    with opened(browser, service.url, refused=True) as page:
        draw(page, SEVEN)
        is_read(page, 7)

        expect(page.locator("#sentence")).to_have_text(re.compile("7"))
        reason = page.locator("#reason")
        expect(reason).to_contain_text("for a 7 against")
        page.locator("#bars button").nth(3).click()
        expect(reason).to_contain_text("for a 3 against a 7")
        expect(reason).to_contain_text("as likely a 7 as a 3")
        expect(page.locator("#bars button").nth(3)).to_have_attribute(
            "aria-pressed", "true"
        )
        expect(page.locator("#model")).to_contain_text("MNIST")
        command = page.locator("#command").inner_text()
        assert command == f"curl -F image=@digit.png {service.url}/predict"
        with page.expect_download() as download:
            page.locator("#save").click()
        saved = Image.open(download.value.path())
        assert (saved.size, saved.getextrema()[0][0]) == ((280, 280), 0)


def test_widths_undo_and_clear_change_what_is_read(service, browser):
    with opened(browser, service.url, refused=True) as page:
        expect(page.locator("#undo")).to_be_disabled()
        draw(page, [[(0.5, 0.2), (0.5, 0.8)]])
        is_read(page, 1)
        draw(page, [[(0.5, 0.2), (0.2, 0.5)], [(0.2, 0.5), (0.8, 0.5)]])
        is_read(page, 4)
        page.locator("#undo").click()
        page.keyboard.press("Control+z")
        is_read(page, 1)
        page.locator("#clear").click()
        expect(page.locator("#sentence")).to_have_text("No digit here yet.")
        expect(page.locator("#digit")).to_have_text("?")
        page.locator("#pen").fill("40")
        draw(page, SEVEN)
        is_read(page, 7)


def test_digit_drawn_by_finger_does_not_scroll_the_page(service, browser):
    with opened(
        browser, service.url, NARROW, refused=True, has_touch=True, is_mobile=True
    ) as page:
        box = page.locator("#drawing").bounding_box()
        wire = page.context.new_cdp_session(page)
        places = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            for x, y in written(2, 0)[0] + written(2, 0)[1]
        ]
        for place in places:
            kind = "touchStart" if place is places[0] else "touchMove"
            wire.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]}
            )
        wire.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        is_read(page, 2)
        assert page.evaluate("scrollY") == 0


def test_digit_drawn_by_keys_alone_is_read(service, browser):
    with opened(browser, service.url, refused=True) as page:
        page.keyboard.press("Tab")
        expect(page.locator("#drawing")).to_be_focused()
        for key in ["Space", *["ArrowDown"] * 18, "Space"]:
            page.keyboard.press(key)
        is_read(page, 1)
        page.keyboard.press("c")
        expect(page.locator("#sentence")).to_have_text("No digit here yet.")
        for key in [*["ArrowLeft"] * 6, "Space", *["ArrowRight"] * 10]:
            page.keyboard.press(key)
        for key in [*["ArrowDown", "ArrowDown", "ArrowLeft"] * 6, "Space"]:
            page.keyboard.press(key)
        is_read(page, 7)


BRING = """([kind, bytes]) => {
    const transfer = new DataTransfer();
    const file = new File([new Uint8Array(bytes)], "it's a.png", {type: "image/png"});
    transfer.items.add(file);
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
        : new DragEvent("drop", {dataTransfer: transfer, bubbles: true});
    document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["chosen", "drop", "paste"])
def test_picture_that_is_brought_is_shown_and_read(service, browser, way):
    with opened(browser, service.url) as page:
        if way == "chosen":
            page.locator("#file").set_input_files(PICTURE)
        else:
            page.evaluate(BRING, [way, list(PICTURE.read_bytes())])
        is_read(page, 5)
        expect(page.locator("#picture")).to_be_visible()
        expect(page.locator("#drawing")).to_be_hidden()
        named = "digit.png" if way == "chosen" else "'it'\\''s a.png'"
        expect(page.locator("#command")).to_contain_text(f"image=@{named} ")
        page.locator("#clear").click()
        expect(page.locator("#drawing")).to_be_visible()
        expect(page.locator("#sentence")).to_have_text("No digit here yet.")


@pytest.mark.parametrize(
    ("upload", "sentence"),
    [
        (b"no picture", "That cannot be read. The 10 bytes sent"),
        (encode(np.zeros((50, 50), np.uint8)), "No digit here. "),
        (b"", "That cannot be read. There is no picture"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(service, browser, upload, sentence):
    with opened(browser, service.url, refused=True) as page:
        file = {"name": "x.png", "mimeType": "image/png", "buffer": upload}
        page.locator("#file").set_input_files(file)
        expect(page.locator("#sentence")).to_contain_text(sentence)
        expect(page.locator("#digit")).to_have_text("?")
        page.locator("#file").set_input_files(PICTURE)
        is_read(page, 5)


def test_one_request_is_under_way_and_a_late_reply_is_dropped(service, browser):
    with opened(browser, service.url) as page:
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
        expect(page.locator("#sentence")).to_have_text("No digit here yet.")


def test_service_that_is_away_is_waited_for(browser):
    port = str(free_port())
    process = start_service(PORT=port)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/readyz"))
    try:
        with opened(browser, url, refused=True) as page:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            draw(page, SEVEN)
            expect(page.locator("#sentence")).to_contain_text("does not answer")
            process = start_service(PORT=port)
            is_read(page, 7)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_key_is_asked_for_and_kept_for_the_tab_alone(browser):
    digest = hashlib.sha256(b"s3cret").hexdigest()
    with (
        running_service(DIGITS_API_KEYS=digest) as service,
        opened(browser, service.url, refused=True) as page,
    ):
        page.locator("#file").set_input_files(PICTURE)
        expect(page.locator("#ask")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#ask")).to_be_hidden()
        expect(page.locator("#sentence")).to_have_text("This service wants a key.")
        page.locator("#file").set_input_files(PICTURE)
        for key in ("wrong", "s3cret"):
            expect(page.locator("#ask")).to_be_visible()
            page.locator("#key").fill(key)
            page.keyboard.press("Enter")
        is_read(page, 5)
        expect(page.locator("#ask")).to_be_hidden()
        expect(page.locator("#command")).to_contain_text("Bearer $KEY")
        assert page.evaluate("sessionStorage.getItem('key')") == "s3cret"
        assert page.evaluate("localStorage.length") == 0
        assert page.context.cookies() == []


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_axe_finds_nothing(service, browser, size, scheme, path):
    with opened(
        browser, service.url + path, size, color_scheme=scheme, bypass_csp=True
    ) as page:
        states = 1
        if path == "/":
            page.evaluate(AXE)
            assert violations(page) == []
            page.locator("#file").set_input_files(PICTURE)
            is_read(page, 5)
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


def test_bars_do_not_move_where_motion_is_not_wanted(service, browser):
    for wanted in ("no-preference", "reduce"):
        with opened(browser, service.url, reduced_motion=wanted) as page:
            duration = page.locator("#bars button span span").first.evaluate(
                "(bar) => getComputedStyle(bar).transitionDuration"
            )
            assert (duration == "0s") == (wanted == "reduce")


def test_hundred_digits_of_ten_hands_are_read(service, browser):
    wrong = []
    with opened(browser, service.url, refused=True) as page:
        for digit in range(10):
            for hand in range(10):
                draw(page, written(digit, hand))
                try:
                    expect(page.locator("#digit")).to_have_text(
                        str(digit), timeout=2500
                    )
                except AssertionError:
                    wrong.append((digit, hand, page.locator("#digit").inner_text()))
                clear(page)

    assert len(wrong) <= 3, wrong


def test_page_is_small_and_brings_nothing_from_elsewhere():
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}

    assert set(sizes) == {"index.html", "script.js", "style.css"}
    assert sum(sizes.values()) <= 40 * 2**10
