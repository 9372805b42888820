"""Pictures read as images in MNIST's format, from the bytes of an upload."""

import contextlib
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFilter, PngImagePlugin

from service.classifier import load
from service.images import read_image
from service.reading.containers.formats import FORMATS
from service.reading.decode import decode
from service.reading.errors import InvalidImage, UnknownFormat
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import ROOT, encode


def black_on_white(digit: np.ndarray, side: int = 200, at=(40, 90), size: int = 60):
    """Draw a digit in dark ink on a larger white sheet."""
    sheet = np.full((side, side), 255, np.uint8)
    ink = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    sheet[at[0] : at[0] + size, at[1] : at[1] + size] = 255 - np.asarray(ink)
    return sheet


@pytest.fixture(scope="module")
def five(drawn) -> np.ndarray:
    return drawn.test.images[list(drawn.test.labels).index(5)]


def assert_close(read: np.ndarray, expected: np.ndarray, tolerance: float = 20.0):
    """Assert that two images differ by less than the tolerance on average."""
    assert read.shape == (28, 28)
    assert read.dtype == np.uint8
    assert np.abs(read.astype(float) - expected).mean() < tolerance


def test_mnist_shaped_upload_passes_through_unchanged(digits):
    for image in digits.test.images[:500]:
        np.testing.assert_array_equal(read_image(encode(image)), image)


def test_a_dark_digit_on_a_large_white_sheet_is_read_as_its_mnist_image(five):
    assert_close(read_image(encode(black_on_white(five))), five)


def test_polarity_does_not_matter(five):
    sheet = black_on_white(five)

    np.testing.assert_array_equal(read_image(encode(sheet)), read_image(encode(255 - sheet)))


@settings(max_examples=30)
@given(st.integers(0, 140), st.integers(0, 140))
def test_place_on_the_sheet_does_not_matter(top, left):
    bar = np.zeros((28, 28), np.uint8)
    bar[4:24, 12:15] = 255
    bar[4:7, 12:20] = 255

    reference = read_image(encode(black_on_white(bar)))

    moved = black_on_white(bar, at=(top, left))
    np.testing.assert_array_equal(read_image(encode(moved)), reference)


@pytest.mark.parametrize("size", [24, 56, 120, 190])
def test_size_on_the_sheet_does_not_matter(size, five):
    sheet = black_on_white(five, at=(5, 5), size=size)

    assert_close(read_image(encode(sheet)), five, tolerance=25)


def test_ink_fills_a_box_of_20_pixels_centred_by_mass(drawn):
    for digit in drawn.test.images[:40]:
        image = read_image(encode(black_on_white(digit)))

        ink = image > 24  # a blurred edge may reach one pixel farther, faintly
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        box = max(np.ptp(rows), np.ptp(columns)) + 1
        mass = image / image.sum()
        assert 19 <= box <= 20
        assert abs(mass.sum(1) @ np.arange(28) - 14) < 1
        assert abs(mass.sum(0) @ np.arange(28) - 14) < 1


def in_mode(sheet: np.ndarray, mode: str) -> Image.Image:
    picture = Image.fromarray(sheet)
    if mode == "I;16":
        return Image.fromarray(sheet.astype(np.uint16) * 200 + 300)
    if mode == "dark on transparent":
        opaque = Image.new("RGBA", picture.size, (0, 0, 60, 0))
        opaque.putalpha(Image.fromarray(255 - sheet))
        return opaque
    if mode == "light on transparent":
        opaque = Image.new("RGBA", picture.size, (255, 255, 200, 0))
        opaque.putalpha(Image.fromarray(255 - sheet))
        return opaque
    return picture.convert(mode)


