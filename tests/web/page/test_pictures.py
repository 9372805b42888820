"""Pictures that are chosen, dropped or pasted."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from benchmarks.browser import draw
from tests.conftest import encode
from tests.web.page.conftest import (
    BAR,
    EMPTY,
    PICTURE,
    chosen,
    expect_answer,
    n_dark_pixels,
    opened,
)

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


def svg(content: str, size: str = "") -> bytes:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 100' {size}>"
    return f"{head}{content}</svg>".encode()


SVG_SEVEN = "<path d='M30 20 L70 20 L45 80' stroke='black' stroke-width='8' fill='none'/>"


NOT_SHOWN = [
    ("a.txt", b"no picture", "a.txt is text. Choose a picture, such as a PNG or a JPEG."),
    ("a.txt", "keine Größe\n".encode(), "a.txt is text."),
    ("a.png", b"", "a.png is empty. Choose another picture."),
    ("a.bin", bytes(100), "a.bin is no picture that this browser knows."),
    ("a.heic", b"\0\0\0\x18ftypheic" + bytes(99), "a.heic is a HEIC file, which this browser"),
    ("a.tif", b"II*\0" + bytes(99), "a.tif is a TIFF file, which this browser cannot open."),
    ("a.pdf", b"%PDF-1.7\n" + bytes(99), "a.pdf is a PDF file"),
    ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(99), "a.mp4 is no picture that this browser knows."),
    ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><path", "a.svg is an SVG file"),
    ("a.svg", svg("<foreignObject width='9' height='9'/>"), "a.svg is an SVG file"),
    ("a.png", encode(np.zeros((20_000, 1), np.uint8)), "a.png has 1 x 20000 pixels: too narrow"),
    ("a.png", PICTURE.read_bytes()[:40], "a.png is damaged"),
]


def test_file_that_the_browser_cannot_show_is_named(service, browser):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)  # the example
        for name, content, sentence in NOT_SHOWN:
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


def kinds() -> list[tuple[str, bytes, int]]:
    """Return files of every kind: the name, the content and the digit of each."""
    levels = np.asarray(Image.open(PICTURE).convert("L"))
    return [
        ("sized.svg", svg(SVG_SEVEN, "width='200' height='200'"), 7),
        ("unsized.svg", svg(SVG_SEVEN), 7),
        ("of one pixel.svg", svg(SVG_SEVEN, "width='1' height='1'"), 7),
        ("huge.svg", svg(SVG_SEVEN, "width='90000' height='90000'"), 7),
        ("after a mark.svg", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- 7 -->" + svg(SVG_SEVEN), 7),
        ("animated.gif", animated("GIF"), 5),
        ("animated.webp", animated("WEBP"), 5),
        ("print.jpg", encode(Image.open(PICTURE).convert("CMYK"), "JPEG"), 5),
        ("deep.png", encode(levels.astype(np.uint16) * 257), 5),
        ("turned.jpg", rotated(3), 5),
        ("on its side.jpg", rotated(6), 5),
        ("small and clear.png", on_clear(200), 5),
        ("large and clear.png", on_clear(2000), 5),
        ("a.avif", encode(Image.open(PICTURE).convert("RGB"), "AVIF"), 5),
    ]


@pytest.mark.parametrize(
    "half",  # of the kinds, on a page each
    [0, pytest.param(1, marks=pytest.mark.slow)],
)
def test_picture_of_any_kind_is_shown_and_classified(service, browser, half):
    with opened(browser, service.url) as page:
        expect_answer(page, 4)  # the example
        for name, content, digit in kinds()[half::2]:
            chosen(page, content, name)
            expect_answer(page, digit)
            # strokes over it show on it, and are sent with it
            before = page.locator("#drawing").screenshot()
            draw(page, [[(0.05, 0.95), (0.06, 0.95)]])
            assert page.locator("#drawing").screenshot() != before, name
            page.locator("#clear").click()
            expect(page.locator("#digit")).to_have_text("?")


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


def test_large_photo_is_scaled_before_it_is_sent(service, browser):
    noise = np.random.default_rng(0).normal(0, 12, (2000, 2700, 1)) + 200
    photo = np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2)
    photo[650:1350, 1310:1390] = 30
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
