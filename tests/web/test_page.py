"""The page in Chromium, with the running service."""

import hashlib
import io
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from benchmarks.browser import chromium, draw
from benchmarks.handwriting import Stroke, strokes_of
from benchmarks.page import clear
from benchmarks.page_sequences import stale_answers
from service.classifier import load, save
from service.feedback import corrections
from service.images import read_image
from service.settings import DEFAULT_LIMITS, EMBEDDED_WEIGHTS
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
EMPTY = "No digit yet. Draw one, or choose a picture."
MAX_BYTES = 60 * 2**10  # of the page, its script and its style sheet
N_SEQUENCES = 12  # python -m benchmarks.page --sequences 500 plays more
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
        expect_answer(page, 4)  # the example
        if way == "chosen":
            page.locator("#file").set_input_files(PICTURE)
        else:
            page.evaluate(TRANSFER, [way, list(PICTURE.read_bytes())])
        expect_answer(page, 5)
        name = "digit.png" if way == "chosen" else "it's a.png"
        expect(page.locator("#drawing")).to_have_attribute(
            "aria-label", f"Drawing area with {name}"
        )
        assert n_dark_pixels(page) > 500
        quoted = "digit.png" if way == "chosen" else "'it'\\''s a.png'"
        expect(page.locator("#command")).to_contain_text(f"image=@{quoted} ")
        page.locator("#clear").click()
        expect(page.locator("#sentence")).to_have_text(EMPTY)
        assert n_dark_pixels(page) == 0


def n_dark_pixels(page: Page) -> int:
    """Return how many pixels of the drawing area are covered with dark ink."""
    return page.locator("#drawing").evaluate(
        """({ width, height }) => {
            const copy = new OffscreenCanvas(width, height).getContext("2d");
            copy.drawImage(document.getElementById("drawing"), 0, 0);
            const { data } = copy.getImageData(0, 0, width, height);
            let n = 0;
            for (let i = 0; i < data.length; i += 4) n += data[i] < 100 && data[i + 3] > 200;
            return n;
        }"""
    )


def chosen(page: Page, content: bytes, name: str = "x.png") -> None:
    """Choose a file of the given content."""
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("#file").set_input_files(file)


def svg(content: str, size: str = "") -> bytes:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 100' {size}>"
    return f"{head}{content}</svg>".encode()


SVG_SEVEN = "<path d='M30 20 L70 20 L45 80' stroke='black' stroke-width='8' fill='none'/>"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"no picture", "a.txt is text. Choose a picture, such as a PNG or a JPEG."),
        ("a.txt", "keine Größe\n".encode(), "a.txt is text."),
        ("a.png", b"", "a.png is empty. Choose another picture."),
        ("a.bin", bytes(100), "a.bin is no picture that this browser knows."),
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(99), "a.heic is a HEIC file, which this browser"),
        ("a.tif", b"II*\0" + bytes(99), "a.tif is a TIFF file, which this browser cannot open."),
        ("a.pdf", b"%PDF-1.7\n" + bytes(99), "a.pdf is a PDF file"),
        (
            "a.mp4",
            b"\0\0\0\x18ftypisom" + bytes(99),
            "a.mp4 is no picture that this browser knows.",
        ),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><path", "a.svg is an SVG file"),
        ("a.svg", svg("<foreignObject width='9' height='9'/>"), "a.svg is an SVG file"),
        (
            "a.png",
            encode(np.zeros((20_000, 1), np.uint8)),
            "a.png has 1 x 20000 pixels: too narrow",
        ),
        ("a.png", PICTURE.read_bytes()[:40], "a.png is damaged"),
    ],
)
def test_file_that_the_browser_cannot_show_is_named(service, browser, name, content, sentence):
    with opened(browser, service.url) as page:
        chosen(page, content, name)
        expect(page.locator("#sentence")).to_contain_text(sentence)
        expect(page.locator("#digit")).to_have_text("?")
        page.locator("#file").set_input_files(PICTURE)
        expect_answer(page, 5)


def rotated(orientation: int) -> bytes:
    """Return a JPEG of the picture that EXIF turns upright."""
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.open(PICTURE).convert("RGB").transpose(turn).save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


def on_clear(side: int) -> bytes:
    """Return white ink on a transparent ground."""
    ink = Image.open(PICTURE).convert("L").point(lambda grey: 255 - grey).resize((side, side))
    white = Image.new("RGBA", ink.size, (255, 255, 255, 0))
    white.putalpha(ink)
    return encode(white)