@pytest.mark.parametrize(
    "mode",
    [
        *("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        *("dark on transparent", "light on transparent"),
    ],
)
def test_png_of_every_mode_is_read(mode, five):
    assert_close(read_image(encode(in_mode(black_on_white(five), mode))), five, 25)


def test_palette_with_a_transparent_colour_is_read(five):
    picture = Image.fromarray(black_on_white(five)).convert("P")

    assert_close(read_image(encode(picture, transparency=255)), five, 25)


def test_cmyk_jpeg_is_read(five):
    picture = Image.fromarray(black_on_white(five)).convert("CMYK")

    assert_close(read_image(encode(picture, "JPEG", quality=95)), five, 25)


@pytest.mark.parametrize(
    ("kind", "options"), [("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True})]
)
def test_the_same_pixels_in_another_format_are_the_same_image(kind, options, five):
    sheet = black_on_white(five)

    np.testing.assert_array_equal(
        read_image(encode(sheet, kind, **options)), read_image(encode(sheet))
    )


def test_jpeg_turned_by_its_exif_orientation_is_read_upright(five):
    upright = Image.fromarray(black_on_white(five))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    turned = upright.transpose(Image.Transpose.ROTATE_90)

    read = read_image(encode(turned, "JPEG", quality=95, exif=exif))

    assert_close(read, read_image(encode(upright)))


def test_first_frame_of_an_animation_is_the_picture(five):
    first = Image.fromarray(black_on_white(five))
    second = Image.new("L", first.size, 255)

    upload = encode(first, "GIF", save_all=True, append_images=[second])

    np.testing.assert_array_equal(read_image(upload), read_image(encode(first)))


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("L", (28, 28), 0),
        Image.new("L", (28, 28), 255),
        Image.new("RGB", (300, 200), (200, 10, 10)),
        Image.new("RGBA", (50, 50), (0, 0, 0, 0)),
        Image.new("I;16", (40, 40), 30000),
        Image.fromarray((np.arange(1600).reshape(40, 40) % 10 + 100).astype(np.uint8)),
    ],
    ids=["black", "white", "red", "transparent", "16-bit", "faint noise"],
)
def test_picture_without_ink_is_refused(picture):
    with pytest.raises(InvalidImage, match="blank"):
        read_image(encode(picture))


def huge_png() -> bytes:
    """A PNG whose header alone claims 50,000 x 50,000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_picture_of_too_many_pixels_is_refused_before_it_is_decoded():
    with pytest.raises(InvalidImage, match="50000 pixels; send at most 89,478,485"):
        read_image(huge_png())
    with pytest.raises(InvalidImage, match="at most 25,000"):
        read_image(encode(Image.new("1", (26, 1000))), max_pixels=25_000)


def test_truncated_picture_is_refused(five):
    upload = encode(black_on_white(five))

    with pytest.raises(InvalidImage, match="damaged"):
        read_image(upload[: len(upload) // 2])


@pytest.mark.parametrize("upload", [b"hello, world", b"GIF8", bytes(64)])
def test_an_unknown_format_is_refused_with_its_first_bytes(upload):
    with pytest.raises(UnknownFormat) as caught:
        read_image(upload)

    assert repr(upload[:8]) in str(caught.value)
    assert all(kind in str(caught.value) for kind in FORMATS)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_an_invalid_image(upload):
    with pytest.raises(InvalidImage):
        read_image(upload)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pictures_are_read_or_refused_as_invalid_images(data):
    kind = data.draw(st.sampled_from(FORMATS))
    upload = bytearray(encode(np.arange(900, dtype=np.uint8).reshape(30, 30), kind))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(upload) - 1))
        upload[place] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(upload))
    except InvalidImage:
        return
    assert image.shape == (28, 28)


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))
)
def test_any_pixels_are_read_or_refused_as_invalid_images(pixels):
    try:
        image = read_image(encode(pixels))
    except InvalidImage:
        return
    assert image.shape == (28, 28)
    assert image.max() == 255


def test_sixteen_bit_levels_keep_their_order():
    levels = np.array([[0, 20_000, 40_000, 60_000]], np.uint16)

    read = np.asarray(decode(encode(Image.fromarray(levels))))

    np.testing.assert_allclose(read, [[0, 85, 170, 255]], atol=1)


def test_sixteen_bit_noise_is_not_stretched_into_ink():
    noise = np.random.default_rng(0).integers(30_000, 30_004, (28, 28))

    with pytest.raises(InvalidImage, match="blank"):
        read_image(encode(Image.fromarray(noise.astype(np.uint16))))


@pytest.fixture(scope="module")
def shipped():
    return load(EMBEDDED_WEIGHTS)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 199), st.booleans(), st.integers(0, 90), st.integers(0, 90), st.integers(0, 120)
)
def test_polarity_shift_and_padding_do_not_change_the_digit(
    drawn, shipped, index, inverted, top, left, padding
):
    digit = drawn.test.images[index]
    sheet = black_on_white(digit, at=(top + 10, left + 10), size=90)
    sheet = np.pad(sheet, padding, constant_values=255)

    image = read_image(encode(255 - sheet if inverted else sheet))

    probabilities = shipped.predict_proba(np.stack([image, digit]))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-9)
    assert probabilities[0].argmax() == probabilities[1].argmax()


def drawn_on_white(side: int = 280) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("L", (side, side), 255)
    return picture, ImageDraw.Draw(picture)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ("ellipse", (100, 100, 180, 180)),
        ("ellipse", (125, 125, 155, 155)),
        ("rectangle", (60, 60, 220, 220)),
    ],
)
def test_shapes_without_strokes_are_refused(shape, box):
    picture, pencil = drawn_on_white()
    getattr(pencil, shape)(box, fill=0)

    with pytest.raises(InvalidImage, match="blob"):
        read_image(encode(picture))


@pytest.mark.parametrize("rows", [[140], [90, 190], range(20, 280, 40)])
def test_horizontal_lines_alone_are_refused(rows):
    picture, pencil = drawn_on_white()
    for row in rows:
        pencil.line((0, row, 280, row), fill=0, width=4)

    with pytest.raises(InvalidImage, match="line"):
        read_image(encode(picture))


def test_empty_ruled_paper_with_a_margin_is_refused():
    picture, pencil = drawn_on_white()
    for row in range(20, 280, 40):
        pencil.line((0, row, 280, row), fill=90, width=3)
    pencil.line((60, 0, 60, 280), fill=60, width=3)

    with pytest.raises(InvalidImage, match="lines"):
        read_image(encode(picture))


def test_upright_line_is_a_one(shipped):
    picture, pencil = drawn_on_white()
    pencil.line((140, 60, 140, 220), fill=0, width=14)

    image = read_image(encode(picture))

    assert shipped.predict_proba(image[None])[0].argmax() == 1


def test_ink_on_the_border_is_read_or_refused_as_an_invalid_image():
    levels = np.full((100, 202), 230, np.uint8)
    levels[20:80, 201] = 40

    for turned in range(4):
        try:
            image = read_image(encode(np.rot90(levels, turned)))
        except InvalidImage:
            continue
        assert image.shape == (28, 28)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flat_rectangles_are_read_or_refused_as_invalid_images(data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    h, w = draw(1, 320), draw(1, 320)
    levels = np.full((h, w), draw(0, 255), np.uint8)
    for _ in range(draw(1, 3)):
        top, left = draw(0, h - 1), draw(0, w - 1)
        levels[top : draw(top, h), left : draw(left, w)] = draw(0, 255)
    try:
        image = read_image(encode(levels))
    except InvalidImage:
        return
    assert image.shape == (28, 28)


@pytest.mark.parametrize("width", [9, 13, 17])
def test_thick_digits_that_were_cropped_keep_their_polarity(width, five):
    """A five of thick strokes that nearly fills its picture."""
    large = Image.fromarray(five[4:24, 4:24]).resize((180, 180), Image.Resampling.BICUBIC)
    ink = np.asarray(large.filter(ImageFilter.MaxFilter(width)))
    sheet = np.pad(np.where(ink > 128, 0, 255).astype(np.uint8), 6, constant_values=255)

    read = read_image(encode(sheet))

    np.testing.assert_array_equal(read, read_image(encode(255 - sheet)))
    assert (read > 0).mean() < 0.5


def test_a_picture_with_some_text_is_read_and_turned_by_it(five):
    sheet = Image.fromarray(black_on_white(five))
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 500_000, zip=True)
    xmp = '<rdf:Description tiff:Orientation="6"/>'
    text.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    turned = sheet.transpose(Image.Transpose.ROTATE_90)

    read = read_image(encode(turned, pnginfo=text))

    np.testing.assert_array_equal(read, read_image(encode(sheet)))


def test_a_picture_of_too_few_pixels_is_refused():
    with pytest.raises(InvalidImage, match="only 1 x 1 pixels"):
        read_image(encode(Image.new("L", (1, 1), 128)))


def test_stages_are_shown_up_to_a_refusal(five):
    stages = []
    blank = encode(Image.new("L", (40, 40), 200))

    image = read_image(encode(black_on_white(five)), show=lambda *s: stages.append(s))
    with pytest.raises(InvalidImage):
        read_image(blank, show=lambda *s: stages.append(s))

    names, images = zip(*stages, strict=True)
    read = ("decoded", "background", "ink", "mask", "digit", "28x28")
    assert names == (*read, "decoded", "background")
    assert [np.shape(image) for image in images[:5]] == [(200, 200)] * 5
    np.testing.assert_array_equal(images[5], image)


def test_importing_the_reading_changes_no_globals_of_pillow_and_warnings():
    script = (
        "import warnings; import numpy  # which adds filters of its own\n"
        "from PIL import Image, ImageFile, PngImagePlugin as png\n"
        "def state():\n"
        "    return [*warnings.filters, Image.MAX_IMAGE_PIXELS, png.MAX_TEXT_CHUNK,"
        " png.MAX_TEXT_MEMORY, ImageFile.LOAD_TRUNCATED_IMAGES]\n"
        "before = state(); import service.images; assert state() == before"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "JPEG"])
def test_a_picture_over_pillows_limit_is_refused_without_a_warning(kind):
    upload = encode(Image.new("L", (9_500, 9_500)), kind)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidImage, match="9500 x 9500 pixels"):
            read_image(upload)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(20_000, 8), (15, 65_000), (60_000, 300)])
def test_a_long_narrow_picture_is_refused_by_its_size(kind, size):
    stripes = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 8 < 3
    upload = encode(np.where(stripes, 255, 0).astype(np.uint8), kind)

    with pytest.raises(InvalidImage, match=f"{size[0]} x {size[1]} pixels: too narrow"):
        read_image(upload)


@pytest.mark.parametrize("width", [2, 3, 8, 15])
def test_specks_far_apart_in_a_narrow_picture_are_no_error(width):
    levels = np.full((1_900, width), 255, np.uint8)
    levels[[300, 301, 900, 901, 1_700, 1_701], width // 2] = 0

    with contextlib.suppress(InvalidImage):
        assert read_image(encode(levels)).any()