def animated(kind: str) -> bytes:
    """Return frames of which the first is the picture."""
    file = io.BytesIO()
    first = Image.open(PICTURE).convert("RGB")
    others = [Image.new("RGB", first.size, grey) for grey in ("white", "black")]
    first.save(file, kind, save_all=True, append_images=others, duration=50, loop=0, lossless=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "digit"),
    [
        ("sized.svg", svg(SVG_SEVEN, "width='200' height='200'"), 7),
        ("unsized.svg", svg(SVG_SEVEN), 7),
        ("of one pixel.svg", svg(SVG_SEVEN, "width='1' height='1'"), 7),
        ("huge.svg", svg(SVG_SEVEN, "width='90000' height='90000'"), 7),
        ("after a mark.svg", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- 7 -->" + svg(SVG_SEVEN), 7),
        ("animated.gif", animated("GIF"), 5),
        ("animated.webp", animated("WEBP"), 5),
        ("print.jpg", encode(Image.open(PICTURE).convert("CMYK"), "JPEG"), 5),
        (
            "deep.png",
            encode(np.asarray(Image.open(PICTURE).convert("L")).astype(np.uint16) * 257),
            5,
        ),
        ("turned.jpg", rotated(3), 5),
        ("on its side.jpg", rotated(6), 5),
        ("small and clear.png", on_clear(200), 5),
        ("large and clear.png", on_clear(2000), 5),
        ("a.avif", encode(Image.open(PICTURE).convert("RGB"), "AVIF"), 5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_picture_of_any_kind_is_shown_and_classified(service, browser, name, content, digit):
    with opened(browser, service.url) as page:
        chosen(page, content, name)
        expect_answer(page, digit)
        # strokes over it show on it, and are sent with it
        before = page.locator("#drawing").screenshot()
        draw(page, [[(0.05, 0.95), (0.06, 0.95)]])
        assert page.locator("#drawing").screenshot() != before


def test_white_ink_on_a_clear_picture_is_seen(service, browser):
    with opened(browser, service.url) as page:
        chosen(page, on_clear(200))
        expect_answer(page, 5)
        assert n_dark_pixels(page) > 10_000  # what is clear is shown black


def dropped(page: Page, *paths: Path) -> None:
    """Drop files or folders on the page, as a file manager does."""
    wire = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        wire.send("Input.dispatchDragEvent", {"type": kind, "x": 99, "y": 99, "data": data})


def test_folder_that_is_dropped_is_named_and_files_beside_it_are_read(service, browser, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    with opened(browser, service.url) as page:
        dropped(page, folder)
        expect(page.locator("#sentence")).to_have_text(
            "mine cannot be read. Of a folder, choose the pictures in it."
        )
        dropped(page, folder, PICTURE)
        expect_answer(page, 5)
        expect(page.locator("#note")).to_have_text("2 files: 1 read, the last one shown.")


def test_refusal_is_shown_with_the_detail_of_the_service(service, browser):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)  # the example
        with page.expect_response("**/predict*") as reply:
            chosen(page, encode(np.zeros((50, 50), np.uint8)))
        detail = reply.value.json()["predictions"][0]["error"]["detail"]
        sentence = f"No prediction. {detail[0].upper()}{detail[1:]}."
        expect(page.locator("#sentence")).to_have_text(sentence)
        expect(page.locator("#digit")).to_have_text("?")


BAR = np.full((200, 120), 255, np.uint8)  # a one
BAR[40:160, 54:66] = 0


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


def test_large_photo_is_scaled_before_it_is_sent(service, browser):
    noise = np.random.default_rng(0).normal(0, 12, (3000, 4000, 1)) + 200
    photo = np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2)
    photo[1000:2000, 1950:2050] = 30
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(photo).save(file, "JPEG", quality=95, exif=exif)
    assert len(file.getvalue()) > 2**21
    with opened(browser, service.url) as page:
        chosen(page, file.getvalue(), "photo.jpg")
        expect(page.locator("#sentence")).to_have_text(re.compile(r"digit|certain|[Pp]rob|likely"))
        with page.expect_download() as download:
            page.locator("#save").click()
        sent = Path(download.value.path())
        assert sent.stat().st_size <= 300 * 1024
        with Image.open(sent) as scaled:
            width, height = scaled.size
        assert width < height <= 1600  # upright


def test_part_of_a_picture_is_cropped_by_dragging_or_keys(service, browser):
    two = np.hstack([BAR] * 3)
    two[40:52, 270:330] = 0  # the last is a seven
    with opened(browser, service.url) as page:
        chosen(page, encode(two))
        page.locator("#crop").click()
        box = page.locator("#surface").bounding_box()
        at = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"])
            for x, y in ((0.02, 0.25), (0.33, 0.75))
        ]
        page.mouse.move(*at[0])
        page.mouse.down()
        page.mouse.move(*at[1])
        page.mouse.up()
        page.locator("#crop-use").click()
        expect_answer(page, 1)
        page.keyboard.press("Control+z")  # the whole picture
        page.locator("#crop").click()
        for key in ["ArrowRight"] * 3 + ["Shift+ArrowLeft"] * 20:
            page.keyboard.press(key)
        page.keyboard.press("Escape")
        expect(page.locator("#frame")).to_be_hidden()
        expect(page.locator("#tools")).to_be_visible()


SMALL: Image.Image = Image.new("L", (1280, 800), 120)  # a five in a window of a screenshot
SMALL.paste(Image.open(PICTURE).convert("L").resize((200, 200)), (700, 300))
AROUND = ((0.53, 0.4), (0.72, 0.62))  # shares of the surface


def test_crop_is_advised_where_a_digit_may_be_small_and_the_first_drag_chooses_it(service, browser):
    with opened(browser, service.url) as page:
        chosen(page, encode(SMALL))
        expect(page.locator("#sentence")).to_contain_text("crop to it")
        expect(page.locator("#crop")).to_have_class("advised")
        page.evaluate(AXE)
        assert violations(page) == []
        page.locator("#crop").click()
        drag(page, *AROUND)
        drag(page, AROUND[1], (0.74, 0.64))  # a corner
        drag(page, (0.6, 0.5), (0.59, 0.49))  # the box
        page.evaluate(AXE)
        assert violations(page) == []
        page.keyboard.press("Enter")
        expect_answer(page, 5)
        expect(page.locator("#sentence")).not_to_contain_text("crop to it")
        expect(page.locator("#crop")).not_to_have_class("advised")


def test_strokes_over_a_picture_stay_on_the_part_that_is_cropped(service, browser):
    with opened(browser, service.url) as page:
        chosen(page, encode(BAR))
        expect_answer(page, 1)
        draw(page, [[(0.38, 0.25), (0.35, 0.55)], [(0.35, 0.55), (0.66, 0.55)]])
        expect_answer(page, 4)
        page.locator("#crop").click()
        page.keyboard.press("Enter")
        expect(page.locator("#recent button")).to_have_text("4")
        expect_answer(page, 4)
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        expect_answer(page, 1)


def test_digit_is_cropped_by_keys_alone(service, browser):
    with opened(browser, service.url) as page:
        chosen(page, encode(SMALL))
        expect(page.locator("#crop")).to_have_class("advised")
        page.locator("#crop").press("Enter")
        for key in ["Shift+ArrowLeft"] * 25 + ["Shift+ArrowUp"] * 10 + ["ArrowRight"] * 19:
            page.keyboard.press(key)
        for key in ["ArrowDown"] * 5 + ["Enter"]:
            page.keyboard.press(key)
        expect_answer(page, 5)
        expect(page.locator("#drawing")).to_be_focused()


def test_digit_is_cropped_by_two_fingers(service, browser):
    touch = {"has_touch": True, "is_mobile": True}
    with opened(browser, service.url, NARROW, **touch) as page:
        chosen(page, encode(SMALL))
        expect(page.locator("#crop")).to_have_class("advised")
        page.locator("#crop").tap()
        box = page.locator("#surface").bounding_box()
        wire = page.context.new_cdp_session(page)

        def touched(kind: str, *places: tuple[float, float]) -> None:
            points = [
                {"id": i, "x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
                for i, (x, y) in enumerate(places)
            ]
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touched("touchStart", (0.55, 0.45))
        touched("touchStart", (0.55, 0.45), (0.65, 0.55))
        touched("touchMove", *AROUND)
        touched("touchEnd")
        page.locator("#crop-use").tap()
        expect_answer(page, 5)
        assert page.evaluate("[scrollX, scrollY]") == [0, 0]


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag between two places, as shares of the drawing area."""
    box = page.locator("#surface").bounding_box()
    for i, (x, y) in enumerate((start, end)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.up() if i else page.mouse.down()


def test_every_one_of_several_files_is_read_and_can_be_brought_back(service, browser):
    with opened(browser, service.url) as page:
        files = [
            {"name": f"{i}.png", "mimeType": "image/png", "buffer": content}
            for i, content in enumerate([PICTURE.read_bytes(), encode(BAR)])
        ]
        page.locator("#file").set_input_files(files)
        expect(page.locator("#note")).to_contain_text("2 files")
        expect_answer(page, 1)
        earlier = page.locator("#recent button")
        expect(earlier).to_have_text("5")
        earlier.click()
        expect_answer(page, 5)
        expect(earlier).to_have_text(["1", "5"])


def test_text_that_is_dropped_is_no_picture(service, browser):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)
        page.evaluate(
            """() => {
                const dataTransfer = new DataTransfer();
                dataTransfer.setData("text/plain", "seven");
                document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
            }"""
        )
        expect(page.locator("#note")).to_contain_text("That is text.")


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


@pytest.mark.parametrize("size", [(740, 360), (640, 450), (2560, 1300)])
def test_drawing_and_answer_are_on_one_screen(service, browser, size):
    with opened(browser, service.url, size) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        for name in ("#drawing", "#digit", "#sentence"):
            box = page.locator(name).bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= size[1], name
        widths = page.evaluate("[...document.querySelectorAll('main')].map((m) => m.clientWidth)")
        assert widths[0] > 0.7 * size[0]


def test_verdict_and_first_bars_are_seen_beneath_the_drawing_on_a_phone(service, browser):
    touch = {"has_touch": True, "is_mobile": True}
    with opened(browser, service.url, NARROW, **touch) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        assert page.evaluate("scrollY") == 0
        for name in ("#digit", "#sentence", *(f"#bars li:nth-child({i})" for i in (1, 2, 3))):
            box = page.locator(name).bounding_box()
            assert box["y"] + box["height"] <= NARROW[1], name
        names = ("#undo", "#redo", "#clear", "#pen", "[for=file]", "[for=photo]")
        boxes = [page.locator(name).bounding_box() for name in names]
        middles = {round(box["y"] + box["height"] / 2) for box in boxes}
        assert len(middles) == 2, "rows of tools"


@pytest.mark.parametrize("size", [WIDE, NARROW, (600, 900), (740, 360)])
def test_tools_begin_at_the_edge_of_the_drawing_area(service, browser, size):
    with opened(browser, service.url, size) as page:
        edges = [page.locator(name).bounding_box()["x"] for name in ("#surface", "#undo")]
        assert edges[0] == edges[1]


def test_command_wraps_on_a_phone(service, browser):
    with opened(browser, service.url, NARROW) as page:
        expect_answer(page, 4)
        chosen(page, PICTURE.read_bytes(), f"{'long' * 30}.png")
        expect_answer(page, 5)
        expect(page.locator("#save")).to_have_text(f"Save as {'long' * 30}.png")
        command = page.locator("pre")
        assert command.evaluate("(pre) => pre.scrollWidth <= pre.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


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


def test_bars_are_seen_in_forced_colours(service, browser):
    with opened(browser, service.url, forced_colors="active") as page:
        expect_answer(page, 4)
        of = "(each) => getComputedStyle(each).backgroundColor"
        track = page.locator("#bars .best > span").evaluate(of)
        assert page.locator("#bars .best > span > span").evaluate(of) != track


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


def test_words_of_confidence_follow_both_probabilities(browser, tmp_path):
    with service_with(tmp_path, 0.0) as url, opened(browser, url) as page:
        page.locator("#file").set_input_files(PICTURE)
        expect_answer(page, 5)
        expect(page.locator("#sentence")).to_have_text(
            "Uncertain: perhaps a 5. It may not be a digit: P(digit) is 50.0 %."
        )


ONE_AND_SEVEN: list[Stroke] = [
    [(0.25, 0.3), (0.25, 0.7)],
    [(0.5, 0.3), (0.75, 0.3), (0.68, 0.5), (0.6, 0.7)],
]


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


@pytest.mark.slow
def test_no_answer_to_an_earlier_input_is_shown(service, browser):
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    stale = list(stale_answers(context.new_page(), service.url, N_SEQUENCES))
    context.close()

    assert stale == []


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


def test_page_script_and_style_are_small():
    files = [FOLDER / "templates" / "index.html", STATIC / "style.css", *STATIC.glob("*.js")]

    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_answer_is_corrected_beside_the_bars_where_the_service_keeps_that(browser, tmp_path):
    with running_service(DIGITS_FEEDBACK_DIR=str(tmp_path)) as service:
        with opened(browser, service.url) as page:
            draw(page, SEVEN)
            expect_answer(page, 7)
            expect(page.locator("#correct")).to_be_hidden()
            page.locator("#bars button").nth(3).click()

            button, said = page.locator("#correct"), page.locator("#kept")
            expect(button).to_have_text("No, it is a 3")
            expect(said).to_contain_text("The service then keeps the picture")
            assert corrections(tmp_path) == []
            button.click()

            expect(said).to_contain_text("Kept by the service.")
            expect(button).to_be_disabled()
            clear(page)
            expect(page.locator("#correction")).to_be_hidden()
        (kept,) = corrections(tmp_path)
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


def test_card_of_the_drawing_ends_with_its_tools_beside_a_longer_answer(browser, tmp_path):
    settings = {"DIGITS_FEEDBACK_DIR": str(tmp_path)}
    with running_service(**settings) as service, opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect(page.locator("#none")).to_be_visible()
        boxes = [page.locator(name).bounding_box() for name in (".draw", "#tools")]
        card, tools = (box["y"] + box["height"] for box in boxes)
        assert 0 < card - tools < 20


def test_answer_is_corrected_to_no_digit(browser, tmp_path):
    with running_service(DIGITS_FEEDBACK_DIR=str(tmp_path)) as service:
        with opened(browser, service.url) as page:
            expect_answer(page, 4)  # the example
            expect(page.locator("#correction")).to_be_hidden()
            draw(page, SEVEN)
            expect_answer(page, 7)
            page.locator("#none").click()

            expect(page.locator("#kept")).to_contain_text("Kept by the service")
            expect(page.locator("#none")).to_be_disabled()
        (kept,) = corrections(tmp_path)
    assert (kept.digit, kept.answer["digit"]) == (None, 7)


def test_digits_of_a_number_are_corrected_one_by_one(browser, tmp_path):
    settings = {"DIGITS_FEEDBACK_DIR": str(tmp_path / "kept")}
    with running_service(**settings) as service, opened(browser, service.url) as page:
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

        kept = corrections(tmp_path / "kept")
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


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
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
    ],
)
def test_foreign_reply_is_named_and_does_not_stop_the_page(
    service, browser, status, body, sentence
):
    with opened(browser, service.url, refused=True) as page:
        expect(page.locator("#bars .best")).to_be_visible()  # the example
        page.route("**/predict*", lambda route: route.fulfill(status=status, body=body))
        draw(page, SEVEN)
        expect(page.locator("#sentence")).to_contain_text(sentence)

        page.unroute("**/predict*")
        draw(page, [[(0.1, 0.9), (0.1, 0.91)]])
        expect_answer(page, 7)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("2", 2), ("99999999999", 60), ("-1", 1), ("Wed, 21 Oct 2037", 1)]
)
def test_busy_service_is_asked_again_no_sooner_than_it_says(service, browser, retry_after, seconds):
    asked: list[float] = []

    def answer(route: Route) -> None:
        asked.append(time.monotonic())
        route.fulfill(status=503, body='{"detail": "busy"}', headers={"Retry-After": retry_after})

    with opened(browser, service.url, refused=True) as page:
        expect(page.locator("#bars .best")).to_be_visible()  # the example
        page.route("**/predict*", answer)
        draw(page, SEVEN)
        expect(page.locator("#sentence")).to_have_text("The service is busy; retrying…")
        page.wait_for_timeout(2_500)
        if seconds > 2:
            page.locator("#clear").click()
            page.locator("#undo").click()
            expect(page.locator("#sentence")).to_have_text("Waiting for the service…")

    assert len(asked) == 1 if seconds > 2 else len(asked) > 1
    assert all(b - a >= 0.9 * seconds for a, b in pairwise(asked))


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


def test_answer_to_earlier_strokes_is_not_kept_as_a_recent_one(service, browser):
    with opened(browser, service.url) as page:
        draw(page, SEVEN)
        expect_answer(page, 7)
        page.route("**/predict*", lambda route: None)
        draw(page, [[(0.2, 0.9), (0.9, 0.9)]])
        page.locator("#clear").click()

        expect(page.locator("#recent button")).to_have_count(0)
